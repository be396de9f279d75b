"""The packed function and calls of a map, and the calls in a user's iterables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from processing._utils.validation import ITERABLE, require
from processing.container.remote.calls import CallsPacker, PackedCall, calls_file
from processing.exceptions import ConfigurationError
from processing.remote_function.mapping.function_digest import function_digest
from processing.remote_function.packed_call import (
    arguments_check,
    function_name,
    packed_chunks,
    reference_to,
    sends_values,
    sent_function,
)

if TYPE_CHECKING:
    from processing.remote_function.settings import RemoteSettings

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The positional and the keyword arguments of a call."""


class PackedCalls:
    """The packed function and calls of a map.

    Args:
        function: the packed function, with the exceptions for which a call may run again.
        calls: the packed arguments of each call.
        digest: the digest of the function's code.

    Attributes:
        number_of: the number of the call with a key.
    """

    def __init__(self, function: PackedCall, calls: Sequence[PackedCall], digest: str) -> None:
        self._function = function
        self._calls = calls
        self.digest = digest
        self.number_of = {call.key: number for number, call in enumerate(calls)}

    @classmethod
    def of(
        cls, function: Callable[..., Any], settings: RemoteSettings, classes: tuple[Any, ...], calls: Iterable[Call]
    ) -> PackedCalls:
        """Pack a function and its calls, while they are read: the caller may use an object for several calls.

        Args:
            function: the function.
            settings: the settings, with the form of the calls.
            classes: the exceptions for which a call may run again.
            calls: the positional and the keyword arguments of each call.

        Raises:
            ConfigurationError: the arguments of a call do not fit the function's signature.
            SerializationError: the function or an argument cannot be packed.
        """
        name = function_name(function)
        fits = arguments_check(function)
        packer = CallsPacker()
        causes = tuple(map(reference_to, classes)) if sends_values(settings) else classes
        packed_function = packer.pack(packed_chunks(name, settings, sent_function(function, settings), causes, {}))
        packed_calls = []
        for position, (args, kwargs) in enumerate(calls):
            fits(f"call {position} of ", args, kwargs)
            packed_calls.append(packer.pack(packed_chunks(f"call {position} of {name}", settings, None, args, kwargs)))
        return cls(packed_function, packed_calls, function_digest(function))

    def __len__(self) -> int:
        return len(self._calls)

    def file(self, numbers: Iterable[int]) -> bytes:
        """Return the file with the function and some of the calls."""
        return b"".join(calls_file(self._function, [self._calls[number] for number in numbers]))


def positional(iterables: tuple[Iterable[Any], ...]) -> Iterator[Call]:
    """Return the calls of a `map`: one argument from each iterable, until the shortest ends."""
    if not iterables:
        raise ConfigurationError("map: needs an iterable of arguments")
    for each in iterables:
        require("map", each, ITERABLE)
    return ((args, {}) for args in zip(*iterables, strict=False))


def unpacked(arguments: Iterable[Any]) -> Iterator[Call]:
    """Return the calls of a `starmap`: the arguments of each call are an iterable of their own."""
    require("starmap", arguments, ITERABLE)
    for number, args in enumerate(arguments):
        require(f"starmap: the arguments of call {number}", args, ITERABLE)
        yield tuple(args), {}
