"""Script for a command whose variables and arguments exceed the limits of a request."""

from __future__ import annotations

import re
import shlex
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from processing.container import contract

FILE = "command.sh"
"""The file name of the script."""

_HEAD = """\
#!/bin/sh
# Starts the command that it is given with the variables and arguments that the request had no room for.
ml=${0%/processing/*}
exec env"""
_BETWEEN = " \\\n    "
_PIECE = re.compile(r"""'([^']*)'|"(\$ml|')"|([a-zA-Z0-9@%+=:,./_-]+)""")
"""A piece of a quoted word: quoted text, /opt/ml or a quote, or text that needs no quotes."""


def command_script(environment: Mapping[str, str], arguments: Sequence[str]) -> bytes:
    """Return the script.

    A job starts it with the beginning of a command. The script replaces itself with that command, preceded by further
    variables and followed by further arguments. It derives paths below /opt/ml from its own path, so they are valid for
    any location of /opt/ml.

    Args:
        environment: the variables; their values may hold any character but NUL.
        arguments: the arguments; the same characters are allowed.
    """
    words = [quote_word("%s=%s" % pair) for pair in environment.items()]
    words += ['"$@"', *map(quote_word, arguments)]
    return (_BETWEEN.join([_HEAD, *words]) + "\n").encode("utf-8", "surrogateescape")


def parse_script(script: bytes) -> Optional[Tuple[Dict[str, str], List[str]]]:
    """Return the variables and the arguments of a script; None if `command_script` did not write it."""
    text = script.decode("utf-8", "surrogateescape")
    if not text.startswith(_HEAD + _BETWEEN) or not text.endswith("\n"):
        return None
    environment: Dict[str, str] = {}
    arguments: List[str] = []
    rest, passed = text[len(_HEAD) : -1], False
    while rest.startswith(_BETWEEN):
        rest = rest[len(_BETWEEN) :]
        if not passed and rest.startswith('"$@"'):
            rest, passed = rest[len('"$@"') :], True
            continue
        word = ""
        while piece := _PIECE.match(rest):
            quoted, special, plain = piece.groups()
            word += contract.ML if special == "$ml" else quoted or special or plain or ""
            rest = rest[piece.end() :]
        if passed:
            arguments.append(word)
        else:
            name, _, value = word.partition("=")
            environment[name] = value
    return (environment, arguments) if passed and not rest else None


def quote_word(text: str) -> str:
    """Return a word of the shell, with the variable `ml` in place of each /opt/ml."""
    return '"$ml"'.join(shlex.quote(part) if part else "" for part in contract.ML_PATH.split(text)) or "''"
