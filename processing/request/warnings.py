"""What the user should know, and what stops nothing: warnings that point at the user's own line.

Whoever shows them otherwise collects them: `processor.plan` does.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLLECTED: ContextVar[list[str] | None] = ContextVar("_COLLECTED", default=None)


def warn_user(text: str) -> None:
    """Warn (`UserWarning`) at the line of the user's that called this package, or add to what is being collected.

    Args:
        text: begins with the field as the user wrote it.
    """
    collected = _COLLECTED.get()
    if collected is None:
        warnings.warn(text, UserWarning, stacklevel=_user_stack_level())
    elif text not in collected:
        collected.append(text)


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the notices of this thread instead of warning; yields the list that they are added to."""
    collected: list[str] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def _user_stack_level() -> int:
    """Return the `stacklevel` that points a warning at the user's line: the first outside this package."""
    level = 1
    frame = sys._getframe(1)  # noqa: SLF001 - what warnings itself uses
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "processing":
        frame = frame.f_back
        level += 1
    return level
