"""Files of a task: fills the input folder, uploads the output folder, and empties both between tasks."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable, List, NamedTuple, Optional, Tuple, cast

from processing.container.shim.archives import open_inside, unpack
from processing.container.shim.errors import ShimError, StoreError
from processing.container.shim.storage import Store
from processing.container.shim.threads import map_in_threads

if TYPE_CHECKING:
    from processing.container.shim.settings import Settings
    from processing.container.shim.tasks import Task, TaskInput
    from processing.container.shim.users import User

RESULT_NAME = ".sagemaker_shim/inference_result.json"
"""The key of a result after its prefix. A file of this name in the output folder is not uploaded."""


_REMOVALS = 100
"""Attempts to remove a folder whose content changes."""
STOPPED_EARLY = "The shim was stopped before the program started"
"""The message of a task whose program did not start because of a stop."""


class Output(NamedTuple):
    """A file that was uploaded.

    Attributes:
        relative_path: its path below the output folder.
        bucket_name: its bucket.
        bucket_key: its key.
        size: its size in bytes.
        sha256: the SHA-256 of its content, in hexadecimal digits.
    """

    relative_path: str
    bucket_name: str
    bucket_key: str
    size: int
    sha256: str


class Uploaded(NamedTuple):
    """The end of an upload.

    Attributes:
        outputs: the files that were uploaded, in the order of their paths.
        skipped: the paths of links and of special files, which are never uploaded.
        problems: a sentence for each file that could not be uploaded.
    """

    outputs: List[Output]
    skipped: List[str]
    problems: List[str]


class TaskFolders:
    """The input and the output folder.

    Args:
        settings: the settings.
        user: the user of the program, which writes to the output folder; None for that of the shim.
        should_stop: returns whether the shim is being stopped, which ends a download.
    """

    def __init__(
        self, settings: Settings, user: Optional[User] = None, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        # An image may have a link to a disk in place of either folder. A program cannot change it after this.
        self._input = Path(settings.input_path)
        self._output = Path(os.path.realpath(settings.output_path))
        self._linked_parent = settings.linked_input_parent
        if self._linked_parent is None:
            self._input = Path(os.path.realpath(settings.input_path))
        self._linked: Optional[Path] = None
        self._concurrency = settings.concurrency
        self._user = user
        self._should_stop = should_stop

    def reset(self, pk: Optional[str] = None) -> None:
        """Empty both folders and make those that are missing.

        Args:
            pk: the name of the task that is next; with a linked input folder, its folder is made.

        Raises:
            ShimError: a folder cannot be emptied.
        """
        try:
            if self._linked is not None:
                _remove(self._linked)
                self._linked = None
            if self._linked_parent is None:
                empty(self._input)
            elif pk is not None:
                self._link(Path(self._linked_parent) / (pk + "-input"))
            empty(self._output)
            if self._user is not None and os.geteuid() == 0:
                os.chown(self._output, *(-1 if each is None else each for each in self._user[:2]))
        except OSError as error:
            raise ShimError("setup", "The input and output folders cannot be emptied: %s" % error) from error

    def download(self, task: Task, store: Store) -> None:
        """Download all inputs of a task, several at a time.

        Raises:
            ShimError: an input is missing, does not fit, or is a damaged archive, or the shim is being stopped.
        """
        checked = InterruptibleStore(store, self._should_stop)
        map_in_threads(lambda each: self._download(each, checked), task.inputs, self._concurrency)

    def upload(self, task: Task, store: Store) -> Uploaded:
        """Upload the files of the output folder, several at a time. Links are never followed.

        Raises:
            ShimError: the program put a link or a file in place of the folder.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            folder = os.open(str(self._output), flags)
        except FileNotFoundError:
            return Uploaded([], [], [])
        except OSError as error:
            text = "The output folder %s is not a folder any more: %s" % (self._output, error.strerror)
            raise ShimError("upload", text) from error
        try:
            listed = _list_files(folder)
            done = map_in_threads(lambda name: _upload(folder, name, task, store), listed.names, self._concurrency)
        finally:
            os.close(folder)
        outputs = [each for each in done if isinstance(each, Output)]
        return Uploaded(outputs, listed.skipped, [*listed.problems, *(each for each in done if isinstance(each, str))])

    def _link(self, target: Path) -> None:
        """Make a task's own input folder, and the link to it."""
        _remove(target)
        target.mkdir(parents=True)
        target.chmod(0o755)
        _remove(self._input)
        self._input.parent.mkdir(parents=True, exist_ok=True)
        self._input.symlink_to(target, target_is_directory=True)
        self._linked = target

    def _download(self, source: TaskInput, store: InterruptibleStore) -> None:
        folder = self._linked or self._input
        try:
            if source.decompress:
                self._download_archive(source, folder, store)
            else:
                with open_inside(folder, source.relative_path, "download") as target:
                    store.fetch(source.bucket_name, source.bucket_key, target)
        except StoreError as error:
            raise ShimError(
                "download", "The input %r cannot be downloaded: %s" % (source.relative_path, error)
            ) from error
        except OSError as error:
            text = "no space is left on the disk" if error.errno == errno.ENOSPC else str(error)
            raise ShimError("download", "The input %r cannot be written: %s" % (source.relative_path, text)) from error

    @staticmethod
    def _download_archive(source: TaskInput, folder: Path, store: InterruptibleStore) -> None:
        # The disk of the input folder has room for inputs; /tmp may be small.
        parent = folder.joinpath(*source.relative_path.split("/")[:-1])
        with tempfile.TemporaryFile(dir=str(folder)) as archive:
            store.fetch(source.bucket_name, source.bucket_key, archive)
            parent.mkdir(parents=True, exist_ok=True)
            unpack(archive, parent, "download", strip=True, check=store.check)


class InterruptibleStore(Store):
    """A storage whose downloads end when the shim is being stopped.

    Args:
        store: the storage.
        should_stop: returns whether the shim is being stopped.
        phase: the phase of the error.
    """

    def __init__(self, store: Store, should_stop: Callable[[], bool], phase: str = "download") -> None:
        self._store = store
        self._should_stop = should_stop
        self._phase = phase

    def fetch(self, bucket: str, key: str, target: BinaryIO) -> None:
        """Write the object's content to an empty file, until the stop."""
        self.check()
        self._store.fetch(bucket, key, cast(BinaryIO, _CheckedFile(target, self.check)))

    def check(self) -> None:
        """Raise an error if the shim is being stopped."""
        if self._should_stop():
            raise ShimError(self._phase, STOPPED_EARLY)


class _CheckedFile:
    """A file that calls a function before each piece."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._check = check
        self._file = file
        self.seek = file.seek
        self.truncate = file.truncate

    def write(self, piece: bytes) -> int:
        self._check()
        return self._file.write(piece)


def empty(folder: Path) -> None:
    """Remove the content of a folder; make the folder if it is missing, or if a link or a file is in its place."""
    if folder.is_symlink() or not folder.is_dir():
        _remove(folder)
        folder.mkdir(parents=True)
    for entry in list(os.scandir(str(folder))):
        _remove(Path(entry.path))


def download_archive(uri: Tuple[str, str], folder: str, store: InterruptibleStore) -> None:
    """Download an archive and unpack it into a folder.

    Args:
        uri: the bucket and key of the archive.
        folder: the folder; it is made if it is missing.
        store: the object storage.

    Raises:
        ShimError: the archive is missing or damaged, or does not fit.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as archive:
            store.fetch(uri[0], uri[1], archive)
            unpack(archive, Path(folder), "setup", strip=False, check=store.check)
    except (OSError, StoreError) as error:
        raise ShimError("setup", str(error)) from error


def _remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder with its content; ignore a path that does not exist."""
    for _ in range(_REMOVALS):
        if _has_removed(path):
            return
    raise OSError(errno.EBUSY, "another process changes it", str(path))


def _has_removed(path: Path) -> bool:
    try:
        kind = path.lstat().st_mode
        if not stat.S_ISDIR(kind):
            path.unlink()
            return True
        try:
            shutil.rmtree(str(path))
        except PermissionError:
            _unlock(path)
            shutil.rmtree(str(path))
    except FileNotFoundError:  # of the path itself, or of a file in it that a child of the program has removed
        return not os.path.lexists(str(path))
    return True


def _unlock(folder: Path) -> None:
    """Make the folders below a folder writable again, which a program may have locked."""
    folder.chmod(0o700)
    for parent, names, _ in os.walk(str(folder)):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o700)


class _OutputList(NamedTuple):
    """The paths of regular files below a folder, those of links and special files, and sentences about problems."""

    names: List[str]
    skipped: List[str]
    problems: List[str]


def _list_files(folder: int) -> _OutputList:
    """Return the files below a folder. A child of the program may remove some meanwhile."""
    found = _OutputList([], [], [])

    def report(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            found.problems.append("A folder of the outputs cannot be read: %s" % error)

    for root, folders, files, descriptor in os.fwalk(".", onerror=report, follow_symlinks=False, dir_fd=folder):
        for name in folders + files:
            try:
                mode = os.lstat(name, dir_fd=descriptor).st_mode
            except FileNotFoundError:
                continue
            path = str(Path(root, name))
            if not stat.S_ISDIR(mode) and path != RESULT_NAME:
                (found.names if stat.S_ISREG(mode) else found.skipped).append(path)
    found.names.sort()
    found.skipped.sort()
    return found


def _upload(folder: int, name: str, task: Task, store: Store) -> object:
    """Upload one file; return it, or the sentence of its problem."""
    key = task.output_prefix + name
    try:
        key.encode("utf-8")
        with _open_beneath(folder, name) as source:
            stored = store.put(task.output_bucket_name, key, source, {})
    except UnicodeEncodeError:
        return "The output %r cannot be uploaded: its name is not UTF-8" % name
    except (OSError, StoreError) as error:
        return "The output %r cannot be uploaded: %s" % (name, error)
    return Output(name, task.output_bucket_name, key, stored.size, stored.sha256)


def _open_beneath(folder: int, name: str) -> BinaryIO:
    """Open a regular file for reading, and follow no link on the way: the program's children may still change it."""
    *parents, last = name.split("/")
    current = os.dup(folder)
    try:
        for part in parents:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = inner
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=current)
    finally:
        os.close(current)
    opened = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        opened.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return opened
