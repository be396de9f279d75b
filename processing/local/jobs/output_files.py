"""The regular files of an output, as a job leaves them: nested deeply, replaced meanwhile, or locked.

On AWS, root uploads the outputs, and a job's modes do not matter. Here an ordinary user does. So after the end of the
program this module grants that user access to the job's own directories and files. The machine's other files stay
out of reach: no link is followed, neither at a file nor on the way to it.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from processing.local import file_trees

FileState = tuple[int, int, int]
"""Size, time of change in nanoseconds, and inode. Two states of a path with the same content have the same value."""

Report = Callable[[str, OSError], None]
"""Called with the relative path of an entry that cannot be read, and the error."""

_LONGEST_PATH = 1024
"""The bytes of a relative path beyond which no directory is read: S3 has no longer key."""


class OutputFile(NamedTuple):
    """A regular file below an output's directory.

    Attributes:
        name: its path relative to that directory, with `/`.
        state: differs after a change of the file, and for another file that was renamed into its place.
        folder: a descriptor of its directory, which is open until the iterator moves on.
        unlock: whether `open` may grant this user access for the moment.
    """

    name: str
    state: FileState
    folder: int
    unlock: bool

    def open(self) -> BinaryIO:
        """Open the file for reading. A link that has replaced it meanwhile is an error."""
        name = posixpath.basename(self.name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return open(os.open(name, flags, dir_fd=self.folder), "rb", buffering=0)
        except PermissionError:
            if not self.unlock:
                raise
        mode = None
        with contextlib.suppress(OSError):
            mode = file_trees.add_mode(name, self.folder, stat.S_IRUSR, stat.S_IFREG)
        fd = os.open(name, flags, dir_fd=self.folder)
        if mode is not None:  # the file may have another name, outside the job
            os.fchmod(fd, mode)
        return open(fd, "rb", buffering=0)


def regular_files(ml_root: str, root: str, report: Report | None = None) -> Iterator[OutputFile]:
    """Yield each regular file below a directory in `ml_root`, in order.

    Links are left out. A link that a job puts in the place of a directory is not followed either, since it could lead
    to other files of this machine. Entries that vanish meanwhile are left out.

    Args:
        ml_root: the directory that the job sees as /opt/ml.
        root: the output's directory.
        report: called for each directory or file that cannot be read, after an attempt to unlock it. None while the
            program runs: entries without access are skipped, and no mode changes.
    """
    base = os.path.relpath(root, ml_root)
    folders = [""]
    while folders:
        folder = folders.pop()
        if len(os.fsencode(folder)) > _LONGEST_PATH:
            _report(report, folder, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
            continue
        try:
            fd = _open_below(ml_root, posixpath.join(base, folder) if folder else base, unlock=report is not None)
        except OSError as error:
            _report(report, folder, error)
            continue
        try:
            files, inner = _entries(fd, folder, report)
            yield from files
        finally:
            os.close(fd)
        folders += reversed(inner)


def unlock(ml_root: str, path: str) -> None:
    """Grant this user access to the job's file at a path below `ml_root`, if the job has taken it away."""
    folder, name = posixpath.split(path)
    with contextlib.suppress(OSError):  # it does not exist
        fd = _open_below(ml_root, folder, unlock=True)
        try:
            file_trees.add_mode(name, fd, stat.S_IRUSR, stat.S_IFREG)
        finally:
            os.close(fd)


def _entries(fd: int, folder: str, report: Report | None) -> tuple[list[OutputFile], list[str]]:
    """Return the files of an open directory, and the paths of the directories in it, both sorted."""
    files, folders = [], []
    try:
        with os.scandir(fd) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _report(report, folder, error)
        return [], []
    for entry in found:
        path = posixpath.join(folder, entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                continue
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            _report(report, path, error)
            continue
        if stat.S_ISREG(status.st_mode):
            state = (status.st_size, status.st_mtime_ns, status.st_ino)
            files.append(OutputFile(path, state, fd, report is not None))
    return files, folders


def _report(report: Report | None, path: str, error: OSError) -> None:
    if report is not None and error.errno not in {errno.ENOENT, errno.ELOOP}:
        report(path, error)


def _open_below(root: str, path: str, *, unlock: bool) -> int:
    """Open a directory below `root`, whose path may not contain a link.

    Raises:
        OSError: the directory cannot be opened. The error is ELOOP for a link.
    """
    fd = _open_directory(root, None, unlock=unlock)
    for part in path.split("/"):
        try:
            inner = _open_directory(part, fd, unlock=unlock)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _open_directory(name: str, folder: int | None, *, unlock: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except NotADirectoryError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
        raise
    except PermissionError:
        if not unlock:
            raise
        with contextlib.suppress(OSError):  # the next line raises the error that counts
            file_trees.add_mode(name, folder, stat.S_IRWXU, stat.S_IFDIR)
        fd = os.open(name, flags, dir_fd=folder)
    if unlock and stat.S_IMODE(mode := os.fstat(fd).st_mode) & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):  # if access is missing, the next operation reports it
            os.fchmod(fd, stat.S_IMODE(mode) | stat.S_IRWXU)
    return fd
