"""The caller's own modules, which travel by value: their functions and classes are part of a pickle.

A module is the caller's own if it is neither of the standard library nor installed. Examples are a file of the working
tree, a project that is installed in place, a module beside a notebook, and a member of a zip on the import path. A
package that was installed as a copy of a folder of this machine counts, too, because no index has it.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.remote_function.dependencies.installed import installed_packages, package_folders

if TYPE_CHECKING:
    from types import ModuleType

_NOT_OWN = frozenset({"__main__", "cloudpickle", "processing", "sitecustomize", "usercustomize"})
"""Names of top-level modules that are never the caller's own. cloudpickle stores the functions of `__main__` itself."""
_SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/share")
_PACKAGE_FOLDER_NAMES = frozenset({"site-packages", "dist-packages"})


def is_own(module: ModuleType) -> bool:
    """Return whether a module is the caller's own code, in Python. So is a namespace package of the caller's own."""
    return is_own_file(module.__name__, getattr(module, "__file__", None), getattr(module, "__path__", None))


def is_own_file(name: str, file: Any, folders: Any) -> bool:
    """Return whether the module of a file is the caller's own.

    Args:
        name: the module's name.
        file: its file; None for a namespace package.
        folders: the folders of a package; None for another module.
    """
    if isinstance(file, str):
        return not file.endswith(tuple(EXTENSION_SUFFIXES)) and _is_own(name, file)
    return folders is not None and any(_is_own(name, os.path.join(folder, "")) for folder in folders)  # noqa: PTH118 - a path as text


def is_compiled(module: ModuleType) -> bool:
    """Return whether a module is the caller's own, but compiled, so that it cannot travel by value."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.endswith(tuple(EXTENSION_SUFFIXES)) and _is_own(module.__name__, file)


@functools.lru_cache(maxsize=10_000)
def _is_own(name: str, path: str) -> bool:
    if name.partition(".")[0] in _NOT_OWN:
        return False
    real = os.path.realpath(path)
    if any(_is_below(real, folder) for folder in _other_folders()) or not _PACKAGE_FOLDER_NAMES.isdisjoint(
        Path(real).parts
    ):
        return real in _copied_files()
    return True


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


@functools.lru_cache(maxsize=1)
def _other_folders() -> tuple[str, ...]:
    """Return the folders of other modules: of Python, of installed packages, of the system, of Spark."""
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_SYSTEM_FOLDERS]
    paths += [str(path) for path in package_folders()]
    paths += [os.environ["SPARK_HOME"]] if os.environ.get("SPARK_HOME") else []
    return tuple({os.path.realpath(path) for path in paths})


@functools.lru_cache(maxsize=1)
def _copied_files() -> frozenset[str]:
    """Return the files of packages that were installed as copies of folders of this machine."""
    names = [package.name for package in installed_packages() if package.is_own]
    files = (file for name in names for file in metadata.files(name) or ())
    return frozenset(os.path.realpath(str(file.locate())) for file in files)
