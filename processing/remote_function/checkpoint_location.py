"""`CheckpointLocation`: a directory of a job whose files are kept in S3 while the function runs."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Final

from processing.container.remote.checkpoints import CHECKPOINTS
from processing.exceptions import ConfigurationError
from processing.request.s3_uri import S3Uri

_TRAINING_PATH: Final = "/opt/ml/checkpoints/"
"""The directory in a training job, which `sagemaker` names."""


class CheckpointLocation(os.PathLike[str]):
    """The place of a function's checkpoints. Pass it as an argument: in the job it is the path of a directory.

    The directory holds the files that are below the URI when the job starts. Files that the function writes there are
    uploaded while it runs, so a later call continues where an earlier one was cut off.

    Args:
        s3_uri: the S3 prefix of the checkpoints.

    Raises:
        ConfigurationError: it is not an S3 URI.
    """

    def __init__(self, s3_uri: str) -> None:
        self._s3_uri = str(S3Uri.checked(s3_uri, "s3_uri"))

    @property
    def s3_uri(self) -> str:
        """The S3 prefix of the checkpoints."""
        return self._s3_uri

    def __fspath__(self) -> str:
        """Return the directory, as `sagemaker` names it. Outside of a job it need not exist."""
        return _TRAINING_PATH

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the path of the directory in the job."""
        return pathlib.Path, (_Variable(),)

    def __repr__(self) -> str:
        return f"CheckpointLocation({self._s3_uri!r})"


class _Variable:
    """A text that is the value of the variable once it is loaded in the job."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.path.expandvars, (f"${CHECKPOINTS}",)


def checkpoints_among(args: tuple[Any, ...], kwargs: Any) -> str | None:
    """Return the S3 prefix of the checkpoints among arguments; None if there are none.

    Raises:
        ConfigurationError: there are several.
    """
    found = [value for value in (*args, *kwargs.values()) if isinstance(value, CheckpointLocation)]
    if len(found) > 1:
        raise ConfigurationError("CheckpointLocation: a remote function takes one of them at most")
    return found[0].s3_uri if found else None
