"""Division of tasks over the hosts of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, TypeVar

from processing.container.shim.errors import SettingError

T = TypeVar("T")


def items_of_host(items: List[T], configuration: str) -> List[T]:
    """Return the items of this host: host i of n has every n-th item from the i-th on.

    Args:
        items: the items of all hosts, in the same order on each.
        configuration: the file that names the hosts, `resourceconfig.json` of the container.

    Raises:
        SettingError: the file is missing, or does not name this host.
    """
    try:
        found = json.loads(Path(configuration).read_bytes())
        hosts = sorted(found["hosts"], key=_number)
        return items[hosts.index(found["current_host"]) :: len(hosts)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError("--hosts: %s does not name this host (%r)" % (configuration, error)) from None


def _number(name: str) -> int:
    """Return the number of a host: algo-10 comes after algo-9."""
    return int(name.rpartition("-")[2])
