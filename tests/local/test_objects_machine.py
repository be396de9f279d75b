"""The object store against a model, with random operations, many of which are killed.

Each operation runs in a process of its own. One that shall die counts what it calls, Python's functions and C's, and
kills itself with SIGKILL at a number that was drawn: a kill at a random moment that can be repeated. Afterwards the
operation has happened in full or not at all, nothing else has changed, and no file is left that nobody owns.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fork_server import ForkServer
from object_operations import run_operation
from processing.local.errors import ApiError
from processing.local.stores.objects import ObjectStore
from processing.local.stores.uploads import MultipartUploads

BUCKET = "bucket"
KEYS = st.sampled_from(["a", "a/b", "b"])
BODIES = st.binary(max_size=3).map(lambda data: data * 1000)
DEATHS = st.none() | st.integers(1, 900)
UPLOADS = st.integers(0, 2)

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where files cost least: a kill is no failure of the machine, so nothing has to be on a disk."""


class State(NamedTuple):
    """The expected content: bodies and tags by key, and the key and parts of each upload."""

    objects: dict[str, tuple[bytes, dict[str, str]]]
    uploads: dict[str, tuple[str, dict[int, bytes]]]


def run_in_child(
    fork_server: ForkServer, root: Path, name: str, arguments: list[Any], death: int | None
) -> tuple[str, Any]:
    """Run an operation in a child, and return `done`, `refused` or `killed`, and the answer."""
    ((code, outcome),) = fork_server.run(run_operation, (root, name, arguments, death))
    assert code in {0, -signal.SIGKILL}
    return outcome if code == 0 else ("killed", None)


class Machine(RuleBasedStateMachine):
    """The store beside its model."""

    fork_server: ForkServer

    @initialize()
    def begin(self) -> None:
        """An empty bucket."""
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.root = Path(self.folder.name)
        self.store = ObjectStore(self.root)
        self.store.create_bucket(BUCKET)
        self.model = State({}, {})

    def run(self, name: str, arguments: list[Any], death: int | None, after: State, expected: str | None = None) -> Any:
        """Run an operation. It leads to `after`, fails with the expected code, or is killed."""
        how, answer = run_in_child(self.fork_server, self.root, name, arguments, death)
        if how == "killed":
            found = self.observe()
            assert found in {_frozen(self.model): self.model, _frozen(after): after}.values()
            self.model = found
        elif expected is None:
            assert how == "done", answer
            self.model = after
        else:
            assert (how, answer) == ("refused", expected)
        return answer if how == "done" else None

    def observe(self) -> State:
        """Return the content of the store, with every byte read."""
        objects = {}
        for record in self.store.iter_prefix(BUCKET):
            found, descriptor = self.store.open(BUCKET, record.key)
            objects[record.key] = (_read(descriptor), dict(found.tags))
        uploads = {}
        parts = MultipartUploads(self.store)
        for upload in parts.list(BUCKET):
            bodies = {}
            for part in parts.parts(upload.id, BUCKET, upload.key):
                bodies[part.number] = _read(self.store.bodies.open(part.body))
            uploads[upload.id] = (upload.key, bodies)
        return State(objects, uploads)

    @rule(key=KEYS, body=BODIES, tag=st.sampled_from(["", "x"]), death=DEATHS)
    def put(self, key: str, body: bytes, tag: str, death: int | None) -> None:
        """Write or overwrite an object."""
        tags = {"tag": tag} if tag else {}
        after = self.model._replace(objects={**self.model.objects, key: (body, tags)})
        self.run("put", [key, body, tags, {}], death, after)

    @rule(key=KEYS, body=BODIES, death=DEATHS)
    def put_once(self, key: str, body: bytes, death: int | None) -> None:
        """Write an object that must not exist."""
        after = self.model._replace(objects={**self.model.objects, key: (body, {})})
        expected = "PreconditionFailed" if key in self.model.objects else None
        arguments = [key, body, {}, {"if_none_match": True}]
        self.run("put", arguments, death, self.model if expected else after, expected)

    @rule(key=KEYS, death=DEATHS)
    def delete(self, key: str, death: int | None) -> None:
        """Delete an object, existing or not."""
        objects = {name: value for name, value in self.model.objects.items() if name != key}
        self.run("delete", [key], death, self.model._replace(objects=objects))

    @rule(key=KEYS, death=DEATHS)
    def create(self, key: str, death: int | None) -> None:
        """Start an upload, whose id is known only afterwards."""
        if len(self.model.uploads) > 2:
            return
        how, answer = run_in_child(self.fork_server, self.root, "create", [key], death)
        found = self.observe()
        new = {name: value for name, value in found.uploads.items() if name not in self.model.uploads}
        assert found.objects == self.model.objects
        assert list(new.values()) in ([(key, {})], *([[]] if how == "killed" else []))
        assert how == "killed" or list(new) == [answer]
        self.model = self.model._replace(uploads={**self.model.uploads, **new})
        assert found == self.model

    @rule(which=UPLOADS, number=st.integers(1, 3), body=BODIES.filter(bool), death=DEATHS)
    def add_part(self, which: int, number: int, body: bytes, death: int | None) -> None:
        """Add a part, or send it again."""
        name, key, parts = self.upload(which)
        if name:
            uploads = {**self.model.uploads, name: (key, {**parts, number: body})}
            self.run("part", [name, key, number, body], death, self.model._replace(uploads=uploads))

    @rule(which=UPLOADS, death=DEATHS)
    def complete(self, which: int, death: int | None) -> None:
        """Join all parts into an object."""
        name, key, parts = self.upload(which)
        if name and parts:
            known = MultipartUploads(self.store).parts(name, BUCKET, key)
            whole = b"".join(parts[number] for number in sorted(parts))
            uploads = {other: value for other, value in self.model.uploads.items() if other != name}
            after = State({**self.model.objects, key: (whole, {})}, uploads)
            self.run("complete", [name, key, [(part.number, part.etag) for part in known]], death, after)

    @rule(which=UPLOADS, death=DEATHS)
    def abort(self, which: int, death: int | None) -> None:
        """Abort an upload."""
        name, key, _ = self.upload(which)
        if name:
            uploads = {other: value for other, value in self.model.uploads.items() if other != name}
            self.run("abort", [name, key], death, self.model._replace(uploads=uploads))

    @rule(death=DEATHS)
    def sweep(self, death: int | None) -> None:
        """Remove orphans, which may be killed as well."""
        self.run("sweep", [], death, self.model)

    def upload(self, which: int) -> tuple[str, str, dict[int, bytes]]:
        """Return the id, key and parts of an upload, or an empty result if there are fewer."""
        names = sorted(self.model.uploads)
        if which >= len(names):
            return "", "", {}
        key, parts = self.model.uploads[names[which]]
        return names[which], key, parts

    @invariant()
    def agrees(self) -> None:
        """The store has the content of the model."""
        assert self.observe() == self.model

    def teardown(self) -> None:
        """After the removal of orphans every file belongs to an object or part, and nothing is lost."""
        if not hasattr(self, "folder"):
            return
        self.store.remove_orphans(0.0)
        for _ in range(2):  # a write removes what was thrown away, the next one forgets its name
            self.store.put(BUCKET, "last", b"")
        self.store.delete(BUCKET, "last")
        self.store.remove_orphans(0.0)
        with self.store.database.read() as connection:
            owned = {name for (name,) in connection.execute("SELECT body FROM objects UNION SELECT body FROM parts")}
        files = {file.name for file in (self.root / "objects").rglob("*") if file.is_file()}
        left = list((self.root / "incoming").iterdir())
        assert (files, left) == (owned, [])
        assert self.observe() == self.model
        self.store.database.close()
        self.folder.cleanup()


def _frozen(state: State) -> str:
    return repr(state)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
def test_operations_that_die_happen_or_do_not() -> None:
    """Random operations, most of which are killed at a random moment."""
    fork_server = ForkServer()
    try:
        Machine.fork_server = fork_server
        quick = settings(
            max_examples=100,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        run: Any = run_state_machine_as_test  # without types in the versions of hypothesis for Python 3.10
        run(Machine, settings=quick)
    finally:
        fork_server.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "over an old one"])
def test_no_moment_of_a_write_is_a_bad_one(replaces: bool) -> None:
    """A kill at any moment leaves the old object or the new one, and no other file."""
    fork_server = ForkServer()
    outcomes = set()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        store = ObjectStore(Path(folder))
        store.create_bucket(BUCKET)
        try:
            for moment in range(1, 900, 3):
                store.delete(BUCKET, "k")
                if replaces:
                    store.put(BUCKET, "k", b"old")
                how, _ = run_in_child(fork_server, store.root, "put", ["k", b"new", {}, {}], moment)
                content = _content(store)
                outcomes.add((how, content))
                store.remove_orphans(0.0)
                store.put(BUCKET, "other", b"")
                files = [file for file in (store.root / "objects").rglob("*") if file.is_file()]
                assert len(files) == (1 if content is None else 2)
                assert _content(store) == content
                if how == "done":
                    break
        finally:
            fork_server.close()
            store.database.close()
    old = b"old" if replaces else None
    assert outcomes == {("killed", old), ("killed", b"new"), ("done", b"new")}


def _content(store: ObjectStore) -> bytes | None:
    try:
        _, descriptor = store.open(BUCKET, "k")
    except ApiError:
        return None
    return _read(descriptor)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()
