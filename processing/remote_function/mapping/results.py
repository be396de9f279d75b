"""The results of a map's job: segments in S3, each compared with a digest from the job itself before it is read.

A writer to S3 could replace, swap or replay a segment. A digest comes from the job's log while it runs, and
from its exit message when it has ended. Without the permission to read logs, all results come at the end. See
`processing.container.remote.segments`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from processing.container.contract import host_name
from processing.container.remote.segments import (
    LAST,
    Announcement,
    SegmentEntry,
    SegmentError,
    parse,
    parse_line,
    token,
)
from processing.container.remote.worker import ERROR, TIMEOUT, VALUE
from processing.exceptions import DeserializationError, RemoteFunctionError, ServiceError, WatchError
from processing.remote_function import packing
from processing.remote_function.call_record import RESULT_OUTPUT
from processing.remote_function.results import decode_values, for_caller, not_transferred
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.job.job import ProcessingJob

PICKLE: Final = "pickle"
"""The form of results that are loaded with all that a pickle may do."""
_THREADS: Final = 8
"""The segments that are read at once at the end of a job."""

logger = logging.getLogger(__name__)


class SegmentReader:
    """Reader of the segments of one job. Safe for threads.

    Args:
        job: the job.
        deliver: receives the records of each segment, once its digest has been compared. It may receive the same
            records twice, from two threads.

    Attributes:
        problems: the segments that were replaced or are missing, as texts.
    """

    def __init__(self, job: ProcessingJob, deliver: Callable[[list[SegmentEntry]], None]) -> None:
        self.problems: list[str] = []
        self._job = job
        self._deliver = deliver
        self._announced: dict[tuple[str, str], str] = {}
        self._read: set[tuple[str, str]] = set()

    def announce(self, host: str, line: str) -> Announcement | None:
        """Record the digest in a log line of a host. Return None for a line without one."""
        found = parse_line(line)
        if found is None or found.host != host:
            return None
        self._announced.setdefault((found.host, found.name), found.digest)
        return found

    def read(self, host: str, name: str, digest: str) -> bool:
        """Read a segment whose digest is known, and deliver its records.

        Returns:
            False if it is not in S3 yet, or if it is not the segment that the job wrote.

        Raises:
            ServiceError: S3 could not be read.
        """
        if (host, name) in self._read:
            return True
        body = self._fetch(host, name)
        if body is None or hashlib.sha256(body).hexdigest() != digest:
            return False
        self._accept(host, name, body)
        return True

    def read_rest(self, description: Mapping[str, Any]) -> None:
        """Read all segments of a job that has ended, and record the problems.

        Args:
            description: the job's description, with its exit message.

        Raises:
            ServiceError: S3 could not be read.
        """
        tokens = set((description.get("ExitMessage") or "").split())
        cluster = description["ProcessingResources"]["ClusterConfig"]
        count = cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount") or 1
        hosts = [host_name(number) for number in range(1, count + 1)]
        with ThreadPoolExecutor(_THREADS) as threads:
            done = list(threads.map(self._last_reader(tokens), hosts))
            if not all(done):
                self._read_log()
                done = list(threads.map(self._last_reader(set()), hosts))
            unread = [(host, LAST) for host, is_read in zip(hosts, done, strict=True) if not is_read]
            rest = [place for place in list(self._announced) if place not in self._read and place[1] != LAST]
            done = list(threads.map(lambda place: self.read(place[0], place[1], self._announced[place]), rest))
            unread += [place for place, is_read in zip(rest, done, strict=True) if not is_read]
        for place in unread:
            self._record_problem(*place)

    def _last_reader(self, tokens: set[str]) -> Callable[[str], bool]:
        """Return a function that reads a host's last segment, and so the digests of its other ones.

        The function returns False if neither the log nor a token proves that the segment in S3 is the job's.
        """

        def read(host: str) -> bool:
            if (host, LAST) in self._read:
                return True
            body = self._fetch(host, LAST)
            if body is None:
                return False
            digest = hashlib.sha256(body).hexdigest()
            if self._announced.get((host, LAST)) != digest and token(digest) not in tokens:
                return False
            self._accept(host, LAST, body)
            return True

        return read

    def _accept(self, host: str, name: str, body: bytes) -> None:
        try:
            segment = parse(body)
        except SegmentError as error:  # the job wrote it, so another version of this package did
            raise DeserializationError(f"{self._uri(host, name)}: {error}") from error
        for other, digest in segment.digests.items():
            self._announced.setdefault((host, other), digest)
        self._deliver(segment.records)
        self._read.add((host, name))  # after the delivery: `read_rest` skips what is in the set

    def _fetch(self, host: str, name: str) -> bytes | None:
        """Return the bytes of an object; None if there is none."""
        from processing.aws.retry import error_code
        from processing.staging.transfers import get_bytes

        session, uri = self._job.sagemaker_session, self._uri(host, name)
        try:
            return get_bytes(session.api, uri, expected_owner=session.expected_owner)
        except Exception as error:
            if error_code(error) in {"NoSuchKey", "404"}:
                return None
            raise ServiceError(f"{uri}: a segment of job {self._job.job_name} cannot be read: {error}") from error

    def _uri(self, host: str, name: str) -> S3Uri:
        return S3Uri.parse(str(self._job.outputs[RESULT_OUTPUT].destination)) / host / name

    def _read_log(self) -> None:
        """Read the digests in the whole log of a job that has ended."""
        from processing.watching.events import LogEvent

        try:
            for event in self._job.events(logs=True):
                if isinstance(event, LogEvent):
                    self.announce(event.host, event.message)
        except WatchError as error:
            logger.warning("the log of %s cannot be read: %s", self._job.job_name, error)

    def _record_problem(self, host: str, name: str) -> None:
        found = self._fetch(host, name) is not None
        text = "is not the one that the job wrote, and was not loaded" if found else "is missing"
        self.problems.append(f"{self._uri(host, name)}: the segment {text}")


class CallResult:
    """The value or the exception of one call.

    Args:
        value: the value.
        error: the exception; None if the call returned.
    """

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    @classmethod
    def of(cls, record: SegmentEntry, name: str, form: str = PICKLE) -> CallResult:
        """Return the outcome in a verified record.

        Args:
            record: the record.
            name: the name of the call for messages.
            form: the form of results: `pickle`, `json` or `arrow`. Nothing is unpickled if it is another than `pickle`.
        """
        try:
            if record.kind == VALUE:
                # A copy that can be changed: arrays of the value refer to it.
                data = bytearray(record.data)
                return cls(packing.unpack(data, name) if form == PICKLE else decode_values(data, name))
            text = bytes(record.data)
            return cls(error=_raised(text, name, form) if record.kind == ERROR else _ended(record.kind, text, name))
        except DeserializationError as error:
            return cls(error=error)


def _raised(data: bytes, name: str, form: str) -> BaseException:
    """Return the error of a call that ended with an exception. `sys.exit` must not end the caller."""
    head, _, body = data.partition(b"\n")
    details = json.loads(head)
    if "code" in details:
        code = details["code"]
        return RemoteFunctionError(f"{name}: the function ended with sys.exit({code})", exit_code=code)
    if details.get("stage"):
        return not_transferred(name, details["stage"], details["text"])
    if not body or form != PICKLE:
        return RemoteFunctionError(f"{name}: the function raised {details['text']}")
    error = packing.unpack(bytearray(body), name)
    return for_caller(error, name)


def _ended(kind: int, data: bytes, name: str) -> BaseException:
    """Return the error of a call that was ended: by its time limit, or with its worker process."""
    details = json.loads(data)
    text = f"{name}: {details['message']}"
    return TimeoutError(text) if kind == TIMEOUT else RemoteFunctionError(text, exit_code=details["exit_code"])
