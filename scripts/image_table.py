#!/usr/bin/env python
"""Write `processing/images/table.json` anew: `scripts/image_table.py <site-packages> ...`.

Each folder holds an installed `sagemaker-core` or `sagemaker`; `pip install --no-deps --target <folder> sagemaker-core`
makes one. If several folders have the same version of a framework, the first one wins.
"""

from __future__ import annotations

import json
import pathlib
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from processing.images.sagemaker import read_releases
from processing.images.table import FOLDERS, NO_FRAMEWORKS

if TYPE_CHECKING:
    from processing.images.releases import Release

TABLE = pathlib.Path(__file__).parent.parent / "processing" / "images" / "table.json"


def main(site_packages: list[str]) -> None:
    made_from: dict[str, str] = {}
    known: dict[str, dict[Any, Release]] = {}
    for site in site_packages:
        for distribution in metadata.distributions(path=[site]):
            name = distribution.metadata["Name"]
            folder = pathlib.Path(site, FOLDERS.get(name, "-"))
            if folder.is_dir():
                made_from[name] = distribution.version
                collect(folder, known)
    every = [release for described in known.values() for release in described.values()]
    names, accounts = account_sets([dict(release.accounts) for release in every])
    images = {framework: entries(list(known[framework].values()), names) for framework in sorted(known)}
    TABLE.write_text(written({"made_from": made_from, "accounts": accounts, "images": images}), encoding="utf-8")
    print(f"{TABLE}: {len(every)} releases of {len(images)} frameworks from {made_from}, {TABLE.stat().st_size} bytes")


def collect(folder: pathlib.Path, known: dict[str, dict[Any, Release]]) -> None:
    for path in sorted(folder.glob("*.json")):
        if path.stem in NO_FRAMEWORKS:
            continue
        described = known.setdefault(path.stem, {})
        for release in read_releases(path.stem, json.loads(path.read_bytes())):
            nested = release.pythons if release.pythons in {("py2",), ("py3",)} else ()
            key = (release.scopes, release.version, release.base, nested)
            described.setdefault(key, release)


def account_sets(found: list[dict[str, str]]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the name of each set of accounts, by its JSON, and the form of each in the table: whole, or as part of a
    larger one.
    """
    sets = {json.dumps(accounts, sort_keys=True): accounts for accounts in found}
    names: dict[str, str] = {}
    described: dict[str, Any] = {}
    for key in sorted(sets, key=lambda key: (-len(sets[key]), key)):
        accounts, name = sets[key], f"a{len(names) + 1}"
        larger = [other for other in names if accounts.items() <= sets[other].items()]
        if larger:
            closest = min(larger, key=lambda other: len(sets[other]))
            without = " ".join(sorted(sets[closest].keys() - accounts.keys()))
            described[name] = {"of": names[closest], "without": without}
        else:
            described[name] = {
                account: " ".join(sorted(region for region in accounts if accounts[region] == account))
                for account in sorted(set(accounts.values()))
            }
        names[key] = name
    return names, described


def entries(releases: list[Release], names: dict[str, str]) -> list[dict[str, Any]]:
    """Return the entries of one framework. Releases that differ only in their version share an entry."""
    grouped: dict[str, dict[str, Any]] = {}
    for release in releases:
        tags: dict[str, str] = {}
        for processor, literal in release.tags.items():
            tag = literal.replace(processor, "{processor}") if processor else literal
            tags[tag] = f"{tags[tag]} {processor}" if tag in tags else processor
        entry = {
            "scopes": " ".join(release.scopes),
            "repository": release.repository,
            "accounts": names[json.dumps(dict(release.accounts), sort_keys=True)],
            "tags": tags,
        }
        if release.pythons:
            entry["pythons"] = " ".join(release.pythons)
        if release.base is not None:
            entry["base"] = "=".join(release.bases)
        versions = grouped.setdefault(json.dumps(entry), {"versions": [], **entry})["versions"]
        versions.append("=".join(release.versions))
    return list(grouped.values())


def written(table: dict[str, Any]) -> str:
    """Return the table as JSON with one entry a line, so that a change shows as changed lines."""

    def one_line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"))

    accounts = ",\n".join(f'"{name}":{one_line(value)}' for name, value in table["accounts"].items())
    images = ",\n".join(
        f'"{framework}":[\n' + ",\n".join(map(one_line, found)) + "]" for framework, found in table["images"].items()
    )
    made_from = one_line(table["made_from"])
    return f'{{"made_from":{made_from},\n"accounts":{{\n{accounts}}},\n"images":{{\n{images}}}}}\n'


if __name__ == "__main__":
    main(sys.argv[1:])
