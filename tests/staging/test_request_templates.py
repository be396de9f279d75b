"""Repeated requests beside botocore's own: the same on the wire, verified alike, and botocore after any failure."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import logging
import zlib
from typing import TYPE_CHECKING, Any, cast

import attrs
import boto3
import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials
from moto.core.models import botocore_stubber

from processing import ConfigurationError, Session, StagingError
from processing.aws.retry import RetryPolicy
from processing.request.s3_uri import S3Uri
from processing.staging.pending_uploads import Upload
from processing.staging.progress import ProgressMeter
from processing.staging.small_files import SmallFiles
from processing.staging.transfers import Uploader, download_prefix, upload_all
from processing.testing.clock import VirtualClock
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUCKET = "a-users-bucket"
MANY = 20
CONTENTS = {f"f{number:03}": b"%d" % number * 100 for number in range(MANY)}


@pytest.fixture
def server() -> str:
    """The engine over HTTP: a client with hooks uses no templates."""
    return "engine by templates"


@pytest.fixture
def own(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """Return the number of botocore's own requests so far: it logs each."""
    caplog.set_level(logging.DEBUG, "botocore.endpoint")
    return lambda: sum(record.getMessage().startswith("Making request for") for record in caplog.records)


def owner(_bucket: str) -> str:
    """Every bucket has to belong to this account."""
    return "000000000000"  # the engine's


def uploads(directory: Path, **settings: Any) -> list[Upload]:
    """Small files to be uploaded under their names."""
    directory.mkdir(exist_ok=True)
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
    return [Upload(directory / name, S3Uri(BUCKET, f"p/{name}"), **settings) for name in CONTENTS]


def upload(session: Session, files: list[Upload]) -> None:
    """Upload one file after another: botocore sends the first one."""
    upload_all(session.api, files, expected_owner=owner, workers=1)


def download(session: Session, to: Path, **extra: Any) -> dict[str, bytes]:
    """Download one object after another, and return the files."""
    found = download_prefix(session.api, S3Uri(BUCKET, "p/"), to, expected_owner=owner, extra=extra, workers=1)
    return {path.name: path.read_bytes() for path in found}


def stored(session: Session, prefix: str = "p/") -> dict[str, bytes]:
    """Return the objects below a prefix."""
    client = session.client("s3")
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
    return {
        entry["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        for entry in found
    }


def sent(wire: Any, operation: str) -> list[dict[str, str]]:
    """Return the headers of an operation's requests, without those that differ from request to request."""
    varying = {"amz-sdk-invocation-id", "authorization", "x-amz-date"}
    return [
        {name: value for name, value in headers.items() if name not in varying}
        for called, headers in wire.requests
        if called == operation
    ]


KMS: dict[str, Any] = {"kms_key": "a-key"}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "KMS": {"kms_key": "a-key"},
    "claim": {"claim": "mine"},
    "parameters": {"extra": (("ContentType", "text/csv"), ("Metadata", {"a": "b"}), ("StorageClass", "STANDARD_IA"))},
    "another checksum": {"extra": (("ChecksumAlgorithm", "SHA256"),)},
    "letters": {"extra": (("ContentDisposition", 'attachment; filename="ü漢字.csv"'),)},
    "content encoding": {"extra": (("ContentEncoding", "gzip"),)},
}


class TestUp:
    @pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
    def test_the_same_requests(
        self, session: Session, wire: Any, tmp_path: Path, monkeypatch: Any, own: Any, settings: dict[str, Any]
    ) -> None:
        """After the first answer botocore sends nothing, and S3 receives the headers that it would send."""
        files = uploads(tmp_path / "in", **settings)
        upload(session, files)
        assert own() == 1
        repeated = sent(wire, "PutObject")
        assert stored(session) == CONTENTS
        for each in CONTENTS:
            session.client("s3").delete_object(Bucket=BUCKET, Key=f"p/{each}")
        wire.requests.clear()
        monkeypatch.setenv("PROCESSING_TRANSFERS", "botocore")
        upload(session, files)
        assert repeated == sent(wire, "PutObject")
        assert stored(session) == CONTENTS

    @pytest.mark.parametrize(("count", "by_botocore"), [(8, 8), (9, 1)])
    def test_a_few_files(
        self, session: Session, tmp_path: Path, monkeypatch: Any, own: Any, count: int, by_botocore: int
    ) -> None:
        """botocore sends files that are all on their way before an answer shows a request to repeat."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "auto")
        upload(session, uploads(tmp_path / "in")[:count])
        assert own() == by_botocore
        assert len(stored(session)) == count

    def test_content_that_is_there(self, session: Session, tmp_path: Path, own: Any) -> None:
        """An object whose key names the content may have been put by another process: no error, and no second put."""
        tree: Any = S3Uri(BUCKET, "p")  # any will do: the listing has been made
        files = [
            attrs.evolve(each, content_addressed=True, tree=tree, sha256=hashlib.sha256(content).hexdigest())
            for each, content in zip(uploads(tmp_path), CONTENTS.values(), strict=True)
        ]
        upload(session, files)
        assert own() == 1
        upload(session, files)
        assert stored(session) == CONTENTS

    def test_a_run_with_the_same_name(self, session: Session, tmp_path: Path) -> None:
        """The object of another run under the same name is not replaced."""
        files = uploads(tmp_path, claim="mine")
        theirs = attrs.evolve(files[9], claim="theirs", body=b"theirs")
        upload(session, [theirs])
        with pytest.raises(StagingError, match="another run has the same name"):
            upload(session, files)
        assert stored(session)["f009"] == b"theirs"

    def test_odd_keys(self, session: Session, tmp_path: Path, own: Any) -> None:
        """Keys are the same letter by letter."""
        names = [
            "a b",
            "ü é",
            "plus+and&",
            "100%",
            "%41",
            "#",
            "?q=1",
            "a//b",
            "/",
            "~",
            "a=b,c;d",
            "e\\f",
            "(x)",
            "😀",
        ]
        first = uploads(tmp_path)[0]
        upload(session, [attrs.evolve(first, target=S3Uri(BUCKET, f"odd/{name}")) for name in names])
        assert own() == 1
        assert sorted(stored(session, "odd/")) == sorted(names)

    @pytest.mark.parametrize(
        "kind",
        ["throttle", "error500", "error503", "reset_before", "reset_after", "timeout_after", "truncate", "unreachable"],
    )
    @pytest.mark.parametrize("settings", [{}, {"claim": "mine"}], ids=["plain", "claim"])
    def test_faults(
        self, session: Session, wire: Any, tmp_path: Path, own: Any, kind: Any, settings: dict[str, Any]
    ) -> None:
        """A request that fails is sent by botocore, and the next ones are repeated again."""
        wire.faults.on("PutObject", kind, skip=5, times=1)
        upload(session, uploads(tmp_path, **settings))
        assert own() <= 3  # a lost answer to a conditional put costs a look at the object
        assert wire.faults.injected == [("PutObject", kind)]
        assert stored(session) == CONTENTS

    def test_a_first_answer_that_is_lost(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """The look at the object after a lost answer is not what is repeated."""
        wire.faults.on("PutObject", "reset_after")
        upload(session, uploads(tmp_path, claim="mine"))
        assert own() == 3
        assert wire.calls == ["PutObject", "PutObject", "HeadObject", *["PutObject"] * (MANY - 1)]
        assert stored(session) == CONTENTS

    def test_an_answer_without_an_etag(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """A success that is not whole is no success."""
        wire.instead("PutObject", lambda _: None, times=5)
        wire.instead("PutObject", lambda request: respond(request, 200, {}, b""))
        wire.instead("PutObject", lambda request: respond(request, 200, {"ETag": '"x"'}, b"<Error></Error>"))
        upload(session, uploads(tmp_path))
        assert own() == 3
        assert stored(session) == CONTENTS

    def test_botocore_takes_over(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """After some failures in a row botocore sends the rest: each file is not tried twice for ever."""
        for _ in range(MANY):
            wire.instead("PutObject", lambda _: None)
            wire.error("PutObject", 500, "InternalError")
        upload(session, uploads(tmp_path))
        assert stored(session) == CONTENTS

    @pytest.mark.parametrize(
        ("status", "code", "reason"),
        [(403, "AccessDenied", "belongs to another account"), (400, "KMS.DisabledException", "KMS.DisabledException")],
    )
    def test_reasons(self, session: Session, wire: Any, tmp_path: Path, status: int, code: str, reason: str) -> None:
        """A failure has the words of botocore's error."""
        wire.instead("PutObject", lambda _: None, times=5)
        wire.error("PutObject", status, code, times=MANY)
        with pytest.raises(StagingError) as error:
            upload(session, uploads(tmp_path))
        assert reason in error.value.failures[0][1]

    def test_a_wrong_clock(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A clock that becomes wrong is named, as without templates."""
        wire.faults.on("PutObject", "skew", skip=5, times=2)
        with pytest.raises(StagingError) as error:
            upload(session, uploads(tmp_path))
        assert "this machine's clock is" in error.value.failures[0][1]

    def test_a_bucket_in_another_region(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """botocore learns the bucket's region, and the repeated requests are signed for it."""
        wire.error("PutObject", 301, "PermanentRedirect", x_amz_bucket_region="us-west-2")
        upload(session, uploads(tmp_path))
        assert own() == 1
        regions = [headers["authorization"].split("/")[2] for called, headers in wire.requests if called == "PutObject"]
        assert regions == ["eu-west-1", *["us-west-2"] * MANY]

    def test_an_interrupt_ends_the_tries(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """botocore does not repeat a request that fails after Ctrl-C."""
        files = uploads(tmp_path)
        wire.instead("PutObject", lambda _: None, times=5)
        with SmallFiles.from_environment(session.api) as small_files:
            meter = ProgressMeter(None, session.clock, MANY, None)
            uploader = Uploader(session.api, owner, small_files, meter, 1)

            def interrupt(request: Any) -> Any:
                uploader.pool.abort(KeyboardInterrupt())
                return respond(request, 503, {}, b"")

            wire.instead("PutObject", interrupt)
            with pytest.raises(KeyboardInterrupt):
                uploader.pool.run(files)
        assert wire.calls == ["PutObject"] * 6

    def test_a_file_that_changes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A file that changes while its request is repeated is an error."""
        files = uploads(tmp_path)
        wire.instead("PutObject", lambda _: None, times=5)
        wire.instead("PutObject", lambda _: files[5].source.write_bytes(b"changed") and None)
        with pytest.raises(StagingError) as error:
            upload(session, files)
        assert error.value.failures == ((str(files[5].source), "the file changed while it was uploaded"),)

    def test_two_buckets_and_settings(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """Each bucket and each set of parameters has a template of its own."""
        session.client("s3").create_bucket(
            Bucket="another-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        files = uploads(tmp_path)
        files += [attrs.evolve(each, target=S3Uri("another-bucket", each.target.key)) for each in files]
        files += [attrs.evolve(each, kms_key="a-key", target=each.target / "kms") for each in files[:MANY]]
        before, _ = own(), wire.requests.clear()
        upload(session, files)
        assert own() - before == 3
        keys = [headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in sent(wire, "PutObject")]
        assert keys == [*[None] * 2 * MANY, *["a-key"] * MANY]


class TestDown:
    def put(self, session: Session, **settings: Any) -> None:
        """Put the expected objects."""
        for name, body in CONTENTS.items():
            session.client("s3").put_object(Bucket=BUCKET, Key=f"p/{name}", Body=body, **settings)

    def test_the_same_requests(self, session: Session, wire: Any, tmp_path: Path, monkeypatch: Any, own: Any) -> None:
        """After the first answer botocore sends nothing, and S3 receives the headers that it would send."""
        self.put(session)
        before = own()
        assert download(session, tmp_path / "a") == CONTENTS
        assert own() - before == 2  # the listing, and the first object
        repeated = sent(wire, "GetObject")
        wire.requests.clear()
        monkeypatch.setenv("PROCESSING_TRANSFERS", "botocore")
        assert download(session, tmp_path / "b") == CONTENTS
        assert repeated == sent(wire, "GetObject")

    def test_objects_without_bytes(self, session: Session, tmp_path: Path, own: Any) -> None:
        """Empty objects become empty files."""
        for name in CONTENTS:
            session.client("s3").put_object(Bucket=BUCKET, Key=f"p/{name}")
        before = own()
        assert download(session, tmp_path / "to") == dict.fromkeys(CONTENTS, b"")
        assert own() - before == 2

    @pytest.mark.parametrize(
        "kind", ["throttle", "error503", "reset_before", "reset_after", "truncate", "unreachable", "denied"]
    )
    def test_faults(self, session: Session, wire: Any, tmp_path: Path, own: Any, kind: Any) -> None:
        """botocore fetches an object that a repeated request did not fetch whole."""
        self.put(session)
        wire.faults.on("GetObject", kind, skip=5, times=1)
        before = own()
        assert download(session, tmp_path / "to") == CONTENTS
        assert own() - before == 3
        assert wire.faults.injected == [("GetObject", kind)]

    @pytest.mark.parametrize("verified", ["CRC32", "SHA1", "SHA256", "ETag"])
    def test_damaged_bytes(self, session: Session, wire: Any, tmp_path: Path, own: Any, verified: str) -> None:
        """Bytes that do not match the checksum or the ETag are not written; botocore gets the object again."""
        self.put(session)
        hashes = {
            "CRC32": zlib.crc32(CONTENTS["f005"]).to_bytes(4, "big"),
            "SHA1": hashlib.sha1(CONTENTS["f005"], usedforsecurity=False).digest(),
            "SHA256": hashlib.sha256(CONTENTS["f005"]).digest(),
        }
        headers = {"ETag": '"x"', "Content-Length": "100"}
        if verified == "ETag":
            headers["ETag"] = f'"{hashlib.md5(CONTENTS["f005"], usedforsecurity=False).hexdigest()}"'
        else:
            headers[f"x-amz-checksum-{verified.lower()}"] = base64.b64encode(hashes[verified]).decode()
        wire.instead("GetObject", lambda _: None, times=5)
        wire.instead("GetObject", lambda request: respond(request, 200, headers, b"x" * 100))
        before = own()
        assert download(session, tmp_path / "to") == CONTENTS
        assert own() - before == 3

    def test_an_object_that_has_grown(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """An object that was small in the listing is not taken into memory: botocore streams it."""
        self.put(session)
        large = b"x" * 3_000_000

        def grow(_: Any) -> None:
            session.client("s3").put_object(Bucket=BUCKET, Key="p/f006", Body=large)

        wire.instead("GetObject", lambda _: None, times=5)
        wire.instead("GetObject", grow)
        before = own()
        assert download(session, tmp_path / "to") == {**CONTENTS, "f006": large}
        assert own() - before == 4

    def test_parameters(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """Parameters are in each request; those of one object alone are left to botocore."""
        self.put(session)
        before = own()
        assert download(session, tmp_path / "to", RequestPayer="requester") == CONTENTS
        assert own() - before == 2
        assert {headers.get("x-amz-request-payer") for headers in sent(wire, "GetObject")} == {"requester"}
        before = own()
        assert download(session, tmp_path / "two", IfMatch="*")
        assert own() - before == 1 + MANY


class TestChoice:
    @pytest.mark.parametrize(
        "event", ["provide-client-params.s3", "before-call", "before-sign.s3.PutObject", "before-send", "after-call.s3"]
    )
    def test_handlers_of_the_user(self, session: Session, tmp_path: Path, event: str) -> None:
        """A handler that the user has registered sees every request."""
        seen = []
        session.client("s3").meta.events.register(event, lambda **_: seen.append(1))
        upload(session, uploads(tmp_path))
        assert len(seen) == MANY

    def test_handlers_for_other_operations(self, session: Session, tmp_path: Path, own: Any) -> None:
        """A handler for another operation makes no difference."""
        session.client("s3").meta.events.register("before-send.s3.DeleteObject", lambda **_: None)
        upload(session, uploads(tmp_path))
        assert own() == 1

    def test_the_observer_goes(self, session: Session, tmp_path: Path) -> None:
        """No handler of a transfer stays with the client."""
        emitter = session.client("s3").meta.events._emitter
        upload(session, uploads(tmp_path))
        assert not emitter._handlers.prefix_search("before-send.s3.PutObject")

    def test_off(self, session: Session, tmp_path: Path, own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """`botocore` is botocore for every file."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "botocore")
        upload(session, uploads(tmp_path))
        assert own() == MANY

    def test_another_word(self, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        """A word that means nothing is an error that names the variable and the words that mean something."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", "quick")
        with pytest.raises(ConfigurationError, match=r"^PROCESSING_TRANSFERS: must be one of 'auto', .*'botocore'"):
            SmallFiles.from_environment(session.api)

    def test_an_unsigned_client(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """Requests without a signature are not repeated."""
        from botocore.handlers import disable_signing

        session.client("s3").meta.events.register("choose-signer.s3.*", disable_signing)
        wire.instead("PutObject", lambda request: respond(request, 200, {"ETag": '"x"'}, b""), times=MANY)
        upload(session, uploads(tmp_path))
        assert own() == MANY

    def test_an_http_session_of_another_kind(self, session: Session, tmp_path: Path, own: Any) -> None:
        """Requests are not repeated if the connections of the client are not known."""

        class Plain:
            def __init__(self, botocores: Any) -> None:
                self.send, self.close = botocores.send, botocores.close

        endpoint = session.client("s3")._endpoint
        endpoint.http_session = Plain(endpoint.http_session)
        upload(session, uploads(tmp_path))
        assert own() == MANY
        assert stored(session) == CONTENTS

    def test_a_client_that_is_closed(self, session: Session, tmp_path: Path, wire: Any) -> None:
        """Every file arrives, although the client drops its connections in the middle."""
        files = uploads(tmp_path)
        wire.instead("PutObject", lambda _: None, times=5)
        wire.instead("PutObject", lambda _: session.client("s3").close())
        upload(session, files)
        assert stored(session) == CONTENTS

    def test_a_header_of_a_company(self, session: Session, tmp_path: Path, own: Any, wire: Any) -> None:
        """A header that this package does not know may belong to one object."""
        (first, *rest) = uploads(tmp_path)
        extra = (("ObjectLockLegalHoldStatus", "OFF"),)
        wire.instead("PutObject", lambda request: respond(request, 200, {"ETag": '"x"'}, b""), times=MANY)
        upload(session, [attrs.evolve(each, extra=extra) for each in (first, *rest)])
        assert own() == MANY


class TestCredentials:
    def session(self, core: Any) -> Session:
        """Return a session of a user's boto3 session, over HTTP."""
        core.set_config_variable("region", "eu-west-1")
        boto_session = boto3.Session(botocore_session=core)
        boto_session.events.unregister("before-send", cast("Any", botocore_stubber))
        return Session(
            boto_session,
            default_bucket=BUCKET,
            clock=VirtualClock(),
            retry_policy=RetryPolicy(attempts=3),
        )

    def test_keys_that_are_renewed(self, session: Session, wire: Any, tmp_path: Path, own: Any) -> None:
        """Each request is signed with the keys of that moment."""
        assert session.default_bucket() == BUCKET
        asked = 0

        def fresh() -> dict[str, str]:
            nonlocal asked
            asked += 1
            key, soon = asked // 6, dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=60)  # renewed at each use
            return {
                "access_key": f"KEY{key}",
                "secret_key": "s",
                "token": f"t{key}",
                "expiry_time": soon.isoformat(),
            }

        core: Any = botocore.session.Session()
        core._credentials = RefreshableCredentials.create_from_metadata(fresh(), fresh, "sts-assume-role")
        made = self.session(core)
        with contextlib.closing(made.client("s3")):
            wire.requests.clear()
            upload(made, uploads(tmp_path))
        keys = [headers["authorization"].partition("Credential=")[2].partition("/")[0] for _, headers in wire.requests]
        tokens = [headers["x-amz-security-token"] for _, headers in wire.requests]
        assert own() == 1
        assert len(set(keys)) == 4
        assert [key.removeprefix("KEY") for key in keys] == [token.removeprefix("t") for token in tokens]

    def test_keys_that_expire(self, session: Session, wire: Any, tmp_path: Path, monkeypatch: Any) -> None:
        """Keys that expire within a transfer are read again, and the transfer ends well."""
        assert session.default_bucket() == BUCKET
        made = Session(default_bucket=BUCKET, region_name="eu-west-1", clock=VirtualClock())
        with contextlib.closing(made.client("s3")) as client:
            client.meta.events.unregister("before-send", botocore_stubber)

            def expire(request: Any) -> Any:
                monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
                return respond(request, 400, {}, b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>")

            wire.instead("PutObject", lambda _: None, times=5)
            wire.instead("PutObject", expire, times=2)
            wire.requests.clear()
            upload(made, uploads(tmp_path))
        keys = [headers["authorization"].partition("Credential=")[2].partition("/")[0] for _, headers in wire.requests]
        assert keys == [*["test"] * 7, *["NEW"] * (MANY - 5)]
        assert stored(session) == CONTENTS
