"""Checkpoints of a function: a directory in the job whose files are uploaded while the function runs."""

from __future__ import annotations

import os

CHECKPOINTS = "PROCESSING_REMOTE_CHECKPOINTS"
"""The variable with the directory of the checkpoints in the job."""
EARLIER_CHECKPOINTS = "PROCESSING_REMOTE_CHECKPOINTS_BEFORE"
"""The variable with the directory of the checkpoints that an earlier job has left."""


def prepare() -> None:
    """Make the directory of the checkpoints, with the files that an earlier job has left."""
    place, earlier = os.environ.get(CHECKPOINTS), os.environ.get(EARLIER_CHECKPOINTS)
    if place is None:
        return
    os.makedirs(place, exist_ok=True)  # noqa: PTH103 - as in all of `container`
    if earlier is not None:
        import shutil  # few functions have checkpoints

        # A second name for a file would not do: the function may write to it, and an input may be the user's own file.
        shutil.copytree(earlier, place, dirs_exist_ok=True)
