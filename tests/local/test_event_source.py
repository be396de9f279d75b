"""The engine's event source: a wait learns of a change without a Describe call that happens to come at that moment."""

from __future__ import annotations

import copy
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs
import pytest

import processing
from processing import LocalSession, ScriptProcessor
from processing.clock import SYSTEM_CLOCK, SystemClock
from processing.local.event_source import OutboxEventSource
from processing.testing import VirtualClock
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0


@pytest.fixture
def source(local_session: LocalSession) -> OutboxEventSource:
    source = OutboxEventSource(local_session.engine.jobs, SYSTEM_CLOCK)
    assert changes(source, 0.0) == set()
    return source


def changes(source: OutboxEventSource, seconds: float) -> set[str]:
    condition = threading.Condition()
    with condition:
        return set(source.wait(condition, seconds))


def create(session: LocalSession, name: str) -> None:
    session.client("sagemaker").create_processing_job(
        ProcessingJobName=name,
        RoleArn="arn:aws:iam::000000000000:role/local",
        AppSpecification={"ImageUri": "image", "ContainerEntrypoint": ["python3", "-c", "pass"]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
    )


def test_jobs_of_this_and_another_session_are_named(local_session: LocalSession, source: OutboxEventSource) -> None:
    create(local_session, "one")
    create(LocalSession(local_session.home), "two")
    assert changes(source, PATIENCE) == {"one", "two"}


def test_a_change_is_reported_once(local_session: LocalSession, source: OutboxEventSource) -> None:
    create(local_session, "one")
    processing.attach("one", local_session).wait(logs=False)
    assert changes(source, PATIENCE) == {"one"}
    assert changes(source, 0.0) == set()


def test_an_earlier_change_is_none(local_session: LocalSession) -> None:
    create(local_session, "one")
    processing.attach("one", local_session).wait(logs=False)
    assert changes(OutboxEventSource(local_session.engine.jobs, SYSTEM_CLOCK), 0.0) == set()


class Recorded(SystemClock):
    """A clock that records each wait, and returns at once, as a notification makes it."""

    def __init__(self) -> None:
        self.waits: list[tuple[threading.Condition, float]] = []

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        """Return at once."""
        self.waits.append((condition, seconds))


def test_each_call_waits_once(local_session: LocalSession) -> None:
    """A second wait could miss a notification. Pauses grow, and end with the time or with the notification."""
    clock = Recorded()
    source, condition = OutboxEventSource(local_session.engine.jobs, clock), threading.Condition()
    with condition:
        for seconds in (60.0, 60.0, 0.001, math.inf):
            assert not source.wait(condition, seconds)
    assert {waited for waited, _ in clock.waits} == {condition}
    first, second, short, unlimited = (seconds for _, seconds in clock.waits)
    assert 0 < first < second < 0.05
    assert (short, unlimited) == (0.001, math.inf)


def test_the_condition_is_free_while_the_outbox_is_read(
    local_session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, condition = OutboxEventSource(local_session.engine.jobs, Recorded()), threading.Condition()

    def read() -> set[str]:
        with ThreadPoolExecutor(1) as other:
            assert other.submit(condition.acquire, timeout=PATIENCE).result()
            other.submit(condition.release).result()
        return {"job"}

    monkeypatch.setattr(source, "_read", read)
    with condition:
        assert source.wait(condition, 1.0) == {"job"}


def test_copies_of_a_session_have_sources_of_their_own(local_session: LocalSession) -> None:
    copied = copy.copy(local_session)
    sources = [session.poller._event_source for session in (local_session, copied)]
    create(local_session, "one")
    for source in sources:
        assert isinstance(source, OutboxEventSource)
        assert changes(source, PATIENCE) == {"one"}


def test_without_its_folder_it_reports_nothing(local_session: LocalSession, source: OutboxEventSource) -> None:
    local_session.engine.jobs.close()
    shutil.rmtree(local_session.home)
    local_session.home.write_text("a file in its place")
    assert changes(source, 0.01) == set()


def test_a_wait_ends_although_no_describe_call_is_due(tmp_path: Path) -> None:
    """Without the event source, the wait would last as long as the interval of Describe calls."""
    clock, interval = VirtualClock(), 1e6
    rare = attrs.evolve(Polling.of_engine(), first=interval, longest=interval, list_every=interval)
    (tmp_path / "script.py").write_text("print('hello')")
    session = LocalSession(tmp_path / "engine", polling=rare, clock=clock)
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    started = clock.monotonic()
    job = processor.run(tmp_path / "script.py", wait=False)
    assert job.wait().status == "Completed"
    assert clock.monotonic() - started < interval / 2
