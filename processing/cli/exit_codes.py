"""The exit codes of the command, and the end of a command by an error."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

COMPLETED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
STOPPED: Final = 3
TIMED_OUT: Final = 4
NOT_WATCHED: Final = 5
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141  # as of a program that SIGPIPE ends

OF_STATUS: Final = {"Completed": COMPLETED, "Failed": FAILED, "Stopped": STOPPED}
"""The exit code for a job's terminal status."""


def code_of(error: Exception) -> int:
    """Return the exit code for an error."""
    from processing.exceptions import ConfigurationError, JobStoppedError, WaitTimeoutError, WatchError

    if isinstance(error, ConfigurationError):
        return USAGE
    for kind, code in ((JobStoppedError, STOPPED), (WaitTimeoutError, TIMED_OUT), (WatchError, NOT_WATCHED)):
        if isinstance(error, kind):
            return code
    return FAILED


def end_by(error: BaseException) -> int:
    """Report an error on standard error, and return the exit code. Unknown errors are raised again."""
    from processing.exceptions import ProcessingError

    if isinstance(error, KeyboardInterrupt):
        report(str(error) or "Interrupted.", prefix="")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return close_output()
    if isinstance(error, ProcessingError):
        from processing.cli.spelling import in_options

        report(in_options(str(error)))
        return code_of(error)
    if isinstance(error, OSError) or type(error).__module__.startswith(("botocore.", "boto3.")):
        report(f"{type(error).__name__}: {error}")
        return FAILED
    raise error


def close_output() -> int:
    """Let the interpreter's last flush go nowhere, as nobody reads the output any more."""
    with contextlib.suppress(OSError, AttributeError):  # there is no output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


class _NoOutput(io.TextIOBase):
    """The output of a process that was started without one (`>&-` in a shell): what is written is an error."""

    encoding = "utf-8"

    def write(self, _text: str) -> int:
        """Refuse a text."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")


def report(text: str, *, prefix: str = "processing: error: ") -> None:
    """Write a text to standard error, safe for any terminal. A closed one is no error."""
    from processing.container.terminal_text import safe_text

    with contextlib.suppress(OSError, ValueError, AttributeError):
        if not prefix and sys.stderr.isatty():
            prefix = "\r\x1b[K"  # a terminal writes ^C where the cursor is
        sys.stderr.write(f"{prefix}{safe_text(text)}\n")


def flushed(run: Callable[[], int]) -> int:
    """Run a command and flush its output, so that a full disk or a closed pipe is an error of the command."""
    output: TextIO | None = sys.stdout
    try:
        with contextlib.nullcontext() if output else contextlib.redirect_stdout(_NoOutput()):
            code = run()
            sys.stdout.flush()
    except BrokenPipeError:
        return close_output()
    except OSError as error:
        report(f"standard output: {error.strerror or error}")
        close_output()
        return FAILED
    return code
