"""Taking what is old out of the engine's folder, by age or until the folder is small enough.

Safe beside running jobs and other processes: running jobs, what they read and everything younger stays, and so does
whatever in the folder is not the engine's.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import math
import re
import stat
import time
from typing import TYPE_CHECKING, TypeVar

import attrs

from processing.exceptions import ConfigurationError
from processing.local import file_trees as trees
from processing.local.errors import ApiError
from processing.local.jobs import host_processes as hosts
from processing.local.jobs import leftovers as remains
from processing.local.jobs.data import inputs, split_uri
from processing.local.stores import expiry
from processing.local.stores.bodies import ABANDONED_AFTER
from processing.local.stores.database import give_space_back
from processing.local.stores.jobs import JobStore
from processing.local.stores.logs import LogStore
from processing.local.stores.metrics import MetricStore
from processing.local.stores.objects import ObjectStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from processing.local.stores.jobs import JobRecord
    from processing.local.stores.logs import GroupRecord, StreamRecord

T = TypeVar("T")
Age = str | float | dt.timedelta
Size = str | int

_DATABASES = ("jobs", "objects", "logs", "metrics", "queues")
_FOLDERS = ("objects", "incoming", "jobs")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}  # "M" might be meant for months
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]{1,3})", re.ASCII)
_BLOCK = 4096


@attrs.frozen(kw_only=True)
class Cleaned:
    """What was removed from the engine's folder, or would be.

    Attributes:
        jobs: finished jobs, with their tags.
        log_lines: lines of logs.
        samples: samples of metrics.
        objects: objects of the engine's S3.
        uploads: multipart uploads that were neither completed nor aborted.
        leftovers: files and folders that killed processes had left.
        freed: bytes that the folder has less now; of what only would be removed, without the databases' part.
        size: bytes that the folder has afterwards.
    """

    jobs: int = 0
    log_lines: int = 0
    samples: int = 0
    objects: int = 0
    uploads: int = 0
    leftovers: int = 0
    freed: int = 0
    size: int = 0

    def __add__(self, other: Cleaned) -> Cleaned:
        """Return the sums."""
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return Cleaned(**{name: mine[name] + others[name] for name in mine})


def parse_age(age: Age) -> float:
    """Return the seconds that an age means: `30d`, `12h`, `90 m`, a number of seconds or a timedelta.

    Raises:
        ConfigurationError: it is no age.
    """
    if isinstance(age, str):
        return _parse("older_than", age, _SECONDS, "an age, such as 30d, 12h or 90m (units: s, m, h, d, w)")
    seconds = age.total_seconds() if isinstance(age, dt.timedelta) else age
    if type(seconds) not in {int, float} or not 0 <= seconds < math.inf:
        raise ConfigurationError(f"older_than: {age!r} is not an age: a number of seconds, from 0, or text such as 30d")
    return float(seconds)


def parse_size(size: Size) -> int:
    """Return the bytes that a size means: `5GB`, `500 MB`, `2GiB` or a number of bytes.

    Raises:
        ConfigurationError: it is no size.
    """
    if isinstance(size, str):
        return int(_parse("larger_than", size, _BYTES, "a size, such as 5GB, 500MB or 2GiB"))
    if type(size) is not int or size < 0:
        raise ConfigurationError(f"larger_than: {size!r} is not a size: a number of bytes, from 0, or text such as 5GB")
    return size


def clean(
    home: Path, *, older_than: Age | None = None, larger_than: Size | None = None, dry_run: bool = False
) -> Cleaned:
    """Remove what is old from an engine's folder, and what killed processes left in it.

    Args:
        home: the folder.
        older_than: finished jobs with their tags, log lines, samples of metrics, objects (by the time of their last
            write or HeadObject) and unfinished uploads of this age go.
        larger_than: as long as the folder is larger than this, the oldest of them goes.
        dry_run: remove nothing, and return what would be.

    Raises:
        ConfigurationError: the age or the size is none.
    """
    age = None if older_than is None else parse_age(older_than)
    limit = None if larger_than is None else parse_size(larger_than)
    cleaner = _Cleaner(home, dry_run=dry_run)
    if not dry_run:
        cleaner.shrink_databases()
    before = folder_size(home)
    moment = -math.inf if age is None else cleaner.now - age
    done = cleaner.leftovers()
    if dry_run:
        if limit is not None:
            moment = max(moment, cleaner.moment_for(before - done.freed - limit, -math.inf))
        done += cleaner.older(moment)
        return attrs.evolve(done, size=before - done.freed)
    done += cleaner.older(moment)
    while limit is not None and (excess := folder_size(home) - limit) > 0:
        following = cleaner.moment_for(excess, moment)
        if following == moment:  # nothing is left that may go
            break
        moment = following
        done += cleaner.older(moment)
    size = folder_size(home)
    return attrs.evolve(done, freed=max(0, before - size), size=size)


def folder_size(home: Path) -> int:
    """Return the bytes that the engine's files take on the disk, but for those that SQLite works with for a while."""
    names = (*(f"{name}.sqlite3" for name in _DATABASES), *_FOLDERS)
    return sum(_disk_bytes(home / name) for name in names)


class _Cleaner:
    """The stores of one folder, and what is to be done to them."""

    def __init__(self, home: Path, *, dry_run: bool) -> None:
        self.now = time.time()
        self._home = home
        self._dry_run = dry_run
        self._jobs = JobStore(home)
        self._objects = ObjectStore(home)
        self._logs = LogStore(home)
        self._metrics = MetricStore(home)

    def leftovers(self) -> Cleaned:
        """Remove what killed processes left, however young: nobody is going to need it."""
        unfinished = self._jobs.unfinished()
        hosts.reap_dead_hosts(self._jobs, self._home, unfinished)
        in_use = {job.folder for job in unfinished}
        abandoned = self.now - ABANDONED_AFTER
        bodies = self._objects.bodies.stale_names(abandoned)
        half_made = _half_made_folders(self._home, abandoned)
        folders = [*half_made, *remains.leftover_folders(self._home, in_use)]
        if self._dry_run:
            found = [*folders, *(self._home / "incoming" / name for name in bodies)]
            return Cleaned(leftovers=len(found), freed=sum(_disk_bytes(path) for path in found))
        for path in half_made:
            trees.remove_tree(path)
        remains.remove_leftover_folders(self._home, in_use)
        files = self._objects.remove_orphans() + expiry.empty_garbage(self._objects)
        return Cleaned(leftovers=len(folders) + files)

    def shrink_databases(self) -> None:
        """Give the space of deleted rows back to the disk, and put what is written only ahead into its place."""
        for name in _DATABASES:
            if (self._home / f"{name}.sqlite3").exists():
                give_space_back(self._home / f"{name}.sqlite3")

    def older(self, moment: float) -> Cleaned:
        """Remove what was finished, written or logged before a moment, and give the databases' space back."""
        quiet = min([moment, *(job.created for job in self._jobs.unfinished())])  # a running job's log stays whole
        milliseconds = -1 if quiet < 0 else math.ceil(quiet * 1000)
        ended = self._jobs.ended_before(moment)
        if self._dry_run:
            old = list(expiry.old_objects(self._objects, moment, self._read_by_jobs))
            objects = expiry.Totals(len(old), sum(_rounded(each.size) for each in old))
            uploads = expiry.old_uploads(self._objects, moment)
            lines, samples = self._logs.count_before(milliseconds), self._metrics.count_before(quiet)
        else:
            self._jobs.delete_finished([job.id for job in ended])
            self._jobs.outbox.prune(self.now)
            objects = expiry.remove_objects(self._objects, moment, self._read_by_jobs)
            uploads = expiry.remove_uploads(self._objects, moment)
            expiry.empty_garbage(self._objects)
            lines, samples = self._logs.delete_before(milliseconds), self._metrics.delete_before(quiet)
            self.shrink_databases()
        return Cleaned(
            jobs=len(ended),
            log_lines=lines,
            samples=samples,
            objects=objects.number,
            uploads=uploads.number,
            freed=objects.size + uploads.size,
        )

    def moment_for(self, excess: float, after: float) -> float:
        """Return a moment: what is older than it, and not than the one given, makes up for so many bytes.

        If all that may go does not, it is a moment behind it; if nothing may go, the one that was given.
        """
        for moment, size in sorted(self._items()):
            if excess <= 0:
                break
            if moment >= after:
                after = math.nextafter(moment, math.inf)
                excess -= size
        return after

    def _items(self) -> Iterator[tuple[float, float]]:
        """Yield the time of each thing that may go, and about how many bytes that frees."""
        quiet = min([self.now, *(job.created for job in self._jobs.unfinished())])
        for each in expiry.old_objects(self._objects, self.now, self._read_by_jobs):
            yield each.touched, _rounded(each.size)
        yield from self._shares([job.ended or 0 for job in self._jobs.ended_before(self.now)], "jobs", "metrics")
        yield from self._shares([moment for moment in self._last_lines() if moment < quiet], "logs")

    def _shares(self, moments: Sequence[float], *databases: str) -> Iterator[tuple[float, float]]:
        total = sum(_disk_bytes(self._home / f"{name}.sqlite3") for name in databases)
        for moment in moments:
            yield moment, total / len(moments)

    def _last_lines(self) -> Iterator[float]:
        for group in _pages(self._groups):
            for stream in _pages(functools.partial(self._streams, group.name)):
                if stream.last_event is not None and stream.last_ingestion is not None:
                    yield max(stream.last_event, stream.last_ingestion) / 1000

    def _groups(self, last: GroupRecord | None) -> tuple[Sequence[GroupRecord], bool]:
        return self._logs.groups(after=last.name if last else "")

    def _streams(self, group: str, last: StreamRecord | None) -> tuple[Sequence[StreamRecord], bool]:
        return self._logs.streams(group, after=last.key if last else None, limit=1000)

    def _read_by_jobs(self) -> list[tuple[str, bytes]]:
        """Return buckets and prefixes of what running jobs may read."""
        return [place for job in self._jobs.unfinished() for place in self._inputs_of(job)]

    def _inputs_of(self, job: JobRecord) -> Iterator[tuple[str, bytes]]:
        for item in inputs(self._jobs.request(job.id)):
            if item["S3Uri"].startswith("s3://"):
                yield _place(item["S3Uri"])
                if item.get("S3DataType") == "ManifestFile":
                    yield from self._listed(item)

    def _listed(self, item: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        with contextlib.suppress(ApiError, OSError, ValueError, LookupError, TypeError, AttributeError):
            manifest = self._objects.get(*split_uri(item["S3Uri"]))  # one that is none fails its job, not this
            yield _place(json.loads(manifest.path.read_bytes())[0]["prefix"])


def _place(uri: str) -> tuple[str, bytes]:
    bucket, prefix = split_uri(uri)
    return bucket, prefix.encode()


def _pages(page: Callable[[T | None], tuple[Sequence[T], bool]]) -> Iterator[T]:
    """Yield all that there is, page by page; each is asked for with the last one of the page before."""
    last, more = None, True
    while more:
        found, more = page(last)
        yield from found
        last = found[-1] if found else None


def _half_made_folders(home: Path, moment: float) -> list[Path]:
    """Return the folders of jobs whose creator was killed while it made them."""
    return [path for path in (home / "jobs").glob(".*-????????????") if path.is_dir() and path.stat().st_mtime < moment]


def _rounded(size: int) -> int:
    """Return the bytes that a file of that size takes."""
    return -(-size // _BLOCK) * _BLOCK


def _disk_bytes(path: Path) -> int:
    """Return the bytes that a file takes on the disk, or a directory with all that is in it."""
    with contextlib.suppress(OSError):  # it goes in this moment
        state = path.lstat()
        inside = trees.entries_below(str(path)) if stat.S_ISDIR(state.st_mode) else ()
        return _taken(state) + sum(_entry_bytes(entry) for entry in inside)
    return 0


def _entry_bytes(entry: os.DirEntry[str]) -> int:
    with contextlib.suppress(OSError):
        return _taken(entry.stat(follow_symlinks=False))
    return 0


def _taken(state: os.stat_result) -> int:
    blocks: int = getattr(state, "st_blocks", 0) * 512
    return blocks or state.st_size


def _parse(name: str, text: str, units: Mapping[str, int], kind: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = "" if match is None else match[2] if match[2] in units else match[2].upper()
    if match is None or unit not in units:
        raise ConfigurationError(f"{name}: {text!r} is not {kind}")
    return float(match[1]) * units[unit]
