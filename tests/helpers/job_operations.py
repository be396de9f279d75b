"""Operations on the job store, each with what it does to a simple model."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import attrs

from processing.container.contract import TERMINAL
from processing.local.errors import ApiError
from processing.local.stores import database
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.tags import TagStore

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


@attrs.define
class Job:
    """The model's state of a job."""

    name: str
    status: str
    hosts: list[str | None]
    created: int
    tags: dict[str, str]
    said: list[str]
    started: int | None = None
    ended: int | None = None
    modified: int = 0

    def change(self, status: str, now: int) -> None:
        self.status = status
        self.modified = now
        self.said.append(status)


Model = dict[str, Job]
"""The jobs by their names."""


# Each operation twice: what it does to the store, and what to the model. Refused ones raise ApiError in the store, and
# return False in the model.


@attrs.frozen
class Create:
    name: str
    hosts: int

    def carry_out(self, store: JobStore, now: int) -> None:
        store.create(
            {"ProcessingJobName": self.name},
            arn=f"arn:{self.name}",
            folder=f"jobs/{self.name}",
            plan={},
            hosts=self.hosts,
            tags={"k": self.name},
            now=now,
        )

    def expect(self, model: Model, now: int) -> bool:
        if self.name in model:
            return False
        hosts: list[str | None] = [None] * self.hosts
        model[self.name] = Job(self.name, "InProgress", hosts, now, {"k": self.name}, ["InProgress"], modified=now)
        return True


@attrs.frozen
class Start:
    name: str
    host: int

    def carry_out(self, store: JobStore, now: int) -> None:
        store.record_start(store.get(self.name).id, self.host, 4_000_000, "mark", now)

    def expect(self, model: Model, now: int) -> bool:
        job = model.get(self.name)
        if job is None:
            return False
        if job.started is None and job.ended is None:
            job.started = job.modified = now
        return True


@attrs.frozen
class Stop:
    name: str

    def carry_out(self, store: JobStore, now: int) -> None:
        store.request_stop(self.name, now)

    def expect(self, model: Model, now: int) -> bool:
        job = model.get(self.name)
        if job is None or job.status in TERMINAL:
            return False
        if job.status == "InProgress":
            job.change("Stopping", now)
        return True


@attrs.frozen
class Finish:
    name: str
    host: int
    outcome: str

    def carry_out(self, store: JobStore, now: int) -> None:
        store.record_host_end(store.get(self.name).id, self.host, HostEnd(self.outcome, reason="because"), now)

    def expect(self, model: Model, now: int) -> bool:
        job = model.get(self.name)
        if job is None:
            return False
        if self.host <= len(job.hosts) and job.hosts[self.host - 1] is None:
            job.hosts[self.host - 1] = self.outcome
            if None not in job.hosts:
                stopped = job.status == "Stopping" or "stopped" in job.hosts
                job.ended = now
                job.change("Failed" if "failed" in job.hosts else "Stopped" if stopped else "Completed", now)
        return True


@attrs.frozen
class Delete:
    name: str

    def carry_out(self, store: JobStore, _now: int) -> None:
        store.delete(self.name)

    def expect(self, model: Model, _now: int) -> bool:
        if self.name not in model or model[self.name].status not in TERMINAL:
            return False
        del model[self.name]
        return True


def tags_of(store: JobStore) -> TagStore:
    return TagStore(store._database.path.parent)


@attrs.frozen
class Tag:
    name: str
    key: str
    value: str | None

    def carry_out(self, store: JobStore, _now: int) -> None:
        if self.value is None:
            tags_of(store).delete(f"arn:{self.name}", [self.key])
        else:
            tags_of(store).add(f"arn:{self.name}", {self.key: self.value})

    def expect(self, model: Model, _now: int) -> bool:
        if self.name not in model:
            return False
        if self.value is None:
            model[self.name].tags.pop(self.key, None)
        else:
            model[self.name].tags[self.key] = self.value
        return True


Operation = Create | Start | Stop | Finish | Delete | Tag


def attempt(operation: Operation, store: JobStore, now: int) -> bool:
    """Carry it out, and return whether it was not refused."""
    try:
        operation.carry_out(store, now)
    except ApiError:
        return False
    return True


def attempt_in(home: Path, operation: Operation, now: int) -> bool:
    """Carry it out in the store of a folder, and return whether it was not refused."""
    return attempt(operation, JobStore(home), now)


def killed_after(statements: int, operation: Operation, home: Path, now: int) -> bool:
    """Carry an operation out, and die before its n-th statement of SQL."""
    left = statements
    connect = database.connect

    def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(count)
        return connection

    database.connect = watched  # in this child only
    return attempt(operation, JobStore(home), now)
