"""The database helper: many processes, forks and kills."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from processing import EngineError
from processing.local.stores import fork_gate
from processing.local.stores.database import Database, _write_locks

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = ("CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL)", "INSERT INTO counts VALUES ('n', 0)")

MANY_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # since Python 3.12


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
    """Eight processes open a database that does not exist yet. No update is lost and none fails."""
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


@MANY_THREADS
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
    """A process that is killed inside a transaction delays no other process and leaves no trace."""
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
    """This includes exceptions like Ctrl-C. The connection is used again."""
    database = Database(tmp_path / "db", SCHEMA)

    def interrupted() -> None:
        with database.write() as connection:
            connection.execute("UPDATE counts SET value = 5")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert value_of(database) == 0
    assert len(database._idle) == 1


UPGRADED = (
    "CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL, unit TEXT)",
    "INSERT INTO counts VALUES ('n', 0, '')",
)
UPGRADES = {1: ("ALTER TABLE counts ADD COLUMN unit TEXT",)}


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """The error names the folder, both versions and what to do; nothing is changed, and it is raised every time."""
    value_of(Database(tmp_path / "db", UPGRADED, version=2, upgrades=UPGRADES))
    old = Database(tmp_path / "db", SCHEMA)
    for attempt in (old.check, lambda: value_of(old), lambda: count(tmp_path / "db")):
        with pytest.raises(EngineError) as caught:
            attempt()
        said = str(caught.value)
        assert f"folder {tmp_path} was written by a newer version of sm-processing" in said
        assert "db has format 2, and this version knows formats up to 1" in said
        assert "Upgrade the package" in said
        assert "use another folder" in said
    assert value_of(Database(tmp_path / "db", UPGRADED, version=2, upgrades=UPGRADES)) == 0


def test_an_older_version_is_upgraded_step_by_step(tmp_path: Path) -> None:
    """Every upgrade between the two versions runs, in order, and the stored rows stay."""
    count(tmp_path / "db", 3)
    steps = {1: ("ALTER TABLE counts ADD COLUMN unit TEXT",), 2: ("UPDATE counts SET unit = 'apples'",)}
    new = Database(tmp_path / "db", UPGRADED, version=3, upgrades=steps)
    with new.read() as connection:
        assert connection.execute("SELECT value, unit FROM counts").fetchall() == [(3, "apples")]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    """All of its statements are one transaction."""
    count(tmp_path / "db")
    steps = {1: ("ALTER TABLE counts ADD COLUMN unit TEXT", "INSERT INTO nowhere VALUES (1)")}
    with pytest.raises(EngineError, match="nowhere"):
        Database(tmp_path / "db", UPGRADED, version=2, upgrades=steps).check()
    count(tmp_path / "db")
    with Database(tmp_path / "db", SCHEMA).read() as connection:
        assert connection.execute("SELECT * FROM counts").fetchall() == [("n", 2)]


def test_a_version_without_a_way_up_is_refused(tmp_path: Path) -> None:
    """The oldest versions may not be upgraded for ever; then the error says what can be."""
    count(tmp_path / "db")
    with pytest.raises(EngineError, match=r"too old: db has format 1, and .* can only upgrade formats from 2 on"):
        Database(tmp_path / "db", UPGRADED, version=3, upgrades={2: ()}).check()


def test_processes_that_upgrade_it_at_once_do_it_once(tmp_path: Path) -> None:
    """A second ALTER TABLE would fail: of eight processes one upgrades, and all find the new version."""
    count(tmp_path / "db")
    code = f"""
import pathlib, sys
from processing.local.stores.database import Database
sys.stdin.readline()
Database(pathlib.Path(sys.argv[1]), {UPGRADED!r}, version=2, upgrades={UPGRADES!r}).check()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "db")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(8)]
    for process in processes:  # all are started before the first may begin
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in processes] == [0] * 8
    assert value_of(Database(tmp_path / "db", UPGRADED, version=2)) == 1


def test_one_that_is_open_already_goes_on_after_an_upgrade(tmp_path: Path) -> None:
    """The supervisor of a running job does not notice an upgrade by a newer version of the package."""
    old = Database(tmp_path / "db", SCHEMA)
    assert value_of(old) == 0
    Database(tmp_path / "db", UPGRADED, version=2, upgrades=UPGRADES).check()
    with old.write() as connection:
        connection.execute("UPDATE counts SET value = value + 1")
    assert value_of(old) == 1


@MANY_THREADS
def test_a_fork_in_the_middle_of_a_write_hands_no_lock_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that holds the lock does not exist in the child, which writes as soon as SQLite allows it."""
    monkeypatch.setattr(fork_gate, "_PATIENCE", 0.1)
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write():
            inside.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        with database._write_lock():
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    holder.join()


def test_writers_of_one_process_wait_without_sleeping(tmp_path: Path) -> None:
    """While one thread writes, the next one waits for the lock and has no connection yet."""
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    again = Database(tmp_path / "db", SCHEMA)
    with database.write():
        assert not _write_locks[str(database.path)].acquire(blocking=False)
        waiting = threading.Thread(target=count, args=(tmp_path / "db",))
        waiting.start()
        assert value_of(again) == 0  # reading needs no turn
    waiting.join()
    assert value_of(again) == 1


def test_a_folder_that_is_removed_while_in_use_is_an_error(tmp_path: Path) -> None:
    """The error is not "unable to open database file"."""
    (tmp_path / "engine").mkdir()
    database = Database(tmp_path / "engine" / "db", SCHEMA)
    value_of(database)
    database.close()
    shutil.rmtree(tmp_path / "engine")
    with pytest.raises(EngineError, match=r"folder .*engine is gone: it was removed"):
        value_of(database)


def test_a_connection_in_use_does_not_outlive_its_file(tmp_path: Path) -> None:
    """After the file is replaced within a transaction, every later write is in the new file."""
    database = Database(tmp_path / "db", SCHEMA)
    with database.read():
        for path in tmp_path.iterdir():
            path.unlink()
        count(tmp_path / "db")
        assert value_of(database) == 1
    with database.write() as connection:
        connection.execute("UPDATE counts SET value = 2")
    assert value_of(Database(tmp_path / "db", SCHEMA)) == 2


def test_a_file_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    """The error names the folder and the file."""
    database = Database(tmp_path / "db", SCHEMA)
    with database.read() as connection:
        connection.execute("PRAGMA query_only=ON")  # root may write every file: SQLite says the same then
    with (
        pytest.raises(EngineError, match=r"cannot use db in its folder .*cannot be written to .*readonly database"),
        database.write() as it,
    ):
        it.execute("UPDATE counts SET value = 1")


def test_deleted_rows_give_their_space_back_in_steps(tmp_path: Path) -> None:
    """New files are made for SQLite's incremental vacuum, which needs no second copy of them."""
    with Database(tmp_path / "db", SCHEMA).read() as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_closing_is_not_the_end(tmp_path: Path) -> None:
    """After `close` the next use opens the file again."""
    database = Database(tmp_path / "db", SCHEMA)
    value_of(database)
    database.close()
    assert not (tmp_path / "db-wal").exists()
    assert value_of(database) == 0
