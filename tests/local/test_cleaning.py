"""Cleaning of the engine's folder: removed data, kept data, and the report."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession
from processing.local.cleaning import Cleaned, folder_size, parse_age, parse_size
from processing.local.errors import ApiError
from processing.local.jobs.host_processes import HostLocks
from processing.local.stores.database import Database, connect, give_space_back
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.logs import LogStore
from processing.local.stores.metrics import MetricStore
from processing.local.stores.objects import ObjectStore
from processing.local.stores.uploads import MultipartUploads

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
GROUP = "/aws/sagemaker/ProcessingJobs"


class Folder:
    """An engine's folder, and short ways to put something of any age into it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.session = LocalSession(home)
        self.now = time.time()
        self.jobs = JobStore(home)
        self.objects = ObjectStore(home)
        self.objects.create_bucket("data")
        self.logs = LogStore(home)
        for store in (self.jobs, self.logs, MetricStore(home)):
            store.check()

    def put(self, key: str, days: float, size: int = 1) -> None:
        ObjectStore(self.home, now=lambda: self.now - days * DAY).put("data", key, b"x" * size)

    def keys(self) -> list[str]:
        return [record.key for record in self.objects.iter_prefix("data")]

    def log(self, stream: str, days: float, *lines: str) -> None:
        moment = self.now - days * DAY
        events = [(int(moment * 1000), line) for line in lines]
        LogStore(self.home, now=lambda: moment).append(GROUP, stream, events)

    def lines(self) -> list[str]:
        found, token = self.logs.filter(GROUP)
        while token is not None:
            more, token = self.logs.filter(GROUP, token=token)
            found += more
        return [event.message for event in found]

    def job(self, name: str, days: float, *, finished: bool = True, inputs: Any = ()) -> None:
        moment = self.now - days * DAY
        request = {"ProcessingJobName": name, "ProcessingInputs": [{"S3Input": each} for each in inputs]}
        job = self.jobs.create(
            request,
            arn=f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}",
            folder=f"jobs/{name}-0123456789ab",
            plan={},
            hosts=1,
            tags={"team": "a"},
            now=moment,
        )
        if finished:
            self.jobs.record_host_end(job.id, 1, HostEnd("completed"), moment)

    def names(self) -> list[str]:
        found = self.session.engine.handle("sagemaker", "ListProcessingJobs", {"MaxResults": 100})
        return sorted(job["ProcessingJobName"] for job in found["ProcessingJobSummaries"])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "engine")


@contextlib.contextmanager
def _running(folder: Folder, name: str, days: float, inputs: Any = ()) -> Any:
    """A job whose one host lives: its lock is held."""
    locks = HostLocks(folder.home / f"jobs/{name}-0123456789ab", 1)
    folder.job(name, days, finished=False, inputs=inputs)
    yield
    locks.close()


def test_what_is_old_goes_and_what_is_younger_stays(folder: Folder) -> None:
    """Jobs by their end, objects by their last write, log lines and samples by their time, uploads by their parts."""
    for days in (31, 29):
        folder.job(f"job-{days}", days)
        folder.put(f"object-{days}", days)
        folder.log(f"stream-{days}", days, f"line-{days}")
        MetricStore(folder.home).append(f"job-{days}/algo-1", [(folder.now - days * DAY, {"CPUUtilization": 1})])
        then = ObjectStore(folder.home, now=lambda days=days: folder.now - days * DAY)  # type: ignore[misc]
        MultipartUploads(then).create("data", f"upload-{days}", headers={}, metadata={})
    cleaned = folder.session.clean(older_than="30d")
    assert attributes(cleaned) == {"jobs": 1, "objects": 1, "log_lines": 1, "samples": 1, "uploads": 1}
    assert folder.names() == ["job-29"]
    assert folder.keys() == ["object-29"]
    assert folder.lines() == ["line-29"]
    assert [each.name for each in folder.logs.streams(GROUP)[0]] == ["stream-29"]
    assert [upload.key for upload in MultipartUploads(folder.objects).list("data")] == ["upload-29"]
    assert attributes(folder.session.clean(older_than="30d")) == {}


def attributes(cleaned: Cleaned) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("jobs", "log_lines", "samples", "objects", "uploads", "leftovers")
    return {name: getattr(cleaned, name) for name in names if getattr(cleaned, name)}


def test_a_forgotten_jobs_tags_go_and_its_name_is_free(folder: Folder) -> None:
    """As after DeleteProcessingJob."""
    folder.job("again", 2)
    folder.session.clean(older_than="1d")
    folder.job("again", 0)
    with folder.jobs._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM tags").fetchone() == (1,)


def test_a_dry_run_counts_and_changes_nothing(folder: Folder) -> None:
    """A following run removes the same numbers."""
    for number in range(3):
        folder.job(f"job-{number}", 31)
        folder.put(f"object-{number}", 31, 5000)
        folder.log("stream", 31, "a", "b")
    foretold = folder.session.clean(older_than="30d", dry_run=True)
    assert attributes(foretold) == {"jobs": 3, "objects": 3, "log_lines": 6}
    assert foretold.freed == 3 * 8192
    assert len(folder.names()) == len(folder.keys()) == 3
    assert len(folder.lines()) == 6
    assert attributes(folder.session.clean(older_than="30d")) == attributes(foretold)


def test_what_a_running_job_reads_stays(folder: Folder) -> None:
    """Its inputs, the objects of its manifest, and its log stay at any age; so does the job itself."""
    folder.put("in/a", 50)
    folder.put("listed/b", 50)
    folder.put("other/c", 50)
    ObjectStore(folder.home, now=lambda: folder.now - 50 * DAY).put(
        "data", "manifest", b'[{"prefix": "s3://data/listed/"}, "b"]'
    )
    folder.log("long/algo-1-1", 39, "early")
    folder.log("older", 50, "old")
    inputs = [{"S3Uri": "s3://data/in/"}, {"S3Uri": "s3://data/manifest", "S3DataType": "ManifestFile"}]
    with _running(folder, "long", 40, inputs):
        cleaned = folder.session.clean(older_than="30d", larger_than=0)
        assert attributes(cleaned) == {"objects": 1, "log_lines": 1}
        assert folder.keys() == ["in/a", "listed/b", "manifest"]
        assert folder.lines() == ["early"]
        assert folder.names() == ["long"]


def test_what_was_found_there_stays(folder: Folder) -> None:
    """HeadObject makes an object young: a client that found its code need not upload it again."""
    for key in ("asked", "listed", "read"):
        folder.put(key, days=40)
    s3 = folder.session.client("s3")
    written = s3.head_object(Bucket="data", Key="asked")["LastModified"]
    s3.list_objects_v2(Bucket="data")
    s3.get_object(Bucket="data", Key="read")["Body"].close()
    assert folder.session.clean(older_than="1h").objects == 2
    assert folder.keys() == ["asked"]
    assert s3.head_object(Bucket="data", Key="asked")["LastModified"] == written


def test_what_was_found_long_ago_goes(folder: Folder) -> None:
    """A use ages like a write, and a new write makes the object young again."""
    folder.put("asked", days=40)
    ObjectStore(folder.home, now=lambda: folder.now - 20 * DAY).touch("data", "asked")
    assert folder.session.clean(older_than="30d").objects == 0
    assert folder.session.clean(older_than="10d").objects == 1


def test_an_object_stays_for_the_client_that_found_it(folder: Folder) -> None:
    """In any order of the two at the index, a use either fails or keeps the object."""
    for number in range(300):
        folder.put(f"code/{number}", days=40)
    store = ObjectStore(folder.home)
    found = []

    def use() -> None:
        for number in range(300):
            with contextlib.suppress(ApiError):
                found.append(store.touch("data", f"code/{number}").key)

    thread = threading.Thread(target=use)
    thread.start()
    folder.session.clean(older_than="30d")
    thread.join()
    assert set(found) <= set(folder.keys())


def test_the_oldest_goes_until_the_folder_is_small_enough(folder: Folder) -> None:
    """No more is removed than necessary, and no item that is younger than one that stays."""
    for days in range(10, 0, -1):
        folder.put(f"{days:02}", days, 100_000)
    size = folder.session.clean().size
    cleaned = folder.session.clean(larger_than=size - 250_000)
    assert cleaned.size == folder_size(folder.home) <= size - 250_000
    assert folder.keys() == [f"{days:02}" for days in range(1, 8)]
    assert cleaned.objects == 3
    assert cleaned.freed >= 250_000


def test_a_dry_run_by_size_predicts_the_same(folder: Folder) -> None:
    """If objects take most of the space, as usual."""
    for days in range(10, 0, -1):
        folder.put(f"{days:02}", days, 100_000)
    limit = folder.session.clean().size - 450_000
    foretold = folder.session.clean(older_than="9d", larger_than=limit, dry_run=True)
    assert foretold.objects == 5
    assert foretold.size <= limit
    assert folder.session.clean(older_than="9d", larger_than=limit).objects == 5


def test_logs_are_cut_to_size_and_the_disk_gets_its_space_back(folder: Folder) -> None:
    """Deleted rows make the file smaller, not only emptier."""
    for days in range(20, 0, -1):
        folder.log(f"job-{days}/algo-1-1", days, *["x" * 1000] * 200)
    size = (folder.home / "logs.sqlite3").stat().st_size
    cleaned = folder.session.clean(larger_than=folder_size(folder.home) // 2)
    assert cleaned.log_lines % 200 == 0
    assert 200 <= cleaned.log_lines <= 3800
    assert (folder.home / "logs.sqlite3").stat().st_size < size * 0.6
    assert len(folder.lines()) == 4000 - cleaned.log_lines


def test_a_size_that_cannot_be_reached_ends(folder: Folder) -> None:
    """All removable items are removed, and the remaining size is reported."""
    folder.put("a", 1, 10_000)
    folder.job("j", 1)
    cleaned = folder.session.clean(larger_than=0)
    assert attributes(cleaned) == {"jobs": 1, "objects": 1}
    assert cleaned.size == folder_size(folder.home) > 0


def test_what_killed_processes_left_goes_without_a_limit(folder: Folder) -> None:
    """Folders without a job or of a finished one, unfinished bodies of yesterday, bodies that lost their object."""
    folder.job("done", 0)
    for name in ("done-0123456789ab", "stillborn-ba9876543210", ".unborn-0123456789ab"):
        (folder.home / "jobs" / name / "algo-1").mkdir(parents=True)
        (folder.home / "jobs" / name / "algo-1.lock").touch()
    yesterday = time.time() - 1.1 * DAY
    os.utime(folder.home / "jobs" / ".unborn-0123456789ab", (yesterday, yesterday))
    (folder.home / "incoming").mkdir(exist_ok=True)
    for name, moment in (("0" * 32, yesterday), ("1" * 32, time.time())):
        (folder.home / "incoming" / name).touch()
        os.utime(folder.home / "incoming" / name, (moment, moment))
    (folder.home / "objects" / "ff").mkdir(parents=True)
    (folder.home / "objects" / "ff" / "ff00").touch()
    with folder.objects.database.write() as connection:
        folder.objects.mark_garbage(connection, ["ff00"])
    foretold = folder.session.clean(dry_run=True)
    assert foretold.leftovers == 4
    assert folder.session.clean().leftovers == 5  # the bodies without an object are only known when they are removed
    assert not list((folder.home / "jobs").iterdir())
    assert [path.name for path in (folder.home / "incoming").iterdir()] == ["1" * 32]
    assert not (folder.home / "objects" / "ff" / "ff00").exists()


def test_folders_in_use_stay(folder: Folder) -> None:
    """A job that is just being created, one that runs, and one whose supervisor has yet to clear away."""
    with _running(folder, "running", 0):
        ending = HostLocks(folder.home / "jobs" / "ending-0123456789ab", 2)
        folder.job("ending", 0)
        creating = HostLocks(folder.home / "jobs" / "creating-0123456789ab", 1)
        (folder.home / "jobs" / ".locking-0123456789ab").mkdir()
        assert folder.session.clean(older_than=0).leftovers == 0
        assert len(list((folder.home / "jobs").iterdir())) == 4
        ending.close()
        creating.close()
        assert folder.session.clean().leftovers == 2


def test_what_is_not_the_engines_stays(folder: Folder) -> None:
    """The user's own files in the folder stay."""
    odd = ["notes.txt", "other.sqlite3", "jobs/notes.txt", "jobs/my-folder/x", "incoming/readme", "objects/readme"]
    for name in odd:
        path = folder.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        os.utime(path, (0, 0))
    os.utime(folder.home / "jobs" / "my-folder", (0, 0))
    folder.session.clean(older_than=0, larger_than=0)
    assert [(folder.home / name).read_text() for name in odd] == ["mine"] * len(odd)


def test_it_is_safe_beside_writers(folder: Folder) -> None:
    """While two processes put objects and log lines, cleaning by an age that none has takes nothing of them."""
    code = """
import pathlib, sys, time
from processing.local.stores.objects import ObjectStore
from processing.local.stores.logs import LogStore
home, me = pathlib.Path(sys.argv[1]), sys.argv[2]
for number in range(150):
    ObjectStore(home).put("data", f"{me}/{number}", b"new")
    LogStore(home).append("g", me, [(int(time.time() * 1000), str(number))])
"""
    for number in range(300):
        folder.put(f"old/{number}", 31)
    writers = [subprocess.Popen([sys.executable, "-c", code, str(folder.home), str(n)]) for n in range(2)]
    removed = 0
    while any(writer.poll() is None for writer in writers):
        removed += folder.session.clean(older_than="1d").objects
    assert [writer.returncode for writer in writers] == [0, 0]
    assert removed == 300
    assert len(folder.keys()) == 300
    assert all(record.path.read_bytes() == b"new" for record in folder.objects.iter_prefix("data"))
    assert [len(folder.logs.read("g", str(n)).events) for n in range(2)] == [150, 150]


def test_an_object_that_is_written_anew_meanwhile_stays(folder: Folder) -> None:
    """Age is looked at in the transaction that removes."""
    from processing.local.stores import expiry

    folder.put("a", 31)
    folder.put("b", 31)

    def written_just_now() -> list[tuple[str, bytes]]:
        return []

    old = list(expiry.old_objects(folder.objects, folder.now - DAY, written_just_now))
    folder.put("a", 0)
    removed = expiry.remove_objects(folder.objects, folder.now - DAY, written_just_now)
    assert len(old) == 2
    assert removed.number == 1
    assert folder.keys() == ["a"]


def test_a_file_of_an_earlier_kind_is_rewritten_once_it_is_a_quarter_empty(tmp_path: Path) -> None:
    """Files made before incremental vacuum was switched on get it by one VACUUM."""
    path = tmp_path / "db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (text TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?)", [("x" * 1000,)] * 1000)
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    give_space_back(path)
    size = path.stat().st_size
    assert size > 1_000_000
    with Database(path, ()).write() as connection:
        connection.execute("DELETE FROM rows WHERE rowid > 300")
    give_space_back(path)
    assert path.stat().st_size < size * 0.6
    with contextlib.closing(connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * DAY), ("12h", 43_200), ("1.5 h", 5400), ("90m", 5400), ("2w", 14 * DAY), ("0s", 0), (7, 7)],
)
def test_ages(text: Any, seconds: float) -> None:
    """A number and a unit, or seconds."""
    assert parse_age(text) == seconds


def test_a_timedelta_is_an_age() -> None:
    """A timedelta of Python."""
    assert parse_age(dt.timedelta(hours=1)) == 3600


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("500 MB", 5 * 10**8), ("2GiB", 2 << 30), ("1.5kb", 1500), ("0B", 0), (9, 9)]
)
def test_sizes(text: Any, size: int) -> None:
    """A number and a unit of a thousand or of 1024, or bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "30M", "-1d", "1e3s", "30 days", "٣d", "nan", "1_0d", " 1d", "30d\n", -1, True, None, "infd"],
)
def test_an_invalid_age_is_refused(text: Any) -> None:
    """The error has an example; "M" might mean months."""
    with pytest.raises(ConfigurationError, match=r"older_than: .* is not an age.* 30d"):
        parse_age(text)


@pytest.mark.parametrize("text", ["", "5", "GB", "-5GB", "5G", "5 G B", "5XB", "1e3B", -1, 1.5, True, None])
def test_an_invalid_size_is_refused(text: Any) -> None:
    """The error has an example."""
    with pytest.raises(ConfigurationError, match=r"larger_than: .* is not a size.* 5GB"):
        parse_size(text)


def _command(*arguments: str) -> tuple[int | str | None, str, str]:
    from processing.local.__main__ import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["clean", *arguments])
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def test_the_command_reports_its_removals(folder: Folder) -> None:
    """First in a dry run, then for real."""
    folder.job("a", 2)
    folder.put("x", 2, 100_000)
    folder.put("y", 2)
    arguments = ("--home", str(folder.home), "--older-than", "1d")
    code, said, _ = _command(*arguments, "--dry-run")
    assert (code, said.splitlines()[0]) == (0, "would remove 1 finished job, 2 objects")
    assert folder.keys() == ["x", "y"]
    code, said, _ = _command(*arguments)
    assert (code, said.splitlines()[0]) == (0, "removed 1 finished job, 2 objects")
    assert " KB freed, " in said
    assert folder.keys() == []
    assert _command(*arguments)[1].splitlines()[0] == "removed nothing"
    assert "still larger than 0 B: the rest is in use" in _command("--home", str(folder.home), "--larger-than", "0B")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--older-than", "soon"], "argument --older-than: 'soon' is not an age, such as 30d, 12h or 90m"),
        (["--larger-than", "5"], "argument --larger-than: '5' is not a size, such as 5GB, 500MB or 2GiB"),
        (["--oldest"], "unrecognized arguments: --oldest"),
        (["--home", "/dev/null"], "cannot keep its files in /dev/null"),
        (["--home", "not/there"], "--home: there is no folder not/there"),
    ],
)
def test_the_commands_options_are_taken_strictly(arguments: list[str], said: str) -> None:
    """An error is one line, and nothing is removed."""
    code, out, err = _command(*arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
