"""The artifacts of a training job: archives of /opt/ml/model and /opt/ml/output/data of all its hosts, in S3.

Each host leaves its two directories in the job's folder. The last host to end puts them together: where two hosts have
a file of one name, that of the host with the higher number counts.

A symbolic link stays a link, as tar writes it, if it leads to a place below its directory. The program's links to other
files of this machine are left out.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import posixpath
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from processing.container import contract, training_contract
from processing.local import file_trees
from processing.local.errors import ApiError
from processing.local.jobs.data import DataError
from processing.local.jobs.output_files import regular_files
from processing.local.jobs.uploads import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

    from processing.local.jobs.object_source import ObjectSource
    from processing.local.jobs.output_files import OutputFile

SOURCES = {"model": training_contract.MODEL, "output": training_contract.OUTPUT_DATA}
"""The directories of a host, by the names of the artifacts that they become."""
_LEVEL = 1
"""The level of compression. Weights hardly shrink, and higher levels take several times as long."""


def leave(ml_root: str, place: Path) -> None:
    """Move the directories of an ended host to the place where the last host finds them.

    Args:
        ml_root: the directory that the program saw as /opt/ml.
        place: the host's place, which is made here.

    Raises:
        OSError: a directory cannot be moved.
    """
    place.mkdir(exist_ok=True)
    for name, path in SOURCES.items():
        source = Path(contract.resolve_path(ml_root, path))
        for folder in (Path(ml_root), source.parent, source):  # the program may have taken the access away
            with contextlib.suppress(OSError):
                file_trees.add_mode(str(folder), None, stat.S_IRWXU, stat.S_IFDIR)
        if source.is_dir() and not source.is_symlink():
            source.rename(place / name)


class Artifacts:
    """The artifacts of one job.

    Args:
        request: the job's request.
        places: the existing places at which its hosts left their directories, in order of the hosts.
        folder: the folder for an archive while it is made.
        objects: the job's S3.
        log: writes a line to the job's log.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        places: Sequence[Path],
        folder: Path,
        objects: ObjectSource,
        log: Callable[[str], None],
    ) -> None:
        self._request = request
        self._places = places
        self._folder = folder
        self._objects = objects
        self._log = log

    def upload(self, *, completed: bool) -> None:
        """Upload the artifacts that have files. A completed job has a model even if there is no file in it.

        Raises:
            DataError: an artifact cannot be read or stored. All others are stored.
        """
        problems: list[str] = []
        for name, path in SOURCES.items():
            try:
                self._upload(name, needed=completed and name == "model")
            except (OSError, ValueError, ApiError) as error:  # noqa: PERF203 - two passes
                reason = error.message if isinstance(error, ApiError) else error
                problems.append(f"{path} could not be uploaded: {reason}")
        if problems:
            raise DataError(f"ClientError: {'; '.join(problems)}")

    def _upload(self, name: str, *, needed: bool) -> None:
        owners = {file.name: place for place in self._places for file in _files(place, name)}
        files = (file for place in self._places for file in _files(place, name) if owners[file.name] == place)
        uri = training_contract.artifact_uri(self._request, name)
        if not training_contract.is_compressed(self._request):
            for file in files:
                with file.open() as body:
                    store(self._objects, uri, file.name, body)
            return
        links = {link: to for link, to in self._links(name).items() if link not in owners}
        if owners or links or needed:
            archive = self._folder / f"{name}.tar.gz"
            try:
                with archive.open("w+b") as body:
                    _pack(files, links, body)
                    body.seek(0)
                    store(self._objects, uri, "", body)
            finally:
                archive.unlink(missing_ok=True)

    def _links(self, name: str) -> dict[str, str]:
        """Return the symbolic links of an artifact with their targets, relative to the link."""
        found = {}
        for place in self._places:
            for link, target in _symbolic_links(str(place / name)):
                inside = _inside(link, target, SOURCES[name])
                if inside is None:
                    self._log(f"{SOURCES[name]}/{link} is left out: it links to {target}, outside of {SOURCES[name]}")
                else:
                    found[link] = inside
        if found and name == "model":
            self._log(
                f"{SOURCES[name]}/{min(found)} is a symbolic link. SageMaker cannot host a model.tar.gz with links: "
                "save the file itself"
            )
        return found


def _files(place: Path, name: str) -> Iterator[OutputFile]:
    """Yield the regular files of one host's directory.

    Raises:
        OSError: an entry cannot be read.
    """

    def fail(path: str, error: OSError) -> None:
        raise OSError(error.errno, error.strerror, path)

    if (place / name).is_dir():
        yield from regular_files(str(place), str(place / name), fail)


def _symbolic_links(root: str) -> Iterator[tuple[str, str]]:
    """Yield the links below a directory, in order, with their targets."""
    for entry in sorted(file_trees.entries_below(root), key=lambda entry: entry.path):
        if entry.is_symlink():
            yield os.path.relpath(entry.path, root), os.readlink(entry.path)  # noqa: PTH115 - the target as a text


def _inside(link: str, target: str, root: str) -> str | None:
    """Return the target of a link relative to the link; None if it leads out of its directory.

    Args:
        link: the link's path relative to that directory.
        target: the target, as the program wrote it.
        root: the path at which the program saw the directory.
    """
    folder = posixpath.dirname(posixpath.join(root, link))
    place = posixpath.normpath(posixpath.join(folder, target))
    return posixpath.relpath(place, folder) if place.startswith(f"{root}/") else None


def _pack(files: Iterable[OutputFile], links: Mapping[str, str], target: BinaryIO) -> None:
    """Write an archive of files and links."""
    with (
        gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            _add(tar, file)
        for link, to in links.items():
            member = tarfile.TarInfo(link)
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, to, 0o777
            tar.addfile(member)


def _add(tar: tarfile.TarFile, file: OutputFile) -> None:
    with file.open() as body:
        status = os.fstat(body.fileno())
        member = tarfile.TarInfo(file.name)
        member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), status.st_mode & 0o777
        tar.addfile(member, body)
