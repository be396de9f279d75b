"""Hosts of a job: the division of tasks over them, and the job's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Mapping, TypeVar

from processing.container.shim.errors import SettingError

T = TypeVar("T")


def share(items: List[T], resources: Mapping[str, Any]) -> List[T]:
    """Return the items of this host: host i of n has every n-th item from the i-th on.

    Args:
        items: the items of all hosts, in the same order on each.
        resources: the content of `resourceconfig.json`. If it does not name this host, the host has all items.
    """
    # By the length first, since algo-10 comes after algo-9.
    hosts = sorted(resources.get("hosts") or (), key=lambda name: (len(name), name))
    current = resources.get("current_host")
    return items[hosts.index(current) :: len(hosts)] if current in hosts else items


def read_resources(file: str) -> Mapping[str, Any]:
    """Return the content of `resourceconfig.json`.

    Raises:
        SettingError: the file is missing, damaged, or does not name this host.
    """
    try:
        found = json.loads(Path(file).read_bytes())
        if found["current_host"] in found["hosts"]:
            return dict(found)
        problem: object = "this host is not in its list"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = repr(error)
    raise SettingError("--hosts: %s does not name the hosts of a job (%s)" % (file, problem))


def job_name(file: str) -> str:
    """Return the name of the processing job from the file beside `resourceconfig.json`; empty without that file."""
    try:
        return str(json.loads(Path(file).with_name("processingjobconfig.json").read_bytes())["ProcessingJobName"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
