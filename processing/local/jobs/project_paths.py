"""The paths of this machine that a job needs, wherever they are: its Python, the user's project and home, and its data.

A host has a /tmp of its own. Where a virtual environment or a project lies below this machine's /tmp, its paths have to
stay visible in the host.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH109, PTH111, PTH117, PTH118, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from processing.local.import_path import PACKAGE_ROOT
from processing.local.jobs.host_processes import machine_environment
from processing.local.sandboxes.private_folders import hidden_by, kept_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from processing.local.image_programs import ImageProgram
    from processing.local.interpreter import Interpreter
    from processing.local.jobs.workload import Workload

_SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH")
_HOMES = ("JAVA_HOME", "SPARK_HOME")
_ENGINE = (sys.executable, os.path.realpath(sys.executable), sys.prefix, sys.base_prefix, PACKAGE_ROOT)
"""The places of the engine's own interpreter and package, which run `smspark-submit` in a host."""
_REMEMBERED = 1000
"""The jobs whose source folders are remembered between the check of a request and its creation."""
_sources: dict[str, list[str]] = {}


def remember_sources(job_name: str, files: Iterable[Path]) -> None:
    """Remember the folders of the files that this process uploads for a job: its code may read their neighbours."""
    while len(_sources) >= _REMEMBERED:
        _sources.pop(next(iter(_sources)), None)
    _sources[job_name] = sorted({str(file.parent) for file in files if file.is_absolute()})


def needed_paths(home: Path, python: Interpreter, workload: Workload, program: ImageProgram | None = None) -> list[str]:
    """Return the paths below this machine's private folders that a job or an endpoint needs.

    Args:
        home: the engine's folder; its neighbours stay visible with it.
        python: the interpreter in place of the image.
        workload: the job or the endpoint.
        program: the program in place of its image, if there is one.
    """
    sources = _sources.get(workload.name, ())
    own = (*_of_words(workload.words), *workload.places, *(() if program is None else program.path))
    pythons = (*_of_python(python), *_ENGINE)
    return kept_paths([str(home), str(home.parent), *sources, *pythons, *_of_user(), *own])


def _of_python(python: Interpreter) -> Iterator[str]:
    """Yield the folders of an interpreter, of its environment, and of packages that are installed in place."""
    folders = {python.executable, os.path.realpath(python.executable)}
    prefixes = {os.path.dirname(os.path.dirname(path)) for path in folders}
    if python.venv is not None:
        prefixes.add(python.venv)
    if python.executable == sys.executable:
        prefixes |= {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
        yield from sys.path
        yield from _of_import_hooks()
    yield from folders
    for prefix in prefixes:
        yield prefix
        for folder in _entries(os.path.join(prefix, "lib")):
            site = os.path.join(prefix, "lib", folder, "site-packages")
            for file in _entries(site) if folder.startswith("python3") else ():
                if file.endswith(".pth"):
                    yield from _of_path_file(os.path.join(site, file))


def _entries(folder: str) -> list[str]:
    """Return the names in a folder; none if there is no such folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _of_path_file(file: str) -> Iterator[str]:
    """Yield the folders that a `.pth` file adds to the import path."""
    with contextlib.suppress(OSError, UnicodeDecodeError), open(file, encoding="utf-8") as lines:
        yield from (line.strip() for line in lines if os.path.isabs(line))


def _of_import_hooks() -> Iterator[str]:
    """Yield the folders of packages that setuptools' import hooks find in a project."""
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from getattr(module, "MAPPING", {}).values()


def _of_user() -> Iterator[str]:
    """Yield the user's home, the working directory, and the folders that the variables of this machine name."""
    yield os.path.expanduser("~")
    with contextlib.suppress(OSError):  # the working directory was removed
        yield os.getcwd()
    environment = machine_environment()
    for name in _SEARCH_PATHS:
        for folder in environment.get(name, "").split(os.pathsep):
            if os.path.isabs(folder):
                yield folder
                yield os.path.dirname(folder)  # `bin` uses its neighbour `lib`
    yield from (environment[name] for name in _HOMES if environment.get(name))


def _of_words(words: Iterable[str]) -> Iterator[str]:
    """Yield the folders of this machine that a command line names."""
    for word in words:
        path = word.rpartition("=")[2]
        if hidden_by(path):
            folder = os.path.dirname(path)
            yield folder if hidden_by(folder) else path
