"""The job store against a simple model: any order of operations, several processes at once, kills in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from processing.container.contract import TERMINAL
from processing.local.errors import ApiError
from processing.local.stores import database
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.list_query import ListQuery
from processing.local.stores.tags import TagStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

NAMES = st.sampled_from(["a", "b", "c"])
OUTCOMES = st.sampled_from(["completed", "failed", "stopped", "cancelled"])
KEYS = st.sampled_from(["x", "y"])


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


def _tags(store: JobStore) -> TagStore:
    return TagStore(store._database.path.parent)


@attrs.frozen
class Tag:
    name: str
    key: str
    value: str | None

    def carry_out(self, store: JobStore, _now: int) -> None:
        if self.value is None:
            _tags(store).delete(f"arn:{self.name}", [self.key])
        else:
            _tags(store).add(f"arn:{self.name}", {self.key: self.value})

    def expect(self, model: Model, _now: int) -> bool:
        if self.name not in model:
            return False
        if self.value is None:
            model[self.name].tags.pop(self.key, None)
        else:
            model[self.name].tags[self.key] = self.value
        return True


Operation = Create | Start | Stop | Finish | Delete | Tag
HOSTS = st.integers(1, 3)
OPERATIONS = st.one_of(
    st.builds(Create, NAMES, HOSTS),
    st.builds(Start, NAMES, HOSTS),
    st.builds(Stop, NAMES),
    st.builds(Finish, NAMES, HOSTS, OUTCOMES),
    st.builds(Finish, NAMES, HOSTS, OUTCOMES),  # twice: jobs that never end are dull
    st.builds(Delete, NAMES),
    st.builds(Tag, NAMES, KEYS, st.one_of(st.none(), KEYS)),
)


def attempt(operation: Operation, store: JobStore, now: int) -> bool:
    """Carry it out, and return whether it was not refused."""
    try:
        operation.carry_out(store, now)
    except ApiError:
        return False
    return True


def fork(function: Callable[[], bool]) -> int:
    """Run a function in a child of its own, which ends with 0 if it returns True, and with 1 for False."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that the test runner has a thread is no harm here
        child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if function() else 1
        finally:
            os._exit(code)
    return child


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


class JobStoreMachine(RuleBasedStateMachine):
    """The store, its model, and a clock that only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.store = JobStore(self.home)
        self.model: Model = {}
        self.ended: dict[int, Any] = {}
        self.now = 1000

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.home)

    @initialize()
    def begin(self) -> None:
        self.store.check()

    @rule(operation=OPERATIONS)
    def do(self, operation: Operation) -> None:
        """One operation, in this process."""
        self.now += 1
        assert attempt(operation, self.store, self.now) == operation.expect(self.model, self.now)

    @rule(operation=OPERATIONS, statements=st.integers(1, 16))
    def be_killed_doing(self, operation: Operation, statements: int) -> None:
        """One operation, in a process that is killed: it was carried out, or it was not."""
        self.now += 1
        child = fork(lambda: killed_after(statements, operation, self.home, self.now))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in {0, 1, -signal.SIGKILL}
        after: Model = {
            name: attrs.evolve(job, hosts=[*job.hosts], tags={**job.tags}, said=[*job.said])
            for name, job in self.model.items()
        }
        accepted = operation.expect(after, self.now)
        if status != -signal.SIGKILL:
            assert accepted == (status == 0)
            self.model = after
        elif self._stored() == after:
            self.model = after
        else:
            assert self._stored() == self.model

    @rule(operation=OPERATIONS)
    def do_it_three_times_at_once(self, operation: Operation) -> None:
        """The same operation in three processes: it counts once, as if they had come one after the other."""
        self.now += 1
        children = [fork(lambda: attempt(operation, JobStore(self.home), self.now)) for _ in range(3)]
        accepted = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
        assert accepted == sorted(operation.expect(self.model, self.now) for _ in range(3))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def finish_all_hosts_at_once(self, data: st.DataObject) -> None:
        """Each host by a process of its own: the job is finished once, with the outcomes of all."""
        name = data.draw(st.sampled_from(sorted(self.model)))
        hosts = range(1, len(self.model[name].hosts) + 1)
        operations = [Finish(name, host, data.draw(OUTCOMES)) for host in hosts]
        self.now += 1
        children = [
            fork(lambda each=each: attempt(each, JobStore(self.home), self.now))  # type: ignore[misc]
            for each in operations
        ]
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        for each in operations:
            each.expect(self.model, self.now)

    @rule(
        size=st.integers(1, 3),
        by=st.sampled_from(["Name", "CreationTime", "Status"]),
        descending=st.booleans(),
        status=st.sampled_from([None, "InProgress", "Failed"]),
    )
    def read_page_by_page(self, size: int, by: str, descending: bool, status: str | None) -> None:
        """The pages, one after the other, have every job that is wanted once, and in order."""
        query = ListQuery(sort_by=by, descending=descending, status=status)
        found, token = self.store.list(query, size)
        while token is not None:
            page, token = self.store.list(query, size, token)
            assert page
            found += page
        wanted = {job.name for job in self.model.values() if status in {None, job.status}}
        assert sorted(each.name for each in found) == sorted(wanted)
        column = {"Name": "name", "CreationTime": "created", "Status": "status"}[by]
        values = [getattr(each, column) for each in found]
        assert values == sorted(values, reverse=descending)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        assert self._stored() == self.model
        assert {job.name for job in self.store.unfinished()} == {
            job.name for job in self.model.values() if job.status not in TERMINAL
        }

    @invariant()
    def what_has_ended_does_not_change(self) -> None:
        for record in self._records():
            if record.finished:
                assert self.ended.setdefault(record.id, record) == record
                assert record.created <= (record.started or record.created)
                assert record.created <= record.ended == record.modified <= self.now

    @invariant()
    def the_outbox_has_every_change(self) -> None:
        said: dict[int, list[str]] = {}
        for change in self.store.outbox.transitions_after(0):
            said.setdefault(change.job[0], []).append(change.job[3])
        for record in self._records():
            assert said[record.id] == self.model[record.name].said
        for changes in said.values():
            assert changes[0] == "InProgress"
            assert not TERMINAL & set(changes[:-1])

    def _records(self) -> list[Any]:
        return self.store.list(ListQuery(), 100)[0]

    def _stored(self) -> Model:
        found = {}
        for record in self._records():
            hosts = [host.outcome for host in self.store.hosts(record.id)]
            said = [change.job[3] for change in self.store.outbox.transitions_after(0) if change.job[0] == record.id]
            tags = _tags(self.store).tags(record.arn)
            times = {"started": record.started, "ended": record.ended, "modified": record.modified}
            found[record.name] = Job(record.name, record.status, hosts, record.created, tags, said, **times)
        return found


TestJobStore = JobStoreMachine.TestCase
TestJobStore.settings = settings(
    max_examples=int(os.environ.get("PROCESSING_TEST_EXAMPLES", "12")),
    stateful_step_count=25,
    derandomize="PROCESSING_TEST_EXAMPLES" not in os.environ,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # to shrink a failure takes minutes: what went before is printed in full
    suppress_health_check=list(HealthCheck),
)
