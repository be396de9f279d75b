"""The database helper: many processes, forks and kills."""

from __future__ import annotations

import inspect
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from processing.local.stores.database import Database

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = ("CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)", "INSERT INTO counts VALUES ('n', 0)")


def count(path: Path, times: int = 1) -> None:
    """Read, then write: wrong if two do it at once."""
    database = Database(path, SCHEMA)
    for _ in range(times):
        with database.write() as connection:
            (value,) = connection.execute("SELECT value FROM counts").fetchone()
            connection.execute("UPDATE counts SET value = ?", (value + 1,))


def value_of(database: Database) -> int:
    """The number that is stored."""
    with database.read() as connection:
        (value,) = connection.execute("SELECT value FROM counts").fetchone()
    return int(value)


def test_processes_that_create_it_at_once_share_one(tmp_path: Path) -> None:
    """Eight processes open a database that does not exist yet; no update is lost and nobody fails."""
    # A process of its own imports the package alone: the tests are not on its path.
    code = f"""
import pathlib, sys
from processing.local.stores.database import Database
{inspect.getsource(count)}
SCHEMA = {SCHEMA!r}
count(pathlib.Path(sys.argv[1]), 25)
"""
    code = "from __future__ import annotations\n" + code
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "db")]) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert value_of(Database(tmp_path / "db", SCHEMA)) == 200


def test_threads_take_turns(tmp_path: Path) -> None:
    """One object serves any number of threads."""
    database = Database(tmp_path / "db", SCHEMA)

    def add(_: int) -> None:
        with database.write() as connection:
            (value,) = connection.execute("SELECT value FROM counts").fetchone()
            connection.execute("UPDATE counts SET value = ?", (value + 1,))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(100)))
    assert value_of(database) == 100
    assert len(database._idle) <= 16


def test_a_forked_child_opens_its_own_connection(tmp_path: Path) -> None:
    """SQLite's connections must not cross a fork: the child leaves those of its parent alone, open ones too."""
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    with database.read() as outer:
        outer.execute("SELECT * FROM counts").fetchall()
        child = os.fork()
        if child == 0:
            with database.write() as connection:
                connection.execute("UPDATE counts SET value = 7")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert outer.execute("SELECT value FROM counts").fetchone() == (0,)  # the state that it began with
    assert value_of(database) == 7


def test_a_killed_writer_changes_nothing(tmp_path: Path) -> None:
    """A process that is killed inside a transaction holds nobody up and leaves no trace."""
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    code = """
import os, sys, sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE counts SET value = 99")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "db")], check=False).returncode == -9
    count(tmp_path / "db")
    assert value_of(database) == 1


def test_an_exception_rolls_back(tmp_path: Path) -> None:
    """Also one that is no Exception, such as Ctrl-C; the connection is used again."""
    database = Database(tmp_path / "db", SCHEMA)

    def interrupted() -> None:
        with database.write() as connection:
            connection.execute("UPDATE counts SET value = 5")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert value_of(database) == 0
    assert len(database._idle) == 1


def test_another_version_is_refused(tmp_path: Path) -> None:
    """The error says what to do, and nothing is changed."""
    value_of(Database(tmp_path / "db", SCHEMA))
    with pytest.raises(sqlite3.DatabaseError, match="move it away"):
        value_of(Database(tmp_path / "db", SCHEMA, version=2))


def test_closing_is_not_the_end(tmp_path: Path) -> None:
    """After `close` the next use opens the file again."""
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    database.close()
    assert not (tmp_path / "db-wal").exists()
    assert value_of(database) == 0
