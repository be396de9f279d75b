"""Errors of the shim. Their texts go into results and answers, so they contain no secrets."""

from __future__ import annotations

_MOST_CHARACTERS = 500
"""The longest text of an error about a task, which may contain a wrong value of any length."""


class ShimError(Exception):
    """A failure of one task, with a text for the user of the program.

    Args:
        phase: the part of the task that failed: "setup", "download", "start", "run" or "upload".
        message: the text.
    """

    def __init__(self, phase: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase


class TaskError(ValueError):
    """A task that is not valid.

    Args:
        field: the field's path as in `inputs[0].bucket_key`; empty for the whole text.
        problem: the rest of the sentence.
    """

    def __init__(self, field: str, problem: str) -> None:
        if len(problem) > _MOST_CHARACTERS:
            problem = problem[:_MOST_CHARACTERS] + "..."
        super().__init__("%s: %s" % (field, problem) if field else problem)
        self.field = field


class SettingError(ValueError):
    """A variable or option that is not valid; the text names it and the remedy."""


class StoreError(Exception):
    """A failed transfer of an object; the text names the object."""
