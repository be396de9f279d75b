"""The error of the engine's stores and handlers, which becomes the error answer of an AWS service."""

from __future__ import annotations

from processing.exceptions import EngineError, ProcessingError


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
    return ApiError("InsufficientStorage", f"There is no space left on the disk of the local engine ({place}).", 507)
