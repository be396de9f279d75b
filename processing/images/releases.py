"""`Release`: the images of one version of a framework."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@attrs.frozen
class Release:
    """The images of one version of a framework, one for each processor and Python.

    Attributes:
        scopes: the purposes of the images: `training`, `inference`, `processing`, ...
        version: the full version.
        repository: the repository in the registry; may contain `{py}`.
        accounts: the account that publishes the images, by region.
        tags: the pattern of the tag, by processor (`cpu`, `gpu`, or an instance family with its own image). The key is
            empty if one image serves all. A pattern contains `{version}`, `{base}`, `{py}` and `{container}`. Without a
            value, each of them is removed together with the hyphen before it.
        pythons: the available Pythons, such as `py310`; empty if the image's name contains no Python.
        aliases: other names of the version, such as `2.8` for `2.8.0`. The tag contains the name that the user wrote.
        base: the framework that this one builds upon, such as `pytorch2.1.0` (Hugging Face only).
        base_aliases: other names of the base.
    """

    scopes: tuple[str, ...]
    version: str
    repository: str
    accounts: Mapping[str, str]
    tags: Mapping[str, str]
    pythons: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    base: str | None = None
    base_aliases: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """All names of the version."""
        return (self.version, *self.aliases)

    @property
    def bases(self) -> tuple[str, ...]:
        """All names of the base. Empty if there is no base."""
        return (self.base, *self.base_aliases) if self.base is not None else ()


def fill_pattern(pattern: str, values: Mapping[str, str | None]) -> str:
    """Return the pattern with each `{name}` replaced. Without a value, remove the hyphen before it too."""

    def value_of(match: re.Match[str]) -> str:
        value = values[match[2]]
        return f"{match[1]}{value}" if value else ""

    return re.sub(r"(-?)\{(\w+)\}", value_of, pattern)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Return the versions sorted by their numbers, the newest first, and names without a number last."""
    return sorted(set(versions), key=numbers_of, reverse=True)


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers in a version, such as (1, 2, 1) for `1.2-1`."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def number_of_base(base: str) -> str:
    """Return the version of a base, such as `2.1.0` for `pytorch2.1.0`."""
    return re.sub("^[a-z]+", "", base)
