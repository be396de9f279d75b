"""The engine over HTTP, on this machine's loopback interface alone.

Requests need a valid signature (see `wire.signature`), which is all that is asked of them: a page in a browser that makes
its own name lead here (DNS rebinding) has no key, so the Host header may say anything.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING

from processing.local.connection import Connection
from processing.local.credentials import Credentials, install_credentials
from processing.local.wire.signature import Verifier

if TYPE_CHECKING:
    from types import TracebackType

    from processing.clock import Clock
    from processing.local.credentials import Keys
    from processing.local.engine import Engine
    from processing.local.wire.codec import Handle

ADDRESS = "127.0.0.1"
MAX_CONNECTIONS = 256
"""Each has a thread. When there are more, the one that waits longest for its next request is closed."""

STOP_SECONDS = 5.0
"""How long requests that are being served may go on when the server is stopped."""


class Server:
    """Serves an engine. A context manager: serves within the block.

    Args:
        engine: what answers.
        port: on 127.0.0.1; 0 for a free one.
        listener: a listening socket to use instead; it is closed at the end.
        credentials: who may call; by default the keys of the engine's folder.
        clock: what signatures are held against.

    Raises:
        OSError: the port is taken.

    Attributes:
        endpoint: the URL for clients.
        verifier: checks signatures.
        stopping: whether no further request is taken.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        port: int = 0,
        listener: socket.socket | None = None,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._credentials = install_credentials(engine.home) if credentials is None else credentials
        self.verifier = Verifier(self._credentials) if clock is None else Verifier(self._credentials, clock)
        self._listener = _listen(port) if listener is None else listener
        self._listener.setblocking(False)
        self.endpoint = f"http://{ADDRESS}:{self._listener.getsockname()[1]}"
        self.stopping = False
        self._wake, self._woken = socket.socketpair()
        self._threads: dict[Connection, threading.Thread] = {}
        self._changed = threading.Condition()
        self._stop_asked = threading.Event()
        self._acceptor: threading.Thread | None = None

    @property
    def handle(self) -> Handle:
        """What answers."""
        return self._engine.handle

    def environment(self, keys: Keys | None = None) -> dict[str, str]:
        """Return the environment variables that point any client at this server, and at nothing else.

        Args:
            keys: the key to sign with; by default the folder's own.
        """
        return client_environment(self.endpoint, self._credentials.keys if keys is None else keys, self._engine.region)

    def start(self) -> None:
        """Serve in background threads."""
        self._acceptor = threading.Thread(target=self._accept, name="engine-accept", daemon=True)
        self._acceptor.start()

    def serve_forever(self) -> None:
        """Serve until `ask_to_stop` is called, by a signal handler or another thread."""
        self.start()
        try:
            self._stop_asked.wait()
        finally:
            self.stop()

    def ask_to_stop(self) -> None:
        """Let `serve_forever` return."""
        self._stop_asked.set()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take no new connections, let running requests end, and return when nothing is left.

        Args:
            seconds: how long running requests may take.
        """
        self.stopping = True
        self._wake.close()
        if self._acceptor is not None:
            self._acceptor.join()
        self._listener.close()
        self._woken.close()
        deadline = time.monotonic() + seconds
        with self._changed:
            for connection in self._threads:
                if connection.idle_since is not None:
                    connection.interrupt()
            self._changed.wait_for(lambda: not self._threads, seconds)
            threads = dict(self._threads)
        for connection in threads:
            connection.abort()
        for thread in threads.values():
            thread.join(max(1.0, deadline - time.monotonic()))

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def leave(self, connection: Connection) -> None:
        """Take note that a connection has ended."""
        with self._changed:
            self._threads.pop(connection, None)
            self._changed.notify_all()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self.stopping:
                selector.select()
                with contextlib.suppress(OSError):  # it went away again, or there are too many open files
                    self._make_room()
                    while not self.stopping and len(self._threads) < MAX_CONNECTIONS:
                        accepted, _ = self._listener.accept()
                        self._begin(accepted)

    def _begin(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, self)
        thread = threading.Thread(target=connection.run, name="engine-connection", daemon=True)
        with self._changed:
            self._threads[connection] = thread
        thread.start()

    def _make_room(self) -> None:
        """Wait until another connection may be taken."""
        with self._changed:
            while len(self._threads) >= MAX_CONNECTIONS and not self.stopping:
                idle = [(each.idle_since, each) for each in self._threads if each.idle_since is not None]
                if idle:
                    min(idle, key=lambda pair: pair[0])[1].interrupt()
                self._changed.wait(0.1)


def client_environment(endpoint: str, keys: Keys, region: str) -> dict[str, str]:
    """Return the environment variables that point any client at an endpoint, and at nothing else.

    Args:
        endpoint: its URL.
        keys: what to sign with.
        region: the region that clients are in.
    """
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        "AWS_USE_FIPS_ENDPOINT": "false",
    }
    if keys.token is not None:
        variables["AWS_SESSION_TOKEN"] = keys.token
    for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine's loopback
        known = [part for part in os.environ.get(name, "").split(",") if part and part not in {ADDRESS, "localhost"}]
        variables[name] = ",".join([*known, ADDRESS, "localhost"])
    return variables


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener
