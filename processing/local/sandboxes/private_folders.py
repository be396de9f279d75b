"""The folders that each host of a job has to itself: /tmp and /dev/shm.

On AWS each host is a machine. A job may rely on names there that no other process takes. This machine's own folders of
those names stay out of reach. The exceptions are paths that a job needs: its Python, the user's project, its data in
place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TMP, SHM = "/tmp", "/dev/shm"  # noqa: S108 - the folders that a host does not share


def private_folders() -> dict[str, str]:
    """Return the real paths of the folders that exist on this machine, by their usual names."""
    return {name: os.path.realpath(name) for name in (TMP, SHM) if os.path.isdir(name)}  # noqa: PTH112 - a path as text


def hidden_by(path: str) -> bool:
    """Return whether a private folder hides a path of this machine."""
    return path.startswith(_beginnings())


def _beginnings() -> tuple[str, ...]:
    """Return the beginnings of the paths that private folders hide."""
    return tuple(f"{folder}{os.sep}" for folder in private_folders().values())


def kept_paths(paths: Iterable[str]) -> list[str]:
    """Return those of this machine's paths that a private folder would hide, without paths inside others.

    Args:
        paths: absolute paths; for a path with links in it, its real path is kept too.
    """
    normal = {os.path.normpath(path) for path in paths if os.path.isabs(path)}  # noqa: PTH117 - a path as text
    known = {each for path in normal for each in (path, os.path.realpath(path))}
    beginnings = _beginnings()
    hidden = {path for path in known if path.startswith(beginnings) and os.path.exists(path)}  # noqa: PTH110 - as text
    return sorted(path for path in hidden if not is_kept(os.path.dirname(path), hidden))  # noqa: PTH120 - a path as text


def is_kept(path: str, kept: Iterable[str]) -> bool:
    """Return whether a path is one of the kept paths, or lies in one."""
    return any(path == other or path.startswith(f"{other}{os.sep}") for other in kept)


def visible_masks(masks: Sequence[tuple[str, bool]], kept: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the masks of paths that the job would see; private folders hide the others already."""
    return [mask for mask in masks if not hidden_by(mask[0]) or is_kept(mask[0], kept)]
