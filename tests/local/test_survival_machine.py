"""The job store against a simple model: any order of operations, several processes at once, kills in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fork_server import ForkServer
from job_operations import (
    Create,
    Delete,
    Finish,
    Job,
    Model,
    Operation,
    Start,
    Stop,
    Tag,
    attempt,
    attempt_in,
    killed_after,
    tags_of,
)
from processing.container.contract import TERMINAL
from processing.local.stores.jobs import JobStore
from processing.local.stores.list_query import ListQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

NAMES = st.sampled_from(["a", "b", "c"])
OUTCOMES = st.sampled_from(["completed", "failed", "stopped", "cancelled"])
KEYS = st.sampled_from(["x", "y"])
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


class JobStoreMachine(RuleBasedStateMachine):
    """The store, its model, and a clock that only goes forward."""

    fork_server: ForkServer

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
        ((code, was_accepted),) = self.fork_server.run(killed_after, (statements, operation, self.home, self.now))
        assert code in {0, -signal.SIGKILL}
        after: Model = {
            name: attrs.evolve(job, hosts=[*job.hosts], tags={**job.tags}, said=[*job.said])
            for name, job in self.model.items()
        }
        accepted = operation.expect(after, self.now)
        if code == 0:
            assert accepted == was_accepted
            self.model = after
        elif self._stored() == after:
            self.model = after
        else:
            assert self._stored() == self.model

    @rule(operation=OPERATIONS)
    def do_it_three_times_at_once(self, operation: Operation) -> None:
        """The same operation in three processes: it counts once, as if they had come one after the other."""
        self.now += 1
        exits = self.fork_server.run(attempt_in, *[(self.home, operation, self.now)] * 3)
        accepted = sorted(ended.value for ended in exits)
        assert accepted == sorted(operation.expect(self.model, self.now) for _ in range(3))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def finish_all_hosts_at_once(self, data: st.DataObject) -> None:
        """Each host by a process of its own: the job is finished once, with the outcomes of all."""
        name = data.draw(st.sampled_from(sorted(self.model)))
        hosts = range(1, len(self.model[name].hosts) + 1)
        operations = [Finish(name, host, data.draw(OUTCOMES)) for host in hosts]
        self.now += 1
        exits = self.fork_server.run(attempt_in, *[(self.home, each, self.now) for each in operations])
        assert [ended.value for ended in exits] == [True] * len(operations)
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
            tags = tags_of(self.store).tags(record.arn)
            times = {"started": record.started, "ended": record.ended, "modified": record.modified}
            found[record.name] = Job(record.name, record.status, hosts, record.created, tags, said, **times)
        return found


@pytest.fixture(scope="module", autouse=True)
def _fork_server() -> Iterator[None]:
    """Give the machine a process that forks the others."""
    JobStoreMachine.fork_server = ForkServer()
    yield
    JobStoreMachine.fork_server.close()


TestJobStore = JobStoreMachine.TestCase
TestJobStore.settings = settings(
    max_examples=int(os.environ.get("PROCESSING_TEST_EXAMPLES", "12")),
    stateful_step_count=25,
    derandomize="PROCESSING_TEST_EXAMPLES" not in os.environ,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # to shrink a failure takes minutes: what went before is printed in full
    suppress_health_check=list(HealthCheck),
)
