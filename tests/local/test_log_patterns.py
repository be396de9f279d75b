"""Filter patterns of CloudWatch Logs: plain terms match, every other form is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.handlers.filter_patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "message", "found"),
    [
        ("a -b", "a c", True),
        ("a -b", "a b", False),
        ("?a ?b", "b", True),
        ("?a ?b", "c", False),
        ("?a ?b c", "c", True),
        ("?a -b", "c", True),
        ("?a -b", "a b", False),
        (r'"say \"hi\""', 'say "hi" there', True),
        ('"two words"', "words two", False),
        ('-"two words"', "two words", False),
        ("naïve", "a naïve thing", True),
        ("100% done", "100% is done", True),
        ("50 %", "50 %", True),
        ('"%a%"', "%a%", True),
    ],
)
def test_plain_terms(pattern: str, message: str, found: bool) -> None:
    """Terms match anywhere in the message."""
    matches = compile_pattern(pattern)
    assert matches is not None
    assert matches(message) is found


@pytest.mark.parametrize("pattern", ['a "b', '"', 'a"b', '"a"b'])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    """The error has the service's code."""
    with pytest.raises(ApiError, match="InvalidParameterException: Invalid filter pattern"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("[ip, user, ...]", "space-delimited"),
        ('{ $.level = "error" && $.took > 5 }', "JSON"),
        ("{", "JSON"),
        ("%AUTHORIZED%", "regular expressions"),
        ("%a", "regular expressions"),
        (r"a -%4\d{2}%", "regular expressions"),
    ],
)
def test_other_forms_are_not_implemented(pattern: str, form: str) -> None:
    """The engine never matches the wrong events."""
    with pytest.raises(ApiError, match=f"{form}.* Use plain terms") as caught:
        compile_pattern(pattern)
    assert (caught.value.code, caught.value.status) == ("NotImplemented", 501)


@given(pattern=st.text(st.sampled_from(list('{}[]()$.*"%&|=<>!-? ab1')) | st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_a_pattern_or_a_client_error(pattern: str) -> None:
    """No other exception is raised, neither at compilation nor at the first match."""
    try:
        matches = compile_pattern(pattern)
    except ApiError as error:
        assert error.code in {"InvalidParameterException", "NotImplemented"}  # noqa: PT017 - the other outcome is tested below
    else:
        assert matches is None or matches('{"a": "b"}') in {True, False}
