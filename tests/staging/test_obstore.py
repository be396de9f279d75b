"""obstore beside botocore: what it sends is the same, and what it cannot do goes through botocore."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import attrs
import boto3
import pytest

from processing import ConfigurationError, Session, StagingError
from processing.aws.retry import RetryPolicy
from processing.request.s3_uri import S3Uri
from processing.staging.obstore import route_of
from processing.staging.pending_uploads import Upload
from processing.staging.small_files import SmallFiles
from processing.staging.transfers import download_prefix, upload_all
from processing.testing.clock import VirtualClock
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "a-users-bucket"
MANY = 40

pytest.importorskip("obstore")


def owner(_bucket: str) -> str:
    """Every bucket has to belong to this account."""
    return "123456789012"


@pytest.fixture
def recorded(http: tuple[str, Any]) -> Any:
    """The requests of obstore."""
    return http[1]


@pytest.fixture
def reached(session: Session, http: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session that reaches the other session's S3 over HTTP, by obstore where that can."""
    assert session.default_bucket() == BUCKET
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROCESSING_TRANSFERS", "fast")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", http[0])
    made = Session(
        boto3.Session("test", "test", region_name="eu-west-1"),
        default_bucket=BUCKET,
        clock=VirtualClock(),
        retry_policy=RetryPolicy(attempts=3),
    )
    # moto answers every client of this process; here the wire does, behind HTTP.
    made.client("s3").meta.events.unregister("before-send", moto_stubber())
    with contextlib.closing(made.client("s3")):
        yield made


def moto_stubber() -> Any:
    """The stubber that moto registers with every client."""
    from moto.core.models import botocore_stubber

    return botocore_stubber


def many(directory: Path, count: int = MANY, **settings: Any) -> list[Upload]:
    """Small files to be uploaded under their names."""
    directory.mkdir(exist_ok=True)
    uploads = []
    for number in range(count):
        (directory / f"f{number:03}").write_bytes(b"%d" % number * 100)
        uploads.append(Upload(directory / f"f{number:03}", S3Uri(BUCKET, f"p/f{number:03}"), **settings))
    return uploads


def stored(session: Session) -> dict[str, bytes]:
    """Return the objects in S3 by file name."""
    client = session.client("s3")
    found = client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
    return {
        entry["Key"].rpartition("/")[2]: client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        for entry in found
    }


EXPECTED = {f"f{number:03}": b"%d" % number * 100 for number in range(MANY)}


class TestUp:
    def test_most_go_by_obstore(self, session: Session, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """After the first answers obstore sends the files, each once, and their bytes are right."""
        upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert stored(session) == EXPECTED
        assert recorded.by_obstore["PutObject"] > MANY / 2
        assert recorded.wire.calls.count("PutObject") == MANY

    def test_settings(self, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """The KMS key, the claim, the condition and the checksum are those that botocore would send."""
        upload_all(reached.api, many(tmp_path, kms_key="a-key", claim="mine"), expected_owner=owner)
        assert recorded.requests
        for _, _, headers in recorded.requests:
            assert headers["x-amz-server-side-encryption"] == "aws:kms"
            assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"
            assert headers["x-amz-meta-processing-claim"] == "mine"
            assert headers["if-none-match"] == "*"
            assert headers["x-amz-checksum-sha256"]

    def test_the_owner_is_asked_first(self, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """Obstore cannot send the expected owner: a bucket of another account is refused before it sends anything."""
        recorded.wire.error("PutObject", 403, "AccessDenied", times=MANY)
        with pytest.raises(StagingError, match="belongs to another account"):
            upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert not recorded.by_obstore

    @pytest.mark.parametrize("kind", ["throttle", "error500", "reset_before", "reset_after"])
    def test_faults(self, session: Session, reached: Session, recorded: Any, tmp_path: Path, kind: Any) -> None:
        """botocore repeats a file that obstore fails to send: every file arrives, and no error is raised."""
        recorded.wire.faults.on("PutObject", kind, probability=0.2)
        upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert stored(session) == EXPECTED

    def test_reasons(self, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """A failure has botocore's words, also if obstore met it first."""
        uploads = many(tmp_path)
        recorded.wire.instead("PutObject", lambda _: None, times=30)
        recorded.wire.error("PutObject", 400, "KMS.DisabledException", times=MANY)
        with pytest.raises(StagingError) as error:
            upload_all(reached.api, uploads, expected_owner=owner)
        assert any("KMS.DisabledException: no" in reason for _, reason in error.value.failures)

    def test_odd_names(self, session: Session, reached: Session, tmp_path: Path) -> None:
        """Keys are the same letter by letter, and those that are no paths go through botocore."""
        names = ["a b", "ü é", "plus+and&", "100%", "#", "?q=1", "a//b", "~", "a=b,c;d", "e\\f"]
        uploads = many(tmp_path)
        uploads += [attrs.evolve(uploads[0], target=S3Uri(BUCKET, f"odd/{name}")) for name in names]
        upload_all(reached.api, uploads, expected_owner=owner)
        listed = session.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="odd/")["Contents"]
        assert sorted(entry["Key"] for entry in listed) == sorted(f"odd/{name}" for name in names)

    def test_more_parameters(self, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """Requests with parameters that obstore does not support go through botocore."""
        upload_all(reached.api, many(tmp_path, extra=(("Tagging", "a=b"),)), expected_owner=owner)
        assert not recorded.by_obstore

    def test_content_that_is_there(self, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """If another process has just put a file of a tree whose key names its content, that is not an error."""
        tree: Any = S3Uri(BUCKET, "p")  # any will do: the listing has been made
        uploads = [
            attrs.evolve(each, content_addressed=True, tree=tree, sha256=hashlib.sha256(content).hexdigest())
            for each, content in zip(many(tmp_path), EXPECTED.values(), strict=True)
        ]
        for _ in range(2):
            upload_all(reached.api, uploads, expected_owner=owner)
        assert recorded.by_obstore["PutObject"] > MANY / 2
        assert {headers["if-none-match"] for _, _, headers in recorded.requests} == {"*"}

    def test_a_few_are_not_worth_it(
        self, reached: Session, recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Left to itself, a run with a handful of files does not load obstore; one with many does."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "auto")
        upload_all(reached.api, many(tmp_path, 16), expected_owner=owner)
        assert not recorded.by_obstore
        upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert recorded.by_obstore

    def test_a_client_with_hooks(self, session: Session, wire: Any, tmp_path: Path, monkeypatch: Any) -> None:
        """A client with hooks (moto, the embedded engine) is not bypassed."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "fast")
        upload_all(session.api, many(tmp_path), expected_owner=owner)
        assert wire.calls == ["PutObject"] * MANY
        assert stored(session) == EXPECTED


class TestDown:
    def put(self, session: Session, **settings: Any) -> None:
        """Put the expected objects."""
        for name, body in EXPECTED.items():
            session.client("s3").put_object(Bucket=BUCKET, Key=f"p/{name}", Body=body, **settings)

    def read(self, to: Path) -> dict[str, bytes]:
        """Return the files that have arrived; there are no others."""
        return {path.name: path.read_bytes() for path in to.iterdir()}

    def test_all_by_obstore(self, session: Session, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """The listing shows the way: every small object comes by obstore."""
        self.put(session)
        download_prefix(reached.api, S3Uri(BUCKET, "p/"), tmp_path / "to", expected_owner=owner)
        assert self.read(tmp_path / "to") == EXPECTED
        assert recorded.by_obstore == {"GetObject": MANY}
        assert all(headers["if-match"] for _, _, headers in recorded.requests)

    def test_etags_that_are_no_hashes(self, session: Session, reached: Session, tmp_path: Path, wire: Any) -> None:
        """If an object's ETag does not verify its bytes, botocore gets it again and compares the checksum."""
        self.put(session, ChecksumAlgorithm="CRC32")
        body = session.client("s3").list_objects_v2(Bucket=BUCKET)
        xml = "".join(
            f"<Contents><Key>{entry['Key']}</Key><Size>{entry['Size']}</Size>"
            f"<ETag>&quot;{'0' * 32}&quot;</ETag></Contents>"
            for entry in body["Contents"]
        )
        listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{xml}</ListBucketResult>".encode()
        wire.instead("ListObjectsV2", lambda request: respond(request, 200, {}, listing))
        download_prefix(reached.api, S3Uri(BUCKET, "p/"), tmp_path / "to", expected_owner=owner)
        assert self.read(tmp_path / "to") == EXPECTED

    def test_wrong_bytes(self, session: Session, reached: Session, recorded: Any, tmp_path: Path) -> None:
        """Bytes that were damaged on their way by obstore are not written; botocore fetches them again."""
        self.put(session)
        headers = {"ETag": '"x"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
        recorded.wire.instead("GetObject", lambda request: respond(request, 200, headers, b"damaged"))
        download_prefix(reached.api, S3Uri(BUCKET, "p/"), tmp_path / "to", expected_owner=owner)
        assert self.read(tmp_path / "to") == EXPECTED

    @pytest.mark.parametrize("kind", ["throttle", "error503", "reset_before", "truncate"])
    def test_faults(self, session: Session, reached: Session, recorded: Any, tmp_path: Path, kind: Any) -> None:
        """botocore fetches objects that obstore fails to fetch."""
        self.put(session)
        recorded.wire.faults.on("GetObject", kind, probability=0.2)
        download_prefix(reached.api, S3Uri(BUCKET, "p/"), tmp_path / "to", expected_owner=owner)
        assert self.read(tmp_path / "to") == EXPECTED


class TestChoice:
    def test_another_word(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        """A word that means nothing is an error that names the variable."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "quick")
        with pytest.raises(ConfigurationError, match=r"^PROCESSING_TRANSFERS: must be one of 'auto', 'fast', 'core'"):
            SmallFiles.from_environment(session.api)

    def test_core(self, reached: Session, recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`core` is botocore alone."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "core")
        upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert not recorded.by_obstore

    def test_a_proxy(self, reached: Session, recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a proxy is configured, botocore decides on its use."""
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        upload_all(reached.api, many(tmp_path), expected_owner=owner)
        assert not recorded.by_obstore


SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=A/20261121/eu-west-1/s3/aws4_request, SignedHeaders=host"}


@pytest.mark.parametrize(
    ("url", "headers", "route"),
    [
        ("https://b.s3.eu-west-1.amazonaws.com/a/k%20x", {}, ("https://b.s3.eu-west-1.amazonaws.com", True)),
        ("http://127.0.0.1:9000/b/a/k%20x", {}, ("http://127.0.0.1:9000", False)),
        ("https://s3.example.com/base/b/a/k%20x", {}, None),
        ("http://127.0.0.1:9000/b/a/k%20x", {"x-amz-request-payer": "requester"}, None),
        ("http://127.0.0.1:9000/b/a/k%20x", {"x-company-token": "1"}, None),
        ("http://127.0.0.1:9000/b/a/k%20x", {"authorization": "AWS4-ECDSA-P256-SHA256 Credential=A/"}, None),
        ("http://127.0.0.1:9000/b/a/k%20x", {"authorization": "AWS A:signature"}, None),
    ],
)
def test_ways(url: str, headers: dict[str, str], route: tuple[str, bool] | None) -> None:
    """A way is taken only where obstore can send the like of botocore's request."""
    found = route_of(url, {**SIGNED, **headers}, "b", "a/k x")
    assert (None if found is None else (found.endpoint, found.virtual)) == route
