"""The engine's folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from processing import EngineError, LocalSession, ScriptProcessor
from processing.local.file_trees import remove_tree
from processing.local.home import engine_home
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from pathlib import Path


def test_the_folder_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the environment is made with its parents, and other users cannot read it."""
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "a" / "engine"))
    assert engine_home() == tmp_path / "a" / "engine"
    assert stat.S_IMODE(engine_home().stat().st_mode) == 0o700


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    """A path that cannot be a folder is an EngineError with its name and the remedy."""
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "engine"):
        with pytest.raises(EngineError, match=r"cannot keep its files in .*file.*LocalSession\(home\)"):
            LocalSession(home)


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without the right to write is found when the session is made, not in the middle of a job."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(EngineError, match="it cannot be written to"):
        LocalSession(tmp_path / "engine")


def test_another_users_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two users of one folder, the second one's error names the owner."""
    home = tmp_path / "engine"
    LocalSession(home)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EngineError, match=rf"it belongs to another user \({pwd.getpwuid(os.getuid()).pw_name}\)"):
        LocalSession(home)


@pytest.mark.parametrize("filled", [False, True])
def test_root_refuses_another_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: bool) -> None:
    """Root may write to it, but would lock its owner out. Nothing in the folder changes."""
    (home := tmp_path / "engine").mkdir()
    if filled:
        (home / "file").write_text("x")
    home.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(home, 12345, 12345)
        owner = "number 12345"
    else:
        owner = pwd.getpwuid(os.getuid()).pw_name
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EngineError, match=rf"it belongs to another user \({owner}\). Run as that user"):
        LocalSession(home)
    assert home.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in home.iterdir()] == (["file"] if filled else [])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file system of its own")
def test_a_read_only_file_system_is_an_error(tmp_path: Path) -> None:
    """A folder in use whose file system was mounted read-only is an error of new sessions, at once."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    code = (
        "import sys, processing\n"
        "try:\n    processing.LocalSession(sys.argv[1])\n"
        "except processing.EngineError as error:\n    print(error)\n"
    )
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1"'
    said = _in_own_mounts(mount, str(home), sys.executable, code)
    assert f"cannot keep its files in {home}: its file system is mounted read-only" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file system of its own")
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """If not even a folder can be made, the session raises an error."""
    code = (
        "import pathlib, sys, processing\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "try:\n    for n in range(1000):\n        processing.LocalSession(place / str(n))\n"
        "except processing.EngineError as error:\n    print(error)\n"
    )
    mount = 'mount -t tmpfs -o nr_inodes=20 none "$1" && exec "$2" -c "$3" "$1"'
    said = _in_own_mounts(mount, str(tmp_path), sys.executable, code)
    assert f"cannot keep its files in {tmp_path}" in said
    assert "No space left on device" in said


def _in_own_mounts(script: str, *arguments: str) -> str:
    """Run a shell script in a mount namespace of its own."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "-m"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    command = [*unshare, "sh", "-c", script, "sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_empty_folder_becomes_the_owners_alone(tmp_path: Path) -> None:
    """A folder that was made beforehand, for example by a deployment, is treated like a new one."""
    home = tmp_path / "engine"
    home.mkdir()
    home.chmod(0o777)
    LocalSession(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could replace the code of jobs; the engine does not change rights of existing files unasked."""
    home = tmp_path / "shared"
    (home / "something").mkdir(parents=True)
    home.chmod(mode)
    with pytest.raises(EngineError, match=rf"other users may write to it \(its mode is {mode:04o}\).*chmod go-w"):
        LocalSession(home)
    assert stat.S_IMODE(home.stat().st_mode) == mode


def test_a_folder_that_others_may_read_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning is logged once."""
    (tmp_path / "project" / "something").mkdir(parents=True)
    (tmp_path / "project").chmod(0o755)
    for _ in range(2):
        LocalSession(tmp_path / "project")
    (said,) = [record.getMessage() for record in caplog.records if "may read" in record.getMessage()]
    assert f"folder {tmp_path / 'project'} (its mode is 0755)" in said


@pytest.mark.parametrize("home", ["~nobody-of-that-name/x", "a\0b", "x/" + "y" * 300, "x/" + "yyyyyyy/" * 80])
def test_an_impossible_path_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Users that do not exist, zero bytes, names and paths that are too long: an EngineError each."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="cannot keep its files in"):
        LocalSession(home)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run under a number only."""
    for name in ("PROCESSING_LOCAL_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(EngineError, match="PROCESSING_LOCAL_HOME"):
        LocalSession()


def test_a_relative_data_folder_of_the_environment_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The XDG standard requires it: otherwise every working directory had an engine of its own."""
    monkeypatch.delenv("PROCESSING_LOCAL_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert engine_home() == tmp_path / ".local" / "share" / "sm-processing"


@pytest.mark.parametrize("name", [" ün ï", "a\nb", "q'\"$%?#:*;&|\\", os.fsdecode(b"\xff\xfe"), "-x", "{a},[b]"])
def test_jobs_run_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """Blanks, line breaks, quotes, bytes that are no text: the folder's name reaches every part in one piece."""
    script = tmp_path / "script.py"
    script.write_text("print('it ran')")
    session = LocalSession(tmp_path / name, tick=0.01)
    processor = ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )
    job = processor.run(str(script), logs=False)
    assert [event.message for event in job.logs()] == ["it ran"]


@pytest.mark.parametrize("name", ["jobs", "objects", "logs"])
def test_a_newer_versions_folder_is_refused_before_anything_is_uploaded(tmp_path: Path, name: str) -> None:
    """For each of its files, `run` raises while the folder is unchanged."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with contextlib.closing(sqlite3.connect(home / f"{name}.sqlite3")) as connection:
        connection.execute("PRAGMA user_version=99")
    script = tmp_path / "script.py"
    script.touch()
    session = LocalSession(home)
    processor = ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )
    with pytest.raises(EngineError, match=rf"newer version of sm-processing: {name}.sqlite3 has format 99"):
        processor.run(str(script))
    assert not any(path.is_file() for path in (home / "objects").rglob("*"))


def test_every_client_in_this_process_gets_the_error_of_a_newer_version(tmp_path: Path) -> None:
    """It is not a service's answer, so no client retries."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with contextlib.closing(sqlite3.connect(home / "objects.sqlite3")) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(EngineError, match="newer version"):
        LocalSession(home).boto_session.client("s3").list_buckets()


def test_clients_of_a_server_are_told_of_a_newer_version_once(tmp_path: Path) -> None:
    """An error answer with the same words, of a status that no client tries again; the server goes on."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with Server(LocalSession(home).engine) as server:
        with contextlib.closing(sqlite3.connect(home / "jobs.sqlite3")) as connection:
            connection.execute("PRAGMA user_version=99")
        client = _client(server, "sagemaker")
        with pytest.raises(ClientError, match=r"newer version of sm-processing: jobs\.sqlite3 has") as caught:
            client.list_processing_jobs()
        answer: Any = caught.value.response
        assert answer["Error"]["Code"] == "LocalEngineUnusable"
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 507
        assert answer["ResponseMetadata"]["RetryAttempts"] == 0
        assert _client(server, "s3").list_buckets()["Buckets"] == []


def _client(server: Server, service: str) -> Any:
    environment = server.environment()
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=server.endpoint,
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def test_the_server_does_not_start_over_a_newer_versions_folder(tmp_path: Path) -> None:
    """One line, and exit code 2."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with contextlib.closing(sqlite3.connect(home / "logs.sqlite3")) as connection:
        connection.execute("PRAGMA user_version=99")
    command = [sys.executable, "-m", "processing.local", "serve", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "newer version of sm-processing: logs.sqlite3 has format 99" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_removed_while_in_use_is_an_error(tmp_path: Path) -> None:
    """Any operation on an open engine fails: nothing is written to files that no process would ever read."""
    home = tmp_path / "engine"
    session = LocalSession(home)
    objects, logs = session.engine.objects, session.engine.logs
    objects.create_bucket("data")
    objects.put("data", "k", b"x")
    logs.append("g", "s", [(1, "x")])
    script = tmp_path / "script.py"
    script.touch()
    processor = ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )
    processor.run(str(script), logs=False)
    request = processor.request(str(script)).to_boto()
    remove_tree(home)  # the job's supervisor may be putting its own files away at the same time
    for attempt in (
        lambda: objects.put("data", "k", b"x"),
        lambda: objects.get("data", "k"),
        lambda: logs.append("g", "s", [(1, "x")]),
        lambda: session.engine.handle("sagemaker", "ListProcessingJobs", {}),
        lambda: session.engine.handle("sagemaker", "CreateProcessingJob", request),
    ):
        with pytest.raises(
            EngineError, match=f"the engine's folder {home} is gone: it was removed while it was in use"
        ):
            attempt()
    assert not home.exists()


def test_a_folder_that_was_removed_can_be_begun_anew(tmp_path: Path) -> None:
    """By the session that had it open, too, once the folder is there again."""
    home = tmp_path / "engine"
    session = LocalSession(home)
    session.engine.objects.create_bucket("data")
    shutil.rmtree(home)
    LocalSession(home).engine.check()
    assert session.engine.objects.list_buckets() == []
    session.engine.objects.create_bucket("data")
    assert [bucket.name for bucket in LocalSession(home).engine.objects.list_buckets()] == ["data"]
