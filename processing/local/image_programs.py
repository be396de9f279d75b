"""The programs that stand in for images: modules with the commands `train` and `serve`.

Standard library only: supervisors read a program from their execution plan.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
"""Matches the name of a module."""
_PACKAGE = "processing.local.programs"
BUILT_IN = {
    "*/kmeans:*": f"{_PACKAGE}.kmeans",
    "*/pca:*": f"{_PACKAGE}.pca",
    "*/linear-learner:*": f"{_PACKAGE}.linear_learner",
    "*/xgboost:*": f"{_PACKAGE}.xgboost",
    "*/sagemaker-xgboost:*": f"{_PACKAGE}.xgboost",
}
"""The programs that come with the package, by patterns of image URIs."""
_INSTALLED = ("site-packages", "dist-packages")


class ImageProgram(NamedTuple):
    """A program in place of an image, run as `python -m MODULE train` or `serve`.

    Attributes:
        module: the module.
        path: the folders that its interpreter has to search for it.
        arguments: further arguments of its command, by which it finds its files in every sandbox.
        source: the file of the module; for a package, that of its `__main__`.
    """

    module: str
    path: list[str]
    arguments: list[str]
    source: str


def module_for(image: str, programs: Iterable[tuple[str, str]]) -> str | None:
    """Return the module for an image: that of the first pattern that matches, or a built-in one; None if none does.

    Args:
        image: the image's URI.
        programs: pairs of a pattern, as in a shell, and a module.
    """
    import fnmatch  # a supervisor starts without it

    for pattern, module in (*programs, *BUILT_IN.items()):
        if fnmatch.fnmatchcase(image, pattern):
            return module
    return None


def find_program(image: str, programs: Iterable[tuple[str, str]]) -> ImageProgram | None:
    """Return the program for an image; None if there is none.

    Raises:
        ConfigurationError: the module does not exist.
    """
    module = module_for(image, programs)
    if module is None:
        return None
    found = _locate(module)
    if found is None:
        raise ConfigurationError(
            f"programs: there is no module {module} for the image {image}: install it, or make its folder the working "
            "directory or a part of PYTHONPATH"
        )
    folder, source = found
    # Other interpreters have packages of their own, which this one's would replace.
    path = [] if os.path.basename(folder) in _INSTALLED else [folder]  # noqa: PTH119 - a path as text
    arguments = ["--root", "/opt/ml"] if module.startswith(f"{_PACKAGE}.") else []
    return ImageProgram(module, path, arguments, source)


def _locate(module: str) -> tuple[str, str] | None:
    """Return the folder from which a module can be imported, and its file, without importing it.

    Return None if it does not exist.
    """
    from importlib.machinery import PathFinder

    folder, search, source = "", None, ""
    for index, _ in enumerate(parts := module.split(".")):
        spec = PathFinder.find_spec(".".join(parts[: index + 1]), search)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        search = None if places is None else list(places)
        source = spec.origin or ""
        if search is not None:
            source = os.path.join(next(iter(search), ""), "__main__.py")  # noqa: PTH118 - a path as text
        if index == 0:
            top = spec.origin if search is None else next(iter(search), None)
            folder = os.path.dirname(os.path.abspath(top or ""))  # noqa: PTH100, PTH120 - a path as text
    return folder, source
