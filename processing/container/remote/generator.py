"""The program of a generator function's job: sends each item as soon as the function yields it.

Items travel as the results of a map do: in segments, whose digests are in the job's log and in its exit message. The
number of an item is that of a call there. An exception of the function is the last record.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import types
from typing import Any, Dict

from . import call, checkpoints
from .map_host import emit, packed, packed_error, read_hosts, write_token
from .segments import SegmentWriter
from .worker import ERROR, VALUE

_NO_KEY = bytes(16)
"""The key of each record: an item has no identity outside of its job."""


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Run the verified call of a generator function, and end the process with its outcome.

    Args:
        places: the paths of the call, `boot.Places`.
        manifest: the verified manifest. `format` is the form of each item, `values` whether the call has it too.
        _folder: the folder of the unpacked bundle.
    """
    host = read_hosts(places.resources)[0]
    sender = _Sender(SegmentWriter(os.path.join(places.result, host), host, emit))  # noqa: PTH118 - a host uses no pathlib
    stage, code = call.LOADING, 0
    try:
        checkpoints.prepare()
        function, args, kwargs = call.load(
            call.read_packed(places.call, manifest["start"]), as_values=manifest["values"]
        )
        stage = ""
        for item in _synchronous(function(*args, **kwargs)):
            stage = call.RETURNING
            data = b"".join(packed(item, manifest["format"]))
            stage = ""
            sender.send(VALUE, data)
    except BaseException as error:  # noqa: BLE001 - the exit code has to be honest after any of them
        sender.send(ERROR, packed_error(error, stage))
        traceback.print_exception(type(error), error, error.__traceback__)
        code = call.exit_code(error)
    write_token(places.message, sender.close())
    sys.exit(code)


def _synchronous(items: Any) -> Any:
    """Return the items of a generator function as a plain iterable."""
    return _items_of(items) if isinstance(items, types.AsyncGeneratorType) else items


def _items_of(items: Any) -> Any:
    """Yield the items of an asynchronous generator, which runs in an event loop of its own."""
    import asyncio  # a third of the time until the function runs

    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                item = loop.run_until_complete(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class _Sender:
    """Sender of numbered records. A thread writes a segment when it is due, also while the function computes."""

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_when_due, daemon=True)
        self._thread.start()

    def send(self, kind: int, data: bytes) -> None:
        """Send the next record."""
        with self._changed:
            self._writer.add(self._count, _NO_KEY, kind, 1, data)
            self._count += 1
            self._changed.notify()

    def close(self) -> str:
        """Write the last segment. Return its digest in hexadecimal digits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        return self._writer.close()

    def _write_when_due(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(self._writer.seconds_left)
                self._writer.flush_if_due()
