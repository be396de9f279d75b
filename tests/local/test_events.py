"""State changes of jobs as events: their form, and their delivery in spite of killed processes."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import LocalSession
from processing.exceptions import ConfigurationError
from processing.local.jobs import events
from processing.local.jobs import host_processes as hosts
from processing.local.settings import EngineSettings
from processing.local.stores import outbox
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.queues import QueueStore
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.event_callbacks import EventListener

    Event = dict[str, Any]

NOW = 1_700_000_000.25
PATIENCE = 60.0


@pytest.fixture
def make_session(tmp_path: Path) -> Callable[..., LocalSession]:
    def make(**settings: Any) -> LocalSession:
        return LocalSession(tmp_path / "engine", **{"sandbox": "rewriting", "tick": 0.01, "grace": 0.2, **settings})

    return make


def create(session: LocalSession, name: str, code: str = "pass", **params: Any) -> None:
    session.client("sagemaker").create_processing_job(
        ProcessingJobName=name,
        RoleArn="arn:aws:iam::000000000000:role/local",
        AppSpecification={"ImageUri": "image", "ContainerEntrypoint": ["python3", "-c", code]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
        **params,
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        pause.wait(0.005)


def wait(session: LocalSession, name: str) -> Event:
    client = session.client("sagemaker")
    answer: Event = {}

    def finished() -> bool:
        answer.update(client.describe_processing_job(ProcessingJobName=name))
        return answer["ProcessingJobStatus"] in {"Completed", "Failed", "Stopped"}

    until(finished)
    return answer


def read(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def statuses(found: list[Event]) -> list[str]:
    return [event["detail"]["ProcessingJobStatus"] for event in found]


def receive(session: LocalSession, queue: str) -> list[Event]:
    messages = session.engine.queues.receive(queue, 10, 0, time.time())
    return [json.loads(message.body) for message in messages]


def note_job(store: JobStore, name: str, sinks: list[str]) -> int:
    """Put a job into the store as a create does, without running it."""
    request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {}}}
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
    plan = {"events": sinks}
    return store.create(request, arn=arn, folder=f"jobs/{name}", plan=plan, hosts=1, tags={}, now=NOW).id


# --- the form


def test_an_event_is_what_eventbridge_delivers(make_session: Callable[..., LocalSession], tmp_path: Path) -> None:
    """Its members and theirs are those of AWS's documentation, its detail is Describe's answer."""
    session = make_session(events_file=tmp_path / "events.jsonl", events_queue="events")
    create(session, "one", "import sys; sys.exit(3)", Tags=[{"Key": "a", "Value": "b"}])
    described = wait(session, "one")
    found = read(tmp_path / "events.jsonl")
    assert statuses(found) == ["InProgress", "Failed"]
    last = found[-1]
    assert set(last) == {
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
    }  # fmt: skip
    assert (last["version"], last["source"]) == ("0", "aws.sagemaker")
    assert last["detail-type"] == "SageMaker Processing Job State Change"
    assert (last["account"], last["region"]) == ("000000000000", "us-east-1")
    assert last["resources"] == [described["ProcessingJobArn"]]
    end = described["ProcessingEndTime"]
    assert last["time"] == end.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    del described["ResponseMetadata"]
    in_milliseconds = {
        name: round(value.timestamp() * 1000) if isinstance(value, dt.datetime) else value
        for name, value in described.items()
    }
    assert last["detail"] == in_milliseconds
    assert last["detail"]["FailureReason"].endswith("exit code: 3")
    assert receive(session, "events") == found


_STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = pathlib.Path(__file__).parent
(folder / "up").touch()
while not (folder / "gate").exists():
    time.sleep(0.01)
"""


def test_a_stop_is_two_changes(make_session: Callable[..., LocalSession], tmp_path: Path) -> None:
    """Stopping and Stopped; stopping again changes nothing."""
    session = make_session(events_file=tmp_path / "events.jsonl", grace=PATIENCE)
    (tmp_path / "stubborn.py").write_text(_STUBBORN)
    create(session, "one", f"import runpy; runpy.run_path('{tmp_path}/stubborn.py')")
    until((tmp_path / "up").exists)
    for _ in range(2):
        session.client("sagemaker").stop_processing_job(ProcessingJobName="one")
    (tmp_path / "gate").touch()
    wait(session, "one")
    found = read(tmp_path / "events.jsonl")
    assert statuses(found) == ["InProgress", "Stopping", "Stopped"]
    assert len({event["id"] for event in found}) == 3


def test_the_last_event_is_there_when_the_end_is_known(
    make_session: Callable[..., LocalSession], tmp_path: Path
) -> None:
    """The event of a job is delivered before List or Describe shows its end."""
    session = make_session(events_file=tmp_path / "events.jsonl")
    create(session, "one")
    client = session.client("sagemaker")
    until(lambda: bool(client.list_processing_jobs(StatusEquals="Completed")["ProcessingJobSummaries"]))
    assert statuses(read(tmp_path / "events.jsonl")) == ["InProgress", "Completed"]


# --- where they go


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"events_queue": "a b"}, r"events_queue: 'a b' is not the name of a queue"),
        ({"events_queue": "jobs.fifo"}, "events_queue: "),
        ({"events_file": "/"}, "events_file: / is not a file"),
        ({"events_file": "/there/is/no.such"}, "events_file: /there/is/no.such: there is no folder /there/is"),
        ({"events_file": "/dev/null"}, "events_file: /dev/null is not a file"),
    ],
)
def test_a_place_that_cannot_be_is_found_at_once(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    """A destination that cannot exist is refused as the session is made, with the name of the setting."""
    with pytest.raises(ConfigurationError, match=message):
        LocalSession(tmp_path / "engine", **settings)  # type: ignore[arg-type]


def test_a_place_that_is_gone_is_found_before_the_job_starts(
    make_session: Callable[..., LocalSession], tmp_path: Path
) -> None:
    """The request is refused, and no job exists."""
    (tmp_path / "there").mkdir()
    session = make_session(events_file=tmp_path / "there" / "events.jsonl")
    (tmp_path / "there").rmdir()
    with pytest.raises(session.client("sagemaker").exceptions.ClientError, match=r"events_file: .* there is no folder"):
        create(session, "one")
    assert session.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"] == []


def test_a_relative_events_file_is_the_callers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is relative to the caller's working directory, not to the supervisors'."""
    monkeypatch.chdir(tmp_path)
    assert EngineSettings(events_file="events.jsonl").events_file == str(tmp_path / "events.jsonl")


def test_a_sink_that_does_not_work_waits(
    make_session: Callable[..., LocalSession], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The job completes, the other sink has its events, one warning is logged, and later all is delivered in order."""
    folder = tmp_path / "there"
    folder.mkdir()
    session = make_session(events_file=folder / "events.jsonl", events_queue="events")
    store = JobStore(session.home)
    note_job(store, "one", events.sinks(str(folder / "events.jsonl"), "events"))
    folder.rmdir()
    with caplog.at_level(logging.WARNING, "processing.local.jobs.events"):
        for _ in range(3):
            events.deliver(store, session.home)
        store.record_host_end(1, 1, HostEnd("completed"), NOW)
        events.deliver(store, session.home)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith(f"Events of jobs cannot be delivered to file:{folder}/events.jsonl now, and wait: ")
    assert statuses(receive(session, "events")) == ["InProgress", "Completed"]
    folder.mkdir()
    session.client("sagemaker").list_processing_jobs()
    assert statuses(read(folder / "events.jsonl")) == ["InProgress", "Completed"]


def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    """A partial line of a killed process is followed by a complete line."""
    (tmp_path / "events.jsonl").write_text('{"half')
    store = JobStore(tmp_path)
    note_job(store, "one", [f"file:{tmp_path}/events.jsonl"])
    events.deliver(store, tmp_path)
    half, line = (tmp_path / "events.jsonl").read_text().splitlines()
    assert (half, json.loads(line)["detail"]["ProcessingJobName"]) == ('{"half', "one")


_DELIVER = """
import resource, sys
from pathlib import Path
from processing.local.jobs import events
from processing.local.stores import outbox
from processing.local.stores.jobs import JobStore
outbox.LOCK_SECONDS = 0.02
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
events.deliver(JobStore(Path(sys.argv[1])), Path(sys.argv[1]))
"""


def test_a_file_that_has_no_room_for_a_line_gets_nothing_of_it(tmp_path: Path) -> None:
    """If the disk is full within a line, its beginning is removed, and the whole line follows later."""
    path = tmp_path / "events.jsonl"
    size = 10_000_000
    with path.open("wb") as file:
        file.truncate(size - 1)
        file.seek(size - 1)
        file.write(b"\n")
    store = JobStore(tmp_path)
    note_job(store, "one", [f"file:{path}"])
    store.close()
    _python(_DELIVER, tmp_path, size + 20)
    assert path.stat().st_size == size
    events.deliver(store, tmp_path)
    assert json.loads(path.read_bytes()[size:])["detail"]["ProcessingJobName"] == "one"


def test_a_sink_that_hangs_holds_up_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile jobs are noted, other sinks get their events, others go on without it; then it gets each event once."""
    monkeypatch.setattr(outbox, "LOCK_SECONDS", 0.02)
    hanging, other = f"file:{tmp_path}/hanging.jsonl", f"file:{tmp_path}/other.jsonl"
    store = JobStore(tmp_path)
    job = note_job(store, "one", [hanging, other])
    began, may_end = threading.Event(), threading.Event()

    def send(transition: outbox.Transition) -> None:
        began.set()
        assert may_end.wait(PATIENCE)
        (tmp_path / "hanging.jsonl").write_text(json.dumps(events.state_change_event(transition)) + "\n")

    thread = threading.Thread(target=store.outbox.deliver, args=(hanging, send))
    thread.start()
    try:
        assert began.wait(PATIENCE)
        store.record_host_end(job, 1, HostEnd("completed"), NOW)
        events.deliver(store, tmp_path)
        assert statuses(read(tmp_path / "other.jsonl")) == ["InProgress", "Completed"]
        assert not (tmp_path / "hanging.jsonl").exists()
        assert _python(_DELIVER, tmp_path, 1_000_000) == 0  # another process does not overtake it either
        assert not (tmp_path / "hanging.jsonl").exists()
    finally:
        may_end.set()
        thread.join()
    events.deliver(store, tmp_path)
    assert statuses(read(tmp_path / "hanging.jsonl")) == ["InProgress", "Completed"]


# --- kills

_BOOT = """
import os, signal, sys
sys.path.append(sys.argv[1])
from processing.local.jobs import events
events.deliver = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from processing.local.jobs.supervisor import main
main(sys.argv[2:])
"""


def test_a_supervisor_killed_before_it_delivers_loses_nothing(
    make_session: Callable[..., LocalSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request for any job delivers the recorded event."""
    monkeypatch.setattr(hosts, "_SUPERVISOR_PROGRAM", _BOOT)
    session = make_session(events_file=tmp_path / "events.jsonl", events_queue="events")
    create(session, "one")
    store = JobStore(session.home)
    until(lambda: store.get("one").finished)
    assert statuses(read(tmp_path / "events.jsonl")) == ["InProgress"]
    described = session.client("sagemaker").describe_processing_job(ProcessingJobName="one")
    assert described["ProcessingJobStatus"] == "Completed"
    assert statuses(read(tmp_path / "events.jsonl")) == ["InProgress", "Completed"]
    assert statuses(receive(session, "events")) == ["InProgress", "Completed"]


def test_a_deleted_jobs_event_is_still_delivered(tmp_path: Path) -> None:
    """A pending event does not need the job."""
    store = JobStore(tmp_path)
    job = note_job(store, "one", ["queue:q"])
    store.record_host_end(job, 1, HostEnd("completed"), NOW)
    store.delete("one")
    events.deliver(store, tmp_path)
    bodies = [json.loads(message.body) for message in QueueStore(tmp_path).receive("q", 10, 30, time.time())]
    assert statuses(bodies) == ["InProgress", "Completed"]


_KILLED_AFTER_WRITING = """
import os, signal, sys
from pathlib import Path
from processing.local.jobs import events
from processing.local.stores.jobs import JobStore
append = events._append
def append_and_die(*given):
    append(*given)
    os.kill(os.getpid(), signal.SIGKILL)
events._append = append_and_die
events.deliver(JobStore(Path(sys.argv[1])), Path(sys.argv[1]))
"""


def _python(code: str, *arguments: object) -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(processing.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=False, env=environment, timeout=PATIENCE).returncode


def test_a_deliverer_killed_before_it_notes_it_duplicates(tmp_path: Path) -> None:
    """The duplicate has the same id, so a reader can detect it."""
    path = tmp_path / "events.jsonl"
    store = JobStore(tmp_path)
    job = note_job(store, "one", [f"file:{path}"])
    store.record_host_end(job, 1, HostEnd("completed"), NOW)
    store.close()
    assert _python(_KILLED_AFTER_WRITING, tmp_path) == -signal.SIGKILL
    assert statuses(read(path)) == ["InProgress"]
    events.deliver(store, tmp_path)
    found = read(path)
    assert statuses(found) == ["InProgress", "InProgress", "Completed"]
    assert found[0] == found[1]


_WORKER = """
import sys
from pathlib import Path
from processing.local.jobs import events
from processing.local.stores.jobs import HostEnd, JobStore
home, worker = Path(sys.argv[1]), sys.argv[2]
store = JobStore(home)
for number in range(1000):
    name = f"{worker}-{number}"
    request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {}}}
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
    plan = {"events": [f"file:{home}/events.jsonl", "queue:q"]}
    job = store.create(request, arn=arn, folder=name, plan=plan, hosts=1, tags={}, now=number).id
    events.deliver(store, home)
    store.record_host_end(job, 1, HostEnd("completed"), number)
    events.deliver(store, home)
    print(number, flush=True)
"""


def test_kills_at_any_moment_lose_no_event(tmp_path: Path) -> None:
    """Of several processes at once; the first of each event come in order of the changes, in each sink."""
    environment = {**os.environ, "PYTHONPATH": str(Path(processing.__file__).parents[1])}
    for generation in range(3):
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(tmp_path), f"{generation}-{number}"],
                stdout=subprocess.PIPE,
                env=environment,
            )
            for number in range(2)
        ]
        for number, worker in enumerate(workers):
            with worker:
                assert worker.stdout is not None
                for _ in range(3 + 5 * generation + number):
                    worker.stdout.readline()
                worker.kill()
    store = JobStore(tmp_path)
    events.deliver(store, tmp_path)
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        noted = [uuid for (uuid,) in connection.execute("SELECT uuid FROM events ORDER BY id")]
    connection.close()
    assert len(noted) > 2 * (3 + 8 + 13)
    told = [json.loads(line)["id"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(told)) == noted
    queued: list[str] = []
    while messages := QueueStore(tmp_path).receive("q", 100, 1000, time.time() + 1):
        queued += [json.loads(message.body)["id"] for message in messages]
    assert list(dict.fromkeys(queued)) == noted


# --- what the outbox keeps


def test_the_outbox_forgets_what_is_old_and_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number only delivered events; by age pending ones, too, since a broken sink would fill the disk."""
    monkeypatch.setattr(outbox, "KEPT_EVENTS", 3)
    store = JobStore(tmp_path)
    note_job(store, "waits", ["queue:q"])
    for number in range(5):
        note_job(store, f"job-{number}", [])
    store.outbox.prune(NOW)
    assert [change.job[1] for change in store.outbox.transitions_after(0)] == ["waits", "job-2", "job-3", "job-4"]
    store.outbox.prune(NOW + outbox.KEPT_SECONDS + 1)
    assert store.outbox.transitions_after(0) == []
    assert store.outbox.pending_sinks() == []


def test_the_outbox_is_pruned_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes prune it themselves."""
    monkeypatch.setattr(outbox, "KEPT_EVENTS", 10)
    store = JobStore(tmp_path)
    for number in range(outbox._PRUNED_EVERY):
        note_job(store, f"job-{number}", [])
    assert len(store.outbox.transitions_after(0)) == 10


# --- callbacks


def test_a_callback_receives_the_events_of_every_job_of_the_folder(make_session: Callable[..., LocalSession]) -> None:
    """Jobs of any session; all events before the end of the block are delivered."""
    found: list[Event] = []
    other = make_session()
    with make_session().watch_events(found.append):
        create(other, "one")
        wait(other, "one")
    assert statuses(found) == ["InProgress", "Completed"]
    create(other, "two")
    wait(other, "two")
    assert len(found) == 2


def test_a_callback_that_raises_is_logged(
    make_session: Callable[..., LocalSession], caplog: pytest.LogCaptureFixture
) -> None:
    """And is called for the next event all the same."""
    found: list[str] = []

    def callback(event: Event) -> None:
        found.append(event["detail"]["ProcessingJobStatus"])
        raise ValueError("no")

    session = make_session()
    with session.watch_events(callback):
        create(session, "one")
        wait(session, "one")
    assert found == ["InProgress", "Completed"]
    assert [record.message for record in caplog.records if record.exc_info].count(
        "A callback for events of jobs failed"
    ) == 2


def test_a_callback_may_hear_of_what_was_before(make_session: Callable[..., LocalSession]) -> None:
    """From a time on; by default from now on."""
    session = make_session()
    before = dt.datetime.now(dt.timezone.utc)
    create(session, "one")
    wait(session, "one")
    old: list[Event] = []
    new: list[Event] = []
    with session.watch_events(old.append, since=before), session.watch_events(new.append):
        pass
    with session.watch_events(new.append, since=before + dt.timedelta(days=1)):
        pass
    assert (statuses(old), new) == (["InProgress", "Completed"], [])


def test_a_listener_alone_receives_the_end_of_a_killed_host(
    make_session: Callable[..., LocalSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process describes the job, and its failure is recorded nevertheless."""
    monkeypatch.setattr(hosts, "_SUPERVISOR_PROGRAM", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    failed = threading.Event()
    session = make_session()
    with session.watch_events(lambda event: failed.set() if statuses([event]) == ["Failed"] else None):
        create(session, "one")
        assert failed.wait(PATIENCE)


def test_a_callback_may_close_its_own_subscription(make_session: Callable[..., LocalSession]) -> None:
    """It does not wait for itself, and there is no thread before it and none afterwards."""
    clock = VirtualClock()
    session = make_session(clock=clock)
    before = set(threading.enumerate())
    closed = threading.Event()
    subscriptions: list[EventListener] = []

    def callback(_: Event) -> None:
        subscriptions[0].close()
        closed.set()

    subscriptions.append(session.watch_events(callback))
    assert len(set(threading.enumerate()) - before) == 1
    create(session, "one")
    assert closed.wait(PATIENCE)
    subscriptions[0].close()
    assert set(threading.enumerate()) <= before
    assert set(clock.sleeps) <= {0.05}


@pytest.mark.parametrize(
    ("arguments", "message"), [({"callback": 1}, "callback: 1 cannot be called"), ({"since": 5}, "since: must be")]
)
def test_bad_arguments_are_named(
    make_session: Callable[..., LocalSession], arguments: dict[str, Any], message: str
) -> None:
    """Before anything is started."""
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match=message):
        make_session().watch_events(**{"callback": print, **arguments})
    assert set(threading.enumerate()) <= before
