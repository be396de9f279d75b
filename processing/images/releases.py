"""What is known of an image: a `Release` is what one framework publishes under one version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@attrs.frozen
class Release:
    """The images of one version of a framework: one for each processor and Python that it has.

    Attributes:
        scopes: what the images are for: `training`, `inference`, `processing`, ...
        version: the version, in full.
        repository: the repository in the registry; may hold `{py}`.
        accounts: the account that publishes the images, by region.
        tags: the pattern of the tag, by processor (`cpu`, `gpu`, or an instance family that has an image of its own);
            under the empty name where one image serves all. A pattern holds `{version}`, `{base}`, `{py}` and
            `{container}`, which vanish with the hyphen before them where there is no value.
        pythons: the Pythons to choose from, such as `py310`; empty where the name of the image says nothing of Python.
        aliases: other names of the version, such as `2.8` for `2.8.0`. They stand in the tag as they were given.
        base: what the framework builds upon, such as `pytorch2.1.0` (Hugging Face only).
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
        """Every name of the version."""
        return (self.version, *self.aliases)

    @property
    def bases(self) -> tuple[str, ...]:
        """Every name of the base; none where there is no base."""
        return (self.base, *self.base_aliases) if self.base is not None else ()


def fill_pattern(pattern: str, values: Mapping[str, str | None]) -> str:
    """Return the pattern with its `{name}`s replaced; without a value, the hyphen before goes too."""

    def value_of(match: re.Match[str]) -> str:
        value = values[match[2]]
        return f"{match[1]}{value}" if value else ""

    return re.sub(r"(-?)\{(\w+)\}", value_of, pattern)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Return the versions sorted by their numbers, the newest first; names without a number come last."""
    return sorted(set(versions), key=numbers_of, reverse=True)


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the numbers in a version: `1.2-1` is (1, 2, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def number_of_base(base: str) -> str:
    """Return a base's version: of `pytorch2.1.0` it is `2.1.0`."""
    return re.sub("^[a-z]+", "", base)
