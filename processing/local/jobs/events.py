"""State changes of jobs as events, in EventBridge's JSON, and their delivery to the sinks of a job.

The form is that of "SageMaker Processing Job State Change" and its siblings on
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html: the members of the job's
Describe operation, with times in milliseconds since the epoch. The status of an endpoint is in capitals: `IN_SERVICE`.
Events are delivered at least once. If a process is killed between a change and its delivery, the next process that uses
the engine's folder delivers it. Standard library only: supervisors use this.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import stat
import time
from typing import TYPE_CHECKING, Any

from processing.exceptions import ProcessingError
from processing.local.jobs.description import description
from processing.local.stores.job_kinds import KINDS, TRAINING, TRANSFORM
from processing.local.stores.jobs import JobRecord, JobStore
from processing.local.stores.resources import ENDPOINT, ResourceRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing.local.stores.outbox import Transition

_last_errors: dict[str, str] = {}
"""The last logged error of each failing sink, so that an error is logged once."""


def sinks(file: str | None, queue: str | None) -> list[str]:
    """Return the sinks for a file and a queue, as execution plans and the outbox name them.

    Args:
        file: the path of a file; None for no file.
        queue: the name of a queue of the engine; None for no queue.
    """
    return [f"{kind}:{place}" for kind, place in (("file", file), ("queue", queue)) if place is not None]


def state_change_event(transition: Transition) -> dict[str, Any]:
    """Return the event that EventBridge delivers for a change of a job's status."""
    job = JobRecord(*transition.job)
    _, _, _, region, account, _ = job.arn.split(":", 5)
    detail = _description(job, transition.request)
    return {
        "version": "0",
        "id": transition.uuid,
        "detail-type": f"SageMaker {_subject(job.kind)} State Change",
        "source": "aws.sagemaker",
        "account": account,
        "time": dt.datetime.fromtimestamp(int(transition.time), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [job.arn],
        "detail": {name: _milliseconds(value) for name, value in detail.items()},
    }


def _subject(kind: str) -> str:
    return "Endpoint" if kind == ENDPOINT.resource else f"{KINDS[kind].prefix} Job"


def _description(job: JobRecord, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the Describe operation for a job of any kind, or for an endpoint."""
    if job.kind == TRAINING.resource:
        from processing.local.jobs import training_description  # most supervisors do not need it

        return training_description.description(request, job)
    if job.kind == TRANSFORM.resource:
        from processing.local.jobs.transform_description import transform_description

        return transform_description(request, job)
    if job.kind == ENDPOINT.resource:
        from processing.local.jobs.endpoint_description import endpoint_description

        state = json.loads(job.state)
        described = endpoint_description(
            ResourceRecord(job.id, job.name, job.arn, job.status, job.created, job.modified, request, state)
        )
        return {**described, "EndpointStatus": _event_status(job.status)}
    return description(request, job)


def _event_status(status: str) -> str:
    """Return the status of an endpoint as EventBridge writes it: `IN_SERVICE` for `InService`."""
    import re  # most supervisors do not need it

    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", status).upper()


def _milliseconds(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {name: _milliseconds(each) for name, each in value.items()}
    return [_milliseconds(each) for each in value] if isinstance(value, list) else value


def deliver(jobs: JobStore, home: Path) -> None:
    """Deliver all pending events, of every job in the folder.

    Events that cannot be delivered are logged, and stay for the next call. They fail neither a job nor the caller.

    Args:
        jobs: the job store.
        home: the engine's folder.
    """
    try:
        waiting = jobs.outbox.pending_sinks()
    except (OSError, ProcessingError) as error:
        _log_once("outbox", error)
        return
    for sink in waiting:
        try:
            send = _sender(sink, home)
            while jobs.outbox.deliver(sink, send):
                pass
        except (OSError, ProcessingError) as error:  # noqa: PERF203 - one failing sink must not stop the others
            _log_once(sink, error)
        else:
            _last_errors.pop(sink, None)


def _log_once(sink: str, error: Exception) -> None:
    message = str(error)
    if _last_errors.get(sink) != message:
        _last_errors[sink] = message
        import logging  # here, because a supervisor starts without it

        logging.getLogger(__name__).warning("Events of jobs cannot be delivered to %s now, and wait: %s", sink, message)


def _sender(sink: str, home: Path) -> Callable[[Transition], None]:
    kind, _, place = sink.partition(":")
    if kind == "file":
        return lambda transition: _append(place, f"{_text(transition)}\n".encode())
    from processing.local.stores.queues import QueueStore

    queues = QueueStore(home)
    return lambda transition: queues.post(place, _text(transition), time.time())


def _text(transition: Transition) -> str:
    return json.dumps(state_change_event(transition), separators=(",", ":"))


def _append(path: str, line: bytes) -> None:
    """Append a line in one write. If the disk has no room for all of it, nothing is appended."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        size = status.st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # the last writer wrote no newline, or was killed
            line = b"\n" + line
        if os.write(fd, line) < len(line):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)
