"""The event source: events of EventBridge wake waits, and a broken queue ends none."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import ConfigurationError, LocalSession, ProcessingJob, ScriptProcessor, Session
from processing.aws.retry import RetryingApi, RetryPolicy
from processing.testing.clock import VirtualClock
from processing.testing.wire import JsonService, ServiceError, make_client
from processing.watching import EventBridgeSource
from processing.watching.polling import Polling
from processing.watching.status.eventbridge_event import read_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARN = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/"
URL = "https://sqs.us-east-1.amazonaws.com/000000000000/jobs"


def event(name: str = "clean", status: str = "Completed", **changes: Any) -> dict[str, Any]:
    """An event as EventBridge delivers it."""
    detail = {"ProcessingJobName": name, "ProcessingJobArn": ARN + name, "ProcessingJobStatus": status}
    return {
        "version": "0",
        "id": "0a15f67d-aa23-0123-0123-01a23w89r01t",
        "detail-type": "SageMaker Processing Job State Change",
        "source": "aws.sagemaker",
        "region": "us-east-1",
        "detail": detail,
        **changes,
    }


class Queue:
    """A queue of SQS: each message is answered once, and an empty queue delays the answer."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.calls: list[str] = []
        self.failures: list[ServiceError] = []
        self.deletions: list[ServiceError] = []
        self._filled = threading.Condition()
        self._bodies: list[str] = []
        handlers = {"ReceiveMessage": self.receive, "DeleteMessageBatch": self.delete}
        self.client = make_client("sqs", JsonService(handlers, clock=VirtualClock()))

    def put(self, *bodies: Any) -> None:
        with self._filled:
            self._bodies += [body if isinstance(body, str) else json.dumps(body) for body in bodies]
            self._filled.notify_all()

    def receive(self, _: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("ReceiveMessage")
        if self.failures:
            raise self.failures.pop(0)
        with self._filled:
            self._filled.wait_for(lambda: self._bodies, 0.05)
            bodies, self._bodies = self._bodies[:10], self._bodies[10:]
        return {"Messages": [{"MessageId": b, "ReceiptHandle": b, "Body": b} for b in bodies]} if bodies else {}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.deletions:
            raise self.deletions.pop(0)
        self.deleted += [entry["ReceiptHandle"] for entry in params["Entries"]]
        return {"Successful": [{"Id": entry["Id"]} for entry in params["Entries"]]}


class Waiting:
    """A source over a queue, and a condition to wait with."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.source = EventBridgeSource(URL, queue.client)
        self.condition = threading.Condition()
        self.source.connect(RetryingApi(lambda _: None, policy=RetryPolicy(base=0.0, cap=0.0, attempts=3)))

    def wait(self, seconds: float = 30.0) -> set[str]:
        with self.condition:
            return set(self.source.wait(self.condition, seconds))


@pytest.fixture
def waiting() -> Waiting:
    """A source over an empty queue."""
    return Waiting(Queue())


def test_an_event_ends_the_wait_and_is_deleted(waiting: Waiting) -> None:
    """The name of the event's job is returned, and the message is deleted."""
    waiting.queue.put(event("a"), event("b", "Failed"))
    assert waiting.wait() == {"a", "b"}
    waiting.queue.put(event("c"))
    assert waiting.wait() == {"c"}
    assert len(waiting.queue.deleted) >= 2


def test_doubled_and_malformed_messages_do_no_harm(waiting: Waiting, caplog: pytest.LogCaptureFixture) -> None:
    """A repeated event is one name; other messages are deleted, with one warning (fault 26)."""
    with caplog.at_level(logging.WARNING, "processing"):
        waiting.queue.put("no json", "[]", "{}", event("a"), event("a"))
        assert waiting.wait() == {"a"}
        waiting.queue.put("[" * 100_000, {"detail-type": "other"}, event(detail=3), event("a b"), event("b"))
        assert waiting.wait() == {"b"}
        waiting.queue.put(event("c"))  # the messages before it are deleted by now
        assert waiting.wait() == {"c"}
    assert len(waiting.queue.deleted) >= 10
    assert caplog.text.count("not state changes of processing jobs") == 1


def test_a_notification_ends_the_wait(waiting: Waiting) -> None:
    """A notified condition ends the wait at once, without a job."""
    entered = threading.Event()
    found: list[set[str]] = []

    def wait() -> None:
        with waiting.condition:
            entered.set()
            found.append(set(waiting.source.wait(waiting.condition, 600.0)))

    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait()
    with waiting.condition:
        waiting.condition.notify_all()
    thread.join()
    assert found == [set()]


def test_every_condition_gets_the_event(waiting: Waiting) -> None:
    """Two sessions may share a source: each gets every event, even one that came while it did not wait."""
    other = threading.Condition()
    with other:
        assert set(waiting.source.wait(other, 0.0)) == set()
    waiting.queue.put(event("a"))
    assert waiting.wait() == {"a"}
    with other:
        assert set(waiting.source.wait(other, 30.0)) == {"a"}


@pytest.mark.parametrize("code", ["AccessDenied", "AWS.SimpleQueueService.NonExistentQueue"])
def test_a_queue_that_cannot_be_read_is_logged_once(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """The wait goes on without it, for its whole time."""
    queue = Queue()
    queue.failures = [ServiceError(code, "no")] * 9
    waiting = Waiting(queue)
    with caplog.at_level(logging.WARNING, "processing"):
        thread = start_reading(waiting)
        thread.join()
        assert waiting.wait(0.01) == set()
        assert waiting.wait(0.01) == set()
    assert caplog.text.count("status calls go on without it") == 1
    assert len(queue.calls) == 1


def start_reading(waiting: Waiting) -> threading.Thread:
    """Wait for no time, and return the thread that this has started."""
    before = set(threading.enumerate())
    waiting.wait(0.0)
    (thread,) = [t for t in threading.enumerate() if t.name == "event-source" and t not in before] or [
        threading.Thread()
    ]
    if not thread.ident:  # it has ended already
        thread.start()
    return thread


def test_failures_that_pass_are_outlasted() -> None:
    """Throttling, server errors and lost connections cost a try; no warning is logged."""
    queue = Queue()
    queue.failures = [ServiceError("ThrottlingException", ""), ServiceError("InternalFailure", "", 500)]
    waiting = Waiting(queue)
    queue.put(event("a"))
    assert waiting.wait() == {"a"}


def test_a_deletion_that_fails_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is delivered, and the next messages are read at once: no pause, no further try."""
    monkeypatch.setattr("processing.watching.status.eventbridge._PAUSE", 3600.0)
    queue = Queue()
    queue.deletions = [ServiceError("InternalFailure", "", 500)] * 9
    waiting = Waiting(queue)
    for name in ("a", "b", "c"):
        queue.put(event(name))
        assert waiting.wait() == {name}
    assert len(queue.deletions) >= 6


def test_the_engine_takes_what_was_read_from_its_queue(tmp_path: Path) -> None:
    """SQS leaves an empty list of failures out of its answer: the answer is complete all the same."""
    engine = LocalSession(tmp_path / "engine")
    sqs = engine.client("sqs")
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    entries = [{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
    answer = engine.api.call("sqs", "DeleteMessageBatch", {"QueueUrl": url, "Entries": entries})
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert "Failed" not in answer


def test_the_queue_is_not_read_without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends after a while without waits, and a later wait starts another one."""
    monkeypatch.setattr("processing.watching.status.eventbridge._UNUSED", 0.0)
    waiting = Waiting(Queue())
    start_reading(waiting).join()
    waiting.queue.put(event("a"))
    assert waiting.wait() == {"a"}


def test_an_invalid_url_is_refused() -> None:
    """The constructor raises the error."""
    for url in ("jobs", "", 3):
        with pytest.raises(ConfigurationError, match="queue_url: must be the URL of a queue"):
            EventBridgeSource(url)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="event_source: must be an EventBridgeSource"):
        Session(event_source=URL)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="event_source: must be an EventBridgeSource"):
        Session(event_source=EventBridgeSource)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="sqs_client: must be boto3's client of SQS"):
        EventBridgeSource(URL, "sqs")
    assert processing.watching.EventBridgeSource is EventBridgeSource
    with pytest.raises(AttributeError, match="Nothing"):
        processing.watching.Nothing  # type: ignore[attr-defined] # noqa: B018 - the access is the test


def test_a_wait_returns_by_the_event_alone(tmp_path: Path) -> None:
    """On the engine's queue: a session with intervals of ten minutes gets the end at once."""
    engine = LocalSession(tmp_path / "engine", tick=0.01, events_queue="jobs")
    (tmp_path / "prep.py").write_text("print('hello')")
    sqs = engine.client("sqs")
    url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    session = Session(
        engine.boto_session,
        default_bucket="bucket",
        sagemaker_config={},
        polling=Polling(first=600.0, longest=600.0),
        event_source=EventBridgeSource(url, sqs),
    )
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=engine)
    job = processor.run(tmp_path / "prep.py", wait=False)
    processing.attach(job.job_name, session=session).wait(logs=False, timeout=300.0)
    assert job.status == "Completed"


# Events as values.


def give(value: dict[str, Any]) -> dict[str, Any]:
    """An event as a Lambda function gets it."""
    return value


@pytest.mark.parametrize("form", [give, json.dumps, lambda value: json.dumps(value).encode()])
def test_a_job_is_found_by_its_event(form: Callable[[Any], Any], local_session: LocalSession) -> None:
    """As a dictionary, as text and as bytes; no call is made."""
    job = ProcessingJob.from_event(form(event("clean")), local_session)
    assert (job.job_name, job.arn) == ("clean", ARN + "clean")


def test_a_jobs_inputs_are_asked_for_when_needed(tmp_path: Path) -> None:
    """The job's parameters are described once, at their first use."""
    engine = LocalSession(tmp_path / "engine", tick=0.01, events_file=tmp_path / "events")
    (tmp_path / "prep.py").write_text("print('hello')")
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=engine)
    job = processor.run(tmp_path / "prep.py", outputs=["/opt/ml/processing/o"], logs=False)
    for line in (tmp_path / "events").read_text().splitlines():
        found = ProcessingJob.from_event(line, engine)
        assert (found.job_name, found.arn) == (job.job_name, job.arn)
        assert [entry.input_name for entry in found.inputs] == ["code"]
        assert found.outputs is found.outputs
        assert found.outputs["output-1"].destination == job.outputs[0].destination
        assert found.output_kms_key is None
        with pytest.raises(AttributeError, match="nothing"):
            found.nothing  # type: ignore[attr-defined] # noqa: B018 - the access is the test


WRONG: tuple[Any, ...] = (
    {},
    "",
    "x",
    b"\xff",
    3,
    None,
    {"detail-type": "other"},
    event(detail={}),
    event("a b"),
    event(""),
    "[" * 100_000,
)


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_another_event_is_refused(wrong: Any, local_session: LocalSession) -> None:
    """The message names the required kind."""
    assert read_event(wrong) is None
    with pytest.raises(ConfigurationError, match='event: must be a "SageMaker Processing Job State Change"'):
        ProcessingJob.from_event(wrong, local_session)


def test_an_event_of_another_region_is_refused(local_session: LocalSession) -> None:
    """The message says how to reach it."""
    with pytest.raises(
        ConfigurationError, match=r"event: the job is in eu-west-3, .*Session\(region_name='eu-west-3'\)"
    ):
        ProcessingJob.from_event(event(region="eu-west-3"), local_session)
