"""The networks of programs that serve: one for each, or this machine's for one at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from processing.container.relay import PORT, connecting_socket
from processing.local.hosting.health import can_connect

if TYPE_CHECKING:
    from processing.local.sandboxes.base import Sandbox


def has_own_network(sandbox: Sandbox) -> bool:
    """Return whether each program in a sandbox gets a network of its own.

    A container shares this machine's network, so that its program reaches the engine.
    """
    return sandbox.isolates_network and not sandbox.runs_image


def port_in_use() -> bool:
    """Return whether a program serves at port 8080 of this machine."""
    with contextlib.closing(connecting_socket()) as connection:
        return can_connect(connection)


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
