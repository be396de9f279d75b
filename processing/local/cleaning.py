"""Removal of old data from the engine's folder, by age or until the folder is small enough.

One idea governs it: every item in the folder has a time. It is the end of a job, the time of a log line or a sample,
the last use of an object, or the start of an upload. All items older than a cutoff are removed. A limit of the folder's
size only chooses the cutoff. `stores.expiry` removes objects by their time, and `jobs.leftovers` finds the files that
killed processes left, which are removed at any age.

It is safe beside running jobs and other processes. Running jobs, the objects that they read, and all items younger than
the oldest running job's logs stay. So does every file in the folder that is not the engine's.
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
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from processing._utils.validation import is_number
from processing.container.contract import DAY
from processing.container.training_contract import channel_inputs
from processing.exceptions import ConfigurationError
from processing.local import file_trees
from processing.local.errors import ApiError, tolerating_full_disk
from processing.local.folder_check import DATABASES
from processing.local.home import FOLDERS
from processing.local.jobs import leftovers
from processing.local.jobs.data import inputs, split_uri
from processing.local.jobs.host_processes import reap_dead_hosts
from processing.local.jobs.model_data import model_inputs
from processing.local.stores import expiry
from processing.local.stores.bodies import ABANDONED_AFTER
from processing.local.stores.database import give_space_back
from processing.local.stores.job_kinds import ENDPOINT_HOST, TRAINING, TRANSFORM
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

# The units are in lower case only, since "M" might mean months.
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]{1,3})", re.ASCII)
_BLOCK = 4096
"""The bytes of a disk block: files take whole blocks."""


@attrs.frozen(kw_only=True)
class Cleaned:
    """The numbers of items that were removed from the engine's folder, or would be in a dry run.

    Attributes:
        jobs: finished jobs, with their tags.
        log_lines: lines of logs.
        samples: samples of metrics.
        objects: objects of the engine's S3.
        uploads: multipart uploads that were neither completed nor aborted.
        leftovers: files and folders that killed processes had left.
        freed: the bytes by which the folder shrank; in a dry run, without the databases' part.
        size: the bytes of the folder afterwards.
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
        """Return the sum of each number."""
        mine, others = attrs.asdict(self), attrs.asdict(other)
        return Cleaned(**{name: mine[name] + others[name] for name in mine})


def parse_age(age: Age) -> float:
    """Return the seconds of an age: `30d`, `12h`, `90 m`, a number of seconds or a timedelta.

    Raises:
        ConfigurationError: the value is not an age.
    """
    if isinstance(age, str):
        return _parse("older_than", age, _SECONDS, "an age, such as 30d, 12h or 90m (units: s, m, h, d, w)")
    seconds = age.total_seconds() if isinstance(age, dt.timedelta) else age
    if not is_number(seconds) or seconds < 0:
        raise ConfigurationError(f"older_than: {age!r} is not an age: a number of seconds, from 0, or text such as 30d")
    return float(seconds)


def parse_size(size: Size) -> int:
    """Return the bytes of a size: `5GB`, `500 MB`, `2GiB` or a number of bytes.

    Raises:
        ConfigurationError: the value is not a size.
    """
    if isinstance(size, str):
        return int(_parse("larger_than", size, _BYTES, "a size, such as 5GB, 500MB or 2GiB"))
    if type(size) is not int or size < 0:
        raise ConfigurationError(f"larger_than: {size!r} is not a size: a number of bytes, from 0, or text such as 5GB")
    return size


def clean(
    home: Path, *, older_than: Age | None = None, larger_than: Size | None = None, dry_run: bool = False
) -> Cleaned:
    """Remove old data from an engine's folder, and the files that killed processes left.

    Args:
        home: the folder.
        older_than: the age from which finished jobs with their tags, log lines, samples of metrics, objects (by the
            time of their last write or HeadObject) and unfinished uploads are removed; None for no limit of age.
        larger_than: the size of the folder beyond which the oldest of them are removed; None for no limit of size.
        dry_run: True to remove nothing, and return the numbers of the items that would be removed.

    Raises:
        ConfigurationError: `older_than` is not an age, or `larger_than` is not a size.
    """
    age = None if older_than is None else parse_age(older_than)
    limit = None if larger_than is None else parse_size(larger_than)
    cleaner = _Cleaner(home, dry_run=dry_run)
    if not dry_run:
        cleaner.shrink_databases()
    before = folder_size(home)
    cutoff = -math.inf if age is None else cleaner.now - age
    done = cleaner.remove_leftovers()
    if dry_run:
        if limit is not None:
            cutoff = max(cutoff, cleaner.cutoff_for(before - done.freed - limit, -math.inf))
        done += cleaner.remove_older(cutoff)
        return attrs.evolve(done, size=before - done.freed)
    done += cleaner.remove_older(cutoff)
    # The space that an item frees is an estimate, so the folder may still be too large after one pass.
    while limit is not None and (excess := folder_size(home) - limit) > 0:
        next_cutoff = cleaner.cutoff_for(excess, cutoff)
        if next_cutoff == cutoff:  # no removable item is left
            break
        cutoff = next_cutoff
        done += cleaner.remove_older(cutoff)
    size = folder_size(home)
    return attrs.evolve(done, freed=max(0, before - size), size=size)


def folder_size(home: Path) -> int:
    """Return the bytes that the engine's files take on the disk, without the temporary files of SQLite."""
    names = (*(f"{name}.sqlite3" for name in DATABASES), *FOLDERS)
    return sum(_disk_bytes(home / name) for name in names)


class _Cleaner:
    """The stores of one folder and the removals from them; a dry run only counts."""

    def __init__(self, home: Path, *, dry_run: bool) -> None:
        self.now = time.time()
        self._home = home
        self._dry_run = dry_run
        self._jobs = JobStore(home)
        self._objects = ObjectStore(home)
        self._logs = LogStore(home)
        self._metrics = MetricStore(home)

    def remove_leftovers(self) -> Cleaned:
        """Remove the files that killed processes left. They are useless at any age."""
        unfinished = self._jobs.unfinished()
        reap_dead_hosts(self._jobs, self._home, unfinished)
        in_use = {job.folder for job in unfinished}
        abandoned = self.now - ABANDONED_AFTER
        bodies = self._objects.bodies.stale_names(abandoned)
        half_made = _half_made_folders(self._home, abandoned)
        folders = [*half_made, *leftovers.leftover_folders(self._home, in_use)]
        if self._dry_run:
            found = [*folders, *(self._home / "incoming" / name for name in bodies)]
            return Cleaned(leftovers=len(found), freed=sum(_disk_bytes(path) for path in found))
        for path in half_made:
            file_trees.remove_tree(path)
        leftovers.remove_leftover_folders(self._home, in_use)
        files = 0
        with tolerating_full_disk():  # the removal of old objects makes room
            files += self._objects.remove_orphans()
            files += expiry.empty_garbage(self._objects)
        return Cleaned(leftovers=len(folders) + files)

    def shrink_databases(self) -> None:
        """Return the space of deleted rows to the disk, and empty the write-ahead logs."""
        for name in DATABASES:
            if (self._home / f"{name}.sqlite3").exists():
                with tolerating_full_disk():  # other databases and files may make room
                    give_space_back(self._home / f"{name}.sqlite3")

    def remove_older(self, cutoff: float) -> Cleaned:
        """Remove all items older than a cutoff, and return the databases' space to the disk.

        Args:
            cutoff: a time in seconds since the epoch.
        """
        # The log and the metrics of a running job stay whole.
        quiet = min([cutoff, *(job.created for job in self._jobs.unfinished())])
        milliseconds = -1 if quiet < 0 else math.ceil(quiet * 1000)
        ended = self._jobs.ended_before(cutoff)
        if self._dry_run:
            old = list(expiry.old_objects(self._objects, cutoff, self._read_by_jobs))
            objects = expiry.Totals(len(old), sum(_rounded(each.size) for each in old))
            uploads = expiry.old_uploads(self._objects, cutoff)
            lines, samples = self._logs.count_before(milliseconds), self._metrics.count_before(quiet)
        else:
            # Files of objects come first: their removal makes room on a full disk for the deletions from databases.
            objects = expiry.remove_objects(self._objects, cutoff, self._read_by_jobs)
            uploads = expiry.remove_uploads(self._objects, cutoff)
            expiry.empty_garbage(self._objects)
            lines, samples = self._logs.delete_before(milliseconds), self._metrics.delete_before(quiet)
            self._jobs.delete_finished([job.id for job in ended])
            self._jobs.outbox.prune(self.now)
            self.shrink_databases()
        return Cleaned(
            jobs=len(ended),
            log_lines=lines,
            samples=samples,
            objects=objects.number,
            uploads=uploads.number,
            freed=objects.size + uploads.size,
        )

    def cutoff_for(self, excess: float, after: float) -> float:
        """Return a later cutoff that frees enough bytes.

        Args:
            excess: the bytes to free.
            after: the cutoff until now: all older items are removed already.

        Returns:
            the new cutoff. If all removable items together are too small, it is later than all of them. If no
            item is removable, it is `after`.
        """
        for time_of_item, size in sorted(self._removable_items()):
            if excess <= 0:
                break
            if time_of_item >= after:
                after = math.nextafter(time_of_item, math.inf)
                excess -= size
        return after

    def _removable_items(self) -> Iterator[tuple[float, float]]:
        """Yield the time of each removable item, and an estimate of the bytes that its removal frees."""
        quiet = min([self.now, *(job.created for job in self._jobs.unfinished())])
        for each in expiry.old_objects(self._objects, self.now, self._read_by_jobs):
            yield each.touched, _rounded(each.size)
        yield from self._shares([job.ended or 0 for job in self._jobs.ended_before(self.now)], "jobs", "metrics")
        yield from self._shares([last for last in self._last_lines() if last < quiet], "logs")

    def _shares(self, times: Sequence[float], *databases: str) -> Iterator[tuple[float, float]]:
        """Yield items with equal shares of the databases that hold them."""
        total = sum(_disk_bytes(self._home / f"{name}.sqlite3") for name in databases)
        for time_of_item in times:
            yield time_of_item, total / len(times)

    def _last_lines(self) -> Iterator[float]:
        """Yield the time of the last line of each log stream."""
        for group in _pages(self._groups):
            for stream in _pages(functools.partial(self._streams, group.name)):
                if stream.last_event is not None and stream.last_ingestion is not None:
                    yield max(stream.last_event, stream.last_ingestion) / 1000

    def _groups(self, last: GroupRecord | None) -> tuple[Sequence[GroupRecord], bool]:
        return self._logs.groups(after=last.name if last else "")

    def _streams(self, group: str, last: StreamRecord | None) -> tuple[Sequence[StreamRecord], bool]:
        return self._logs.streams(group, after=last.key if last else None, limit=1000)

    def _read_by_jobs(self) -> list[tuple[str, bytes]]:
        """Return bucket and prefix of each input that running jobs, and hosts that start again, may read."""
        readers = {job.id: job for job in (*self._jobs.unfinished(), *self._jobs.endpoint_hosts())}
        return [place for job in readers.values() for place in self._inputs_of(job)]

    def _inputs_of(self, job: JobRecord) -> Iterator[tuple[str, bytes]]:
        for item in inputs_of(job, self._jobs.request(job.id)):
            if item["S3Uri"].startswith("s3://"):
                yield _place(item["S3Uri"])
                if item.get("S3DataType") == "ManifestFile":
                    yield from self._manifest_prefix(item)

    def _manifest_prefix(self, item: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        with contextlib.suppress(ApiError, OSError, ValueError, LookupError, TypeError, AttributeError):
            manifest = self._objects.get(*split_uri(item["S3Uri"]))  # an invalid manifest fails its job, not this
            yield _place(json.loads(manifest.path.read_bytes())[0]["prefix"])


def inputs_of(job: JobRecord, request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a job reads from S3, each with the S3Uri and the S3DataType of a processing job's input.

    Args:
        job: the job, or the host of an endpoint, which reads its model again when it starts again.
        request: its request.
    """
    if job.kind == TRAINING.resource:
        yield from channel_inputs(request)
    elif job.kind == TRANSFORM.resource:
        yield request["TransformInput"]["DataSource"]["S3DataSource"]
        yield from model_inputs(request["Model"]["Container"])
    elif job.kind == ENDPOINT_HOST.resource:
        yield from model_inputs(request["Container"])
    else:
        yield from inputs(request)


def _place(uri: str) -> tuple[str, bytes]:
    bucket, prefix = split_uri(uri)
    return bucket, prefix.encode()


def _pages(page: Callable[[T | None], tuple[Sequence[T], bool]]) -> Iterator[T]:
    """Yield the items of all pages. `page` receives the last item of the page before, and returns items and a flag."""
    last, more = None, True
    while more:
        found, more = page(last)
        yield from found
        last = found[-1] if found else None


def _half_made_folders(home: Path, cutoff: float) -> list[Path]:
    """Return the folders of jobs whose creator was killed while it made them, before a cutoff."""
    return [path for path in (home / "jobs").glob(".*-????????????") if path.is_dir() and path.stat().st_mtime < cutoff]


def _rounded(size: int) -> int:
    """Return the bytes on disk of a file with that size."""
    return -(-size // _BLOCK) * _BLOCK


def _disk_bytes(path: Path) -> int:
    """Return the bytes on disk of a file, or of a directory with all its content."""
    with contextlib.suppress(OSError):  # another process removes it meanwhile
        state = path.lstat()
        inside = file_trees.entries_below(str(path)) if stat.S_ISDIR(state.st_mode) else ()
        return _allocated(state) + sum(_entry_bytes(entry) for entry in inside)
    return 0


def _entry_bytes(entry: os.DirEntry[str]) -> int:
    with contextlib.suppress(OSError):
        return _allocated(entry.stat(follow_symlinks=False))
    return 0


def _allocated(state: os.stat_result) -> int:
    blocks: int = getattr(state, "st_blocks", 0) * 512
    return blocks or state.st_size


def _parse(name: str, text: str, units: Mapping[str, int], kind: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = "" if match is None else match[2] if match[2] in units else match[2].upper()
    if match is None or unit not in units:
        raise ConfigurationError(f"{name}: {text!r} is not {kind}")
    return float(match[1]) * units[unit]
