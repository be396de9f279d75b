"""A script between a program in a network of its own and the engine outside that network.

Every program of an endpoint listens at port 8080, so each one gets a network of its own. A socket keeps the network in
which it was made, whichever process holds it. So this script, which runs in the program's network, makes sockets there
and passes them to the engine over a Unix socket. The data itself takes no detour: the engine talks to the program
directly, and the engine's gateway accepts the program's connections directly.

A sandbox that makes a network runs this script inside. Around a container, this script makes the network first, and
the container's client then shares its own network with the container.

Its arguments are the descriptor of the Unix socket, and `gateway` or `isolated`, or the same with `-in-new-network`.
The program's command line follows.
With `gateway` the first message to the engine has a socket that listens in this network, and the program finds its
address in AWS_ENDPOINT_URL. Each message `CONNECT` of the engine is answered by a socket that connects to port 8080.

The program is a child of this script. Its exit code is the script's own, or 128 plus the signal that ended it. A
sandbox ends with this script, and so does everything in it. A container does not: the engine removes it by its name.
"""

from __future__ import annotations

# The bases of `signal` and `socket`, without their enums, whose import takes longer than the rest of this script.
import _signal as signal  # type: ignore[import-not-found]
import _socket
import os
import select
import sys

PORT = 8080
"""The port at which SageMaker expects every model's program."""
CONNECT, LISTENING = b"c", b"l"
"""The engine's request for a connection, which is also the answer's text; and the message with the gateway's socket."""
GATEWAY, ISOLATED, IN_NEW_NETWORK = "gateway", "isolated", "-in-new-network"
"""The modes of this script, and their suffix."""
_BACKLOG = 128
_CLONE_NEWNET = 0x40000000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
"""The requests by which the flags of a network interface are read and set, and the flag of one that works."""
_INTERFACE = "16sh22x"
"""The layout of such a request: name and flags."""


def make_network() -> None:
    """Move this process into a new network, in which the loopback interface works.

    Raises:
        OSError: this user may not do that.
    """
    import ctypes  # few relays make a network
    import fcntl
    import struct

    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network cannot be made")
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    found = fcntl.ioctl(any_socket.fileno(), _GET_FLAGS, struct.pack(_INTERFACE, b"lo", 0))
    flags = struct.unpack(_INTERFACE, found)[1]
    fcntl.ioctl(any_socket.fileno(), _SET_FLAGS, struct.pack(_INTERFACE, b"lo", flags | _UP))
    any_socket.close()


def connecting_socket() -> _socket.socket:
    """Return a socket that connects to the program. The receiver learns whether that succeeds."""
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.setblocking(False)  # noqa: FBT003 - the method has no keyword
    # Without this option an answer in two writes waits for the receiver's delayed acknowledgement, 40 ms.
    connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    connection.connect_ex(("127.0.0.1", PORT))
    return connection


def listening_socket() -> _socket.socket:
    """Return a socket that listens at a free port."""
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(_BACKLOG)
    return listener


def send_socket(engine: _socket.socket, text: bytes, passed: _socket.socket) -> None:
    """Pass a socket to the engine, and close it here."""
    descriptor = passed.fileno().to_bytes(4, sys.byteorder)
    engine.sendmsg([text], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)])
    passed.close()


def start(argv: list[str], endpoint: str | None) -> int:
    """Start the program, and return its process id.

    Args:
        argv: the program and its arguments.
        endpoint: the URL for AWS_ENDPOINT_URL, which does not replace an existing value; None for none.
    """
    if endpoint is not None:
        os.environ.setdefault("AWS_ENDPOINT_URL", endpoint)
    pid = os.fork()
    if pid:
        return pid
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two signals; the program must not
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - the purpose of this script
    except OSError as error:
        os.write(2, ("%s: %s\n" % (argv[0], error.strerror)).encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def exit_code(pid: int) -> int | None:
    """Return the exit code of the program; None if it still runs. Other children are reaped too."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == 0:
            return None
        if ended == pid:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def serve(engine: _socket.socket, pid: int, ended: int, *, kills: bool) -> int:
    """Answer the engine until the program ends, and return the program's exit code.

    Args:
        engine: the Unix socket to the engine.
        pid: the program's process id.
        ended: a descriptor that becomes readable when a child ends.
        kills: whether the program ends with its supervisor. A killed client of containers would leave its container in
            a state that the engine cannot remove.
    """
    while True:
        ready, _, _ = select.select([engine.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 512)
            code = exit_code(pid)
            if code is not None:
                return code
        if engine.fileno() in ready:
            if not engine.recv(1):  # the supervisor has ended
                if kills:
                    os.kill(pid, signal.SIGKILL)
                return 128 + int(signal.SIGKILL)
            send_socket(engine, CONNECT, connecting_socket())


def main() -> None:
    """Run the program of the command line beside the relay."""
    descriptor, mode, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the function has no keyword
    makes_network = mode.endswith(IN_NEW_NETWORK)
    if makes_network:
        make_network()
    engine = _socket.socket(fileno=descriptor)
    # A handler, which a new program does not inherit. A signal to stop reaches the whole group: the program obeys.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    endpoint = None
    if mode.startswith(GATEWAY):
        listener = listening_socket()
        endpoint = "http://127.0.0.1:%d" % listener.getsockname()[1]
        send_socket(engine, LISTENING, listener)
    pid = start(argv, endpoint)
    os._exit(serve(engine, pid, ended, kills=not makes_network))


if __name__ == "__main__":
    main()
