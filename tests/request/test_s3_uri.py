"""S3 URIs as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import ConfigurationError
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri

buckets = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=63)
keys = st.text(min_size=1, max_size=50).filter(lambda key: not key.startswith("/"))


@given(bucket=buckets, key=keys)
def test_round_trip(bucket: str, key: str) -> None:
    """A URI is parsed back letter by letter."""
    uri = S3Uri(bucket, key)
    assert S3Uri.parse(str(uri)) == uri
    assert is_s3(str(uri))


@given(bucket=buckets, key=st.text(max_size=50))
def test_text_round_trip(bucket: str, key: str) -> None:
    """Any text with a key is written as it was read, double slashes and all."""
    text = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    assert str(S3Uri.parse(text)) == text


@given(
    bucket=buckets,
    parts=st.lists(st.text("abc.-_ é/", min_size=1).map(lambda part: part.strip("/") or "x"), max_size=4),
)
def test_joining_puts_one_slash_between(bucket: str, parts: list[str]) -> None:
    """Parts are joined by single slashes, and no key begins with one."""
    uri = S3Uri(bucket)
    for part in parts:
        uri = uri / part
    assert uri.key == "/".join(parts)


@pytest.mark.parametrize(
    ("left", "right", "key"),
    [("", "x", "x"), ("p/", "x", "p/x"), ("p", "/x", "p/x"), ("p", "x/", "p/x/"), ("", "/x", "x")],
)
def test_joining_edges(left: str, right: str, key: str) -> None:
    """A slash at the seam is neither lost nor doubled."""
    assert (S3Uri("b", left) / right).key == key


@pytest.mark.parametrize("text", ["", "b/k", "s3:/b/k", "s3://", "s3:///k", "https://b/k", None, 5])
def test_invalid_uris(text: object) -> None:
    """A text that is not an S3 URI, or has no bucket, is refused."""
    with pytest.raises(ConfigurationError):
        S3Uri.parse(text)


def test_the_scheme_may_be_in_capitals() -> None:
    """A URI's scheme has no case; AWS wants it small."""
    assert is_s3("S3://b/K")
    assert str(S3Uri.parse("S3://b/K")) == "s3://b/K"


def test_query_and_fragment_are_part_of_the_key() -> None:
    """S3 knows neither: they are letters of the key."""
    assert S3Uri.parse("s3://b/a?x=1#y%20z").key == "a?x=1#y%20z"
