"""The network between the hosts of a job, for programs that connect them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.models import NetworkConfig
    from processing.processors.base import Preferences


def isolation_problem(
    session: Any, program: str, count: int | None, preferences: Preferences | None, network: NetworkConfig | None
) -> str | None:
    """Return why the embedded engine cannot connect the hosts of a job; None if it can, and for AWS.

    Args:
        session: the session.
        program: the program that connects the hosts, for the message.
        count: the number of instances.
        preferences: the instances in order of priority, of which the engine takes the first.
        network: the job's network, with the values of the config file.
    """
    if not session.is_local or network is None or not network.enable_network_isolation:
        return None
    from processing.local import sandboxes

    first = preferences[0] if preferences else None
    hosts = (first.get("InstanceCount") if isinstance(first, Mapping) else None) or count or 1
    problem = sandboxes.isolation_problem(session.engine.settings, program, hosts, isolated=True)
    return None if problem is None else f"network_config.enable_network_isolation: {problem}"
