"""The images of AWS that this package knows: its own table, and the files of a newer `sagemaker`, if one is installed.

The table, `table.json`, is written by `scripts/image_table.py` from what `sagemaker` publishes. In it a release is
an entry of `images`, shared by the versions that differ in nothing else; `2.8.0=2.8` is a version and its alias. The
accounts are held apart: regions by account, or those of another set `without` some regions.

The files of an installed `sagemaker` are read where its version is higher than the one the table was made from. They
are read as files: `sagemaker` itself takes a second to import. They come first; the table knows what they leave out.
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
"""Where a distribution keeps its files, one a framework."""

NO_FRAMEWORKS = frozenset({"instance_gpu_info"})
"""Files in those folders that describe no framework."""


def frameworks() -> list[str]:
    """Return the names of all frameworks, sorted."""
    names = {path.stem for folder in newer_folders() for path in folder.glob("*.json")} - NO_FRAMEWORKS
    return sorted(names | _table()["images"].keys())


def releases(framework: str) -> tuple[Release, ...]:
    """Return what is known of a framework, the newest source first; nothing where it is unknown."""
    found: list[Release] = []
    for folder in newer_folders():
        found += _read_file(folder / f"{framework}.json")
    return (*found, *_own_releases(framework))


@functools.lru_cache(maxsize=1)
def newer_folders() -> tuple[pathlib.Path, ...]:
    """Return the folders of installed distributions that are newer than what the table was made from."""
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
    """Return what a file of somebody else's says; nothing where there is none, or where it has another form."""
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
    """Return the sets of accounts, each the account by region."""
    sets: dict[str, dict[str, str]] = {}
    for name, described in _table()["accounts"].items():
        if "of" in described:  # a set that stands above
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
