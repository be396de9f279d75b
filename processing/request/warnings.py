"""Warnings that point at the user's own line, and a way to collect them instead.

`processor.plan` collects them, because it shows them with its result.
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
_emitted: set[str] = set()


def warn_user(text: str, *, once: bool = False) -> None:
    """Emit a `UserWarning` at the user's line that called this package, or add it to the warnings being collected.

    Args:
        text: the warning; it begins with the field as the user wrote it.
        once: True to emit it once in this process, however many lines of the user lead to it.
    """
    collected = _COLLECTED.get()
    if collected is None:
        if not (once and text in _emitted):
            warnings.warn(text, UserWarning, stacklevel=_user_stack_level())
            _emitted.update([text] if once else ())
    elif text not in collected:
        collected.append(text)


def notify_user(text: str) -> None:
    """Log a notice, which ends no run even if warnings are errors, or add it to the warnings being collected.

    Args:
        text: the notice.
    """
    collected = _COLLECTED.get()
    if collected is None:
        import logging  # not for those who only declare settings

        logging.getLogger(__name__).warning("%s", text)
    elif text not in collected:
        collected.append(text)


def note_in_plan(text: str | None) -> None:
    """Add a warning to those being collected; nothing else, since the job itself logs it.

    Args:
        text: the warning; None for none.
    """
    collected = _COLLECTED.get()
    if text is not None and collected is not None and text not in collected:
        collected.append(text)


@contextlib.contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings of this thread instead of emitting them. Yield the list that receives them."""
    collected: list[str] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def _user_stack_level() -> int:
    """Return the `stacklevel` of the user's line: the first frame outside of this package."""
    level = 1
    frame = sys._getframe(1)  # noqa: SLF001 - the warnings module uses it, too
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "processing":
        frame = frame.f_back
        level += 1
    return level
