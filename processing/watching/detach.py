"""The end of a wait by Ctrl-C: the jobs go on, and the interrupt has the commands to continue."""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)


def jobs_go_on() -> str:
    """Return the advice about jobs that the caller knows how to reach."""
    return "Detached: the jobs go on."


def detached(advice: str, before: KeyboardInterrupt | None = None) -> KeyboardInterrupt:
    """Return the interrupt to raise `from None` in place of the user's Ctrl-C.

    Its text is the advice, which Python prints below the traceback. IPython shows the advice alone, without a
    traceback. If the program has a handler for log messages, the advice is logged too, since the program may catch the
    interrupt.

    Args:
        advice: the commands that attach to the jobs and stop them.
        before: an interrupt with earlier advice, which comes first.
    """
    if logger.hasHandlers():
        logger.warning("%s", advice)
    text = f"{before}\n{advice}" if before is not None and str(before) else advice
    interrupt = KeyboardInterrupt(text)
    show_alone(interrupt, text)
    return interrupt


@contextlib.contextmanager
def detaching(advice: Callable[[], str]) -> Iterator[None]:
    """Raise an interrupt with the advice in place of a Ctrl-C within the block."""
    try:
        yield
    except KeyboardInterrupt:
        raise detached(advice()) from None


@contextlib.contextmanager
def detaching_task(advice: Callable[[], str]) -> Iterator[None]:
    """Let IPython show the advice if a coroutine is cancelled within the block.

    IPython cancels the coroutine of a cell to interrupt it. The error itself does not change, since a task may be
    cancelled for any reason.
    """
    from asyncio import CancelledError

    try:
        yield
    except CancelledError as cancelled:
        show_alone(cancelled, advice())
        raise


def show_alone(error: BaseException, text: str) -> None:
    """Let IPython show a text in place of an error's traceback."""
    # IPython calls this method of an exception.
    error._render_traceback_ = functools.partial(_lines, type(error).__name__, text)  # type: ignore[attr-defined]


def _lines(kind: str, text: str) -> list[str]:
    return f"{kind}: {text}".split("\n")
