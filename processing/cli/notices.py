"""Warnings and log messages of the package on standard error, in the command's form and above the live line."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

from processing.cli import exit_codes
from processing.watching.render.live_line import above_live_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "processing: warning: "
_ADVICE = "processing.watching.detach"


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report warnings within the block without the lines of code that they come from, which are not the user's."""
    package, handler = logging.getLogger("processing"), _Handler(logging.WARNING)
    package.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_args, **_options: _report(str(message))
            yield
    finally:
        package.removeHandler(handler)


class _Handler(logging.Handler):
    """A handler that reports messages, unless the program has handlers of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Report a message, except for the advice after Ctrl-C: the command has its own."""
        if not (logging.getLogger().handlers or record.name == _ADVICE):
            _report(record.getMessage())


def _report(text: str) -> None:
    with above_live_line():
        exit_codes.report(text, prefix=_PREFIX)
