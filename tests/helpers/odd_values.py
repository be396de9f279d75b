"""Odd values for every parameter of a public callable, and the calls that try them."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import inspect
import math
import pathlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any

import attrs
from botocore.exceptions import ClientError

from processing import ConfigurationError, ProcessingError, WaitTimeoutError


class Odd:
    """A value that no parameter takes."""

    __hash__ = None  # type: ignore[assignment]


class Scalar:
    """A number of another library, such as numpy's."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value

    def __float__(self) -> float:
        return self.value

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


def odd_values() -> list[Any]:
    """Return the values, made anew: some of them can be consumed once."""
    nested: list[Any] = []
    nested.append(nested)
    return [
        *(None, 0, -1, 1, 1.5, True, False, math.nan, math.inf, 10**20, 10**400, decimal.Decimal("NaN")),
        *(
            "",
            " ",
            "x",
            "a\nb",
            "a\0b",
            "é",
            "\ud800",
            "x" * 5000,
            "s3://",
            "s3://${B}/k",
            "ftp://h/x",
            "file:///dev/null/no",
        ),
        *(b"x", bytearray(b"x"), [], [1], ["x"], [None], [["x"]], nested, (), ("x",), {"x"}, frozenset(), range(2)),
        *({}, {"a": 1}, {1: "a"}, {"": ""}, [{"Key": "a"}], iter(["x"]), (each for each in ("x",))),
        *(Odd(), Odd, len, lambda: None, lambda *_: 1 / 0, Scalar(3), pathlib.Path("no"), pathlib.Path()),
        *(dt.datetime.now(dt.timezone.utc), dt.timedelta(seconds=1), dt.date(2024, 1, 1), 1j, ..., NotImplemented),
    ]


@attrs.frozen
class PublicCall:
    """A public callable with arguments that work.

    Attributes:
        name: its name in reports.
        call: the callable.
        arguments: makes the arguments of a call that works.
        use: consumes the result, such as the first element of an iterator.
        names: for a parameter, the names that an error may use instead, such as the attribute that it becomes.
        leaving: the parameters that are not tried.
    """

    name: str
    call: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]] = dict
    use: Callable[[Any], object] = lambda result: consume(result)  # noqa: PLW0108 - it is defined below
    names: Mapping[str, tuple[str, ...]] = {}
    leaving: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters that are tried."""
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found = [each.name for each in inspect.signature(self.call).parameters.values() if each.kind in kinds]
        return [name for name in found if name not in ("self", *self.leaving)]

    def wrong_errors(self, parameter: str) -> list[str]:
        """Return the odd values of a parameter that raise anything but a ConfigurationError that names it."""
        wrong = []
        for index, value in enumerate(odd_values()):
            arguments = {**self.arguments(), parameter: value}
            try:
                self.use(self.call(**arguments))
            except ConfigurationError as error:
                names = (parameter, *self.names.get(parameter, ()))
                if not all(any(name in problem for name in names) for problem in error.problems):
                    wrong.append(f"{index} {_shown(value)}: unnamed {str(error)[:150]}")
            except Exception as error:  # noqa: BLE001 - every other error is a finding
                if not _is_documented(error, value):
                    wrong.append(f"{index} {_shown(value)}: {type(error).__name__}: {str(error)[:150]}")
        return wrong


def _is_documented(error: Exception, value: object) -> bool:
    """Return whether an error is the documented answer to a value of the right type.

    A text may name something that does not exist, a time may be up, and an error of the user's function is the user's.
    """
    if isinstance(value, str) and isinstance(error, (ProcessingError, ClientError)):
        return True
    if callable(value) and isinstance(error, (ZeroDivisionError, TypeError)):
        return isinstance(error, ZeroDivisionError) or "argument" in str(error) or "len()" in str(error)
    return isinstance(error, WaitTimeoutError)


def _shown(value: object) -> str:
    return ascii(value)[:60]


def consume(result: Any) -> None:
    """Use a result as its reader would: one element of an iterator, the value of a coroutine, the text of a value."""
    if isinstance(result, Coroutine):
        asyncio.run(_within(result))
    elif isinstance(result, AsyncIterator):
        asyncio.run(_first(result))
    elif isinstance(result, Iterator):
        next(result, None)


async def _within(coroutine: Coroutine[Any, Any, Any]) -> None:
    await asyncio.wait_for(coroutine, 30)


async def _first(iterator: AsyncIterator[Any]) -> None:
    async for _ in iterator:
        break
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
