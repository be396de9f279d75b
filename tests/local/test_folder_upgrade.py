"""Folders of earlier versions: their databases are upgraded, and everything in them stays."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from processing.local.errors import ApiError
from processing.local.stores.job_kinds import TRAINING
from processing.local.stores.jobs import HostEnd, JobStore
from processing.local.stores.list_query import ListQuery
from processing.local.stores.tags import TagStore

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_000_000.0
COLUMNS = "id, name, arn, status, created, started, ended, modified, failure_reason, exit_message, folder"
JOBS = """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, arn TEXT NOT NULL, status TEXT NOT NULL,
        created REAL NOT NULL, started REAL, ended REAL, modified REAL NOT NULL, failure_reason TEXT,
        exit_message TEXT, folder TEXT NOT NULL, request TEXT NOT NULL, plan TEXT NOT NULL
    );
    CREATE INDEX jobs_by_status ON jobs (status, id);
    CREATE TABLE hosts (
        job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, number INTEGER NOT NULL, process_group INTEGER,
        group_started TEXT, outcome TEXT, exit_code INTEGER, reason TEXT, exit_message TEXT, ended REAL,
        PRIMARY KEY (job, number)
    ) WITHOUT ROWID;
    CREATE TABLE tags (arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key));
"""
SCHEMAS = {
    1: f"{JOBS} CREATE INDEX jobs_by_creation ON jobs (created, id);",
    2: f"""{JOBS}
    CREATE INDEX jobs_by_creation_and_filters ON jobs (created, id, modified, name, status);
    CREATE INDEX jobs_by_status_and_creation ON jobs (status, created, id, modified, name);
    CREATE INDEX jobs_by_modification ON jobs (modified, id);
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, time REAL NOT NULL, job TEXT NOT NULL,
        request TEXT NOT NULL
    );
    CREATE TABLE deliveries (
        sink TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (sink, event)
    ) WITHOUT ROWID;""",
}
"""The tables of the job database in earlier formats, which no later change of the package may alter."""


def _old_folder(folder: Path, version: int) -> sqlite3.Connection:
    """Make a folder of an earlier format, as its processes had it open, with a running job and a deleted one."""
    connection = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.executescript(f"{SCHEMAS[version]} PRAGMA user_version={version};")
    plan = json.dumps({"events": ["queue:q"]})
    for number, name in ((7, "old"), (9, "deleted")):
        connection.execute(
            "INSERT INTO jobs (id, name, arn, status, created, modified, folder, request, plan) "
            "VALUES (?, ?, ?, 'InProgress', ?, ?, ?, ?, ?)",
            (number, name, f"arn:{name}", NOW, NOW, f"jobs/{name}", json.dumps({"ProcessingJobName": name}), plan),
        )
        connection.executemany("INSERT INTO hosts (job, number) VALUES (?, ?)", [(number, 1), (number, 2)])
    connection.execute("DELETE FROM jobs WHERE name = 'deleted'")
    connection.execute("INSERT INTO tags VALUES ('arn:old', 'key', 'value')")
    if version == 2:
        row = connection.execute(f"SELECT {COLUMNS} FROM jobs").fetchone()
        values = (NOW, json.dumps(row), json.dumps({"ProcessingJobName": "old"}))
        connection.execute("INSERT INTO events (uuid, time, job, request) VALUES ('u', ?, ?, ?)", values)
        connection.execute("INSERT INTO deliveries VALUES ('queue:q', 1)")
    return connection


@pytest.mark.parametrize("version", SCHEMAS)
def test_the_jobs_of_an_earlier_format_stay(tmp_path: Path, version: int) -> None:
    """Job, hosts, tags and pending events are there, and the job ends as it would have ended before."""
    _old_folder(tmp_path, version).close()
    store = JobStore(tmp_path)
    job = store.get("old")
    assert (job.id, job.status, job.kind, job.folder) == (7, "InProgress", "processing-job", "jobs/old")
    assert store.list(ListQuery(), 10) == ([job], None)
    assert TagStore(tmp_path).tags("arn:old") == {"key": "value"}
    assert [host.outcome for host in store.hosts(7)] == [None, None]
    for number in (1, 2):
        store.record_host_end(7, number, HostEnd("completed"), NOW)
    expected = ["Completed"] if version == 1 else ["InProgress", "Completed"]
    changes = store.outbox.transitions_after(0)
    assert [change.job[3] for change in changes] == expected
    assert {tuple(change.job[11:]) for change in changes} == {("processing-job", "{}")}
    assert store.outbox.pending_sinks() == ["queue:q"]


def test_names_are_unique_per_kind_after_the_upgrade(tmp_path: Path) -> None:
    """A training job may have the name of a processing job. Numbers of deleted jobs are not used again."""
    _old_folder(tmp_path, 2).close()
    request = {"TrainingJobName": "old", "ProcessingJobName": "old"}
    options = {"arn": "arn:t", "folder": "jobs/t", "plan": {}, "hosts": 1, "tags": {}, "now": NOW}
    assert JobStore(tmp_path, TRAINING).create(request, **options).id == 10  # type: ignore[arg-type]
    for kind in ({}, {"kind": TRAINING}):
        with pytest.raises(ApiError, match="ResourceInUse"):
            JobStore(tmp_path, **kind).create(request, **options)  # type: ignore[arg-type]


def test_a_supervisor_of_the_version_before_goes_on(tmp_path: Path) -> None:
    """Its statements work on the upgraded tables: it records the start and the end of its host, and a new job."""
    connection = _old_folder(tmp_path, 2)
    new = JobStore(tmp_path)
    new.check()
    connection.execute("UPDATE hosts SET process_group = 5, group_started = 's' WHERE job = 7 AND number = 1")
    connection.execute("UPDATE hosts SET outcome = 'completed', ended = ? WHERE job = 7 AND number = 1", (NOW,))
    connection.execute("UPDATE jobs SET started = ?, status = 'Stopping', modified = ? WHERE id = 7", (NOW, NOW + 1))
    row = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE name = 'old'").fetchone()
    values = (NOW, json.dumps(row), "{}")
    connection.execute("INSERT INTO events (uuid, time, job, request) VALUES ('v', ?, ?, ?)", values)
    connection.execute(
        "INSERT INTO jobs (name, arn, status, created, modified, folder, request, plan) "
        "VALUES ('late', 'arn:late', 'InProgress', ?, ?, 'jobs/late', '{}', '{}')",
        (NOW, NOW),
    )
    connection.close()
    assert (new.get("old").status, new.get("old").started) == ("Stopping", NOW)
    assert [host.outcome for host in new.hosts(7)] == ["completed", None]
    assert new.get("late").kind == "processing-job"
    assert [tuple(change.job[:4]) for change in new.outbox.transitions_after(1)] == [(7, "old", "arn:old", "Stopping")]
