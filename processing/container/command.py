"""Script for a command whose variables and arguments exceed the limits of a request."""

from __future__ import annotations

import shlex
from typing import Mapping, Sequence

from processing.container import contract

FILE = "command.sh"
"""The file name of the script."""

_HEAD = """\
#!/bin/sh
# Starts the command that it is given with the variables and arguments that the request had no room for.
ml=${0%/processing/*}
exec env"""


def command_script(environment: Mapping[str, str], arguments: Sequence[str]) -> bytes:
    """Return the script.

    A job starts it with the beginning of a command. The script replaces itself with that command, preceded by further
    variables and followed by further arguments. It derives paths below /opt/ml from its own path, so they are valid for
    any location of /opt/ml.

    Args:
        environment: the variables; their values may hold any character but NUL.
        arguments: the arguments; the same characters are allowed.
    """
    words = [_quoted("%s=%s" % pair) for pair in environment.items()]
    words += ['"$@"', *map(_quoted, arguments)]
    return (" \\\n    ".join([_HEAD, *words]) + "\n").encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    return '"$ml"'.join(shlex.quote(part) if part else "" for part in contract.ML_PATH.split(text)) or "''"
