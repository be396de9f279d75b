"""Commands that exceed the limits of a request: the excess travels in a file that restores it in the container."""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INPUT_NAME = "processing-command"
"""The name of the input that holds the file."""

_SHELL = "/bin/sh"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The characters that the dot in the service's patterns does not match.
_LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")
# The bytes of one variable or argument on Linux, with the NUL at its end (MAX_ARG_STRLEN).
_MAX_WORD_BYTES = 128 * 1024
# The bytes of all variables and arguments. Linux allows a quarter of the stack limit, which is usually 8 MB. This is
# 128 kB less, as a reserve.
_MAX_COMMAND_BYTES = 15 * _MAX_WORD_BYTES


@attrs.frozen
class RequestLimits:
    """The limits of a request, from the installed service model.

    Args:
        entries: the number of variables.
        value: the characters of one variable.
        words: the number of arguments, and of parts of the entrypoint.
        word: the characters of one argument.
    """

    entries: int
    value: int
    words: int
    word: int


@attrs.frozen
class Command:
    """The program of a job with its environment, in attributes of the same names as those of `Processor`.

    Args:
        entrypoint: the program and its first arguments.
        arguments: the other arguments.
        env: the environment variables.
    """

    entrypoint: Any
    arguments: Any
    env: Any


@functools.cache
def request_limits() -> RequestLimits:
    """Return the limits of a request."""
    from processing.request.service_model import processing_model

    shape: Any = processing_model().operation_model("CreateProcessingJob").input_shape
    environment = shape.members["Environment"]
    arguments = shape.members["AppSpecification"].members["ContainerArguments"]
    return RequestLimits(
        environment.metadata["max"],
        environment.value.metadata["max"],
        arguments.metadata["max"],
        arguments.member.metadata["max"],
    )


def spill(command: Command, path: str) -> tuple[Command, bytes] | None:
    """Return a command that fits into a request, and the file with the rest. Return None if everything fits.

    A value that is invalid for another reason than its length stays in the command, where validation reports it.

    Args:
        command: the command to fit.
        path: the file's path in the container.

    Raises:
        ConfigurationError: the entrypoint is the image's own, so the file cannot run before it; or the command is too
            long for Linux.
    """
    from processing.container.command import command_script

    # The request runs `/bin/sh <file>` with the entrypoint as the arguments of the file. The file sets the variables
    # that do not fit, appends the arguments that do not fit, and executes the result. `/bin/sh` and the path need two
    # words of the entrypoint, so an entrypoint that leaves fewer than two free goes into the file too.
    limits = request_limits()
    kept, spilled = _split_environment(command.env, limits)
    arguments, entrypoint = _texts(command.arguments), _texts(command.entrypoint)
    spill_arguments = _exceeds(arguments, limits, limits.words)
    spill_entrypoint = _exceeds(entrypoint, limits, limits.words - 2)
    if not (spilled or spill_arguments or (spill_entrypoint and _exceeds(entrypoint, limits, limits.words))):
        return None
    if not entrypoint:
        raise ConfigurationError(*_limit_problems(command, arguments, limits))
    moved = {
        "entrypoint": entrypoint if spill_entrypoint else [],
        "arguments": arguments if spill_arguments or spill_entrypoint else [],
    }
    _check_process_limits(spilled, moved)
    words = [word for of_field in moved.values() for word in of_field]
    fitting = Command(
        [_SHELL, path, *(() if spill_entrypoint else entrypoint)],
        None if words else command.arguments,
        kept if spilled else command.env,
    )
    return fitting, command_script(spilled, words)


def _split_environment(env: Any, limits: RequestLimits) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that fit into a request, and those that are too long or too many."""
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
    """Return the words as text. Return an empty list for other types, which validation reports."""
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, (str, os.PathLike)) for word in words):
        return []
    return [os.fspath(word) for word in words]


def _exceeds(words: Sequence[str], limits: RequestLimits, most: int) -> bool:
    return len(words) > most or any(len(word) > limits.word or _LINE_BREAK.search(word) for word in words)


def _limit_problems(command: Command, arguments: Sequence[str], limits: RequestLimits) -> Iterator[str]:
    """Yield a problem for each value beyond the limits, for a command with the image's own entrypoint."""
    instead = "more would go through a file, if the program were known: give the entrypoint"
    if len(arguments) > limits.words:
        yield f"arguments: has {len(arguments)} entries, at most {limits.words}; {instead}"
    for index, word in enumerate(arguments):
        if len(word) > limits.word:
            yield f"arguments[{index}]: has {len(word)} characters, at most {limits.word}; {instead}"
        elif _LINE_BREAK.search(word):
            yield f"arguments[{index}]: holds a line break, which AWS does not allow; {instead}"
    if len(command.env or ()) > limits.entries:
        yield f"env: has {len(command.env)} entries, at most {limits.entries}; {instead}"
    for name, value in (command.env or {}).items():
        if _is_variable(name, value) and len(value) > limits.value:
            yield f'env["{name}"]: has {len(value)} characters, at most {limits.value}; {instead}'


def _check_process_limits(env: Mapping[str, str], words: Mapping[str, Sequence[str]]) -> None:
    """Raise an error for values that Linux cannot pass to a process, and for those that AWS would refuse.

    Args:
        env: the variables that travel in the file.
        words: the words that travel in it, by their fields.
    """
    named = [(f'env["{name}"]', f"{name}={value}") for name, value in env.items()]
    named += [(f"{field}[{index}]", word) for field, of_field in words.items() for index, word in enumerate(of_field)]
    for field, text in named:
        if not text:  # AWS refuses it in a command that fits, too
            raise ConfigurationError(f"{field}: is an empty string, which AWS refuses; leave it out")
    total = 0
    for field, text in named:
        try:
            size = len(text.encode("utf-8", "surrogateescape")) + 1
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{field}: holds {text[error.start]!r}, half of a character") from error
        total += size
        if "\0" in text:
            raise ConfigurationError(f"{field}: holds a NUL character, which no process can be given")
        if size > _MAX_WORD_BYTES:
            raise ConfigurationError(
                f"{field}: has {size - 1} bytes, at most {_MAX_WORD_BYTES - 1} can be given to a process; use an input"
            )
    if total > _MAX_COMMAND_BYTES:
        raise ConfigurationError(
            f"arguments: with env they have {total} bytes, at most {_MAX_COMMAND_BYTES} can be given to a process; "
            "use an input"
        )
