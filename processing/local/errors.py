"""The error of the engine's stores and handlers, which becomes the error answer of an AWS service."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from processing.exceptions import EngineError, ProcessingError

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER_FOLDER = "use another folder: LocalSession(home), or the environment's PROCESSING_LOCAL_HOME"
"""The remedy for every folder that cannot be used."""

_REMEDIES = {
    errno.EACCES: "Give your user its rights back (chmod -R u+rwX {folder})",
    errno.EPERM: "Give your user its rights back (chmod -R u+rwX {folder})",
    errno.EROFS: "Mount its file system writable",
    errno.ENOENT: "It was removed or moved while it was in use, so run this again",
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO),
        "Move {top} out of the folder, so that the engine makes a new one",
    ),
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_SPACE = "InsufficientStorage"


class ApiError(ProcessingError):
    """An error answer of a service. Users of a client see it as botocore's ClientError.

    Attributes:
        code: the service's error code, such as `NoSuchKey`.
        message: the text.
        status: the HTTP status.
        details: further elements of the answer, such as S3's `Key`.
    """

    def __init__(self, code: str, message: str, status: int = 400, **details: str) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.details = details
        super().__init__(f"{code}: {message}")


def unusable(error: EngineError) -> ApiError:
    """Return the answer to a client in another process for an error that a client in this process would see itself.

    No client retries its status, 507.
    """
    return ApiError("LocalEngineUnusable", str(error), 507)


def folder_gone(folder: object) -> EngineError:
    """Return the error for an engine's folder that was removed while it was in use."""
    return EngineError(f"the engine's folder {folder} is gone: it was removed while it was in use")


def disk_full(place: object) -> ApiError:
    """Return the error for a full disk. No client retries its status, 507."""
    return ApiError(
        _NO_SPACE,
        f"There is no space left on the disk of the local engine ({place}). Remove other files or old data "
        "(python -m processing.local clean).",
        507,
    )


def damaged_file(home: Path, name: object, reason: str, remedy: str) -> EngineError:
    """Return the error for a file of the engine that cannot be used.

    Args:
        home: the engine's folder.
        name: the file's path in it.
        reason: the reason, in a few words.
        remedy: the advice, without a full stop.
    """
    return EngineError(f"the engine cannot use {name} in its folder {home}: {reason}. {remedy}, or {OTHER_FOLDER}")


def file_error(home: Path, error: OSError) -> ProcessingError | None:
    """Return the clearer error for an error of the system about a file in the engine's folder, or None for others.

    Args:
        home: the engine's folder.
        error: the system's error.
    """
    if error.errno in _FULL:
        return disk_full(home)
    name = error.filename
    if isinstance(error.filename2, (str, bytes)) and os.path.lexists(name):  # of a renaming, whose source is in order
        name = error.filename2
    if not isinstance(name, (str, bytes)):
        return None
    try:
        inside = Path(os.fsdecode(name)).relative_to(home)
    except ValueError:
        return None
    if not home.is_dir():
        return folder_gone(home)
    remedy = _REMEDIES.get(error.errno or 0, "Repair the disk").format(
        folder=home, top=home.joinpath(*inside.parts[:1])
    )
    return damaged_file(home, inside, error.strerror or str(error), remedy)


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return isinstance(error, ApiError) and error.code == _NO_SPACE


@contextlib.contextmanager
def tolerating_full_disk() -> Iterator[None]:
    """End the block at the error of a full disk, for work that a later call does again."""
    try:
        yield
    except (ApiError, OSError) as error:
        if not is_full(error):
            raise
