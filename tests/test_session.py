"""The session: nothing before it is needed, no call too many, and no bucket of somebody else's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
import moto
import pytest

import processing
from processing import ConfigurationError, Session
from processing.aws.retry import RetryPolicy
from processing.request.service_model import shared_loader
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processing import LocalSession

ACCOUNT = "123456789012"  # moto's
ROLE = f"arn:aws:iam::{ACCOUNT}:role/etl"


class Sent:
    """The requests of a session, as they went over the wire."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def calls(self) -> list[str]:
        """The operations, in the order in which they were sent."""
        return [operation for _, operation, _ in self.requests]

    def note(self, request: Any, event_name: str, **_rest: object) -> None:
        """Take note of a request: botocore calls it before sending."""
        _, service, operation = event_name.split(".")
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        self.requests.append((service, operation, headers))


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS of moto's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with moto.mock_aws():
        yield


@pytest.fixture
def sent() -> Sent:
    """The requests of the test's session."""
    return Sent()


@pytest.fixture
def make(sent: Sent) -> Callable[..., Session]:
    """Makes sessions whose requests are noted."""

    def make(region: str = "eu-west-1", **options: Any) -> Session:
        boto_session = boto3.Session(region_name=region)
        boto_session.events.register_first("before-send", sent.note)
        options = {"retry_policy": RetryPolicy(attempts=2), "clock": VirtualClock(), **options}
        return Session(boto_session, **options)

    return make


def test_a_session_costs_nothing() -> None:
    """To make one loads neither boto3, botocore nor tenacity, and needs neither region nor credentials."""
    code = (
        "import sys, json, processing\n"
        "session = processing.Session()\n"
        "session.code_layout, session.default_bucket_prefix, session.is_local\n"
        "print(json.dumps([name for name in ('boto3', 'botocore', 'tenacity') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("profile", [None, "team"])
def test_another_program_can_make_the_same(
    profile: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expression names the region and the profile: the other program's environment may have others."""
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    session = Session(boto3.Session(profile_name=profile), region_name="eu-west-1")
    made = eval(session.expression(), {"processing": processing, "boto3": boto3})
    assert made.boto_region_name == "eu-west-1"
    assert made.boto_session.profile_name == (profile or "default")


class TestParts:
    def test_clients_are_made_once(self, make: Callable[..., Session], sent: Sent) -> None:
        """A client is the same one each time, for threads that ask at once too; to make one sends nothing."""
        session = make()
        made: list[Any] = []
        threads = [threading.Thread(target=lambda: made.append(session.client("s3"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(client) for client in made}) == 1
        assert session.api is session.api
        assert session.api.client("s3") is session.client("s3")
        assert sent.calls == []

    def test_clients_do_not_retry(self, make: Callable[..., Session]) -> None:
        """The one retry layer is ours: botocore's is off, and no connection is waited for without end."""
        for service in ("sagemaker", "s3", "logs", "sts", "iam"):
            config = make().client(service).meta.config
            assert config.retries["total_max_attempts"] == 1
            assert (config.connect_timeout, config.read_timeout) == (10, 60)
            assert config.max_pool_connections > 16

    def test_no_expect_header(self, make: Callable[..., Session], sent: Sent, tmp_path: Path) -> None:
        """A file is sent at once, without asking for leave: that costs a round trip for each."""
        session = make(region="us-east-1")
        session.client("s3").create_bucket(Bucket="mine")
        (tmp_path / "x").write_bytes(b"x" * 3_000_000)
        session.upload_data(tmp_path / "x", "mine")
        assert not [headers for _, _, headers in sent.requests if "expect" in headers]

    def test_the_users_client(self, make: Callable[..., Session]) -> None:
        """A client that the user made is used as it is, and its region is the session's."""
        client = boto3.client("sagemaker", region_name="ap-south-1", endpoint_url="http://localhost:1")
        session = Session(sagemaker_client=client)
        assert session.client("sagemaker") is client
        assert session.boto_region_name == "ap-south-1"
        assert make(sagemaker_client=client).boto_region_name == "eu-west-1"

    def test_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The region given counts before the environment's; without any, the error says how to give one."""
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        with pytest.raises(ConfigurationError, match="region_name: no AWS region is set"):
            _ = Session().boto_region_name
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        assert Session().boto_region_name == "us-west-2"
        assert Session(region_name="eu-north-1").client("s3").meta.region_name == "eu-north-1"

    @pytest.mark.parametrize(
        ("region", "partition"),
        [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("xx-new-1", "aws")],
    )
    def test_partition(self, region: str, partition: str) -> None:
        """The partition is the region's; a region newer than botocore is in the ordinary one."""
        assert Session(region_name=region).partition == partition

    def test_the_model_is_read_once(self) -> None:
        """Sessions of our own read the service models through the loader that the checks use."""
        loader = shared_loader()
        sessions = [Session(region_name="eu-west-1") for _ in range(3)]
        for session in sessions:
            assert session.boto_session._loader is loader
        assert len(loader.search_paths) == len(set(loader.search_paths))
        assert sessions[0].service_model("sagemaker").service_name == "sagemaker"

    def test_the_users_default_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A session set up by `boto3.setup_default_session` is used, as everywhere with boto3."""
        theirs = boto3.Session(region_name="sa-east-1")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", theirs)
        assert Session().boto_session is theirs

    def test_polling(self) -> None:
        """Polling is the package's own, unless given."""
        from processing.watching.polling import Polling

        assert Session().polling == Polling()
        assert Session(polling=Polling(first=9.0)).polling.first == 9.0

    @pytest.mark.parametrize(
        ("given", "environment", "layout"), [(None, "", "content"), (None, "job", "job"), ("content", "job", "content")]
    )
    def test_code_layout(self, monkeypatch: pytest.MonkeyPatch, given: Any, environment: str, layout: str) -> None:
        """The layout given counts before the environment's."""
        monkeypatch.setenv("PROCESSING_CODE_LAYOUT", environment)
        assert Session(code_layout=given).code_layout == layout

    def test_wrong_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A setting that cannot be is refused where it is made."""
        with pytest.raises(ConfigurationError, match="code_layout: must be"):
            Session(code_layout="x")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="default_bucket: 's3://b/p' is not a bucket's name"):
            Session(default_bucket="s3://b/p")
        monkeypatch.setenv("PROCESSING_CODE_LAYOUT", "y")
        with pytest.raises(ConfigurationError, match="PROCESSING_CODE_LAYOUT: must be"):
            Session()

    def test_bundle_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The argument wins over the environment; without either there is no limit."""
        assert Session().bundle_limit is None
        monkeypatch.setenv("PROCESSING_BUNDLE_LIMIT", "500")
        assert (Session().bundle_limit, Session(bundle_limit=7).bundle_limit) == (500, 7)

    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9"])
    def test_a_wrong_bundle_limit(self, limit: Any) -> None:
        """A limit is a number of bytes."""
        with pytest.raises(ConfigurationError, match="bundle_limit: must be a number of bytes above 0, not"):
            Session(bundle_limit=limit)

    @pytest.mark.parametrize("limit", ["0", "100MB", "-5"])
    def test_a_wrong_bundle_limit_of_the_environment(self, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
        """The error names the variable."""
        monkeypatch.setenv("PROCESSING_BUNDLE_LIMIT", limit)
        with pytest.raises(ConfigurationError, match=f"PROCESSING_BUNDLE_LIMIT: .* not '{limit}'"):
            Session()


class TestAccount:
    def test_one_call(self, make: Callable[..., Session], sent: Sent) -> None:
        """Whatever needs the account, STS is asked once."""
        session = make()
        assert session.account_id() == ACCOUNT
        assert session.caller_identity_arn().startswith(f"arn:aws:sts::{ACCOUNT}:")
        assert session.bucket_for_request(ROLE) == f"sagemaker-eu-west-1-{ACCOUNT}"
        assert session.bucket_without_call(None) == f"sagemaker-eu-west-1-{ACCOUNT}"
        assert session.partition == "aws"
        assert session.expected_owner(f"sagemaker-eu-west-1-{ACCOUNT}") == ACCOUNT
        assert sent.calls == ["GetCallerIdentity"]

    def test_threads(self, make: Callable[..., Session], sent: Sent) -> None:
        """Threads that ask at once share the one call."""
        session = make()
        threads = [threading.Thread(target=session.account_id) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sent.calls == ["GetCallerIdentity"]

    def test_roles(self, make: Callable[..., Session], sent: Sent) -> None:
        """An ARN is taken as it is; a name is looked up."""
        session = make()
        assert session.expand_role(ROLE) == ROLE
        assert sent.calls == []
        session.client("iam").create_role(RoleName="etl", AssumeRolePolicyDocument="{}")
        assert session.expand_role("etl") == ROLE
        assert sent.calls == ["CreateRole", "GetRole"]


class TestUsersBucket:
    def test_it_is_never_looked_at(self, make: Callable[..., Session], sent: Sent) -> None:
        """A bucket that the user named costs no call: it is not probed, listed or created, nor the account asked."""
        session = make(default_bucket="mine")
        assert session.default_bucket() == "mine"
        assert session.bucket_for_request(None) == "mine"
        assert session.bucket_without_call(None) == "mine"
        session.ensure_bucket("mine")
        session.ensure_bucket(f"sagemaker-eu-west-1-{ACCOUNT}")
        assert session.expected_owner("mine") is None
        assert session.expected_owner(f"sagemaker-eu-west-1-{ACCOUNT}") is None
        assert sent.calls == []

    def test_s3_written_before_it(self) -> None:
        """`s3://` before the name is forgiven."""
        assert Session(default_bucket="s3://mine/").default_bucket() == "mine"

    def test_uploads(self, make: Callable[..., Session], sent: Sent, tmp_path: Path) -> None:
        """N files to the user's bucket are N calls."""
        session = make(region="us-east-1", default_bucket="mine", default_bucket_prefix="team/a")
        session.client("s3").create_bucket(Bucket="mine")
        sent.requests.clear()
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
        assert session.upload_data(tmp_path) == "s3://mine/team/a/data"
        assert session.upload_data(tmp_path / "a", "mine", "k") == "s3://mine/k/a"
        assert sent.calls == ["PutObject"] * 3


class TestDefaultBucket:
    @pytest.mark.parametrize(
        ("region", "where"), [("us-east-1", None), ("eu-west-1", "eu-west-1"), ("cn-north-1", "cn-north-1")]
    )
    def test_it_is_created_where_it_belongs(
        self, make: Callable[..., Session], sent: Sent, region: str, where: str | None
    ) -> None:
        """A default bucket that is missing is created, in the session's region, once."""
        session = make(region=region)
        name = f"sagemaker-{region}-{ACCOUNT}"
        assert session.default_bucket() == name
        assert session.default_bucket() == name
        assert sent.calls == ["GetCallerIdentity", "HeadBucket", "CreateBucket"]
        assert session.client("s3").get_bucket_location(Bucket=name).get("LocationConstraint") == where

    def test_it_is_only_looked_at_where_it_is(self, make: Callable[..., Session], sent: Sent) -> None:
        """A default bucket that is there costs one HEAD."""
        make().default_bucket()
        sent.requests.clear()
        make().default_bucket()
        assert sent.calls == ["GetCallerIdentity", "HeadBucket"]

    def test_the_owner_is_expected_on_every_call(
        self, make: Callable[..., Session], sent: Sent, tmp_path: Path
    ) -> None:
        """Every call to the default bucket says whose it has to be; the one that makes it cannot."""
        session = make()
        bucket = session.default_bucket()
        (tmp_path / "x").write_text("x")
        session.upload_data(tmp_path)
        session.upload_string_as_file_body("text", bucket, "t", kms_key="k")
        assert session.read_s3_file(bucket, "t") == "text"
        assert session.download_data(tmp_path / "to", bucket, "data") == [str(tmp_path / "to" / "x")]
        s3 = [(operation, headers) for service, operation, headers in sent.requests if service == "s3"]
        assert Counter(operation for operation, _ in s3) == Counter(
            HeadBucket=1, CreateBucket=1, PutObject=2, GetObject=2, ListObjectsV2=1
        )
        for operation, headers in s3:
            assert headers.get("x-amz-expected-bucket-owner") == (None if operation == "CreateBucket" else ACCOUNT)
        assert sent.calls.count("GetCallerIdentity") == 1

    def test_other_buckets_need_no_account(self, make: Callable[..., Session], sent: Sent) -> None:
        """A bucket that cannot be the default one is nobody's business."""
        session = make()
        for bucket in ("mine", "sagemaker-eu-west-1", "sagemaker-us-east-1-" + ACCOUNT, "sagemaker-eu-west-1-12"):
            assert session.expected_owner(bucket) is None
            session.ensure_bucket(bucket)
        assert sent.calls == []
        assert session.expected_owner("sagemaker-eu-west-1-999999999999") is None
        assert sent.calls == ["GetCallerIdentity"]

    @pytest.mark.parametrize(
        ("head", "create", "message"),
        [
            (403, None, "belongs to another account than 123456789012, or these credentials lack s3:ListBucket"),
            (404, (409, "BucketAlreadyExists"), "belongs to another account. Give a bucket of your own"),
            (404, (403, "AccessDenied"), "these credentials may not create it"),
        ],
    )
    def test_what_cannot_be_had(
        self, make: Callable[..., Session], head: int, create: tuple[int, str] | None, message: str
    ) -> None:
        """A name that somebody else has taken, or a permission that is missing, is told in plain words."""
        session = make()
        session.account_id()
        answer_with(session, "HeadBucket", head, str(head))
        if create is not None:
            answer_with(session, "CreateBucket", *create)
        with pytest.raises(ConfigurationError, match="default_bucket: ") as error:
            session.default_bucket()
        assert message in str(error.value)
        assert error.value.__cause__ is not None

    def test_two_creators(self, make: Callable[..., Session]) -> None:
        """A bucket that another process of this account creates first is used."""
        session = make()
        answer_with(session, "HeadBucket", 404, "404")
        answer_with(session, "CreateBucket", 409, "BucketAlreadyOwnedByYou")
        assert session.default_bucket() == f"sagemaker-eu-west-1-{ACCOUNT}"

    def test_without_a_call(self, make: Callable[..., Session], sent: Sent) -> None:
        """Without a call the account is the role's; where there is none, the error says what to give."""
        session = make()
        assert session.bucket_without_call(ROLE) == f"sagemaker-eu-west-1-{ACCOUNT}"
        assert make(region="cn-north-1").bucket_without_call("arn:aws-cn:iam::1:role/x") == "sagemaker-cn-north-1-1"
        for role in (None, "etl", "path/etl"):
            with pytest.raises(ConfigurationError, match="role: without a call to AWS the account is not known"):
                session.bucket_without_call(role)
        assert sent.calls == []


def answer_with(session: Session, operation: str, status: int, code: str) -> None:
    """Let an operation of S3's be answered with an error."""
    from botocore.exceptions import ClientError

    client = session.client("s3")

    def refuse(**_event: Any) -> None:
        answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, operation)

    client.meta.events.register_first(f"before-send.s3.{operation}", refuse)


class TestFiles:
    def test_callback_and_extra_arguments(self, make: Callable[..., Session], sent: Sent, tmp_path: Path) -> None:
        """The callback is told of the bytes, the extra arguments go along."""
        session = make(region="us-east-1", default_bucket="mine")
        session.client("s3").create_bucket(Bucket="mine")
        (tmp_path / "x").write_text("12345")
        told: list[int] = []
        session.upload_data(str(tmp_path / "x"), "mine", "k", told.append, {"ContentType": "text/csv"})
        assert sum(told) == 5
        assert sent.requests[-1][2]["content-type"] == "text/csv"
        session.download_data(tmp_path / "to", "mine", "k/x", {"VersionId": "null"})
        assert (tmp_path / "to" / "x").read_text() == "12345"

    def test_an_s3_uri_is_no_file(self, make: Callable[..., Session]) -> None:
        """An `s3://` URI is refused: only local files are uploaded."""
        with pytest.raises(ConfigurationError, match="path: 's3://b/k' is not a local file"):
            make(default_bucket="mine").upload_data("s3://b/k")


def test_jobs(local_session: LocalSession) -> None:
    """The two calls of `sagemaker.Session` that scripts make on a job."""
    local_session.api.call(
        "sagemaker",
        "CreateProcessingJob",
        {
            "ProcessingJobName": "job",
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
            },
            "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["sleep", "60"]},
            "RoleArn": ROLE,
        },
    )
    assert local_session.describe_processing_job("job")["ProcessingJobStatus"] == "InProgress"
    local_session.stop_processing_job("job")
    assert local_session.describe_processing_job("job")["ProcessingJobStatus"] in {"Stopping", "Stopped"}


def test_aws_has_nothing_to_say_beforehand() -> None:
    """The hook for what a target cannot run lets everything pass for AWS."""
    Session().preflight(None, None)  # type: ignore[arg-type]


def test_calls_to_aws_are_paced_and_calls_to_a_stand_in_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sessions of an account and region share one rate limiter; another endpoint has no quota that we know of."""
    one, two, elsewhere = (Session(region_name=region) for region in ("eu-west-1", "eu-west-1", "eu-west-3"))
    rate_limiter = one.api.rate_limiter("CreateProcessingJob")
    assert rate_limiter is not None
    assert two.api.rate_limiter("CreateProcessingJob") is rate_limiter
    assert elsewhere.api.rate_limiter("CreateProcessingJob") is not rate_limiter
    assert one.api.rate_limiter("PutObject") is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert Session(region_name="eu-west-1").api.rate_limiter("CreateProcessingJob") is None
