"""One error for missing, expired, refused and unusable credentials, from whichever call meets them first."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore import exceptions as botocore_errors

import processing
from processing import (
    ConfigurationError,
    CredentialsError,
    LocalSession,
    ProcessingInput,
    ScriptProcessor,
    Session,
    WatchError,
)
from processing.aws.credentials import credentials_error
from processing.aws.retry import FailureKind, classify, error_code
from processing.session.default_bucket import bucket_exists
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = "arn:aws:iam::111122223333:role/r"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the AWS files of a user without credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


@pytest.fixture
def script(tmp_path: Path) -> str:
    """Return the path of a script beside a folder with many files."""
    (tmp_path / "data").mkdir()
    for number in range(100):
        (tmp_path / "data" / f"{number}.csv").write_text(str(number))
    (tmp_path / "ok.py").write_text("print(1)")
    return str(tmp_path / "ok.py")


def processor(session: Session) -> ScriptProcessor:
    """Return a processor for AWS."""
    return ScriptProcessor(ROLE, "image:1", ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)


CALLS: dict[str, Callable[[Session, str], object]] = {
    "bucket": lambda session, _: session.default_bucket(),
    "upload": lambda session, script: processor(session).run(
        script, inputs=[ProcessingInput(Path(script).with_name("data"), "/opt/ml/processing/input/d")], wait=False
    ),
    "attach": lambda session, _: processing.attach("job", session),
    "fleet": lambda session, script: processing.submit_all(
        processor(session), [{"code": script, "arguments": [str(n)]} for n in range(50)], name="fleet"
    ).wait(),
    "jobs": lambda session, _: list(processing.jobs("a", session=session)),
    "role": lambda session, _: processing.get_execution_role(session),
    "download": lambda session, script: session.download_data(Path(script).with_name("out"), "bucket", "key"),
    "upload_data": lambda session, script: session.upload_data(script, "bucket", "key"),
}


def test_a_fleet_reports_a_wrong_argument_before_missing_credentials(home: Path, script: str) -> None:
    """The argument costs no call to check, as in `run`."""
    runs = [{"code": script, "arguments": [""]}]
    with pytest.raises(ConfigurationError, match=r"arguments\[0\]"):
        processing.submit_all(processor(Session(region_name="us-east-1")), runs, name="fleet")


@pytest.mark.parametrize("named", [True, False], ids=["bucket-named", "bucket-derived"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("home")
def test_missing_credentials_are_one_error(call: str, named: bool, script: str) -> None:
    """Any call raises the same error. It has the places that were searched and the remedy."""
    bucket = "a-bucket" if named and call != "bucket" else None
    with pytest.raises(CredentialsError) as raised:
        CALLS[call](Session(region_name="eu-west-1", default_bucket=bucket), script)
    text = str(raised.value)
    assert raised.value.reason == "missing"
    assert len(text.splitlines()) <= 10
    for place in ("AWS_ACCESS_KEY_ID", "'default'", "credentials (does not exist)", "container role", "instance role"):
        assert place in text
    assert "`aws sso login --profile NAME`" in text
    assert isinstance(raised.value.__cause__, botocore_errors.NoCredentialsError)


def test_missing_credentials_name_the_profiles_with_sso(home: Path) -> None:
    """Users who forgot to select their profile read its name."""
    (home / "config").write_text("[profile dev]\nsso_start_url = https://x\nsso_region = eu-west-1\n")
    with pytest.raises(CredentialsError, match="other profiles: dev") as raised:
        Session(region_name="eu-west-1").account_id()
    assert "`aws sso login --profile dev` and set AWS_PROFILE=dev" in str(raised.value)


SSO = """
[profile dev]
sso_session = corp
sso_account_id = 111122223333
sso_role_name = r
region = eu-west-1
[sso-session corp]
sso_start_url = https://x
sso_region = eu-west-1
"""
CONFIGS: dict[str, tuple[str, str, str]] = {
    "sso, not signed in": (SSO, "expired", "Sign in: `aws sso login --profile dev`."),
    "sso, incomplete": (
        "[profile dev]\nregion = eu-west-1\nsso_start_url = https://x\nsso_account_id = 111122223333\n",
        "unusable",
        "missing required configuration",
    ),
    "process that fails": (
        "[profile dev]\nregion = eu-west-1\ncredential_process = python3 -c 'raise SystemExit(7)'\n",
        "unusable",
        "Run the command of credential_process by hand",
    ),
    "half a key": ("[profile dev]\nregion = eu-west-1\naws_access_key_id = a\n", "unusable", "aws_secret_access_key"),
    "no such source": (
        "[profile dev]\nregion = eu-west-1\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = gone\n",
        "unusable",
        "gone",
    ),
    "no such profile": ("[profile prod]\nregion = eu-west-1\n", "unusable", "Profiles there: prod."),
    "not a config file": ("[profile dev\nregion", "unusable", "Correct the file"),
}


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("region", ["eu-west-1", None])
def test_a_profile_that_cannot_be_used_is_explained(
    case: str, region: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSO, processes, roles and mistakes in the files are errors of ours, with the profile and the remedy."""
    config, reason, words = CONFIGS[case]
    (home / "config").write_text(config)
    monkeypatch.setenv("AWS_PROFILE", "dev")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(CredentialsError) as raised:
        Session(region_name=region).account_id()
    assert raised.value.reason == reason
    assert words in str(raised.value)
    if case != "not a config file":
        assert "dev" in str(raised.value)


def run_locally(session: Session, script: str) -> object:
    """Run a job on the engine, with an upload of many files."""
    local = ScriptProcessor(command=["python3"], instance_count=1, instance_type="local", sagemaker_session=session)
    data = ProcessingInput(Path(script).with_name("data"), "/opt/ml/processing/input/d")
    return local.run(script, inputs=[data], wait=False)


EXPIRING: dict[str, Callable[[Session, str], object]] = {
    "GetCallerIdentity": lambda session, _: session.api.call("sts", "GetCallerIdentity"),
    "HeadBucket": lambda session, _: bucket_exists(session.api, session.default_bucket(), "000000000000"),
    "PutObject": run_locally,
    "CreateProcessingJob": run_locally,
}


@pytest.mark.parametrize("operation", EXPIRING)
def test_expired_credentials_are_one_error(operation: str, script: str) -> None:
    """The error is the same for many files, CreateProcessingJob, and a HEAD request, whose answer has no code."""
    faults = FaultInjector()
    for name in (operation, "GetCallerIdentity"):
        faults.on(name, "expired", times=10_000)
    session = LocalSession(Path(script).with_name("engine"), transport=faults.wrap)
    with pytest.raises(CredentialsError, match="expired") as raised:
        EXPIRING[operation](session, script)
    assert raised.value.reason == "expired"
    assert "aws sso login" in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 10


def test_a_wait_that_loses_its_credentials_raises_both_errors() -> None:
    """It is a `CredentialsError` with the remedy, and a `WatchError` with the job, which may go on."""
    aws = SimulatedAws(VirtualClock())
    aws.add_job("job", ends=None)
    job = processing.attach("job", aws.session())
    aws.faults.on("*", "expired", probability=1.0)
    with pytest.raises(CredentialsError, match="aws sso login") as raised:
        job.wait()
    assert isinstance(raised.value, WatchError)
    assert (raised.value.job_name, raised.value.reason) == ("job", "expired")
    twin = pickle.loads(pickle.dumps(raised.value))
    assert (type(twin), str(twin), vars(twin)) == (type(raised.value), str(raised.value), vars(raised.value))


def client_error(code: str, operation: str = "DescribeProcessingJob") -> Exception:
    """Return the error that botocore raises for an error response."""
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    return botocore_errors.ClientError(answer, operation)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (client_error("ExpiredToken"), "expired"),
        (client_error("RequestExpired"), "expired"),
        (client_error("InvalidClientTokenId"), "refused"),
        (client_error("UnrecognizedClientException"), "refused"),
        (client_error("InvalidAccessKeyId"), "refused"),
        (client_error("SignatureDoesNotMatch"), "refused"),
        (client_error("AccessDenied", "AssumeRole"), "unusable"),
        (client_error("ForbiddenException", "GetRoleCredentials"), "unusable"),
        (client_error("AccessDenied"), None),
        (botocore_errors.UnauthorizedSSOTokenError(), "expired"),
        (botocore_errors.TokenRetrievalError(provider="sso", error_msg="no"), "expired"),
        (botocore_errors.MetadataRetrievalError(error_msg="no"), "unusable"),
        (botocore_errors.RefreshWithMFAUnsupportedError(), "expired"),
        (botocore_errors.EndpointConnectionError(endpoint_url="https://x"), None),
        (ValueError("no"), None),
    ],
)
@pytest.mark.usefixtures("home")
def test_errors_of_credentials_are_recognized(error: Exception, reason: str | None) -> None:
    """The codes of all services and botocore's classes are one error; other refusals are not."""
    found = credentials_error(error, None)
    assert (found and found.reason) == reason


@pytest.mark.usefixtures("home")
def test_a_credentials_error_keeps_the_kind_of_its_cause() -> None:
    """Waits ride out expired credentials, by the kind and the code of botocore's error."""
    cause = client_error("ExpiredToken")
    error = credentials_error(cause, None)
    assert error is not None
    error.__cause__ = cause
    assert (classify(error), error_code(error)) == (FailureKind.EXPIRED, "ExpiredToken")
