"""A command with more variables and arguments than a request has room for: the rest is in a script of its own."""

from __future__ import annotations

import shlex
from typing import Mapping, Sequence

from processing.container import contract

FILE = "command.sh"
"""The script's name."""

_HEAD = """\
#!/bin/sh
# Starts the command that it is given with the variables and arguments that the request had no room for.
ml=${0%/processing/*}
exec env"""


def command_script(environment: Mapping[str, str], arguments: Sequence[str]) -> bytes:
    """Return the script.

    It is started with the beginning of a command, and becomes that command, with more variables before it and more
    arguments after it. Paths below /opt/ml are found from the script's own, so that they hold wherever that is.

    Args:
        environment: the variables, with any characters but NUL in their values.
        arguments: the arguments, the same.
    """
    words = [_quoted("%s=%s" % pair) for pair in environment.items()]
    words += ['"$@"', *map(_quoted, arguments)]
    return (" \\\n    ".join([_HEAD, *words]) + "\n").encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    return '"$ml"'.join(shlex.quote(part) if part else "" for part in contract.ML_PATH.split(text)) or "''"
