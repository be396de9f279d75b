"""Settings and credentials that change while the process runs: new processors and running waits use the new ones."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError

from processing import ConfigurationError, CredentialsError, ProcessingJob, ScriptProcessor, Session, default_sessions
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLE = "arn:aws:iam::111122223333:role/r"


class Files:
    """The two files of the AWS CLI."""

    def __init__(self, folder: Path) -> None:
        self.credentials, self.config = folder / "credentials", folder / "config"
        self.config.write_text("[default]\nregion = eu-west-1\n")

    def write(self, key: str, profile: str = "default") -> None:
        self.credentials.write_text(
            f"[{profile}]\naws_access_key_id={key}\naws_secret_access_key=s\naws_session_token=t\n"
        )


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Files of the test's own, with the key OLD."""
    files = Files(tmp_path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files.credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(files.config))
    files.write("OLD")
    return files


def processor(session: Session | None = None) -> ScriptProcessor:
    return ScriptProcessor(ROLE, "i", ["python3"], 1, "ml.m5.large", sagemaker_session=session)


def key(session: Any, service: str = "sagemaker") -> str:
    """Return the access key that a client signs with."""
    signed: list[str] = []
    client = session.client(service)

    def note(request: Any, **_: object) -> Any:
        header = request.headers["Authorization"]
        signed.append((header.decode() if isinstance(header, bytes) else header).partition("Credential=")[2])
        return respond(request, 400, {}, b"{}")

    client.meta.events.register("before-send", note)
    with contextlib.suppress(ClientError):
        client.list_processing_jobs()
    client.meta.events.unregister("before-send", note)
    return signed[0].partition("/")[0]


def test_a_new_processor_uses_renewed_credentials(files: Files) -> None:
    """A file that another program rewrites counts for the next processor."""
    assert key(processor().sagemaker_session) == "OLD"
    files.write("NEW")
    assert key(processor().sagemaker_session) == "NEW"


def test_a_client_of_boto3_made_before_does_not_keep_the_old_ones(files: Files) -> None:
    """`boto3.client` sets a default session with the keys of that moment."""
    boto3.client("s3")
    assert key(processor().sagemaker_session) == "OLD"
    files.write("NEW")
    assert key(processor().sagemaker_session) == "NEW"


def test_the_users_default_session_gets_renewed_keys(files: Files) -> None:
    """A profile that was selected by `boto3.setup_default_session` is read again."""
    files.write("OLD", "team")
    boto3.setup_default_session(profile_name="team", region_name="eu-west-2")
    assert key(processor().sagemaker_session) == "OLD"
    files.write("NEW", "team")
    assert key(processor().sagemaker_session) == "NEW"
    assert processor().sagemaker_session.boto_region_name == "eu-west-2"


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_SAGEMAKER",
        "AWS_CA_BUNDLE",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_MAX_ATTEMPTS",
        "AWS_DATA_PATH",
        "HTTPS_PROXY",
        "https_proxy",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "PROCESSING_CODE_LAYOUT",
    ],
)
def test_each_variable_is_part_of_the_default_session(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A session is made again after any setting of AWS has changed, and only then."""
    first = default_sessions.default_session()
    assert default_sessions.default_session() is first
    monkeypatch.setenv(variable, "job")
    second = default_sessions.default_session()
    assert second is not first
    monkeypatch.setenv("UNRELATED", "1")
    assert default_sessions.default_session() is second


def test_each_file_is_part_of_the_default_session(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two files of AWS and the SageMaker config file: a change of time, size or inode makes another session."""
    config = tmp_path / "config.yaml"
    config.write_text("SchemaVersion: '1.0'\n")
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(config))
    for file in (files.credentials, files.config, config):
        before = default_sessions.default_session()
        assert default_sessions.default_session() is before
        state = file.stat()
        copied = file.with_name("copied")
        copied.write_bytes(file.read_bytes())
        os.utime(copied, ns=(state.st_atime_ns, state.st_mtime_ns))
        copied.replace(file)
        assert default_sessions.default_session() is not before


def test_the_default_session_of_the_engine_follows_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another S3 of the engine is found through variables of AWS."""
    first = default_sessions.default_local_session()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9000")
    assert default_sessions.default_local_session() is not first


def test_the_default_session_of_boto3_is_told_by_identity() -> None:
    """A later session of boto3 may have the address of an earlier one that is gone."""
    boto3.DEFAULT_SESSION = boto3.Session(region_name="eu-west-1")
    first = default_sessions.default_session()
    boto3.DEFAULT_SESSION = boto3.Session(region_name="eu-west-1")
    assert default_sessions.default_session() is not first


# Running waits


def own_session(_: Files, **options: Any) -> Session:
    return Session(**options)


def given_session(_: Files, **options: Any) -> Session:
    return Session(boto3.Session(), **options)


def given_client(_: Files, **options: Any) -> Session:
    boto = boto3.Session()
    return Session(boto, boto.client("sagemaker"), **options)


def sagemakers_session(_: Files, **options: Any) -> Session:
    class V2:
        boto_session = boto3.Session(**options)

        def __init__(self) -> None:
            self.sagemaker_client = self.boto_session.client("sagemaker")
            self._default_bucket = "b"

        def default_bucket(self) -> str:
            return self._default_bucket

    return default_sessions.resolve_session(V2(), None)


@pytest.mark.parametrize("make", [own_session, given_session, given_client, sagemakers_session])
def test_an_expired_key_is_read_again(files: Files, make: Callable[..., Session]) -> None:
    """A session that signs with an expired key of a file reads the file again, whoever made its clients."""
    session = make(files)
    assert key(session) == "OLD"
    assert not session._clients.renew()
    files.write("NEW")
    ours = session.client("sagemaker")
    assert session._clients.renew()
    assert key(session) == "NEW"
    assert session.client("sagemaker") is not ours
    assert not session._clients.renew()


def test_keys_of_the_users_own_stay(files: Files) -> None:
    """Explicit keys, and a client of unknown origin, are never replaced by those of a file."""
    explicit = Session(boto3.Session("GIVEN", "s", region_name="eu-west-1"))
    client = Session(sagemaker_client=boto3.Session("GIVEN", "s", region_name="eu-west-1").client("sagemaker"))
    for session in (explicit, client):
        assert key(session) == "GIVEN"
        files.write("NEW")
        session._clients.renew()
        assert key(session) == "GIVEN"


def test_event_handlers_stay_with_renewed_keys(files: Files) -> None:
    """A client of the user's keeps its own handlers and connections, and is not changed itself."""
    session = given_client(files)
    theirs = session.client("sagemaker")
    seen: list[str] = []
    theirs.meta.events.register("before-call", lambda **_: seen.append("handler"))
    files.write("NEW")
    assert session._clients.renew()
    assert key(session) == "NEW"
    assert seen == ["handler"]
    assert key(SimpleNamespace(client=lambda _: theirs)) == "OLD"
    assert session.client("sagemaker")._endpoint.http_session is theirs._endpoint.http_session


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"])
def test_a_running_wait_goes_on_with_renewed_credentials(
    files: Files, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A wait whose key expires, or is rotated, continues with the key that the file has by then."""
    clock = VirtualClock()
    aws = SimulatedAws(clock)
    aws.add_job("job", ends=600.0)
    session = Session(clock=clock, sagemaker_config={})

    def send(request: Any, **_: object) -> Any:
        header = request.headers["Authorization"]
        text = header.decode() if isinstance(header, bytes) else header
        if clock.monotonic() > 300 and "Credential=NEW/" not in text:
            files.write("NEW")  # as a cron job does a moment too late
            body = b'{"__type": "%s", "message": "expired"}' % code.encode()
            return respond(request, 400, {}, body)
        return aws.send(request)

    make = botocore.session.Session.create_client

    def create_client(self: Any, *args: Any, **kwargs: Any) -> Any:
        client: Any = make(self, *args, **kwargs)
        client.meta.events.register("before-send", send)
        return client

    monkeypatch.setattr(botocore.session.Session, "create_client", create_client)
    ProcessingJob(session, "job").wait(logs=False)
    assert clock.monotonic() >= 600


def test_credentials_that_are_not_renewed_are_an_error(files: Files) -> None:
    """Without other keys the call fails as before, after one further try."""
    session = Session(clock=VirtualClock(), sagemaker_config={})
    sent: list[Any] = []

    def send(request: Any, **_: object) -> Any:
        sent.append(request)
        return respond(request, 400, {}, b'{"__type": "ExpiredTokenException", "message": "expired"}')

    session.client("sagemaker").meta.events.register("before-send", send)
    with pytest.raises(CredentialsError):
        session.describe_processing_job("job")
    assert len(sent) == 2
    assert files.credentials.exists()


# The region


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "eu-west-3"}, "eu-west-3"),
        ({"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": ""}, "eu-west-1"),
        ({}, "eu-west-1"),
    ],
)
@pytest.mark.usefixtures("files")
def test_the_region_of_the_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str) -> None:
    """AWS_REGION comes before AWS_DEFAULT_REGION, which comes before the profile; clients agree."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for session in (Session(), default_sessions.default_session()):
        assert session.boto_region_name == region
        assert session.client("sagemaker").meta.region_name == region
        assert session.boto_session.region_name == region
    assert Session(region_name="us-west-2").boto_region_name == "us-west-2"
    assert Session(boto3.Session(region_name="sa-east-1")).boto_region_name == "sa-east-1"


def test_a_given_boto_session_without_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION is the region of a boto session that has none; without it the error names the variable."""
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        _ = Session(boto3.Session("k", "s")).boto_region_name
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert Session(boto3.Session("k", "s")).boto_region_name == "eu-west-3"
    assert Session(boto3.Session("k", "s")).client("s3").meta.region_name == "eu-west-3"
