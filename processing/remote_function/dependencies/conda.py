"""Conda environments: environment files for a job, and the environment that this Python belongs to."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOCAL = re.compile(r"\s*-\s*[\"']?(?:-[rcef]\b|--requirement|--constraint|--editable|--find-links|\.{0,2}/|file:)")
_OWN_PLACE = re.compile(r"(?:prefix|name)\s*:")
_TOKEN = re.compile(r"/t/[^/]+/")


def environment_file(path: Path) -> bytes:
    """Return the content of an environment file as the job reads it.

    The name and the prefix are left out: they describe an environment of this machine.

    Args:
        path: the file, in YAML.

    Raises:
        ConfigurationError: it cannot be read, or a line names a file of this machine.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"dependencies: {str(path)!r} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if _LOCAL.match(line):
            raise ConfigurationError(
                f"dependencies: {path}, line {number}: {line.strip()!r} names a file of this machine, which a conda "
                "environment of the job does not see; write the packages themselves, or give a requirements.txt"
            )
    kept = [line for line in lines if not _OWN_PLACE.match(line)]
    return "".join(f"{line}\n" for line in kept).encode()


def current_environment(pip_lines: Iterable[str]) -> bytes | None:
    """Return an environment file with the packages of the conda environment that this Python belongs to.

    Builds are left out, because they differ between systems. On a system other than Linux, only the packages that the
    user asked for are in it: the others may not exist on Linux.

    Args:
        pip_lines: the requirements of the packages that pip installed into it.

    Returns:
        The file, or None if this Python belongs to no conda environment.
    """
    records = [_read_record(path) for path in sorted(Path(sys.prefix, "conda-meta").glob("*.json"))]
    if not records:
        return None
    wanted = [each for each in records if sys.platform.startswith("linux") or each.get("requested_spec")]
    channels = list(dict.fromkeys(filter(None, (_channel(str(each.get("channel", ""))) for each in wanted))))
    dependencies: list[Any] = [f"{each['name']}={each['version']}" for each in wanted]
    pip = list(pip_lines)
    if pip:
        dependencies += ["pip", {"pip": pip}]
    # YAML contains JSON.
    return json.dumps({"channels": channels, "dependencies": dependencies}, indent=1).encode()


def _read_record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _channel(url: str) -> str:
    """Return the address of a channel without the system, user, password and token; an empty one for a local one."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return "" if parts.scheme == "file" else url
    folder = _TOKEN.sub("/", parts.path.rstrip("/")).rpartition("/")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{folder}"
