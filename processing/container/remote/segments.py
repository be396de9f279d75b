"""Segments: files with the outcomes of many calls, and their digests.

A segment is one line of JSON and then records. The last segment of a host also lists the digests of all earlier ones,
so a digest of the last segment is one for all of them. A reader compares a file with a digest of trusted origin before
it looks into it:

- while the job runs, with a line of the job's log (`parse_line`),
- at its end, with a token in the job's exit message (`token`), which has room for the tokens of forty hosts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import struct
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

LAST = "last"
"""The file name of a host's last segment. The others are numbered: `000001`, `000002`, ..."""
SEGMENT_BYTES = 8 << 20
"""The size that closes a segment."""
SEGMENT_SECONDS = 1.0
"""The time after its first record that closes a segment of a young job."""
_LONGEST_SECONDS = 30.0
"""The same for a job of half an hour and more: a day then makes thousands of segments, not a hundred thousand."""
_TOKEN_BYTES = 18
"""144 bits of a digest: 24 characters of base64, without padding."""
_RECORD = struct.Struct(">q16sBIQ")
_LINE = re.compile(r"remote-function segment (algo-[0-9]+)/([0-9]{6}|last) sha256=([0-9a-f]{64})(?![0-9a-f])")


class SegmentEntry(NamedTuple):
    """The outcome of one call.

    Attributes:
        call: the call's number within its job.
        key: the call's identity across jobs of one map: 16 bytes that depend on its arguments.
        kind: the kind of the outcome, a number of the module `worker`.
        attempts: how often the call was started.
        data: the packed value or exception, or a text in JSON.
    """

    call: int
    key: bytes
    kind: int
    attempts: int
    data: memoryview


class SegmentError(ValueError):
    """The bytes are not a segment."""


class Segment(NamedTuple):
    """The content of a segment.

    Attributes:
        digests: the digests of the host's earlier segments by their file names; empty unless it is the last one.
        records: the outcomes.
    """

    digests: Dict[str, str]
    records: List[SegmentEntry]


def parse(data: bytes) -> Segment:
    """Return the content of a segment whose digest was compared.

    Raises:
        SegmentError: the bytes are not a segment.
    """
    end = data.find(b"\n") + 1
    try:
        digests = json.loads(data[:end])["segments"]
        return Segment(dict(digests), list(_records(memoryview(data)[end:])))
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise SegmentError("not a segment: %s" % error) from error


def _records(data: memoryview) -> Iterator[SegmentEntry]:
    position = 0
    while position < len(data):
        call, key, kind, attempts, size = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if position + size > len(data):
            raise SegmentError("the last record is cut")
        yield SegmentEntry(call, key, kind, attempts, data[position : position + size])
        position += size


def log_line(host: str, name: str, digest: str) -> str:
    """Return the log line that announces a segment."""
    return "remote-function segment %s/%s sha256=%s" % (host, name, digest)


class Announcement(NamedTuple):
    """A segment that a log line announces, with its SHA-256 in hexadecimal digits."""

    host: str
    name: str
    digest: str


def parse_line(line: str) -> Optional[Announcement]:
    """Return the segment that a log line announces; None for another line.

    Text of the user's program may stand before and after it: workers write to the same stream.
    """
    found = _LINE.search(line)
    return None if found is None else Announcement(*found.groups())


def token(digest: str) -> str:
    """Return the word that stands for the digest of a last segment in an exit message."""
    return base64.urlsafe_b64encode(bytes.fromhex(digest)[:_TOKEN_BYTES]).decode("ascii")


class SegmentWriter:
    """Writer of a host's segments.

    Args:
        folder: the folder that the job's output uploads; it is made if it does not exist.
        host: the host's name.
        emit: receives each log line.
        clock: the seconds of a monotonic clock.
    """

    def __init__(
        self, folder: str, host: str, emit: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._host = host
        self._emit = emit
        self._clock = clock
        self._start = clock()
        self._digests: Dict[str, str] = {}
        self._parts: List[bytes] = []
        self._size = 0
        self._opened: Optional[float] = None
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - a host uses os throughout

    @property
    def seconds_left(self) -> Optional[float]:
        """The seconds until the open segment is due; None if it is empty."""
        if self._opened is None:
            return None
        longest = min(_LONGEST_SECONDS, SEGMENT_SECONDS + (self._clock() - self._start) / 60)
        return max(0.0, self._opened + longest - self._clock())

    def add(self, call: int, key: bytes, kind: int, attempts: int, data: bytes) -> None:
        """Add an outcome to the open segment; write the segment if it is full."""
        self._parts += [_RECORD.pack(call, key, kind, attempts, len(data)), data]
        self._size += _RECORD.size + len(data)
        if self._opened is None:
            self._opened = self._clock()
        if self._size >= SEGMENT_BYTES:
            self.flush()

    def add_file(self, call: int, key: bytes, kind: int, attempts: int, path: str) -> None:
        """Write the outcome in a file as a segment of its own, with bounded memory. The file is removed."""
        self.flush()
        self._parts = [_RECORD.pack(call, key, kind, attempts, os.path.getsize(path))]  # noqa: PTH202 - as above
        self._write(self._next_name(), {}, path)
        os.unlink(path)  # noqa: PTH108 - as above

    def flush_if_due(self) -> None:
        """Write the open segment if its time has passed."""
        if self.seconds_left == 0:
            self.flush()

    def flush(self) -> None:
        """Write the open segment, if it has outcomes."""
        if self._parts:
            self._write(self._next_name(), {})

    def close(self) -> str:
        """Write the last segment. Return its digest in hexadecimal digits."""
        return self._write(LAST, self._digests)

    def _next_name(self) -> str:
        return "%06d" % (len(self._digests) + 1)

    def _write(self, name: str, digests: Dict[str, str], file: Optional[str] = None) -> str:
        head = json.dumps({"host": self._host, "segment": name, "segments": digests}).encode() + b"\n"
        path = os.path.join(self._folder, name)  # noqa: PTH118 - as above
        hasher = hashlib.sha256()
        # The output is Continuous: a file that appears whole is never uploaded in part.
        with open(path + ".part", "wb") as target:  # noqa: PTH123 - as above
            hashing = _Hashing(target, hasher)
            for part in (head, *self._parts):
                hashing.write(part)
            if file is not None:
                with open(file, "rb") as source:  # noqa: PTH123 - as above
                    shutil.copyfileobj(source, hashing, 1 << 20)
        os.replace(path + ".part", path)  # noqa: PTH105 - as above
        digest = hasher.hexdigest()
        if name != LAST:
            self._digests[name] = digest
        self._parts, self._size, self._opened = [], 0, None
        self._emit(log_line(self._host, name, digest))
        return digest


class _Hashing:
    """A file that hashes the bytes written to it."""

    def __init__(self, file: Any, hasher: Any) -> None:
        self._file = file
        self._hasher = hasher

    def write(self, data: bytes) -> int:
        """Write and hash some bytes."""
        self._hasher.update(data)
        self._file.write(data)
        return len(data)
