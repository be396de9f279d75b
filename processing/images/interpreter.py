"""Python of an image: its path, its version, and whether it has botocore."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processing.images.file_tree import FileTree

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of an image that sets none, as in Docker."""
_NAMES = ("python3", "python")
_VERSIONED = re.compile(r"python(\d)\.(\d+)")


@frozen
class ImagePython:
    """Python in an image.

    Attributes:
        path: the program's path, as the search path has it. A link in a virtual environment is not resolved.
        version: its version, such as (3, 11).
        has_botocore: whether it can import botocore.
    """

    path: str
    version: tuple[int, int]
    has_botocore: bool


def find_interpreter(tree: FileTree, search_path: str) -> ImagePython | None:
    """Return the Python that a program of an image would start; None if there is no Python.

    Args:
        tree: the image's files.
        search_path: folders with a `:` between them, as in PATH.
    """
    for folder in search_path.split(":"):
        for name in _NAMES:
            path = f"{folder.rstrip('/')}/{name}"
            node = tree.find(path) if folder.startswith("/") else None
            if node is not None and node.is_program:
                return inspect_interpreter(tree, path)
    return None


def inspect_interpreter(tree: FileTree, path: str) -> ImagePython | None:
    """Return the Python at a path of an image; None if there is no such program, or its version cannot be told."""
    node, resolved = tree.find(path), tree.resolve(path)
    if node is None or resolved is None or not node.is_program:
        return None
    version = _version(tree, resolved)
    if version is None:
        return None
    return ImagePython(path, version, any(tree.find(each) for each in _botocore_places(tree, path, resolved, version)))


def _version(tree: FileTree, resolved: str) -> tuple[int, int] | None:
    """Return the version that the program's own name tells, or the only library beside it."""
    folder, _, name = resolved.rpartition("/")
    found = _VERSIONED.fullmatch(name)
    names: Sequence[str] = [name] if found else tree.names(_prefix(folder) + "/lib")
    versions = [match for match in map(_VERSIONED.fullmatch, names) if match is not None]
    if not found:
        versions = [each for each in versions if tree.find(f"{_prefix(folder)}/lib/{each[0]}/os.py") is not None]
    return (int(versions[0][1]), int(versions[0][2])) if len(versions) == 1 else None


def _botocore_places(tree: FileTree, path: str, resolved: str, version: tuple[int, int]) -> Iterator[str]:
    prefix = _prefix(path.rpartition("/")[0])
    prefixes = [prefix]
    # A virtual environment does not see the packages of its base.
    if tree.find(prefix + "/pyvenv.cfg") is None:
        prefixes.append(_prefix(resolved.rpartition("/")[0]))
    for each in prefixes:
        for library in ("python{}.{}".format(*version), f"python{version[0]}"):
            for packages in ("site-packages", "dist-packages"):
                yield f"{each}/lib/{library}/{packages}/botocore/__init__.py"
                yield f"{each}/local/lib/{library}/{packages}/botocore/__init__.py"


def _prefix(folder: str) -> str:
    """Return the folder above `bin`."""
    return folder.rpartition("/")[0]
