"""The known images of AWS: the package's own table, and the files of a newer `sagemaker`, if one is installed.

`scripts/image_table.py` writes the table, `table.json`, from the files of `sagemaker`. An entry of `images` is a
release, shared by all versions that have no other difference; `2.8.0=2.8` is a version and its alias. A set of
`accounts` lists the regions of each account, or refers to another set `without` some regions.

If the installed `sagemaker` is newer than the source of the table, its files have priority, and the table adds the
entries that they lack. They are read as files, because importing `sagemaker` takes a second.
"""

from __future__ import annotations

import functools
import json
import pathlib
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from processing.images.releases import Release, numbers_of
from processing.images.sagemaker import read_releases

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDERS = {"sagemaker-core": "sagemaker/core/image_uri_config", "sagemaker": "sagemaker/image_uri_config"}
"""The folder of each distribution's files, one for each framework."""

NO_FRAMEWORKS = frozenset({"instance_gpu_info"})
"""The files in those folders that do not describe a framework."""


def frameworks() -> list[str]:
    """Return the names of all frameworks, sorted."""
    names = {path.stem for folder in newer_folders() for path in folder.glob("*.json")} - NO_FRAMEWORKS
    return sorted(names | _table()["images"].keys())


def releases(framework: str) -> tuple[Release, ...]:
    """Return the releases of a framework, the newest source first. Return an empty tuple if it is unknown."""
    found: list[Release] = []
    for folder in newer_folders():
        found += _read_file(folder / f"{framework}.json")
    return (*found, *_own_releases(framework))


@functools.lru_cache(maxsize=1)
def newer_folders() -> tuple[pathlib.Path, ...]:
    """Return the folders of installed distributions that are newer than the source of the table."""
    made_from = _table()["made_from"]
    folders = []
    for name, folder in FOLDERS.items():
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        path = pathlib.Path(str(distribution.locate_file(folder)))
        if numbers_of(distribution.version) > numbers_of(made_from[name]) and path.is_dir():
            folders.append(path)
    return tuple(folders)


def _read_file(path: pathlib.Path) -> list[Release]:
    """Return the releases in a file of another package. Return an empty list if it is missing or has another form."""
    if path.stem in NO_FRAMEWORKS:
        return []
    try:
        return read_releases(path.stem, json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


@functools.lru_cache(maxsize=1)
def _table() -> Any:
    return json.loads(resources.files("processing.images").joinpath("table.json").read_bytes())


@functools.lru_cache(maxsize=1)
def _accounts() -> dict[str, dict[str, str]]:
    """Return the sets of accounts. Each maps a region to its account."""
    sets: dict[str, dict[str, str]] = {}
    for name, described in _table()["accounts"].items():
        if "of" in described:
            # The table lists the other set before this one.
            without = described["without"].split()
            sets[name] = {place: account for place, account in sets[described["of"]].items() if place not in without}
        else:
            sets[name] = {place: account for account, places in described.items() for place in places.split()}
    return sets


@functools.cache
def _own_releases(framework: str) -> tuple[Release, ...]:
    return tuple(release for entry in _table()["images"].get(framework, ()) for release in _of_entry(entry))


def _of_entry(entry: Mapping[str, Any]) -> Iterable[Release]:
    base, *base_aliases = entry["base"].split("=") if "base" in entry else (None,)
    for version in entry["versions"]:
        name, *aliases = version.split("=")
        yield Release(
            scopes=tuple(entry["scopes"].split()),
            version=name,
            repository=entry["repository"],
            accounts=_accounts()[entry["accounts"]],
            tags={
                processor: tag.replace("{processor}", processor)
                for tag, names in entry["tags"].items()
                for processor in names.split() or ("",)
            },
            pythons=tuple(entry.get("pythons", "").split()),
            aliases=tuple(aliases),
            base=base,
            base_aliases=tuple(base_aliases),
        )
