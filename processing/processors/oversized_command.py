"""Limits lifted: variables and arguments that a request has no room for travel in a file, and are read back there."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

INPUT_NAME = "processing-command"
"""The name of the input with the file."""

_SHELL = "/bin/sh"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BREAK = re.compile("[\n\r\x85\u2028\u2029]")  # what the dot of the service's patterns does not match
_LONGEST_WORD = 128 * 1024
"""Bytes that Linux lets one variable or argument have, the NUL at its end included (MAX_ARG_STRLEN)."""
_LONGEST_COMMAND = 15 * _LONGEST_WORD
"""Bytes of all of them: what Linux lets a command have where the stack may have the usual 8 MB, less some reserve."""


@attrs.frozen
class Limits:
    """What a request has room for, as the installed service model says.

    Args:
        entries: how many variables.
        value: how many characters of one.
        words: how many arguments, or parts of the entrypoint.
        word: how many characters of one.
    """

    entries: int
    value: int
    words: int
    word: int


@attrs.frozen
class Command:
    """What a job runs, and with which variables; attributes as `Processor` has them.

    Args:
        entrypoint: the program and its first arguments.
        arguments: the other arguments.
        env: the variables.
    """

    entrypoint: Any
    arguments: Any
    env: Any


@functools.cache
def request_limits() -> Limits:
    """Return what a request has room for."""
    from processing.request.service_model import processing_model

    shape: Any = processing_model().operation_model("CreateProcessingJob").input_shape
    environment = shape.members["Environment"]
    arguments = shape.members["AppSpecification"].members["ContainerArguments"]
    return Limits(
        environment.metadata["max"],
        environment.value.metadata["max"],
        arguments.metadata["max"],
        arguments.member.metadata["max"],
    )


def spill(command: Command, path: str) -> tuple[Command, bytes] | None:
    """Return the command that fits into a request, and the file with the rest; None where all of it fits.

    What cannot be in a request for another reason stays there, where it is found.

    Args:
        command: what is to run.
        path: where the file will be in the container.

    Raises:
        ConfigurationError: the entrypoint is the image's own, so nothing can be put before it; or Linux would not
            start a command that long.
    """
    from processing.container.command import command_script

    limits = request_limits()
    kept, spilled = _divided(command.env, limits)
    arguments, entrypoint = _texts(command.arguments), _texts(command.entrypoint)
    more_arguments = _unfit(arguments, limits, limits.words)
    more_entrypoint = _unfit(entrypoint, limits, limits.words - 2)
    if not (spilled or more_arguments or (more_entrypoint and _unfit(entrypoint, limits, limits.words))):
        return None
    if not entrypoint:
        raise ConfigurationError(*_no_room(command, arguments, limits))
    words = [*(entrypoint if more_entrypoint else ()), *(arguments if more_arguments or more_entrypoint else ())]
    _check(spilled, words)
    fitting = Command(
        [_SHELL, path, *(() if more_entrypoint else entrypoint)],
        None if words else command.arguments,
        kept if spilled else command.env,
    )
    return fitting, command_script(spilled, words)


def _divided(env: Any, limits: Limits) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that fit into a request, and the others: long ones, and what comes after so many."""
    from collections.abc import Mapping as AnyMapping

    if not isinstance(env, AnyMapping):
        return {}, {}
    movable = [name for name, value in env.items() if _is_variable(name, value)]
    spilled = {name for name in movable if len(env[name]) > limits.value}
    surplus = len(env) - len(spilled) - limits.entries
    others = [name for name in movable if name not in spilled]
    if surplus > 0:
        spilled.update(others[-surplus:])
    return (
        {name: value for name, value in env.items() if name not in spilled},
        {name: value for name, value in env.items() if name in spilled},
    )


def _is_variable(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str) and _NAME.fullmatch(name) is not None


def _texts(words: Any) -> list[str]:
    """Return the words as text; none where they are no words, which is found elsewhere."""
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, (str, os.PathLike)) for word in words):
        return []
    return [os.fspath(word) for word in words]


def _unfit(words: Sequence[str], limits: Limits, most: int) -> bool:
    return len(words) > most or any(len(word) > limits.word or _BREAK.search(word) for word in words)


def _no_room(command: Command, arguments: Sequence[str], limits: Limits) -> Iterator[str]:
    """Yield what is too much where the image's own entrypoint runs."""
    instead = "more would go through a file, if the program were known: give the entrypoint"
    if len(arguments) > limits.words:
        yield f"arguments: has {len(arguments)} entries, at most {limits.words}; {instead}"
    for index, word in enumerate(arguments):
        if len(word) > limits.word:
            yield f"arguments[{index}]: has {len(word)} characters, at most {limits.word}; {instead}"
        elif _BREAK.search(word):
            yield f"arguments[{index}]: holds a line break, which AWS does not allow; {instead}"
    if len(command.env or ()) > limits.entries:
        yield f"env: has {len(command.env)} entries, at most {limits.entries}; {instead}"
    for name, value in (command.env or {}).items():
        if _is_variable(name, value) and len(value) > limits.value:
            yield f'env["{name}"]: has {len(value)} characters, at most {limits.value}; {instead}'


def _check(env: Mapping[str, str], words: Iterable[str]) -> None:
    """Refuse what no process can be given."""
    named = [(f'env["{name}"]', f"{name}={value}") for name, value in env.items()]
    named += [(f"arguments[{index}]", word) for index, word in enumerate(words)]
    total = 0
    for field, text in named:
        try:
            size = len(text.encode("utf-8", "surrogateescape")) + 1
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{field}: holds {text[error.start]!r}, half of a character") from error
        total += size
        if "\0" in text:
            raise ConfigurationError(f"{field}: holds a NUL character, which no process can be given")
        if size > _LONGEST_WORD:
            raise ConfigurationError(
                f"{field}: has {size - 1} bytes, at most {_LONGEST_WORD - 1} can be given to a process; use an input"
            )
    if total > _LONGEST_COMMAND:
        raise ConfigurationError(
            f"arguments: with env they have {total} bytes, at most {_LONGEST_COMMAND} can be given to a process; "
            "use an input"
        )
