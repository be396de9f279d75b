"""The networks of programs that serve: one for each, or this machine's for one at a time.

A sandbox makes the network, or the relay makes it around the client of a container.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from processing.container.relay import PORT, connecting_socket
from processing.local.hosting.health import can_connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing.local.sandboxes.base import Sandbox

LOCK = "port.lock"
"""The name of the file in the engine's folder that the host has locked whose program serves at this machine's port."""


def has_own_network(sandbox: Sandbox) -> bool:
    """Return whether each program in a sandbox gets a network of its own."""
    return relay_makes_network(sandbox) or (sandbox.isolates_network and not sandbox.runs_image)


def relay_makes_network(sandbox: Sandbox) -> bool:
    """Return whether the relay makes the network of a program, because the sandbox shares that of its command."""
    return sandbox.network_command is not None


def port_in_use() -> bool:
    """Return whether a program serves at port 8080 of this machine."""
    with contextlib.closing(connecting_socket()) as connection:
        return can_connect(connection)


@contextlib.contextmanager
def only_server(home: Path) -> Iterator[bool]:
    """Yield whether no other host of an engine serves at the port of this machine, as long as the block runs.

    A program takes a moment until it listens. A second one that starts meanwhile would find the port free, and its
    health check would then reach the first one. The kernel releases the lock of a process that is killed.

    Args:
        home: the engine's folder.
    """
    import fcntl  # absent on Windows, where public names import this module all the same

    with (home / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield not port_in_use()


def only_one_message(sandbox: Sandbox, other: str) -> str:
    """Return the error for a second program in a sandbox without networks.

    Args:
        sandbox: the sandbox.
        other: the program that serves, in words.
    """
    return (
        f"The local engine cannot give a program a network of its own with the sandbox {sandbox.name}, and every "
        f"program serves at port {PORT}: one at a time. It is in use by {other}. Delete that first, or install "
        "bubblewrap."
    )
