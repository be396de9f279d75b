"""The tables of jobs, hosts, SageMaker's other resources, tags and events: one database in the engine's folder."""

from __future__ import annotations

from pathlib import Path

from processing.local.stores import outbox
from processing.local.stores.database import Database

_JOBS = """CREATE TABLE {name} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    arn TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    modified REAL NOT NULL,
    failure_reason TEXT,
    exit_message TEXT,
    folder TEXT NOT NULL,
    request TEXT NOT NULL,
    plan TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'processing-job',
    state TEXT NOT NULL DEFAULT '{{}}',
    UNIQUE (kind, name)
)"""
_HOSTS = """CREATE TABLE hosts (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    process_group INTEGER,
    group_started TEXT,
    outcome TEXT,
    exit_code INTEGER,
    reason TEXT,
    exit_message TEXT,
    ended REAL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID"""
_INDEXES = (
    "CREATE INDEX jobs_by_status ON jobs (status, id)",
    "CREATE INDEX jobs_by_arn ON jobs (arn)",
    "CREATE INDEX jobs_by_creation_and_filters ON jobs (kind, created, id, modified, name, status)",
    "CREATE INDEX jobs_by_status_and_creation ON jobs (kind, status, created, id, modified, name)",
    "CREATE INDEX jobs_by_modification ON jobs (kind, modified, id)",
)
"""Indexes with all columns that List can filter by. Rows contain requests and are large, so List reads no row that it
skips."""
_RESOURCES = """CREATE TABLE resources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    arn TEXT NOT NULL UNIQUE,
    status TEXT,
    created REAL NOT NULL,
    modified REAL NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT '{}',
    UNIQUE (kind, name)
)"""
_TAGS = """CREATE TABLE tags (
    arn TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (arn, key)
)"""
_SCHEMA = (_JOBS.format(name="jobs"), *_INDEXES, _HOSTS, _TAGS, _RESOURCES, *outbox.SCHEMA)

_COLUMNS_OF_2 = (
    "id, name, arn, status, created, started, ended, modified, failure_reason, exit_message, folder, request, plan"
)
_TO_3 = (
    # A name was unique among all jobs, which only a new table can change. `hosts` refers to `jobs`, so it goes first.
    "CREATE TEMPORARY TABLE old_hosts AS SELECT * FROM hosts",
    _JOBS.format(name="new_jobs"),
    f"INSERT INTO new_jobs ({_COLUMNS_OF_2}) SELECT {_COLUMNS_OF_2} FROM jobs",  # noqa: S608 - constants
    "DELETE FROM sqlite_sequence WHERE name = 'new_jobs'",
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'new_jobs', seq FROM sqlite_sequence WHERE name = 'jobs'",
    "DROP TABLE hosts",
    "DROP TABLE jobs",
    "ALTER TABLE new_jobs RENAME TO jobs",
    *_INDEXES,
    _HOSTS,
    "INSERT INTO hosts SELECT * FROM old_hosts",
    "DROP TABLE old_hosts",
    _RESOURCES,
    *outbox.TO_3,
)
_INDEXES_OF_2 = (
    "CREATE INDEX jobs_by_creation_and_filters ON jobs (created, id, modified, name, status)",
    "CREATE INDEX jobs_by_status_and_creation ON jobs (status, created, id, modified, name)",
    "CREATE INDEX jobs_by_modification ON jobs (modified, id)",
)
_UPGRADES = {1: (*outbox.SCHEMA_OF_2, *_INDEXES_OF_2, "DROP INDEX jobs_by_creation"), 2: _TO_3}
VERSION = 3


def job_database(root: Path) -> Database:
    """Return the database of an engine's folder that has the jobs.

    Args:
        root: the engine's folder.
    """
    return Database(Path(root) / "jobs.sqlite3", _SCHEMA, VERSION, _UPGRADES)
