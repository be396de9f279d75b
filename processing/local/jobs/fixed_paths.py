"""The search for paths below /opt/ml in the code of a job that runs without a sandbox.

Path rewriting does not reach the code itself. A program with such a path would miss its inputs, lose its outputs, or
write to this machine's own /opt/ml. So all code that a job starts is searched, for every client: the files that the
command names, the files and modules that these name, and members of archives.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import posixpath
import re
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from processing.container.contract import relative_name
from processing.local.errors import ApiError
from processing.local.jobs.data import archive_errors, file_path, is_file_uri, split_uri
from processing.local.sandboxes.rewriting import literal_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from processing.local.context import EngineContext

    Read = Callable[[], bytes | None]

_CODE = (".py", ".pyw", ".sh", ".bash", ".r", ".pl", ".rb", ".js", ".jl")
_TARS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LISTED = 1000
"""The objects of an input that are looked at when a job is created. All files are looked at when it starts."""
_WALKED = 100_000
"""The files of an input that are looked at when a job starts: code is not stored among more of them."""
_SHOWN = 200
"""The characters of a line of code in a message."""


class CodeStore(Protocol):
    """The objects among which code is searched."""

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        """Return the keys that begin with the prefix; none if the bucket does not exist."""

    def read(self, bucket: str, key: str) -> bytes | None:
        """Return an object's content; None if it cannot be read."""


def problem_in_objects(words: Sequence[str], inputs: Iterable[Mapping[str, Any]], store: CodeStore) -> str | None:
    """Return the problem of a job's code that already exists; None if there is none.

    Args:
        words: the command line of the job.
        inputs: the job's inputs, each with the members of a processing job's S3Input.
        store: the job's objects.
    """
    files: dict[str, Read] = {}
    for item in inputs:
        if item.get("S3InputMode", "File") != "File" or item["S3DataType"] != "S3Prefix":
            continue
        if is_file_uri(item["S3Uri"]):
            files.update(_files_on_disk(file_path(item["S3Uri"]), item["LocalPath"], _LISTED))
        else:
            files.update(_objects(store, *split_uri(item["S3Uri"]), item["LocalPath"]))
    return _problem(words, files)


def problem_on_disk(words: Sequence[str], places: Mapping[str, str]) -> str | None:
    """Return the problem of a job's code; None if there is none.

    Args:
        words: the command line of the job.
        places: for each LocalPath of an input, its path on this machine.
    """
    files: dict[str, Read] = {}
    for local, place in places.items():
        files.update(_files_on_disk(place, local, _WALKED))
    return _problem(words, files)


def problem_in_file(path: str) -> str | None:
    """Return the problem of a program on this machine; None if there is none.

    Args:
        path: the file of the program.
    """
    body = _read(path)
    for number, line in [] if body is None else literal_paths(path, body)[:1]:
        return message(path, number, line)
    return None


def message(path: object, number: int, line: str) -> str:
    """Return the error for a line of code that contains a path below /opt/ml."""
    return (
        f"{path}:{number}: `{line[:_SHOWN]}` names a path below /opt/ml, which the job cannot see on this machine: "
        "without bubblewrap or user namespaces, paths are rewritten in arguments and environment only. Pass the path "
        "as an argument of the script, or install bubblewrap (bwrap)."
    )


def _objects(store: CodeStore, bucket: str, prefix: str, local: str) -> Iterator[tuple[str, Read]]:
    for key in itertools.islice(store.keys(bucket, prefix), _LISTED):
        try:
            name = relative_name(key, prefix)
        except ValueError:  # fails the job when it starts
            continue
        yield posixpath.join(local, name), lambda key=key: store.read(bucket, key)  # type: ignore[misc]


def _files_on_disk(place: str, local: str, limit: int) -> Iterator[tuple[str, Read]]:
    if os.path.isfile(place):  # noqa: PTH113 - a path as text
        yield posixpath.join(local, posixpath.basename(place)), lambda: _read(place)
        return
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)  # noqa: PTH118 - a path as text
    for path in itertools.islice(paths, limit):
        yield posixpath.join(local, os.path.relpath(path, place)), lambda path=path: _read(path)  # type: ignore[misc]


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if os.path.isfile(path) else None  # noqa: PTH113 - not a pipe
    except OSError:
        return None


def _problem(words: Sequence[str], files: Mapping[str, Read]) -> str | None:
    """Return the first problem in the files that the words name, directly or through other files."""
    left = {
        path: read for path, read in files.items() if _is_code(path) or _is_archive(path) or _is_program(path, words)
    }
    mentioned = _names_in("\n".join(words))
    while reached := [path for path in left if path in words or _is_mentioned(path, mentioned)]:
        for path in reached:
            body = left.pop(path)()
            if body is None:
                continue
            if _is_archive(path):
                left.update(_members(path, body))
                continue
            for number, line in literal_paths(path, body)[:1]:
                return message(path, number, line)
            mentioned |= _names_in(body.decode(errors="replace"))
    return None


def _is_code(path: str) -> bool:
    return path.lower().endswith(_CODE)


def _is_program(path: str, words: Sequence[str]) -> bool:
    """Return whether the words name a file without a suffix, as programs often are. Others, such as JSON, are data."""
    return path in words and not posixpath.splitext(path)[1]


def _is_archive(path: str) -> bool:
    return path.lower().endswith((*_TARS, ".zip"))


def _names_in(text: str) -> set[str]:
    """Return the words of a text that may be the name of a file or of a module."""
    return {*re.findall(r"[\w.+-]+", text), *re.findall(r"\w+", text)}


def _is_mentioned(path: str, names: set[str]) -> bool:
    folder, name = posixpath.split(path)
    stem = name.partition(".")[0]
    module = posixpath.basename(folder) if stem in {"__init__", "__main__"} else stem
    return name in names or (_is_code(path) and module in names)


def _members(path: str, archive: bytes) -> Iterator[tuple[str, Read]]:
    """Yield the code in an archive; a damaged archive, which fails the job itself, has none."""
    folder = posixpath.dirname(path)
    damaged: tuple[type[Exception], ...] = (tarfile.TarError, zipfile.BadZipFile, RuntimeError, *archive_errors())
    try:
        if path.lower().endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
                for name in filter(_is_code, zipped.namelist()):
                    body = zipped.read(name)
                    yield posixpath.join(folder, name), lambda body=body: body  # type: ignore[misc]
            return
        with tarfile.open(fileobj=io.BytesIO(archive)) as tarred:
            for member in tarred:
                file = tarred.extractfile(member) if member.isfile() and _is_code(member.name) else None
                if file is not None:
                    body = file.read()
                    name = posixpath.normpath(member.name)
                    yield posixpath.join(folder, name), lambda body=body: body  # type: ignore[misc]
    except damaged:
        return


class EngineCode:
    """The objects of an engine's own S3.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine

    def keys(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with the prefix; none if the bucket does not exist."""
        with contextlib.suppress(ApiError):
            for record in self._engine.objects.iter_prefix(bucket, prefix):
                yield record.key

    def read(self, bucket: str, key: str) -> bytes | None:
        """Return an object's content; None if it cannot be read."""
        try:
            with open(self._engine.objects.open(bucket, key)[1], "rb") as file:  # noqa: PTH123 - a descriptor
                return file.read()
        except (ApiError, OSError):
            return None
