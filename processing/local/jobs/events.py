"""State changes of jobs as events, in EventBridge's JSON, and their delivery to the sinks that a job names.

The form is that of "SageMaker Processing Job State Change" on
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html: the members of
DescribeProcessingJob, with times in milliseconds since the epoch. Delivered at least once: a process that is killed
between a change and its delivery leaves it to whoever comes by next. Standard library only: supervisors use this.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import sqlite3
import stat
import time
from typing import TYPE_CHECKING, Any

from processing.exceptions import ProcessingError
from processing.local.jobs.description import description
from processing.local.stores.jobs import JobRecord, JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing.local.stores.outbox import Transition

_failing: dict[str, str] = {}
"""What was last said of each sink that does not work, so that it is said once."""


def sinks(file: str | None, queue: str | None) -> list[str]:
    """Return the sinks of a job whose events go to that file and that queue, as its plan and the outbox name them."""
    return [f"{kind}:{place}" for kind, place in (("file", file), ("queue", queue)) if place is not None]


def state_change_event(transition: Transition) -> dict[str, Any]:
    """Return a change of a job's status as the event that EventBridge delivers."""
    job = JobRecord(*transition.job)
    _, _, _, region, account, _ = job.arn.split(":", 5)
    detail = description(transition.request, job)
    return {
        "version": "0",
        "id": transition.uuid,
        "detail-type": "SageMaker Processing Job State Change",
        "source": "aws.sagemaker",
        "account": account,
        "time": dt.datetime.fromtimestamp(int(transition.time), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [job.arn],
        "detail": {name: _milliseconds(value) for name, value in detail.items()},
    }


def _milliseconds(value: Any) -> Any:
    return round(value.timestamp() * 1000) if isinstance(value, dt.datetime) else value


def deliver(jobs: JobStore, home: Path) -> None:
    """Deliver what is still to be delivered, whichever job's it is.

    What does not work stays for the next time, and is logged; it is nobody's failure.

    Args:
        jobs: the job store.
        home: the engine's folder.
    """
    try:
        waiting = jobs.outbox.pending_sinks()
    except (OSError, sqlite3.Error, ProcessingError) as error:
        _say("outbox", error)
        return
    for sink in waiting:
        try:
            send = _sender(sink, home)
            while jobs.outbox.deliver(sink, send):
                pass
        except (OSError, sqlite3.Error, ProcessingError) as error:  # noqa: PERF203 -- each sink has its own
            _say(sink, error)
        else:
            _failing.pop(sink, None)


def _say(sink: str, error: Exception) -> None:
    said = str(error)
    if _failing.get(sink) != said:
        _failing[sink] = said
        import logging  # only here: a supervisor starts without it

        logging.getLogger(__name__).warning("Events of jobs cannot be delivered to %s now, and wait: %s", sink, said)


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
    """Append a line in one write; nothing of it stays where there is no room for all of it."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        size = status.st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # another's line, or half of one that was killed
            line = b"\n" + line
        if os.write(fd, line) < len(line):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)
