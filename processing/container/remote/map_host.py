"""The program of a map's job: runs this host's share of the calls in worker processes.

Call i belongs to host i modulo the number of hosts. The job succeeds if each call has an outcome: the exception of a
call is one. A job that failed for it would stop its other hosts in the midst of their calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import traceback
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple, Union

from . import call, packing, values
from .calls import CallsReader
from .segments import SegmentWriter, token
from .worker import ERROR, VALUE, Executed, LoadedFunction
from .workers import CallLimits, CallOutcome, Workers

_LONGEST_SUMMARY = 1000
"""The characters of an exception in the job's log."""
_STOPPED = 128 + signal.SIGTERM
"""The exit code of a host that was stopped, as in a shell."""


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Run this host's share of a verified map, and end the process with its exit code.

    Args:
        places: the paths of the job, `boot.Places`.
        manifest: the verified manifest. Its member `map` has the fields of `CallLimits`.
        _folder: the folder of the unpacked bundle.
    """
    host, number, count = read_hosts(places.resources)
    writer = SegmentWriter(os.path.join(places.result, host), host, emit)  # noqa: PTH118 - a host uses no pathlib
    with tempfile.TemporaryDirectory() as folder:
        reader, limits = CallsReader(places.call, manifest["start"]), CallLimits(**manifest["map"])
        share = _Share(reader, writer, limits, folder, Forms(manifest["format"], manifest["values"]))
        code = share.run(number, count)
    write_token(places.message, writer.close())
    sys.exit(code)


class Forms(NamedTuple):
    """The forms in which values travel.

    Attributes:
        result: the form of results: `pickle`, `json` or `arrow`.
        as_values: whether calls are values, too, which any Python reads.
    """

    result: str
    as_values: bool


class _Share:
    """The calls of one host."""

    def __init__(
        self, reader: CallsReader, writer: SegmentWriter, limits: CallLimits, folder: str, forms: Forms
    ) -> None:
        self._reader = reader
        self._forms = forms
        self._writer = writer
        self._stopped = False
        self._workers = Workers(self._load, limits, self._store, folder)

    def run(self, number: int, count: int) -> int:
        """Run the calls of host `number` of `count`, counted from 0. Return the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        for position in range(number, len(self._reader.calls), count):
            self._workers.add(position, position)
        while self._workers.unfinished and not self._stopped:
            self._workers.step(self._writer.seconds_left)
            self._writer.flush_if_due()
        self._workers.close()
        if self._stopped:
            return _STOPPED
        return 1 if self._workers.cannot_start else 0

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopped = True

    def _store(self, outcome: CallOutcome) -> None:
        key = self._reader.calls[outcome.call].key
        if outcome.path is None:
            self._writer.add(outcome.call, key, outcome.kind, outcome.attempts, outcome.data)
        else:
            self._writer.add_file(outcome.call, key, outcome.kind, outcome.attempts, outcome.path)

    def _load(self) -> Union[LoadedFunction, bytes]:
        as_values = self._forms.as_values
        try:
            function, causes, _ = call.load(self._reader.read(self._reader.function.parts), as_values=as_values)
            retry_on = tuple(call.find_function(*each) if as_values else each for each in causes)
        except BaseException as error:  # noqa: BLE001 - code of the user runs while it is loaded
            return packed_error(error, call.LOADING)

        def execute(position: int) -> Executed:
            def load() -> Tuple[Any, Any, Any]:
                _, args, kwargs = call.load(self._read(position), as_values=as_values)
                return function, args, kwargs

            return outcome_of("call %d" % position, load, self._forms.result, retry_on)

        return LoadedFunction(execute)

    def _read(self, position: int) -> bytearray:
        return self._reader.read(self._reader.calls[position].parts)


def outcome_of(name: str, load: Callable[[], Tuple[Any, Any, Any]], form: str, retry_on: Tuple[Any, ...]) -> Executed:
    """Return the outcome of a call.

    Args:
        name: the call's name in the job's log.
        load: returns the function, its positional and its keyword arguments.
        form: the form of the result: `pickle`, `json` or `arrow`.
        retry_on: the classes of exceptions of the function for which a call may be repeated.
    """
    stage = call.LOADING
    try:
        function, args, kwargs = load()
        stage = ""
        value = call.collected(function(*args, **kwargs))
        stage = call.RETURNING
        return Executed(VALUE, packed(value, form))
    except BaseException as error:  # noqa: BLE001 - a worker outlives every exception of a call, `sys.exit` included
        summary = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1:]
        emit("remote-function %s raised %s" % (name, "".join(summary)[:_LONGEST_SUMMARY]))
        return Executed(ERROR, packed_error(error, stage), not stage and isinstance(error, retry_on))


def packed(value: Any, form: str) -> Sequence[memoryview]:
    """Return a packed value in a form: `pickle`, `json` or `arrow`."""
    return packing.pack(value).chunks if form == "pickle" else values.encode(value, form, "result")


def packed_error(error: BaseException, stage: str = "") -> bytes:
    """Return an exception as one line of JSON with its type, text and exit code, and its pickle if it has one.

    Args:
        error: the exception.
        stage: `LOADING` or `RETURNING` if it is not one of the function itself.
    """
    details = {**call.describe_exception(error), "stage": stage}
    return b"".join([json.dumps(details).encode(), b"\n", *call.packed_exception(error)])


def emit(line: str) -> None:
    """Write a line to the job's log in one piece, even while other processes write to it."""
    with contextlib.suppress(OSError, ValueError):  # a function may have closed them
        sys.stdout.flush()
        os.write(1, line.encode("utf-8", "backslashreplace") + b"\n")


def write_token(path: str, digest: str) -> None:
    """Write the exit message of this host: the word for the digest of its last segment."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - as above
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - as above
        file.write(token(digest) + "\n")


def read_hosts(path: str) -> Tuple[str, int, int]:
    """Return the name of this host, its position, and the number of hosts."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
        resources = json.load(file)
    hosts = resources["hosts"]
    return resources["current_host"], hosts.index(resources["current_host"]), len(hosts)
