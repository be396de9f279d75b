"""Sessions that observe the end of a job sooner than usual, for callers with few jobs and a result to fetch."""

# The state of a session is private to this package.
# ruff: noqa: SLF001

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from processing.watching.polling import Polling

if TYPE_CHECKING:
    from processing.session.session import Session

LONGEST: Final = 2.0
"""The longest interval between two looks at a job, in seconds: its end is seen one second late on average."""


def prompt_session(session: Session) -> Session:
    """Return a session with the same connections that sees a job's end at most two seconds late.

    It is the same one at each call, so all its jobs share one poller. A session whose user chose the intervals or an
    event source is returned unchanged, and so is one of the engine.
    """
    if session._has_own_polling:
        return session
    with session._lock:
        if session._prompt is None:
            _ = session.api  # both make their calls through it
            prompt = copy.copy(session)
            prompt._polling, prompt._poller = Polling(longest=LONGEST), None
            session._prompt = prompt
        return session._prompt
