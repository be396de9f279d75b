"""The exit message of a failed application: the exception in the last lines that it wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from processing.container import contract

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRACEBACK = "Traceback (most recent call last):"
_SYNTAX = re.compile(r"(Syntax|Indentation|Tab)Error: ")
"""The last line of an application that Python cannot parse: its output has no traceback."""
_JVM = ('Exception in thread "main" ', "Error: Failed to load class ", "Error: ")
_MESSAGE = Path("output", "message")


def describe_failure(application: str, code: int, output: str, errors: str) -> str:
    """Return the exit message of an application.

    Args:
        application: the application.
        code: its exit code.
        output: the end of its standard output, to which Spark also sends the standard error of Python.
        errors: the end of its standard error.
    """
    lines = output.splitlines()
    cause = _exception(lines) or _jvm_exception(errors.splitlines())
    text = f"AlgorithmError: {Path(application).name} failed with exit code {code}"
    if cause:
        return f"{text}: {cause}"
    # `sys.exit("...")` and argparse leave their reason there; a JVM ends with lines of Spark's own.
    last = next((line.strip() for line in reversed(lines) if line.strip()), None)
    return f"{text}; its last line: {last}" if last and application.endswith(".py") else f"{text}; see the job's log"


def _exception(lines: Sequence[str]) -> str | None:
    """Return the line of the last exception of Python; None if there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    after = lines[starts[-1] + 1 :] if starts else [line for line in lines[-1:] if _SYNTAX.match(line)]
    return next((line.strip() for line in after if line.strip() and not line.startswith((" ", "\t"))), None)


def _jvm_exception(lines: Sequence[str]) -> str | None:
    """Return the line of the last exception in the JVM; None if there is none."""
    for begin in _JVM:
        found = [line for line in lines if line.startswith(begin)]
        if found:
            return found[-1].removeprefix(_JVM[0]).strip()
    return None


def write_message(ml_root: str, text: str) -> None:
    """Write the exit message, as much as the platform reads of it.

    Args:
        ml_root: the folder that the job knows as /opt/ml.
        text: the message.
    """
    place = Path(ml_root) / _MESSAGE
    place.parent.mkdir(parents=True, exist_ok=True)
    body = text.encode("utf-8", "replace")[: contract.MESSAGE_LIMIT]
    place.write_bytes(body.decode("utf-8", "ignore").encode())
