"""A function and its arguments as the content of a call file."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from processing.container.remote import values
from processing.container.remote.call import find_function
from processing.exceptions import ConfigurationError, SerializationError
from processing.remote_function import packing
from processing.remote_function.checkpoint_location import checkpoints_among
from processing.staging.bundles import Bundle, keep_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.remote_function.settings import RemoteSettings


_CLASS_METHOD: Final = "; for a class method, write @remote above @classmethod"
"""The hint for `@classmethod` above `@remote`: since Python 3.13, it leaves out the class in `submit` and `map`."""


def function_name(function: Callable[..., Any]) -> str:
    """Return a name for a job of a function."""
    inner = getattr(function, "func", function)  # of functools.partial
    name = getattr(inner, "__name__", type(inner).__name__).strip("<>_")
    return str(name) or "function"


class ArgumentsError(ConfigurationError, TypeError):
    """Arguments do not fit the function's signature. A local call of the function would raise TypeError."""


def check_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function would refuse.

    Raises:
        ConfigurationError: they do not fit the function's signature.
    """
    arguments_check(function)("", args, kwargs)


def arguments_check(function: Callable[..., Any]) -> Callable[[str, tuple[Any, ...], Mapping[str, Any]], None]:
    """Return a function that refuses arguments which do not fit a function's signature.

    It takes the beginning of the message, the positional and the keyword arguments, and raises ConfigurationError.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function in C may have none
        return lambda _subject, _args, _kwargs: None

    def check(subject: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if subject and checkpoints_among(args, kwargs):
            raise ConfigurationError(
                f"{subject}{function_name(function)}: the calls of a map have no CheckpointLocation"
            )
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            hint = _CLASS_METHOD if next(iter(signature.parameters), "") == "cls" else ""
            raise ArgumentsError(f"{subject}{function_name(function)}{signature}: {error}{hint}") from None

    return check


def sends_values(settings: RemoteSettings) -> bool:
    """Return whether the arguments travel as values, which any Python reads, and not as pickles."""
    return bool(settings.by_reference) and settings.result_format in {"json", "arrow"}


def pack(
    function: Callable[..., Any], settings: RemoteSettings, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Bundle:
    """Return a copy of the packed function and arguments: the caller may change the arguments afterwards.

    Raises:
        ConfigurationError: the function cannot be imported, and `by_reference` is True.
        UnsendableError: a value cannot be packed.
    """
    sent = sent_function(function, settings)
    try:
        chunks = packed_chunks(function_name(function), settings, sent, args, kwargs)
    except SerializationError as error:
        raise _refusal(function, args, kwargs, error) from error.__cause__
    return keep_chunks(chunks, sum(chunk.nbytes for chunk in chunks))


def sent_function(function: Callable[..., Any], settings: RemoteSettings) -> Any:
    """Return the sent form of a function: itself, or its module and its name.

    Raises:
        ConfigurationError: it cannot be imported, and `by_reference` is True.
    """
    return reference_to(function) if settings.by_reference else function


def packed_chunks(
    name: str, settings: RemoteSettings, sent: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Sequence[memoryview]:
    """Return the chunks of a function and its arguments. They refer to the memory of the arguments.

    Args:
        name: the name of the call in messages.
        settings: the settings, with the form of the call.
        sent: the result of `sent_function`; None for arguments alone.
        args: the positional arguments.
        kwargs: the keyword arguments.

    Raises:
        SerializationError: a value cannot be packed.
    """
    if not sends_values(settings):
        return packing.pack((sent, args, dict(kwargs)), name).chunks
    try:
        call = {"function": sent, "args": args, "kwargs": dict(kwargs)}
        return values.encode(call, str(settings.result_format), "call")
    except Exception as error:
        raise SerializationError(f"{name}: {error}") from error


class UnsendableError(SerializationError, ConfigurationError):
    """A function or an argument cannot be packed, so the call was refused. The message has the path of the part."""

    def __init__(self, message: str) -> None:
        SerializationError.__init__(self, message)
        self.problems = (message,)


def _refusal(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], error: SerializationError
) -> UnsendableError:
    """Return the error of a call that cannot be packed: it begins with the function's or the parameter's name."""
    parts = {function_name(function): function, **_named(function, args, kwargs)}
    for name, value in parts.items():
        try:
            packing.pack(value, name)
        except SerializationError as found:  # noqa: PERF203 - reached only after an error
            return UnsendableError(str(found))
    return UnsendableError(str(error))


def _named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names of their parameters."""
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a function in C may have no signature
        return {**{f"args[{index}]": value for index, value in enumerate(args)}, **kwargs}


def reference_to(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the module and the name by which a job imports a function.

    Raises:
        ConfigurationError: it has none.
    """
    owner = function.__self__ if inspect.ismethod(function) else None
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<locals>")
    if isinstance(owner, type):  # a class method, which the class may have from a base
        module, name = owner.__module__, f"{owner.__qualname__}.{function.__name__}"
    if not module or module == "__main__" or "<" in name or not _is_found(function, module, name):
        raise ConfigurationError(
            f"by_reference: {function_name(function)} has no name by which a job could import it: define it at the top "
            "of a module that the image or `dependencies` have"
        )
    return str(module), str(name)


def _is_found(function: Any, module: str, name: str) -> bool:
    """Return whether a job that imports a name gets the function, and not one that another decorator put there."""
    try:
        found = find_function(module, name)
    except (AttributeError, ImportError):
        return False
    return found is function or (inspect.ismethod(function) and bool(found == function))
