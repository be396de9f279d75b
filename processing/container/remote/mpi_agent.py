"""The agent by which Open MPI starts its daemons on the other hosts of a job, in place of ssh.

Images have no SSH server. So each host other than the first has a server of this module. On the first host, `mpirun`
calls the agent as it calls ssh: `AGENT HOST COMMAND...`. The agent has the server of the host run the command.

Each connection begins with random bytes of the server. The client signs them and its request with a key that follows
from the digest of the manifest. A program that cannot read the job's request or its files cannot run a command here.
The traffic itself is neither encrypted nor signed: the network of the job is trusted, as it is with `torchrun`.
"""

# Messages are assembled with %, as in all of `container`; paths are plain strings, as in the boot program.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any, BinaryIO, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

from .boot import MANIFEST_DIGEST, PACKAGE

PORT = 7778
"""The port of the servers, beside that of torchrun."""
START_SECONDS = 600.0
"""The longest wait for another host. Each host installs the dependencies of the call on its own."""
_LATER_SECONDS = 30.0
"""The time by which the other hosts wait longer than the first. Its message names the missing one."""
_NAME_SECONDS = 60.0
"""The longest wait until a host knows its own name."""
RANK_COMMAND = "PROCESSING_REMOTE_RANK"
"""The variable with the shell command of a rank. Paths in it differ from host to host, and mpirun has one command."""
_LOST = 255
"""The exit code of the agent for a lost connection, as that of ssh."""
_NONCE_BYTES, _SIGNATURE_BYTES = 32, 32
_LONGEST_REQUEST = 1024 * 1024
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">cI")
_READY, _OUTPUT, _ERRORS, _END = b"r", b"o", b"e", b"x"
"""The kinds of frames. `_END` has an exit code: of a command, or of mpirun."""
_HANDSHAKE_SECONDS = 30.0
_PAUSE_SECONDS = 0.2
_GRACE_SECONDS = 5.0
"""The time between the two signals, SIGTERM and SIGKILL, for a command whose connection has ended."""
_AGENT = "import sys; sys.path[0] = sys.argv[1]; from %s import mpi_agent; mpi_agent.run_agent(*sys.argv[2:])" % PACKAGE


class HostError(Exception):
    """A reason why the hosts of a job cannot work together."""


def check_name(own: str, seconds: float = _NAME_SECONDS) -> None:
    """Wait until this host's own name has an address.

    Args:
        own: the name.
        seconds: the longest wait.

    Raises:
        HostError: it has no address.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(own, None)
        except OSError as error:  # noqa: PERF203 - each attempt may fail
            if time.monotonic() >= end:
                text = "%s does not know its own name (%s); the sandbox 'rewriting' of the embedded engine has no names"
                raise HostError(text % (own, error)) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def are_local(hosts: Sequence[str]) -> bool:
    """Return whether all hosts are on this machine, as on the embedded engine: their addresses begin with 127."""
    try:
        return all(socket.gethostbyname(host).startswith("127.") for host in hosts)
    except OSError:
        return False


def agent_command(bundle: str, folder: str, own: str, port: int = PORT) -> str:
    """Write the agent's program, and return the command for `plm_rsh_agent`.

    Args:
        bundle: the verified bundle.
        folder: a folder of this job alone.
        own: the name of this host.
        port: the port of the servers.
    """
    path = os.path.join(folder, "mpi-agent")
    words = [sys.executable, "-c", _AGENT, bundle, own, str(port)]
    with open(path, "w", encoding="utf-8") as file:
        file.write('exec %s "$@"\n' % " ".join(map(shlex.quote, words)))
    return "/bin/sh " + path  # the folder may be on a file system without execution


def run_agent(own: str, port: str, host: str, *command: str) -> NoReturn:
    """Run a command on a host as ssh does, and end with its exit code. Its output is this process's.

    Args:
        own: the name of this host, which Open MPI may not recognize.
        port: the port of the servers.
        host: the host.
        command: the words of a shell command.
    """
    if host == own:
        os.execv("/bin/sh", ["/bin/sh", "-c", " ".join(command)])  # noqa: S606 - a command of mpirun
    try:
        connection = _connect(host, int(port), {"kind": "run", "command": " ".join(command)}, START_SECONDS)
    except HostError as error:
        sys.exit("remote function: %s" % error)
    with connection:
        for kind, data in _frames(connection):
            if kind == _END:
                sys.exit(int(data))
            stream = sys.stdout if kind == _OUTPUT else sys.stderr
            stream.buffer.write(data)
            stream.buffer.flush()
    sys.stderr.write("remote function: the connection to %s is lost\n" % host)
    sys.exit(_LOST)


@contextlib.contextmanager
def watched_by(hosts: Sequence[str], port: int = PORT, seconds: float = START_SECONDS) -> Iterator[List[int]]:
    """Wait for the servers of other hosts, and end them with the exit code that the block appends to the list.

    Args:
        hosts: the other hosts.
        port: the port of their servers.
        seconds: the longest wait for all of them.

    Raises:
        HostError: a host did not answer.
    """
    end = time.monotonic() + seconds
    codes: List[int] = []
    with contextlib.ExitStack() as stack:
        connections = []
        for host in hosts:
            connection = _connect(host, port, {"kind": "watch"}, max(0.0, end - time.monotonic()), seconds)
            connections.append(stack.enter_context(connection))
        yield codes
        for connection in connections:
            with contextlib.suppress(OSError):  # that host is gone, and mpirun has seen it
                _send(connection, _END, b"%d" % codes[-1])


def serve(host: str, port: int = PORT, seconds: float = START_SECONDS + _LATER_SECONDS) -> int:
    """Run the commands of the first host until mpirun has ended there.

    Args:
        host: this host's name, at whose address the server listens.
        port: its port.
        seconds: the longest wait for the first host.

    Returns:
        The exit code of mpirun.

    Raises:
        HostError: the first host did not connect in time, or it is lost.
    """
    with _listen(host, port, seconds) as listener:
        server = _Server(listener)
        threading.Thread(target=server.accept, daemon=True).start()
        return server.wait(seconds)


class _Server:
    """The server of one host. Each connection has threads of its own."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._watched = threading.Event()
        self._ended = threading.Event()
        self._code: Optional[int] = None
        self._commands: List[_AgentCommand] = []

    def accept(self) -> None:
        """Accept connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def wait(self, seconds: float) -> int:
        """Wait for the end of mpirun, end all commands, and return the exit code."""
        if not self._watched.wait(seconds):
            raise HostError("the first host did not connect within %g seconds; its log shows the reason" % seconds)
        self._ended.wait()
        for command in self._commands:
            command.end()
        if self._code is None:
            raise HostError("the connection to the first host is lost")
        return self._code

    def _handle(self, connection: socket.socket) -> None:
        # An error of a connection ends it, and no other.
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(_HANDSHAKE_SECONDS)
            request = _receive_request(connection)
            if request is None:
                sys.stderr.write("remote function: a connection without the key of this job was refused\n")
                return
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _send(connection, _READY, b"")
            if request["kind"] == "run":
                command = _AgentCommand(connection, request["command"])
                self._commands.append(command)
                command.run()
            else:
                self._watch(connection)

    def _watch(self, connection: socket.socket) -> None:
        self._watched.set()
        try:
            for kind, data in _frames(connection):
                if kind == _END:
                    self._code = int(data)
        finally:
            self._ended.set()


class _AgentCommand:
    """A command that runs for a client, in a process group of its own.

    Args:
        connection: the connection to the client.
        line: the shell command.
    """

    def __init__(self, connection: socket.socket, line: str) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._process = subprocess.Popen(  # noqa: S603 - a signed request of the first host
            ["/bin/sh", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self) -> None:
        """Return when the command and the connection have ended. The first of both ends the other."""
        threading.Thread(target=self._finish, daemon=True).start()
        with contextlib.suppress(OSError):
            while self._connection.recv(4096):
                pass
        self.end()

    def end(self) -> None:
        """End the process group, unless its command has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._done.is_set():
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._done.wait(_GRACE_SECONDS)

    def _finish(self) -> None:
        """Send the output, then the exit code, and end the connection."""
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        streams = ((_OUTPUT, process.stdout), (_ERRORS, process.stderr))
        threads = [threading.Thread(target=self._copy, args=each, daemon=True) for each in streams]
        for thread in threads:
            thread.start()
        code = process.wait()
        for thread in threads:
            thread.join()
        self._done.set()
        with contextlib.suppress(OSError):
            # A shell shows a signal as 128 and its number.
            self._send(_END, b"%d" % (code if code >= 0 else 128 - code))
            self._connection.shutdown(socket.SHUT_RDWR)

    def _copy(self, kind: bytes, stream: BinaryIO) -> None:
        """Send all output. Without a client it is read all the same, so that the command is never blocked."""
        with stream:
            while True:
                data = stream.read1(65536)  # type: ignore[attr-defined] # a pipe of subprocess is buffered
                if not data:
                    return
                with contextlib.suppress(OSError):
                    self._send(kind, data)

    def _send(self, kind: bytes, data: bytes) -> None:
        with self._lock:
            _send(self._connection, kind, data)


def _signature(nonce: bytes, request: bytes) -> bytes:
    """Return the proof that a request is from this job: an HMAC-SHA256 of the request and the server's bytes."""
    key = hmac.new(os.environ[MANIFEST_DIGEST].encode(), b"mpi agent", hashlib.sha256).digest()
    return hmac.new(key, nonce + request, hashlib.sha256).digest()


def _receive_request(connection: socket.socket) -> Optional[Dict[str, Any]]:
    """Return the request of a client; None if its signature is not that of this job."""
    nonce = os.urandom(_NONCE_BYTES)
    connection.sendall(nonce)
    signature = _receive(connection, _SIGNATURE_BYTES)
    size = _LENGTH.unpack(_receive(connection, _LENGTH.size))[0]
    if size > _LONGEST_REQUEST:
        return None
    data = _receive(connection, size)
    if not hmac.compare_digest(signature, _signature(nonce, data)):
        return None
    request: Dict[str, Any] = json.loads(data)
    return request


def _connect(
    host: str, port: int, request: Dict[str, str], seconds: float, shown: Optional[float] = None
) -> socket.socket:
    """Return a connection to the server of a host that has accepted a request.

    Args:
        host: the host.
        port: its port.
        request: the request.
        seconds: the longest wait.
        shown: the seconds for the error; None for the same.

    Raises:
        HostError: no server of this job answered in time.
    """
    data, end = json.dumps(request).encode(), time.monotonic() + seconds
    while True:
        connection = None
        try:
            connection = socket.create_connection((host, port), _HANDSHAKE_SECONDS)
            nonce = _receive(connection, _NONCE_BYTES)
            connection.sendall(_signature(nonce, data) + _LENGTH.pack(len(data)) + data)
            _receive(connection, _HEAD.size)
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:  # the host is not ready, or its name is not known yet
            if connection is not None:
                connection.close()
            if time.monotonic() >= end:
                text = "%s did not answer at port %d within %g seconds (%s); its log shows the reason"
                raise HostError(text % (host, port, seconds if shown is None else shown, error)) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return connection


def _listen(host: str, port: int, seconds: float) -> socket.socket:
    """Return a socket that listens at a host's own address. Another job of the engine may have it for a while."""
    end = time.monotonic() + seconds
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(16)
            except OSError:
                listener.close()
                raise
        except OSError as error:  # noqa: PERF203 - each attempt may fail
            if time.monotonic() >= end:
                raise HostError("%s cannot listen at port %d (%s)" % (host, port, error)) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return listener


def _send(connection: socket.socket, kind: bytes, data: bytes) -> None:
    connection.sendall(_HEAD.pack(kind, len(data)) + data)


def _frames(connection: socket.socket) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the frames of a connection until it ends."""
    with contextlib.suppress(OSError):
        while True:
            kind, size = _HEAD.unpack(_receive(connection, _HEAD.size))
            yield kind, _receive(connection, size)


def _receive(connection: socket.socket, size: int) -> bytes:
    """Return as many bytes, or raise ConnectionError if the connection ends before."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return bytes(data)
