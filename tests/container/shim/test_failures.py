"""Every task has a result, whatever ends it: full disks, kills, stops, and servers that hang."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ordinary_user import ordinary_user
from processing.container.shim.errors import ShimError
from processing.container.shim.files import InterruptibleStore, download_archive
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession

SHIM = [sys.executable, "-m", "processing.container.shim"]


@pytest.fixture
def environment(shim: Any, local_session: LocalSession) -> Iterator[dict[str, str]]:
    """The variables of a shim in a process of its own."""
    with Server(local_session.engine) as server:
        yield {**os.environ, **server.environment(), "OUT": str(shim.output)}


def invoke(shim: Any, source: str, **fields: Any) -> list[str]:
    """Return the command that runs one task."""
    return [*SHIM, "invoke", "-t", json.dumps(shim.task(**fields)), "--", sys.executable, "-c", source]


def zipped(size: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(size))
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["file", "archive", "output"])
def test_a_full_disk_leaves_a_result(kind: str, shim: Any, environment: dict[str, str]) -> None:
    """An input or an archive that does not fit fails the download; a program that finds no room fails by itself."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "-m"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    shim.put("large", zipped(4 << 20) if kind == "archive" else bytes(4 << 20))
    inputs = {} if kind == "output" else {"x": "large"}
    command = invoke(shim, "import os; open(os.environ['OUT'] + '/x', 'wb').write(bytes(4 << 20))", inputs=inputs)
    if kind == "archive":
        command = [
            word.replace('"bucket_key": "large"', '"bucket_key": "large", "decompress": true') for word in command
        ]
    disk = shim.folder / "disk"
    disk.mkdir()
    for name in ("input", "output"):
        environment[f"PROCESSING_SHIM_{name.upper()}_PATH"] = str(disk / name)
    environment["OUT"] = str(disk / "output")
    script = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    done = subprocess.run([*unshare, "sh", "-c", script, "sh", str(disk), *command], env=environment, check=False)
    assert done.returncode == 1
    result = shim.result()
    text = result["user_safe_error_message"] + "".join(result["user_process_last_stderr_lines"])
    assert result["failed_phase"] == ("run" if kind == "output" else "download")
    assert re.search("no space (is )?left on", text.lower())


def test_a_locked_output_folder_fails_the_upload(shim: Any, environment: dict[str, str]) -> None:
    """A folder that cannot be read is named, the other outputs are uploaded, and the next task can begin."""
    source = "import os; os.chdir(os.environ['OUT']); open('a', 'w').close(); os.makedirs('b/c'); os.chmod('b', 0)"
    for _ in range(2):
        done = subprocess.run([*ordinary_user(), *invoke(shim, source)], env=environment, check=False)
        assert done.returncode == 1
        result = shim.result()
        assert [each["relative_path"] for each in result["outputs"]] == ["a"]
        assert result["failed_phase"] == "upload"
        assert "A folder of the outputs cannot be read: [Errno 13] Permission denied: 'b'" in str(result)


def test_a_stop_ends_the_setup(shim: Any, tmp_path: Path) -> None:
    """A model is neither downloaded nor unpacked to its end if the shim is being stopped."""
    shim.put("model", zipped(4 << 20))
    for answers in ([True], [False, False, False, True]):
        stops = iter(answers)
        store = InterruptibleStore(shim.store, lambda stops=stops: next(stops), "setup")  # type: ignore[misc]
        with pytest.raises(ShimError, match="stopped") as caught:
            download_archive(("shim", "model"), str(tmp_path / "model"), store)
        assert caught.value.phase == "setup"
        assert next(stops, None) is None


def test_a_stop_ends_a_download(shim: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM during the download of many inputs leaves a result soon, and the program does not start."""
    shim.put("a", b"a")
    inputs = {f"{number}": "a" for number in range(5_000)}
    (tmp_path / "tasks.json").write_text(json.dumps(shim.task(inputs=inputs)))
    command = [*SHIM, "invoke", "-f", str(tmp_path / "tasks.json"), "--", sys.executable, "-c", "raise SystemExit(9)"]
    with subprocess.Popen(command, env=environment) as process:
        while not (tmp_path / "input").is_dir() or not any((tmp_path / "input").iterdir()):
            assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert shim.result()["user_safe_error_message"] == "The shim was stopped before the program started"
    assert shim.result()["return_code"] == 1


@pytest.mark.parametrize("pending", ["true", "false"])
def test_after_a_kill_of_the_shim(pending: str, shim: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """After SIGKILL there is a result only if it was stored before; the end of the task replaces it."""
    os.mkfifo(tmp_path / "started")
    environment["PROCESSING_SHIM_PENDING_RESULTS"] = pending
    source = f"open({str(tmp_path / 'started')!r}, 'w').write('started'); import time; time.sleep(60)"
    with subprocess.Popen(invoke(shim, source), env=environment) as process:
        assert (tmp_path / "started").read_text() == "started"
        process.kill()
    if pending == "true":
        assert (shim.result()["return_code"], shim.result()["failed_phase"]) == (137, "run")
        assert subprocess.run(invoke(shim, "pass"), env=environment, check=False).returncode == 0
        assert shim.result()["return_code"] == 0
    else:
        assert ".sagemaker_shim/inference_result.json" not in str(shim.client.list_objects_v2(Bucket="shim"))


@pytest.mark.parametrize("command", ["run", "invoke", "serve", "check"])
def test_the_program_ends_with_a_killed_shim(
    command: str, shim: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    """After SIGKILL of the shim neither the program nor its child runs on."""
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    # Both keep the pipe open for as long as they live, and ignore signals that can be ignored.
    source = f"""
import signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
alive = open({str(pipe)!r}, "w")
code = "import sys, time; sys.stdout.write('started'); sys.stdout.flush(); time.sleep(300)"
subprocess.run([sys.executable, "-c", code], stdout=alive)
"""
    words = {
        "run": ["run"],
        "invoke": ["invoke", "-t", json.dumps(shim.task())],
        "serve": ["serve", "--port", "0", "--proxy", "1"],
        "check": ["check"],
    }[command]
    command_line = [*SHIM, *words, "--", sys.executable, "-c", source]
    with subprocess.Popen(command_line, env=environment) as process, pipe.open() as alive:
        assert alive.read(7) == "started"
        process.kill()
        assert alive.read() == ""


@pytest.mark.parametrize("words", [["run", "--plain"], ["check"]], ids=["run", "check"])
def test_a_kill_just_after_the_start_leaves_no_program(words: list[str], tmp_path: Path) -> None:
    """The program itself tells the guard of its start, before the shim can."""
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    shim = """
import os, sys, time
from processing.container.shim import commands, guard
shim, watch = os.getpid(), guard.Guard.watch
guard.Guard.watch = lambda self, group: time.sleep(300) if os.getpid() == shim else watch(self, group)
commands.main(sys.argv[1:])
"""
    program = ["sh", "-c", 'exec > "$0"; printf started; sleep 10; printf over', str(pipe)]
    with subprocess.Popen([sys.executable, "-c", shim, *words, "--", *program]) as process, pipe.open() as alive:
        assert alive.read(7) == "started"
        process.kill()
        assert alive.read() == ""


@pytest.mark.parametrize("closed", ["0<&- 2>&-", "0<&- 1>&- 2>&-", "1>&-"])
def test_a_shim_without_standard_descriptors_runs_its_program(closed: str, tmp_path: Path) -> None:
    """The pipe of the guard does not take the place of the program's files."""
    command = [*SHIM, "run", "--plain", "--", "sh", "-c", 'echo said >&2; echo here > "$0"', str(tmp_path / "out")]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], check=False, capture_output=True)
    assert done.returncode == 0, done
    assert (tmp_path / "out").read_text() == "here\n"


def test_a_guard_that_was_killed_harms_no_later_program(tmp_path: Path) -> None:
    """A program that cannot name itself to the guard runs."""
    shim = """
import os, signal, sys
from processing.container.shim import commands, guard
start = guard.Guard.start
def start_and_kill(self):
    start(self)
    os.kill(self._process, signal.SIGKILL)
    os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
guard.Guard.start = start_and_kill
sys.exit(commands.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", shim, "run", "--plain", "--", "sh", "-c", "kill -PIPE $$; echo not ended"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, "")  # the program's own signals are the usual ones
    command[-1] = "echo ran"
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_the_guard_ends_with_the_shim(shim: Any, environment: dict[str, str], tmp_path: Path) -> None:
    """A shim that ends by itself leaves no process, and a guard that was killed does no harm."""
    source = """
import os, signal
parent = os.getppid()
names = {}
while "shim-guard" not in names:
    children = open(f"/proc/{parent}/task/{parent}/children").read().split()
    names = {open(f"/proc/{each}/comm").read().strip(): int(each) for each in children}
os.kill(names["shim-guard"], signal.SIGKILL)
print(sorted(names))
"""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this system has no /proc")
    done = subprocess.run(
        [*SHIM, "run", "--plain", "--", sys.executable, "-c", source],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'shim-guard'" in done.stdout


def test_the_whole_group_is_killed_after_the_grace(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program and its child that ignore SIGTERM are killed when their time is over, and outputs are kept."""
    monkeypatch.setenv("PROCESSING_SHIM_SIGTERM_GRACE_SECONDS", "1")
    monkeypatch.setenv("OUT", str(shim.output))
    source = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(os.environ["OUT"] + "/pid", "w").write(str(child.pid))
time.sleep(600)
"""
    for seconds in (1, 8, 64):  # a busy machine starts the program later
        assert shim.invoke(source, shim.task(timeout=f"PT{seconds}S")) == 1
        assert shim.result()["user_safe_error_message"] == "Time limit exceeded"
        if shim.keys():
            break
    look = ["ps", "-o", "state=", "-p", shim.body("out/one/pid").decode()]
    deadline = time.monotonic() + 60  # a killed process may still end
    while subprocess.run(look, capture_output=True, check=False).stdout.strip() not in {b"", b"Z"}:
        assert time.monotonic() < deadline


def test_the_first_process_of_a_container_keeps_no_zombies(shim: Any, environment: dict[str, str]) -> None:
    """The children that each program leaves behind are killed and reaped, if the shim is process 1."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a list of processes of their own")
    source = """
import glob, os, subprocess
for _ in range(3): subprocess.Popen(["sleep", "60"])
states = [open(each).read().rpartition(")")[2].split()[0] for each in glob.glob("/proc/[0-9]*/stat")]
open(os.environ["OUT"] + "/zombies", "w").write("%d %d" % (os.getppid(), states.count("Z")))
"""
    tasks = json.dumps([shim.task(name) for name in "abc"])
    command = [*unshare, *SHIM, "invoke", "-t", tasks, "--", sys.executable, "-c", source]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    parent, zombies = map(int, shim.body("out/c/zombies").split())
    assert parent == 1
    assert zombies <= 3  # those of the task before may still be dying when it ends


def test_a_server_that_exceeds_its_time_ends_the_shim(shim: Any, environment: dict[str, str]) -> None:
    """Its task has a result, the shim says that it is unhealthy, and its exit code is 1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    source = f"""
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self): time.sleep(60)
ThreadingHTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
    environment.update(PROCESSING_SHIM_API_METHOD="invoke", PROCESSING_SHIM_USER_WEBSERVER_PORT=port)
    command = [*SHIM, "serve", "--plain", "--port", "0", "--", sys.executable, "-c", source]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        own = next(line for line in process.stdout if "Listening" in line).split()[-1]
        body = json.dumps(shim.task(timeout="PT1S")).encode()
        with socket.create_connection(("127.0.0.1", int(own)), 60) as client:
            client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "unhealthy" in errors
    assert shim.result()["user_safe_error_message"] == "Time limit exceeded"
