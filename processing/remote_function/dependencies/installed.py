"""Packages that are installed in the caller's environment, as exact versions that a job can install."""

from __future__ import annotations

import json
import re
import site
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "distribute", "pkg-resources"})
"""Packages that install others: each image has its own."""
_THIS = "sm-processing"
"""This package, which no job needs."""
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)[^;]*(?:;(.*))?$", re.DOTALL)


@attrs.frozen
class InstalledPackage:
    """A package of the caller's environment.

    Args:
        name: its name in the normalized form of PEP 503.
        version: its version.
        folder: the folder that it is installed in.
        installer: the program that installed it, such as `pip`; empty if it is not recorded.
        origin: the content of its direct_url.json (PEP 610): the place that it was installed from, if no index.
        requires: its requirements, as it states them.
        is_requested: True if it was installed by its name, not as a requirement of another package.
    """

    name: str
    version: str
    folder: Path
    installer: str
    origin: Any
    requires: tuple[str, ...] = attrs.field(repr=False)
    is_requested: bool

    @property
    def is_own(self) -> bool:
        """Return whether it is the caller's own code: installed from a folder of this machine, in place or as a copy.

        conda builds packages in folders, which their records name, too. They are not the caller's.
        """
        if self.installer == "conda":
            return False
        return isinstance(self.origin, dict) and "dir_info" in self.origin


def installed_packages() -> Iterator[InstalledPackage]:
    """Yield the packages in the folders of this Python for packages. The first of one name counts, as for imports."""
    folders = package_folders()
    seen: set[str] = set()
    for found in metadata.distributions():
        described = found.metadata  # parsed anew at each access
        raw = described["Name"]
        folder = Path(str(found.locate_file(""))).resolve()
        if not raw or folder not in folders:  # a project in place, on the import path
            continue
        name = normalized(raw)
        if name in seen:
            continue
        seen.add(name)
        yield InstalledPackage(
            name,
            described["Version"],
            folder,
            (found.read_text("INSTALLER") or "").strip(),
            _origin(found.read_text("direct_url.json")),
            tuple(described.get_all("Requires-Dist") or found.requires or ()),
            found.read_text("REQUESTED") is not None,
        )


def package_folders() -> frozenset[Path]:
    """Return the folders in which this Python has packages: those of the environment, of its base and of the user."""
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    paths.update(site.getsitepackages())
    paths.update(path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"})
    return frozenset(Path(path).resolve() for path in paths)


def normalized(name: str) -> str:
    """Return the form in which two names of one package are equal, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(packages: Iterable[InstalledPackage]) -> Iterator[str | Path]:
    """Yield the requirement of each package; for one from an archive that is still on this machine, the archive.

    The caller's own packages, this package and programs that install packages are left out, and so are packages of the
    operating system, which no index has. A package that is needed on some systems only keeps that condition.
    """
    known = list(packages)
    conditions = _conditions(known)
    for each in sorted(known, key=lambda package: package.name):
        if each.name in _TOOLS or each.name == _THIS or each.is_own or each.folder.name == "dist-packages":
            continue
        archive = _local_archive(each)
        if archive is not None and archive.is_file():
            yield archive
            continue
        condition = conditions.get(each.name)
        yield _source(each) + (f" ; {condition}" if condition else "")


def _source(package: InstalledPackage) -> str:
    """Return the requirement for this version.

    A label of a build, such as `+cu121`, is left out: no index has it, and the version without it matches any.
    """
    origin = package.origin if package.installer != "conda" else None
    if isinstance(origin, dict) and not str(origin.get("url", "")).startswith("file:"):
        url, part = str(origin.get("url", "")), origin.get("subdirectory")
        version = origin.get("vcs_info")
        if isinstance(version, dict):
            url = f"{version.get('vcs', 'git')}+{url}@{version.get('commit_id', '')}"
        return f"{package.name} @ {url}" + (f"#subdirectory={part}" if part else "")
    return f"{package.name}=={package.version.partition('+')[0]}"


def _local_archive(package: InstalledPackage) -> Path | None:
    """Return the archive of this machine that a package was installed from."""
    origin = package.origin if package.installer != "conda" else None
    if not isinstance(origin, dict) or "archive_info" not in origin:
        return None
    url = str(origin.get("url", ""))
    return Path(url2pathname(urlsplit(url).path)) if url.startswith("file:") else None


def _conditions(packages: Iterable[InstalledPackage]) -> dict[str, str]:
    """Return the conditions of packages that others need on some systems only, such as `sys_platform == "darwin"`."""
    found: dict[str, set[str]] = {}
    unconditional = set()
    for package in packages:
        if package.is_requested:
            unconditional.add(package.name)
        for requirement in package.requires:
            match = _REQUIREMENT.match(requirement)
            if match is None:
                continue
            condition = (match[2] or "").strip()
            # A condition with an extra may hold: whether the extra was chosen is not recorded.
            if not condition or "extra" in condition:
                unconditional.add(normalized(match[1]))
            else:
                found.setdefault(normalized(match[1]), set()).add(condition)
    return {
        name: " or ".join(f"({condition})" for condition in sorted(conditions))
        for name, conditions in found.items()
        if name not in unconditional
    }


def _origin(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
