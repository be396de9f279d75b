"""Objects that were made before a fork, in the child: no lock, connection, thread or name is the parent's."""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

import processing
from forked import in_child, in_children
from processing import (
    EventBridgeSource,
    Fleet,
    LocalSession,
    ProcessingJob,
    Processor,
    ScriptProcessor,
    Session,
    SubmissionError,
    default_sessions,
    submit_all,
)
from processing._utils import garbage
from processing._utils.forks import ForkSafeLock
from processing._utils.garbage import collection_paused
from processing.aws import rate_limit
from processing.aws.rate_limit import AdaptiveRateLimiter
from processing.clock import SYSTEM_CLOCK
from processing.exceptions import ConfigurationError
from processing.local.stores.database import Database
from processing.local.stores.fork_gate import GATE
from processing.request import job_names
from processing.request.job_names import LONGEST_NAME, JobNames, unique_job_name
from processing.staging import bundles, obstore
from processing.staging.small_files import SmallFiles
from processing.watching.status.model import WatchTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

ROLE = "arn:aws:iam::111122223333:role/r"
IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/i:1"


class Stub(http.server.BaseHTTPRequestHandler):
    """SageMaker that answers each call with the port of its connection, in the account's place of the ARN."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        port = self.client_address[1]
        name = asked.get("ProcessingJobName", "none")
        answer = {"ProcessingJobArn": f"arn:aws:sagemaker:eu-west-1:{port:012}:processing-job/{name}"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Write nothing: children close their connections as they end."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in SageMaker's place, which all clients of AWS reach."""
    with _Server(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        yield url
        server.shutdown()
        thread.join()


def processor_of(session: Session | None) -> Processor:
    return Processor(ROLE, IMAGE, 1, "ml.m5.large", ["x"], sagemaker_session=session)


def connection(processor: Processor) -> str:
    """Return the connection that a submission uses."""
    return processor.run(wait=False).arn.split(":")[4]


def own_session() -> Session:
    return Session(region_name="eu-west-1", default_bucket="b")


def default_session() -> Session:
    return default_sessions.default_session()


def boto_session() -> Session:
    return Session(boto3.Session("k", "s", region_name="eu-west-1"), default_bucket="b")


def given_client() -> Session:
    client = boto3.Session("k", "s", region_name="eu-west-1").client("sagemaker", config=Config(connect_timeout=3))
    return Session(sagemaker_client=client, default_bucket="b")


def sagemakers_session() -> Session:
    class V2:
        def __init__(self) -> None:
            self.boto_session = boto3.Session("k", "s", region_name="eu-west-1")
            self.sagemaker_client = self.boto_session.client("sagemaker")
            self._default_bucket = "b"

        def default_bucket(self) -> str:
            return "b"

    return default_sessions.resolve_session(V2(), None)


@pytest.mark.parametrize("make", [own_session, default_session, boto_session, given_client, sagemakers_session])
@pytest.mark.usefixtures("endpoint")
def test_no_connection_is_shared(make: Callable[[], Session]) -> None:
    """The parent and each child have a connection of their own, for each kind of session."""
    processor = processor_of(make())
    ours = connection(processor)
    assert connection(processor) == ours  # the parent's connection stays open
    theirs = in_children(*[lambda: connection(processor)] * 3)
    assert len({ours, *theirs}) == 4
    assert connection(processor) == ours


@pytest.mark.usefixtures("endpoint")
def test_a_given_client_keeps_its_settings_in_the_child() -> None:
    """Event handlers, credentials and configuration are those of the user's client."""
    session = given_client()
    sent: list[str] = []
    client = session.client("sagemaker")
    client.meta.events.register("before-send", lambda request, **_: sent.append(request.url))

    def child() -> tuple[int, float, bool]:
        connection(processor_of(session))
        theirs = session.client("sagemaker")
        return len(sent), theirs.meta.config.connect_timeout, theirs is client

    assert in_child(child) == (1, 3, False)
    assert session.client("sagemaker") is client


def test_an_unknown_client_is_refused_in_the_child() -> None:
    """A client whose connections are not known is an error that names the parameter and the remedy."""

    class Client:
        class meta:  # noqa: N801 - botocore's name
            region_name = "eu-west-1"

    session = Session(sagemaker_client=Client())

    def child() -> str:
        with pytest.raises(ConfigurationError) as raised:
            session.client("sagemaker")
        return str(raised.value)

    assert in_child(child).startswith("sagemaker_client: was made before this process was forked")


def held(lock: Any) -> contextlib.AbstractContextManager[None]:
    """Hold a lock in another thread within the block."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        holding, end = threading.Event(), threading.Event()

        def hold() -> None:
            with lock:
                holding.set()
                end.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        try:
            yield
        finally:
            end.set()
            thread.join()

    return block()


def _locks_of(processor: Processor) -> dict[str, Any]:
    session = processor.sagemaker_session
    limiter = session.api.rate_limiter("CreateProcessingJob") or AdaptiveRateLimiter()
    return {
        "session": session._lock,
        "calls of a session": session._asking,
        "processor": processor._run_lock,
        "default sessions": default_sessions._lock,
        "names": job_names._NAMES._lock,
        "poller": session.poller._election.lock,
        "limiter": limiter._state,
        "queue of a limiter": limiter._queue.hold(SYSTEM_CLOCK),
        "all limiters": rate_limit._shared_lock,
    }


@pytest.mark.parametrize(
    "name",
    [
        "session",
        "calls of a session",
        "processor",
        "default sessions",
        "names",
        "poller",
        "limiter",
        "queue of a limiter",
        "all limiters",
    ],
)
@pytest.mark.usefixtures("endpoint")
def test_a_lock_that_another_thread_holds_is_free_in_the_child(name: str) -> None:
    """The thread does not exist in the child, and would never release it."""
    processor = processor_of(own_session())
    processor.run(wait=False)

    def child() -> bool:
        session = processor.sagemaker_session
        default_sessions.default_session()
        with session.poller.subscribe([WatchTarget("job")]), session._asking:
            return processor.run(wait=False).arn != ""

    with held(_locks_of(processor)[name]):
        assert in_child(child)


def test_a_pause_of_another_thread_ends_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python collects garbage in the child, and in the parent once the other thread has made its objects."""
    monkeypatch.setattr(garbage._PAUSES, "left", 1)
    assert gc.isenabled()
    with held(collection_paused()):
        assert not gc.isenabled()
        assert in_child(gc.isenabled)
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_engine_works_in_the_child_whatever_the_parent_holds(tmp_path: Path) -> None:
    """A fork while another thread writes to the engine's databases, or loads a handler, leaves them usable."""
    session = LocalSession(tmp_path / "engine", default_bucket="bucket")
    session.default_bucket()

    def child() -> str:
        return session.upload_string_as_file_body("text", "bucket", "key")

    with held(session.engine._lock), held(session._lock):
        assert in_child(child) == "s3://bucket/key"
    assert session.read_s3_file("bucket", "key") == "text"


def test_a_fork_waits_for_the_transactions_of_other_threads(tmp_path: Path) -> None:
    """SQLite's own locks are free at a fork, and no connection is open: parent and child open their own."""
    database = Database(tmp_path / "db", ("CREATE TABLE t (n INTEGER)",))
    inside = threading.Event()
    waited: list[bool] = []

    def write() -> None:
        with database.write() as connection:
            inside.set()
            while GATE._forking is None:
                SYSTEM_CLOCK.sleep(0.001)
            connection.execute("INSERT INTO t VALUES (1)")
            waited.append(True)

    def child() -> tuple[list[bool], int, int]:
        idle = len(database._idle)
        with database.write() as connection:
            connection.execute("INSERT INTO t VALUES (2)")
        with database.read() as connection:
            return list(waited), idle, connection.execute("SELECT count(*) FROM t").fetchone()[0]

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    assert in_child(child) == ([True], 0, 2)
    thread.join()
    with database.read() as connection:
        assert connection.execute("SELECT sum(n) FROM t").fetchone() == (3,)


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(tmp_path: Path) -> None:
    """The thread that forks does not wait for itself, and the child opens its own connection."""
    database = Database(tmp_path / "db", ("CREATE TABLE t (n INTEGER)",))

    def child() -> int:
        with database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])

    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        assert in_child(child) == 0
    assert in_child(child) == 1


def test_a_property_that_another_thread_computes() -> None:
    """The outputs of one job can be looked up in the child while a thread of the parent looks up those of another."""
    asking, end = threading.Event(), threading.Event()

    class Waiting(Session):
        def describe_processing_job(self, job_name: str) -> dict[str, Any]:
            assert job_name == "slow"
            asking.set()
            end.wait()
            return {}

    slow = ProcessingJob.known(Waiting(), "slow")
    job = ProcessingJob(own_session(), "job")

    def ask() -> None:
        assert not slow.outputs

    thread = threading.Thread(target=ask)
    thread.start()
    asking.wait()
    try:
        assert in_child(lambda: len(job.outputs)) == 0
    finally:
        end.set()
        thread.join()


# A transfer, a server of the engine, and the calls of remote functions end with the threads of the process that made
# them. The programs of `container` run in a job. The other modules replace their locks in a child.
_OWN_LOCKS = {
    "_utils/forks.py",
    "aws/connections.py",
    "aws/rate_limit.py",
    "container/remote/channel.py",
    "container/remote/generator.py",
    "container/remote/mpi_agent.py",
    "container/remote/packing.py",
    "container/shim/access_keys.py",
    "container/shim/logs.py",
    "container/shim/plain_s3.py",
    "container/shim/serve.py",
    "container/shim/web_server.py",
    "container/shim/storage.py",
    "container/shim/threads.py",
    "job/fleet/submission.py",
    "local/hosting/broker.py",
    "local/hosting/connections.py",
    "local/hosting/invocation_metrics.py",
    "local/jobs/gateway.py",
    "local/jobs/host_processes.py",
    "local/stores/database.py",
    "local/stores/fork_gate.py",
    "local/stores/outbox.py",
    "local/transports/server.py",
    "remote_function/executor.py",
    "remote_function/futures.py",
    "remote_function/item_futures.py",
    "remote_function/mapping/futures.py",
    "remote_function/pool/job.py",
    "remote_function/pool/messages.py",
    "remote_function/pool/pool.py",
    "staging/obstore.py",
    "staging/progress.py",
    "staging/request_templates.py",
    "staging/source_file.py",
    "staging/thread_pool.py",
    "watching/status/leader.py",
}


def test_every_other_lock_is_safe_after_a_fork() -> None:
    """A module uses `ForkSafeLock`, and `lazy` instead of `functools.cached_property`, unless it is named here."""
    root = Path(processing.__file__).parent
    made = re.compile(r"threading\.(R?Lock|Condition|Semaphore)\(|factory=threading\.|cached_property")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if made.search(path.read_text("utf-8"))}
    assert {name for name in found if not name.startswith("testing/")} - {"_utils/__init__.py"} == _OWN_LOCKS


def test_the_lock_of_the_forking_thread_stays_held() -> None:
    """A child that continues inside the block releases the lock at its end, as its parent does."""
    lock = ForkSafeLock()

    def child() -> bool:
        with lock:
            pass
        lock.__exit__()
        with held(lock):
            return True

    with lock:
        assert in_child(child)


def test_a_refresh_of_credentials_in_another_thread() -> None:
    """The lock by which a user's credentials are refreshed is free in the child."""
    boto = boto3.Session(region_name="eu-west-1")
    renewed = {"access_key": "new", "secret_key": "s", "token": "t", "expiry_time": "2199-01-01T00:00:00Z"}
    credentials: Any = RefreshableCredentials.create_from_metadata(
        {**renewed, "access_key": "old", "expiry_time": "2001-01-01T00:00:00Z"}, lambda: renewed, "test"
    )
    core: Any = boto._session
    core._credentials = credentials
    session = Session(boto)

    def child() -> str:
        return str(session.boto_session.get_credentials().get_frozen_credentials().access_key)

    with held(credentials._refresh_lock):
        assert in_child(child) == "new"


def test_the_metadata_service_gets_connections_of_the_childs() -> None:
    """The fetcher of an instance's credentials has a pool of its own in the child."""
    boto = boto3.Session(region_name="eu-west-1")
    provider = boto._session.get_component("credential_provider").get_provider("iam-role")
    ours = id(provider._role_fetcher._session._manager)
    session = Session(boto)
    assert in_child(lambda: id(provider._role_fetcher._session._manager)) != ours
    assert session.boto_session is boto


def test_children_make_different_names() -> None:
    """Siblings that make names at one moment make different ones, and so do their own children."""

    class Stopped:
        def time(self) -> float:
            return 1_700_000_000.123

    clock: Any = Stopped()
    made = in_children(*[lambda: [unique_job_name("etl", clock) for _ in range(3)]] * 20)
    made.append(in_child(lambda: in_child(lambda: [unique_job_name("etl", clock)])))
    names = [unique_job_name("etl", clock), *(name for child in made for name in child)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("etl-2") for name in names)


def test_a_name_of_a_child_is_not_too_long() -> None:
    """The base is cut for the process id, too."""
    names = JobNames()
    assert len(in_child(lambda: names.new("x" * 100, SYSTEM_CLOCK))) == LONGEST_NAME


def test_children_wait_differently_long() -> None:
    """The jitter of siblings differs, so that they do not all try again at the same moment."""
    api = own_session().api
    assert len(set(in_children(*[api.random.random] * 3))) == 3


def test_a_stream_from_before_the_fork_goes_on_in_the_child(tmp_path: Path) -> None:
    """The child's copy of a job and of its stream works, though the parent's other thread polls at the fork."""
    session = LocalSession(tmp_path / "engine", tick=0.01, grace=1.0)
    script = tmp_path / "a.py"
    script.write_text("import time\nprint('line', flush=True)\ntime.sleep(600)\n")
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    job = processor.run(str(script), wait=False)
    waiting = threading.Thread(target=lambda: job.wait(logs=False, on_stop="return"))
    waiting.start()
    events = job.events()
    first = next(events)

    def child() -> list[str]:
        job.stop()
        job.wait(logs=False, on_stop="return")
        return [type(event).__name__ for event in events]

    assert type(first).__name__ in {"StatusChanged", "LogEvent"}
    assert in_child(child)[-1] == "StatusChanged"
    waiting.join()
    assert job.status == "Stopped"


def test_an_event_source_reads_in_a_thread_of_the_child() -> None:
    """The child starts its own thread, with connections of its own, and waits as if no other wait existed."""
    client = boto3.Session("k", "s", region_name="eu-west-1").client("sqs")
    source = EventBridgeSource("https://sqs/queue", client)
    source._waiting = 3
    assert in_child(lambda: (source._waiting, source._thread, source._client is client)) == (0, None, False)
    assert source._client is client


def test_a_fleet_that_is_submitted_by_the_parent(tmp_path: Path) -> None:
    """The child neither submits nor waits for ever: its fleet has the jobs until now."""
    session = LocalSession(tmp_path / "engine", tick=0.01, grace=1.0)
    script = tmp_path / "a.py"
    script.write_text("")
    go = threading.Event()

    def runs() -> Iterator[dict[str, Any]]:
        yield {"code": str(script)}
        go.wait()
        yield {"code": str(script)}

    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    fleet = submit_all(processor, runs(), name="nightly", block=False)

    def child() -> tuple[bool, int, str]:
        with pytest.raises(SubmissionError) as raised:
            fleet.wait()
        return fleet.submitting, len(Fleet.attach("nightly", session)), str(raised.value)

    try:
        while len(fleet) < 1:
            session.clock.sleep(0.01)
        submitting, jobs, message = in_child(child)
    finally:
        go.set()
    assert (submitting, jobs) == (False, 1)
    assert "Fleet.attach" in message
    fleet.join()
    assert len(fleet) == 2
    assert in_child(lambda: len(fleet.wait().done)) == 2


def test_a_bundle_of_the_parents_is_not_deleted_by_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends drops its copy of the bundle, and the parent may be uploading the file."""
    monkeypatch.setattr(bundles, "MEMORY_LIMIT", 0)
    (tmp_path / "a.py").write_text("x = 1\n")
    found = [bundles.make_bundle([bundles.Member(tmp_path / "a.py", "a.py")])]
    path = found[0].path
    assert path is not None

    def child() -> None:
        found.clear()
        gc.collect()

    in_child(child)
    assert path.exists()
    found.clear()
    gc.collect()
    assert not path.exists()


def test_obstore_is_left_alone_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runtime has its threads in the process that used it first."""
    pytest.importorskip("obstore")
    monkeypatch.setattr(obstore, "_runtime_process", None)
    session = boto_session()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def usable() -> bool:
        return SmallFiles.from_environment(session.api).uses_obstore

    assert usable()
    assert in_child(usable)
    obstore._use_runtime()
    assert usable()
    assert not in_child(usable)
