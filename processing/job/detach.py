"""The end of a wait by Ctrl-C: the jobs go on, and the interrupt has the commands to continue."""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger(__name__)


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
    # IPython calls this method of an exception in place of its own traceback.
    interrupt._render_traceback_ = functools.partial(_lines, text)  # type: ignore[attr-defined]
    return interrupt


def _lines(text: str) -> list[str]:
    return f"KeyboardInterrupt: {text}".split("\n")
