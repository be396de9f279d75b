"""Copies of processors, jobs, sessions, fleets and their parts: in this process, and by pickle in another one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.credentials import RefreshableCredentials

from forked import in_child
from processing import (
    ConfigurationError,
    EventBridgeSource,
    Fleet,
    FrameworkProcessor,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingJob,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
    SubmissionError,
    submit_all,
)
from processing.clock import SYSTEM_CLOCK
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLE = "arn:aws:iam::111122223333:role/r"
IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/i:1"

KEYS = ("AKIASECRETKEY", "wJalrXUtnSECRET", "FwoGZSECRETTOKEN")


def pickled(value: Any) -> Any:
    """Return a copy by pickle; no key of AWS is in it."""
    content = pickle.dumps(value)
    for key in KEYS:
        assert key.encode() not in content
    return pickle.loads(content)


WAYS = [copy.copy, copy.deepcopy, pickled]


@pytest.fixture(params=["env", "file", "profile"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Keys in the environment, in the default profile or in another one; the name of that profile."""
    source: str = request.param
    if source == "env":
        for name, key in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), KEYS, strict=True):
            monkeypatch.setenv(f"AWS_{name}", key)
        return None
    profile = "default" if source == "file" else "team"
    path = tmp_path / "credentials"
    path.write_text(
        f"[{profile}]\naws_access_key_id={KEYS[0]}\naws_secret_access_key={KEYS[1]}\naws_session_token={KEYS[2]}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return None if source == "file" else profile


def key_of(session: Session, service: str = "sagemaker") -> str:
    return str(session.client(service)._request_signer._credentials.access_key)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["nothing", "boto session", "boto session and client"])
def test_a_session(credentials: str | None, given: str, way: Callable[[Any], Any]) -> None:
    """A copy has the settings, the region and the same account, and finds the keys by itself."""
    boto = boto3.Session(profile_name=credentials, region_name="eu-west-2")
    arguments = {
        "nothing": (boto,) if credentials else (),
        "boto session": (boto,),
        "boto session and client": (boto, boto.client("sagemaker", endpoint_url="http://localhost:1")),
    }[given]
    session = Session(
        *arguments,
        region_name="eu-west-1",
        default_bucket="bucket",
        default_bucket_prefix="prefix",
        code_layout="job",
        bundle_limit=7,
        polling=Polling(first=9.0),
        sagemaker_config={"SchemaVersion": "1.0"},
        event_source=EventBridgeSource("https://sqs/queue"),
    )
    session.client("s3")
    assert session.poller is session.poller
    for twin in (way(session), way(way(session))):
        assert type(twin) is Session
        assert twin is not session
        assert twin.boto_region_name == "eu-west-1"
        assert (twin.default_bucket(), twin.default_bucket_prefix) == ("bucket", "prefix")
        assert (twin.code_layout, twin.bundle_limit, twin.polling) == ("job", 7, Polling(first=9.0))
        assert twin.config == session.config
        assert twin.clock == SYSTEM_CLOCK
        assert key_of(twin) == key_of(twin, "s3") == KEYS[0]
        ours, theirs = (each.client("sagemaker").meta.endpoint_url for each in (session, twin))
        assert ours == theirs


def test_keys_of_the_environment_come_before_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in botocore, AWS_PROFILE does not replace keys of the environment, on either side."""
    for name, key in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), KEYS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", key)
    session = Session(region_name="eu-west-1")
    assert pickled(session)._profile is None
    key_of(session)
    assert key_of(pickled(session)) == KEYS[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_session_is_independent(way: Callable[[Any], Any]) -> None:
    """An assignment to a copy does not change the session."""
    session = Session(region_name="eu-west-1", default_bucket_prefix="ours")
    twin = way(session)
    twin.default_bucket_prefix = "theirs"
    assert session.default_bucket_prefix == "ours"
    assert twin._bucket._session is twin


def refreshable() -> Any:
    boto = boto3.Session(region_name="eu-west-1")
    metadata = {
        "access_key": KEYS[0],
        "secret_key": KEYS[1],
        "token": KEYS[2],
        "expiry_time": "2199-01-01T00:00:00Z",
    }
    core: Any = boto._session
    core._credentials = RefreshableCredentials.create_from_metadata(metadata, lambda: metadata, "the-users-own")
    return boto


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Session(boto3.Session(*KEYS, region_name="eu-west-1")), "boto_session"),
        (lambda: Session(refreshable()), "boto_session"),
        (lambda: Session(sagemaker_client=boto3.Session(*KEYS, "eu-west-1").client("sagemaker")), "sagemaker_client"),
        (
            lambda: Session(
                boto3.Session(region_name="eu-west-1"), boto3.Session(*KEYS, "eu-west-1").client("sagemaker")
            ),
            "sagemaker_client",
        ),
        (lambda: SimulatedAws(VirtualClock()).session(clock=SYSTEM_CLOCK), "boto_session"),
    ],
)
def test_keys_of_this_process_do_not_travel(make: Callable[[], Session], field: str) -> None:
    """A session with keys that are arguments is refused by pickle; copies in this process work."""
    session = make()
    processor = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"], sagemaker_session=session)
    for value in (session, ProcessingJob(session, "job"), processor):
        with pytest.raises(ConfigurationError, match=f"^{field}: its keys exist in this process only"):
            pickle.dumps(value)
        copy.copy(value)
        copy.deepcopy(value)
    assert copy.deepcopy(session).client("sagemaker") is session.client("sagemaker")


def test_explicit_keys_with_a_profile_travel_as_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process reads the profile's own keys."""
    path = tmp_path / "credentials"
    path.write_text("[team]\naws_access_key_id=OTHER\naws_secret_access_key=s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    session = Session(boto3.Session(*KEYS, "eu-west-1", profile_name="team"))
    twin = pickled(session)
    assert twin.boto_session.profile_name == "team"
    assert key_of(twin) == "OTHER"


class OwnScriptProcessor(ScriptProcessor):
    """A subclass with an attribute of its own."""

    def __init__(self, own: str, **options: Any) -> None:
        self.own = own
        super().__init__(**options)


class OwnSession(Session):
    """A session with an attribute of its own."""

    def __init__(self, own: str) -> None:
        super().__init__(region_name="eu-west-1", default_bucket="bucket")
        self.own = own


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("credentials")
def test_processors(way: Callable[[Any], Any]) -> None:
    """A copy makes the same request; a default, a given and a subclass's session all travel."""
    network = NetworkConfig(enable_network_isolation=True, security_group_ids=["sg-1"], subnets=["subnet-1"])
    options: dict[str, Any] = {
        "role": ROLE,
        "image_uri": IMAGE,
        "instance_count": 1,
        "instance_type": "ml.m5.large",
        "env": {"A": "1"},
        "network_config": network,
        "tags": [{"Key": "a", "Value": "b"}],
    }
    session = OwnSession("value")
    made: list[Any] = [
        Processor(**options, sagemaker_session=session),
        ScriptProcessor(**options, command=["python3"], sagemaker_session=session),
        FrameworkProcessor(**options, sagemaker_session=session),
        OwnScriptProcessor("mine", **options, command=["python3"], sagemaker_session=session),
    ]
    arguments: dict[str, Any] = {"job_name": "job", "outputs": [ProcessingOutput("/opt/ml/processing/out", "s3://b/o")]}
    for processor in made:
        twin = way(processor)
        call = arguments if type(processor) is Processor else {**arguments, "code": "s3://b/code.py"}
        assert type(twin) is type(processor)
        assert twin.request(**call).to_boto() == processor.request(**call).to_boto()
        assert twin.sagemaker_session.own == "value"
        assert getattr(twin, "own", "mine") == "mine"
        with twin._run_lock:
            pass
    without = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"])
    assert way(without).instance_type == "ml.m5.large"


def test_a_processor_with_a_session_of_sagemaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another library's session, which cannot be pickled itself, is replaced by one that does its work."""
    for name, key in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), KEYS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", key)

    class V2:
        boto_session = boto3.Session(region_name="eu-west-1")
        sagemaker_client = boto_session.client("sagemaker")
        lock = threading.Lock()

        def default_bucket(self) -> str:
            return "bucket"

    processor = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"])
    processor.sagemaker_session = V2()
    twin = pickled(processor)
    assert isinstance(twin.sagemaker_session, Session)
    assert twin.sagemaker_session.boto_region_name == "eu-west-1"
    assert isinstance(processor.sagemaker_session, V2)


@pytest.fixture
def ran(local_session: LocalSession, tmp_path: Path) -> tuple[ScriptProcessor, ProcessingJob]:
    """A processor, and a job of it that has ended, on the engine."""
    script = tmp_path / "a.py"
    script.write_text("open('/opt/ml/processing/out/a.txt', 'w').write('content')\n")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    job = processor.run(
        str(script), outputs=[ProcessingOutput("/opt/ml/processing/out", output_name="out")], logs=False
    )
    return processor, job


@pytest.mark.parametrize("way", WAYS)
def test_the_engine(
    local_session: LocalSession, ran: tuple[ScriptProcessor, ProcessingJob], tmp_path: Path, way: Callable[[Any], Any]
) -> None:
    """A copy of a LocalSession, of a job and of a processor reach the same engine, and can be used."""
    processor, job = ran
    twin = way(local_session)
    assert (twin.home, twin.engine.settings) == (local_session.home, local_session.engine.settings)
    assert twin.region_of_jobs is local_session.region_of_jobs is None
    assert twin.describe_processing_job(job.job_name)["ProcessingJobStatus"] == "Completed"
    again = way(job).wait(logs=False)
    assert (again.arn, again.status, again.exception()) == (job.arn, "Completed", None)
    (file,) = way(job.outputs["out"]).download(tmp_path / "one")
    assert file.read_text() == "content"
    (file,) = again.outputs["out"].download(tmp_path / "two")
    assert file.read_text() == "content"
    assert way(job.outputs)["out"].destination == job.outputs["out"].destination
    other = way(processor)
    assert [each.job_name for each in other.jobs] == [job.job_name]
    later = other.run(str(tmp_path / "a.py"), outputs=["/opt/ml/processing/out"], logs=False)
    assert later.status == "Completed"
    assert len(processor.jobs) == 1


def test_a_job_in_a_process_of_its_own(ran: tuple[ScriptProcessor, ProcessingJob], tmp_path: Path) -> None:
    """A process that knows the pickle alone waits for the job and downloads its outputs."""
    (tmp_path / "job").write_bytes(pickle.dumps(ran[1]))
    code = (
        "import pathlib, pickle, sys\n"
        "job = pickle.loads(pathlib.Path(sys.argv[1], 'job').read_bytes())\n"
        "print(job.wait(quiet=True).status, job.outputs['out'].download(pathlib.Path(sys.argv[1], 'there'))[0].name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("Completed a.txt\n", "")
    assert in_child(lambda: pickle.loads(pickle.dumps(ran[1])).status) == "Completed"


def test_a_transport_of_this_process_does_not_travel(tmp_path: Path) -> None:
    """A LocalSession with a transport of the user's is refused by pickle, and copied in this process."""
    session = LocalSession(tmp_path / "engine", transport=lambda inner: inner)
    with pytest.raises(ConfigurationError, match=r"^transport: belongs to this process"):
        pickle.dumps(session)
    assert copy.deepcopy(session).engine is session.engine


@pytest.mark.parametrize("way", WAYS)
def test_fleets(local_session: LocalSession, tmp_path: Path, way: Callable[[Any], Any]) -> None:
    """A copy has the jobs and the errors of those that could not be submitted, and waits for them."""
    script = tmp_path / "a.py"
    script.write_text("")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    runs = {"good": {"code": str(script)}, "bad": {"code": str(tmp_path / "missing.py")}}
    fleet = submit_all(processor, runs, name="night")
    fleet.wait()
    for twin in (way(fleet), way(way(fleet))):
        assert (twin.name, twin.keys(), list(twin.failures)) == ("night", ["good"], ["bad"])
        result = twin.wait()
        assert [job.job_name for job in result.done] == ["night-good"]
        assert [job.job_name for job in result.failed] == ["night-bad"]
        assert twin["good"].status == "Completed"
        assert twin.statuses() == {"Completed": 1}
    found = way(Fleet.attach("night", local_session))
    assert found.keys() == ["good"]


def test_a_fleet_that_is_still_submitted_does_not_travel(local_session: LocalSession, tmp_path: Path) -> None:
    """Another process would take a part of the jobs for the whole; a copy in this process follows the submission."""
    script = tmp_path / "a.py"
    script.write_text("")
    go = threading.Event()

    def runs() -> Any:
        go.wait()
        yield {"code": str(script)}

    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    fleet = submit_all(processor, runs(), name="night", block=False)
    try:
        with pytest.raises(SubmissionError, match=r"night: this process is still submitting its jobs; join\(\) it"):
            pickle.dumps(fleet)
        twin = copy.deepcopy(fleet)
    finally:
        go.set()
    twin.join()
    assert len(pickled(fleet)) == len(twin) == 1


@pytest.mark.parametrize("way", WAYS)
def test_values(way: Callable[[Any], Any]) -> None:
    """Inputs, outputs, networks, requests, plans and results are equal to their copies."""
    processor = Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"], sagemaker_session=Session(region_name="eu-west-1"))
    given = [ProcessingInput("s3://b/i", "/opt/ml/processing/input/i", "i")]
    request = processor.request(inputs=given, outputs=[ProcessingOutput("/opt/ml/processing/out", "s3://b/o")])
    for value in (*request.inputs, *request.outputs, request, NetworkConfig(subnets=["s"]), Polling(), SYSTEM_CLOCK):
        assert way(value) == value
    assert way(request).to_boto() == request.to_boto()
    plan = processor.plan(inputs=given)
    assert str(way(plan)) == str(plan)


def test_an_event_source_with_a_client_does_not_travel() -> None:
    """Its client has keys, so pickle refuses it; a source without one travels as its URL."""
    client = boto3.Session(*KEYS, "eu-west-1").client("sqs")
    source = EventBridgeSource("https://sqs/queue", client)
    with pytest.raises(ConfigurationError, match=r"^sqs_client: belongs to this process"):
        pickle.dumps(source)
    assert copy.deepcopy(source) is source
    assert pickled(EventBridgeSource("https://sqs/queue")).queue_url == "https://sqs/queue"
