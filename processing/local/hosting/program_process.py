"""The process of a program that serves: its relay if it has a network of its own, its gateway, and its health check."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from processing.container.relay import connecting_socket
from processing.local.hosting.health import HealthCheck

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from processing.local.hosting.broker import Relay


class ProgramProcess:
    """One process of a program, from its start to its end.

    Args:
        relay: the relay of its network; None for a program in this machine's network.
        open_gateway: serves the engine at a socket in the program's network; None for a program that may not reach it.
        on_healthy: is called in a thread of its own once the program is healthy, with this object. An exception
            ends the program.
        seconds: the time in which the program has to become healthy.

    Attributes:
        healthy: whether the program was healthy.
        problem: the exception of `on_healthy`.
    """

    def __init__(
        self,
        relay: Relay | None,
        open_gateway: Callable[[_socket.socket], None] | None,
        on_healthy: Callable[[ProgramProcess], None],
        seconds: float,
    ) -> None:
        self._relay = relay
        self._open_gateway = open_gateway
        self._on_healthy = on_healthy
        self._check = HealthCheck(self.connection, seconds)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.healthy = False
        self.problem: Exception | None = None

    def started(self) -> None:
        """Wait for the program's health in a thread, because its process has started."""
        if self._relay is not None:
            self._relay.started()
        self._thread.start()

    def connection(self) -> _socket.socket | None:
        """Return a socket that connects to the program; None if the program is gone."""
        return connecting_socket() if self._relay is None else self._relay.connection()

    @property
    def gave_up(self) -> bool:
        """True if the program did not become healthy in time."""
        return self._check.gave_up

    @property
    def last_answer(self) -> str:
        """The last sign of life of a program that is not healthy, as the end of a sentence."""
        return self._check.last_answer

    def close(self) -> None:
        """End the relay and the thread, because the program has ended."""
        self._check.stop()
        if self._relay is not None:
            self._relay.close()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        try:
            if self._relay is not None and self._open_gateway is not None:
                listener = self._relay.listener()
                if listener is None:
                    return
                self._open_gateway(listener)
            if self._check.wait():
                self.healthy = True
                self._on_healthy(self)
        except Exception as error:  # noqa: BLE001 - the host reports it
            self.problem = error
