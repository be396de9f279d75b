"""The local session: every client of its boto3 session reaches the engine, and no other client does."""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import attrs
import boto3
import botocore.awsrequest
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from processing import LocalSession, Session
from processing.exceptions import ConfigurationError
from processing.local.commands import serve
from processing.local.engine import Engine
from processing.local.settings import EngineSettings
from processing.local.transports.in_process import InProcessTransport, identify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.local.transports.in_process import Transport


class Recording:
    """A transport that records the operations and passes requests on."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.seen: list[tuple[str, str]] = []

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Record the operation and pass the request on."""
        self.seen.append(identify(request))
        return self.inner.send(request)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[LocalSession, Recording]:
    """A session and the record of its transport."""
    made: list[Recording] = []

    def wrap(inner: Transport) -> Recording:
        made.append(Recording(inner))
        return made[0]

    session = LocalSession(tmp_path, transport=wrap)
    return session, made[0]


def test_every_client_and_resource_goes_to_the_engine(recorded: tuple[LocalSession, Recording]) -> None:
    """Clients of the botocore session with settings of their own reach it too."""
    session, recording = recorded
    boto = session.boto_session
    boto.client("s3").create_bucket(Bucket="bucket")
    boto.resource("s3").Object("bucket", "k").put(Body=b"x")
    own = {"endpoint_url": "https://example.com", "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 3})
    assert (
        boto.client("s3", "eu-west-1", config=config, **own).get_object(Bucket="bucket", Key="k")["Body"].read() == b"x"
    )
    session.client("sagemaker").list_processing_jobs()
    assert recording.seen == [
        ("s3", "CreateBucket"),
        ("s3", "PutObject"),
        ("s3", "GetObject"),
        ("sagemaker", "ListProcessingJobs"),
    ]


def test_no_other_client_is_touched(local_session: LocalSession) -> None:
    """A client of the user's own does not see the engine: its request is signed and would leave the machine."""
    local_session.client("s3").list_buckets()
    session = boto3.Session("key", "secret", region_name="us-east-1")
    client = session.client("s3", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
    seen: list[Any] = []

    def refuse(request: Any, **_: Any) -> None:
        seen.append(request.headers["Authorization"])
        raise ConnectionClosedError(endpoint_url=request.url)

    client.meta.events.register("before-send", refuse)
    with pytest.raises(ConnectionClosedError):
        client.list_buckets()
    assert len(seen) == 1


def test_the_machines_configuration_is_left_alone(
    recorded: tuple[LocalSession, Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that does not exist, endpoints, proxies and FIPS of the environment have no effect."""
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    session, recording = recorded
    for service, call in (("s3", "list_buckets"), ("sts", "get_caller_identity"), ("logs", "describe_log_groups")):
        getattr(session.client(service), call)()
    assert len(recording.seen) == 3
    assert session.boto_session.region_name == "us-east-1"
    credentials = session.boto_session.get_credentials()
    assert (credentials.access_key, credentials.token) == ("local", None)


@pytest.mark.parametrize(
    ("service", "call"),
    [("ec2", "describe_instances"), ("dynamodb", "list_tables"), ("lambda", "list_functions"), ("sns", "list_topics")],
)
def test_another_service_is_refused_in_its_own_protocol(local_session: LocalSession, service: str, call: str) -> None:
    """The error names the service, instead of the request leaving the machine."""
    client = local_session.boto_session.client(service)
    with pytest.raises(ClientError) as caught:
        getattr(client, call)()
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert service in caught.value.response["Error"]["Message"]


def test_the_engine_checks_parameters_in_awss_words(local_session: LocalSession) -> None:
    """The engine finds what botocore's own validator accepts."""
    with pytest.raises(ClientError) as caught:
        local_session.client("sagemaker").list_processing_jobs(SortBy="Age")
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "1 validation error detected: Value 'Age' at 'sortBy' failed to satisfy constraint: "
        "Member must satisfy enum value set: [Name, CreationTime, Status]",
    }
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_answer_has_a_date_and_an_id(local_session: LocalSession) -> None:
    """Submission compares creation times with the server's time."""
    metadata = local_session.client("sts").get_caller_identity()["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["date"].endswith("GMT")
    assert len(metadata["RequestId"]) == 16


def test_sessions_share_a_folder(tmp_path: Path) -> None:
    """Another folder shares nothing."""
    first, second = LocalSession(tmp_path / "a"), LocalSession(str(tmp_path / "a"))
    first.client("s3").create_bucket(Bucket="bucket")
    assert [bucket["Name"] for bucket in second.client("s3").list_buckets()["Buckets"]] == ["bucket"]
    assert LocalSession(tmp_path / "b").client("s3").list_buckets()["Buckets"] == []


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """An object that another process put is there at once."""
    session = LocalSession(tmp_path)
    bucket = session.default_bucket()
    code = "import sys; from processing import LocalSession\n"
    code += "LocalSession(sys.argv[1]).client('s3').put_object(Bucket=sys.argv[2], Key='k', Body=b'theirs')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path), bucket], check=True, env=environment)
    assert session.client("s3").get_object(Bucket=bucket, Key="k")["Body"].read() == b"theirs"


def test_threads_share_a_client(local_session: LocalSession) -> None:
    """16 threads put and get through one client."""
    bucket, s3 = local_session.default_bucket(), local_session.client("s3")
    barrier = threading.Barrier(16)

    def work(number: int) -> bytes:
        barrier.wait()
        for _ in range(5):
            s3.put_object(Bucket=bucket, Key=str(number), Body=str(number).encode())
        body: bytes = s3.get_object(Bucket=bucket, Key=str(number))["Body"].read()
        return body

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [str(number).encode() for number in range(16)]


def test_a_forked_child_works_on(local_session: LocalSession) -> None:
    """Databases that the parent had open are opened anew."""
    bucket, s3 = local_session.default_bucket(), local_session.client("s3")
    child = os.fork()
    if child == 0:
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=b"child")
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"child"


def test_a_body_that_is_not_read_is_closed(local_session: LocalSession) -> None:
    """No descriptor is left, whether the body is closed, read to the end or dropped."""
    bucket, s3 = local_session.default_bucket(), local_session.client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path as text
    for _ in range(5):
        s3.get_object(Bucket=bucket, Key="k")["Body"].close()
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
        s3.get_object(Bucket=bucket, Key="k")["Body"].read(10)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].iter_lines() is not None
        list(s3.get_object(Bucket=bucket, Key="k")["Body"].iter_chunks(7))
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208 - the listing's own


class TestSession:
    """LocalSession beyond its transport."""

    def test_it_is_a_session(self, local_session: LocalSession) -> None:
        """With an account and a bucket, and no call for either."""
        assert isinstance(local_session, Session)
        assert local_session.is_local
        assert local_session.account_id() == "000000000000"
        assert local_session.default_bucket() == "sagemaker-us-east-1-000000000000"
        assert local_session.expand_role("Name") == "arn:aws:iam::000000000000:role/Name"
        assert local_session.expand_role("arn:aws:iam::1:role/x") == "arn:aws:iam::1:role/x"

    def test_the_bucket_that_was_named_is_made(self, recorded: tuple[LocalSession, Recording], tmp_path: Path) -> None:
        """It takes no call. Other buckets stay missing, so that a wrong name is noticed."""
        session = LocalSession(tmp_path, default_bucket="my-bucket")
        session.ensure_bucket("my-bucket")
        session.ensure_bucket("other-bucket")
        assert [bucket.name for bucket in session.engine.objects.list_buckets()] == ["my-bucket"]
        recorded[0].default_bucket()
        assert recorded[1].seen == []

    def test_the_folder_is_the_environments(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is PROCESSING_LOCAL_HOME, or else the user's data folder, and readable by its owner only."""
        monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "chosen"))
        assert LocalSession().engine.home == tmp_path / "chosen"
        assert (tmp_path / "chosen").stat().st_mode & 0o777 == 0o700
        monkeypatch.delenv("PROCESSING_LOCAL_HOME")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        assert Engine().home == tmp_path / "data" / "sm-processing"
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert Engine().home == tmp_path / "home" / ".local" / "share" / "sm-processing"

    def test_every_setting_is_one_of_the_session_and_of_the_command(self) -> None:
        """Options of the command that may be repeated are in the singular."""
        names = {each.name for each in attrs.fields(EngineSettings)}
        assert names <= set(inspect.signature(LocalSession).parameters)
        parser = argparse.ArgumentParser()
        serve.add_command(parser.add_subparsers())
        options = vars(parser.parse_args(["serve"]))
        assert names <= {*options, *(f"{name}s" for name in options)}

    def test_settings_are_given_whole_or_in_parts(self, tmp_path: Path) -> None:
        """Both at once are refused, and wrong settings are reported at once."""
        parts = LocalSession(tmp_path, tick=0.5, sandbox="rewriting", images={"a": "b"})
        assert parts.engine.settings == EngineSettings(tick=0.5, sandbox="rewriting", images=(("a", "b"),))
        whole = EngineSettings(grace=3)
        assert LocalSession(tmp_path, settings=whole).engine.settings is whole
        wrong: list[Mapping[str, Any]] = [{"settings": whole, "tick": 1}, {"tick": -1}, {"sandbox": "chroot"}]
        for options in wrong:
            with pytest.raises(ConfigurationError):
                LocalSession(tmp_path, **options)

    def test_making_one_loads_no_boto3(self, tmp_path: Path) -> None:
        """boto3 is loaded with the first client."""
        code = "import sys; from processing import LocalSession; LocalSession(sys.argv[1])\n"
        code += "assert not {'boto3', 'botocore'} & set(sys.modules), 'loaded'"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)

    def test_models_are_read_once(self, tmp_path: Path) -> None:
        """Every session of the process shares one loader."""
        loaders = [LocalSession(tmp_path).boto_session._session.get_component("data_loader") for _ in range(2)]
        assert loaders[0] is loaders[1]
        assert loaders[0] is not botocore.session.Session().get_component("data_loader")
        assert len(loaders[0].search_paths) == len(set(loaders[0].search_paths))


def test_no_code_runs_when_an_answer_is_dropped(local_session: LocalSession) -> None:
    """A Ctrl-C at such a moment would be lost, and a wait drops many answers."""
    request = botocore.awsrequest.AWSRequest("GET", "http://s3.processing.localhost/").prepare()
    answer = InProcessTransport(local_session.engine).send(request)
    assert answer.status_code == 200
    assert not hasattr(answer.raw, "__del__")
