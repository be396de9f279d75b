"""Damaged files in the engine's folder: an error of the engine names the file, the folder and the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from processing import EngineError, JobFailedError, LocalSession, ProcessingOutput, ScriptProcessor
from processing.doctor import findings
from processing.local.credentials import install_credentials
from processing.local.errors import ApiError, file_error
from processing.local.folder_check import DATABASES
from processing.local.stores import database_errors
from processing.local.stores.jobs import JobStore
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST_CALLS = {
    "jobs": ("sagemaker", "list_processing_jobs"),
    "objects": ("s3", "list_buckets"),
    "logs": ("logs", "describe_log_groups"),
    "metrics": ("cloudwatch", "list_metrics"),
    "queues": ("sqs", "list_queues"),
}


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 80)


def text(path: Path) -> None:
    path.write_text("jobs\n")


def truncated(path: Path) -> None:
    os.truncate(path, 5000)


def headless(path: Path) -> None:
    os.truncate(path, 60)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def wal_directory(path: Path) -> None:
    path.with_name(f"{path.name}-wal").mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere/at/all")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in ("jobs", "buckets", "groups", "metrics", "queues"):
            connection.execute(f"CREATE TABLE {name} (x)")


def tableless(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={version}")


DAMAGES = (garbage, text, truncated, headless, directory, wal_directory, dangling, pipe, foreign, tableless)


@pytest.fixture(scope="module")
def used_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every database was used, with an empty write-ahead log."""
    home = tmp_path_factory.mktemp("used") / "engine"
    session = LocalSession(home)
    for service, method in FIRST_CALLS.values():
        getattr(session.boto_session.client(service), method)()
    for path in home.glob("*.sqlite3"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home


@pytest.fixture
def home(used_folder: Path, tmp_path: Path) -> Path:
    """A folder that was in use, and that no process has open."""
    ignored = shutil.ignore_patterns("*-wal", "*-shm")
    home: Path = shutil.copytree(used_folder, tmp_path / "engine", ignore=ignored)
    home.chmod(0o700)
    return home


def processor(home: Path, script: Path, **settings: Any) -> ScriptProcessor:
    """A processor of the folder, and its script."""
    script.write_text("print('it ran')")
    session = LocalSession(home, tick=0.01, **settings)
    return ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )


@pytest.fixture
def client_of() -> Iterator[Callable[[Server, str], Any]]:
    """Makes boto3 clients of a server; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(server: Server, service: str) -> Any:
            environment = server.environment()
            client = boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=server.endpoint,
                region_name=environment["AWS_REGION"],
                aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            )
            stack.callback(client.close)
            return client

        yield make


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_an_error_of_the_engine(
    home: Path,
    name: str,
    damage: Callable[[Path], None],
    client_of: Callable[[Server, str], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client in process and one of a server receive the folder, the file and the remedy."""
    damage(home / f"{name}.sqlite3")
    service, method = FIRST_CALLS[name]
    expected = rf"cannot use {name}\.sqlite3(-wal)? in its folder {home}: .*(Move|move|Remove) .*use another folder"
    with pytest.raises(EngineError, match=expected):
        getattr(LocalSession(home).boto_session.client(service), method)()
    with Server(LocalSession(home).engine) as server, pytest.raises(ClientError, match=expected) as caught:
        getattr(client_of(server, service), method)()
    answer: Any = caught.value.response
    assert answer["Error"]["Code"] == "LocalEngineUnusable"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 507
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each not in {foreign, tableless}])
@pytest.mark.parametrize("name", DATABASES)
def test_the_doctor_finds_a_damaged_database(
    home: Path, name: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a problem with the same words. The folder stays as it is."""
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(home))
    (fine,) = (each for each in findings(home) if each.topic == "engine's folder")
    assert (fine.severity, fine.text) == ("ok", str(home))
    damage(home / f"{name}.sqlite3")
    before = sorted(path.name for path in home.iterdir())
    (problem,) = (each for each in findings(home) if each.topic == "engine's folder")
    assert problem.severity == "problem"
    assert f"cannot use {name}.sqlite3" in problem.text
    assert f"in its folder {home}: " in problem.text
    assert sorted(path.name for path in home.iterdir()) == before


def test_the_doctor_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds a folder that is not one, too."""
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    (finding,) = (each for each in findings(tmp_path) if each.topic == "engine's folder")
    assert finding.severity == "ok"
    assert not (tmp_path / "engine").exists()
    (tmp_path / "engine").touch()
    (finding,) = (each for each in findings(tmp_path) if each.topic == "engine's folder")
    assert (finding.severity, "it is not a folder" in finding.text) == ("problem", True)


@pytest.mark.parametrize("name", ["jobs", "objects", "logs", "metrics"])
def test_a_run_finds_a_damaged_database_before_an_upload(home: Path, tmp_path: Path, name: str) -> None:
    """`run` and the two commands end with the same error, in one line."""
    garbage(home / f"{name}.sqlite3")
    with pytest.raises(EngineError, match=rf"cannot use {name}\.sqlite3 in its folder"):
        processor(home, tmp_path / "script.py").run(str(tmp_path / "script.py"))
    assert not any(path.is_file() for path in (home / "objects").rglob("*"))
    for command in ("clean", "serve"):
        done = subprocess.run(
            [sys.executable, "-m", "processing.local", command, "--home", str(home)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        assert f"error: the engine cannot use {name}.sqlite3 in its folder {home}" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_cleaning_names_a_damaged_queue_database(home: Path) -> None:
    """Only the removal of old data opens it without a client."""
    garbage(home / "queues.sqlite3")
    with pytest.raises(EngineError, match=r"cannot use queues\.sqlite3"):
        LocalSession(home).clean()


def test_a_database_that_is_moved_away_begins_anew(home: Path) -> None:
    """The remedy of the error works, and other databases keep their content."""
    LocalSession(home).engine.logs.append("g", "s", [(1, "kept")])
    garbage(home / "objects.sqlite3")
    for path in home.glob("objects.sqlite3*"):
        path.unlink()
    engine = LocalSession(home).engine
    assert engine.objects.list_buckets() == []
    assert [event.message for event in engine.logs.filter("g")[0]] == ["kept"]


def test_an_emptied_database_begins_anew_with_a_warning(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new, empty file may be that of another process that creates it, so only an old one is reported."""
    for seconds in (None, (0, 0)):
        again = shutil.copytree(home, home.with_name(f"engine-{seconds}"))
        path = again / "jobs.sqlite3"
        path.write_bytes(b"")
        os.utime(path, seconds)
        client = LocalSession(again).boto_session.client("sagemaker")
        assert client.list_processing_jobs()["ProcessingJobSummaries"] == []
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} was an empty file: the engine begins a new one."
    ]


def test_damage_deep_in_a_database_is_an_error_of_each_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file opens, and a later page is garbage: reading, writing, cleaning and the doctor report it."""
    engine = LocalSession(home).engine
    for number in range(300):
        engine.logs.append("g", f"s{number}", [(1, "x" * 500)])
    engine.logs._database.close()
    with (home / "logs.sqlite3").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * ((home / "logs.sqlite3").stat().st_size - 3 * 4096))
    engine = LocalSession(home).engine
    attempts: tuple[Callable[[], object], ...] = (
        lambda: engine.logs.filter("g"),
        lambda: engine.logs.append("g", "s1", [(1, "x")]),
        lambda: engine.clean(older_than=0),
    )
    for attempt in attempts:
        with pytest.raises(EngineError, match=r"cannot use logs\.sqlite3 .*it is damaged \(database disk image is mal"):
            attempt()
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(home))
    assert any("logs.sqlite3" in each.text for each in findings(home) if each.severity == "problem")


@pytest.mark.parametrize("name", ["objects", "logs"])
def test_a_job_fails_with_the_reason_if_a_database_is_damaged_meanwhile(home: Path, tmp_path: Path, name: str) -> None:
    """Its supervisor names the folder and the file in the job's FailureReason."""
    making = processor(home, tmp_path / "script.py", sandbox="rewriting")  # another one hides the engine's folder
    (tmp_path / "script.py").write_text(
        f"import pathlib\nfor path in pathlib.Path({str(home)!r}).glob('{name}.sqlite3*'):\n    path.unlink()\n"
        f"import sys\npathlib.Path(sys.argv[1], 'x').touch()\n"
        f"pathlib.Path({str(home)!r}, '{name}.sqlite3').mkdir()\nprint('a line')\n"
    )
    job = making.run(
        str(tmp_path / "script.py"),
        outputs=[ProcessingOutput("/opt/ml/processing/o")],
        arguments=["/opt/ml/processing/o"],
        wait=False,
    )
    with pytest.raises(JobFailedError, match=rf"cannot use {name}\.sqlite3 in its folder {home}: it is a directory"):
        job.wait(logs=False)


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "{}", '{"access_key": 5, "secret_key": "x"}', '{"access_key": "", "secret_key": ""}', b"\xff"],
)
def test_damaged_keys_are_an_error_of_the_engine(home: Path, damaged: str | bytes) -> None:
    """Making new ones in silence would lock out the clients that have the old ones."""
    install_credentials(home)
    (home / "credentials.json").write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(EngineError, match=rf"cannot use credentials\.json in its folder {home}: .*Remove it"):
        Server(LocalSession(home).engine)
    command = [sys.executable, "-m", "processing.local", "serve", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    (home / "credentials.json").unlink()
    assert install_credentials(home).keys.access_key.startswith("AKIA")


@pytest.mark.parametrize("name", ["credentials.json", "server.log"])
def test_a_directory_in_place_of_a_file_stops_the_server(home: Path, name: str) -> None:
    """One line names the folder, the file and the remedy."""
    (home / name).mkdir()
    command = [sys.executable, "-m", "processing.local", "serve", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    expected = f"error: the engine cannot use {name} in its folder {home}: Is a directory. Move {home / name} out"
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["jobs", "objects", "incoming"])
def test_a_file_in_place_of_a_folder_is_an_error_before_an_upload(
    home: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run`, an operation of boto3 and the doctor name it."""
    making = processor(home, tmp_path / "script.py")
    request = making.request(str(tmp_path / "script.py")).to_boto()
    with contextlib.suppress(OSError):
        (home / name).rmdir()
    (home / name).touch()
    expected = rf"cannot use {name}.* in its folder {home}: .*Move {home / name} out of the folder"
    with pytest.raises(EngineError, match=expected):
        making.run(str(tmp_path / "script.py"))
    clients = LocalSession(home).boto_session
    clients.client("s3").create_bucket(Bucket="data")

    def call() -> object:
        if name == "jobs":
            return clients.client("sagemaker").create_processing_job(**request)
        return clients.client("s3").put_object(Bucket="data", Key="k", Body=b"x")

    with pytest.raises(EngineError, match=expected):
        call()
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(home))
    assert any(f"cannot use {name} in" in each.text for each in findings(home) if each.severity == "problem")


@pytest.mark.parametrize("damage", ["removed", "replaced", "lock"])
def test_a_damaged_folder_of_a_job_fails_that_job_alone(home: Path, tmp_path: Path, damage: str) -> None:
    """Its supervisor is gone. The list of jobs and its status are answered all the same."""
    making = processor(home, tmp_path / "script.py")
    session = making.sagemaker_session
    folder = home / "jobs" / "a-0123456789ab"
    request = making.request(str(tmp_path / "script.py"), job_name="a").to_boto()
    JobStore(home).create(request, arn="arn:x", folder="jobs/a-0123456789ab", plan={}, hosts=1, tags={}, now=1.0)
    if damage == "replaced":
        folder.parent.mkdir(exist_ok=True)
        folder.touch()
    elif damage == "lock":
        (folder / "algo-1.lock").mkdir(parents=True)
    client = session.boto_session.client("sagemaker")
    assert [each["ProcessingJobName"] for each in client.list_processing_jobs()["ProcessingJobSummaries"]] == ["a"]
    ended = client.describe_processing_job(ProcessingJobName="a")
    assert (ended["ProcessingJobStatus"], "is gone" in ended["FailureReason"]) == ("Failed", True)


def test_files_without_rights_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the mode and the command that gives the rights back. Root may read every file."""
    path = home / "jobs.sqlite3"
    path.chmod(0)
    error = sqlite3.OperationalError("unable to open database file")
    monkeypatch.setattr(os, "access", lambda place, _: place != path)
    explained = database_errors.explain_error(path, error)
    assert isinstance(explained, EngineError)
    assert f"cannot use jobs.sqlite3 in its folder {home}: your user may not read it (its mode is 0000). " in str(
        explained
    )
    assert f"chmod u+rw {path}" in str(explained)
    monkeypatch.setattr(os, "access", lambda place, _: place != home / "objects")
    (home / "objects").mkdir(exist_ok=True)
    with pytest.raises(EngineError, match=r"cannot use objects in .*: your user may not use it .*chmod -R u\+rwX"):
        LocalSession(home).engine.check()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "Permission denied. Give your user its rights back (chmod -R u+rwX "),
        (errno.EROFS, "Read-only file system. Mount its file system writable"),
        (errno.ENOENT, "No such file or directory. It was removed or moved while it was in use"),
        (errno.EIO, "Input/output error. Repair the disk"),
    ],
)
def test_errors_of_the_system_name_the_remedy(home: Path, number: int, expected: str) -> None:
    """Only those about files in the folder. They can be pickled."""
    error = OSError(number, os.strerror(number), str(home / "jobs" / "x"))
    explained = file_error(home, error)
    assert isinstance(explained, EngineError)
    assert f"the engine cannot use jobs/x in its folder {home}: {expected}" in str(explained)
    assert str(pickle.loads(pickle.dumps(explained))) == str(explained)
    assert file_error(home / "other", error) is None
    assert file_error(home, OSError(number, "x")) is None


def test_a_locked_database_is_a_passing_error(home: Path) -> None:
    """Clients may try again: the status is 503. The message names the file."""
    error = database_errors.explain_error(home / "jobs.sqlite3", sqlite3.OperationalError("database is locked"))
    assert isinstance(error, ApiError)
    assert (error.code, error.status) == ("ServiceUnavailable", 503)
    assert f"jobs.sqlite3 in the local engine's folder {home} locked" in error.message
