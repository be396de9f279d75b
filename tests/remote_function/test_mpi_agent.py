"""The agent by which Open MPI starts its daemons on other hosts: server and client as processes on loopback."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processing.container.remote import boot, mpi_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOST = "127.0.0.1"
_SERVER = (
    "import sys; sys.path[0] = sys.argv[1]; from _processing_remote import mpi_agent as m\n"
    "try: sys.exit(m.serve(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))\n"
    "except m.HostError as error: sys.exit(str(error))"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the package of the bundle, as a job has it."""
    shutil.copytree(Path(mpi_agent.__file__).parent, tmp_path / "bundle" / boot.PACKAGE)
    return tmp_path / "bundle"


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of the job's manifest, in this process and in those that it starts."""
    monkeypatch.setenv(boot.MANIFEST_DIGEST, "a" * 64)


@pytest.fixture
def serve(package: Path, port: int) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the server of a host, and kill it at the end."""
    servers = []

    def start(seconds: float = 60) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _SERVER, str(package), _HOST, str(port), str(seconds)]
        servers.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.wait()
        if server.stderr is not None:
            server.stderr.close()


def _errors(server: subprocess.Popen[str]) -> str:
    """Return the whole standard error of a server, which has ended after that."""
    assert server.stderr is not None
    text = server.stderr.read()
    server.wait()
    return text


@pytest.fixture
def agent(package: Path, tmp_path: Path, port: int) -> list[str]:
    """The words by which Open MPI calls the agent."""
    return shlex.split(mpi_agent.agent_command(str(package), str(tmp_path), "first", port))


def test_a_command_runs_on_another_host(
    serve: Callable[..., subprocess.Popen[str]], agent: list[str], port: int
) -> None:
    """Its output and exit code are the agent's; the server ends with the exit code of mpirun."""
    server = serve()
    with mpi_agent.watched_by([_HOST], port) as codes:
        words = [*agent, _HOST, "printf out;", "printf", '"err$((1+1))"', ">&2;", "exit 7"]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert (done.stdout, done.stderr, done.returncode) == ("out", "err2", 7)
        killed = subprocess.run([*agent, _HOST, "kill -TERM $$"], check=False)
        assert killed.returncode == 128 + signal.SIGTERM
        size = 3_000_000
        large = subprocess.run([*agent, _HOST, f"head -c {size} /dev/zero"], check=True, capture_output=True)
        assert large.stdout == bytes(size)
        codes.append(3)
    assert server.wait() == 3


def test_the_first_host_needs_no_server(agent: list[str]) -> None:
    """A command for this host runs here, if Open MPI does not recognize its name."""
    assert subprocess.run([*agent, "first", "exit 5"], check=False).returncode == 5


def test_a_client_without_the_key_is_refused(
    serve: Callable[..., subprocess.Popen[str]], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that another key has signed runs nothing, and neither does one that is changed or repeated."""
    server, mark = serve(), tmp_path / "mark"
    request = {"kind": "run", "command": f"touch {mark}"}
    with mpi_agent.watched_by([_HOST], port) as codes:
        with monkeypatch.context() as other:
            other.setenv(boot.MANIFEST_DIGEST, "b" * 64)
            with pytest.raises(mpi_agent.HostError, match="did not answer"):
                mpi_agent._connect(_HOST, port, request, 0)
        for flaw in (b"{", b""):  # a request other than the signed one; a signature for the bytes of another server
            with socket.create_connection((_HOST, port)) as connection:
                nonce = mpi_agent._receive(connection, 32)
                data = b'{"kind": "run", "command": "touch %s"}' % os.fsencode(mark)
                signature = mpi_agent._signature(nonce if flaw else bytes(32), data + flaw)
                connection.sendall(signature + mpi_agent._LENGTH.pack(len(data)) + data)
                assert connection.recv(1) == b""
        codes.append(0)
    assert server.wait() == 0
    assert not mark.exists()


def test_the_end_of_a_connection_ends_the_command(
    serve: Callable[..., subprocess.Popen[str]], agent: list[str], port: int, tmp_path: Path
) -> None:
    """The whole process group is killed when the agent is, also processes that the shell started."""
    serve()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with mpi_agent.watched_by([_HOST], port) as codes:
        line = f"exec 9> {pipe}; sleep 600 & echo started; wait"
        with subprocess.Popen([*agent, _HOST, line], stdout=subprocess.PIPE) as client, pipe.open("rb") as end:
            assert client.stdout is not None
            assert client.stdout.readline() == b"started\n"
            client.kill()
            assert end.read() == b""  # no process has the pipe open
        codes.append(0)


def test_a_lost_first_host_ends_the_server(
    serve: Callable[..., subprocess.Popen[str]], agent: list[str], port: int, tmp_path: Path
) -> None:
    """Commands are killed, and the host fails with a message, as the result is unknown."""
    server = serve()
    with contextlib.suppress(InterruptedError), mpi_agent.watched_by([_HOST], port):
        client = subprocess.Popen([*agent, _HOST, "echo started; sleep 600"], stdout=subprocess.PIPE)
        assert client.stdout is not None
        assert client.stdout.readline() == b"started\n"
        raise InterruptedError
    client.communicate()
    assert client.returncode != 0
    errors = _errors(server)
    assert "the connection to the first host is lost" in errors
    assert server.returncode == 1


def test_a_wait_for_another_host_is_bounded(serve: Callable[..., subprocess.Popen[str]], port: int) -> None:
    """Each side of a job whose other side never comes ends with a message that names it."""
    with (
        pytest.raises(mpi_agent.HostError, match=f"^{_HOST} did not answer at port {port} within 0.1 seconds"),
        mpi_agent.watched_by([_HOST], port, 0.1),
    ):
        pass
    server = serve(0.1)
    errors = _errors(server)
    assert "the first host did not connect within 0.1 seconds" in errors
    with socket.create_server((_HOST, port)), pytest.raises(mpi_agent.HostError, match="cannot listen at port"):
        mpi_agent.serve(_HOST, port, 0.1)
    with pytest.raises(mpi_agent.HostError, match="does not know its own name"):
        mpi_agent.check_name("no-such-host.invalid", 0)
