"""The engine's event source: a wait learns of a change without a Describe call that happens to come at that moment."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import attrs
import pytest

import processing
from processing import LocalSession, ScriptProcessor
from processing.clock import SYSTEM_CLOCK
from processing.local.event_source import OutboxEventSource
from processing.local.session import _local_polling

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
    found: set[str] = set()
    while found != {"one", "two"}:
        new = changes(source, PATIENCE)
        assert new
        found |= new


def test_a_change_is_reported_once(local_session: LocalSession, source: OutboxEventSource) -> None:
    create(local_session, "one")
    processing.attach("one", local_session).wait(logs=False)
    assert changes(source, PATIENCE) == {"one"}
    assert changes(source, 0.0) == set()


def test_an_earlier_change_is_none(local_session: LocalSession) -> None:
    create(local_session, "one")
    processing.attach("one", local_session).wait(logs=False)
    assert changes(OutboxEventSource(local_session.engine.jobs, SYSTEM_CLOCK), 0.0) == set()


def test_a_notified_wait_ends(source: OutboxEventSource) -> None:
    condition = threading.Condition()

    def notify() -> None:
        with condition:
            condition.notify()

    with condition:
        thread = threading.Thread(target=notify)
        thread.start()  # it waits for the lock, which `wait` releases
        assert set(source.wait(condition, PATIENCE * 1000)) == set()
    thread.join()


def test_without_its_folder_it_reports_nothing(local_session: LocalSession, source: OutboxEventSource) -> None:
    local_session.engine.jobs.close()
    shutil.rmtree(local_session.home)
    local_session.home.write_text("a file in its place")
    assert changes(source, 0.01) == set()


def test_a_wait_ends_although_no_describe_call_is_due(tmp_path: Path) -> None:
    never = attrs.evolve(_local_polling(), first=1e6, longest=1e6, list_every=1e6)
    (tmp_path / "script.py").write_text("print('hello')")
    session = LocalSession(tmp_path / "engine", polling=never)
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    job = processor.run(tmp_path / "script.py", wait=False)
    assert job.wait(timeout=PATIENCE).status == "Completed"
