"""Checks of the values that users pass: a small vocabulary, and errors that name the parameter.

A check is a `Kind`: its description in a message, and a function that decides. `require` applies one to an argument of
a function, `field` to an attribute of an attrs class.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    import attrs

_Value = TypeVar("_Value")

_MAX_LEVELS = 20  # a request and a config file have 8
_SHOWN_CHARACTERS = 80  # of a value in a message: enough to recognize it on one line


class Kind(NamedTuple):
    """A kind of value.

    Attributes:
        description: the completion of "must be ...".
        accepts: whether a value is of that kind.
    """

    description: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Any) -> Kind:
        """Return the kind of values that one of the two accepts."""
        return Kind(f"{self.description} or {other.description}", lambda v: self.accepts(v) or other.accepts(v))


def require(parameter: str, value: Any, kind: Kind, *, optional: bool = False) -> None:
    """Refuse a value that is not of a kind.

    Args:
        parameter: the parameter's name.
        value: its value.
        kind: the kind.
        optional: True to accept None, too.

    Raises:
        ConfigurationError: the value is not of that kind.
    """
    if not (optional and value is None) and not kind.accepts(value):
        raise ConfigurationError(f"{parameter}: must be {kind.description}, not {shown(value)}")


def checked(parameter: str, value: _Value, kind: Kind) -> _Value:
    """Return a value that is of a kind.

    Args:
        parameter: the parameter's name.
        value: its value.
        kind: the kind.

    Raises:
        ConfigurationError: the value is not of that kind.
    """
    require(parameter, value, kind)
    return value


def require_all(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> None:
    """Refuse the first of several optional values that is not of its kind.

    Args:
        kinds: the kind of each parameter.
        values: the values; `locals()` at the beginning of a function.
    """
    for parameter, kind in kinds.items():
        require(parameter, values[parameter], kind, optional=True)


def field(kind: Kind, *, optional: bool = False) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Return a validator of an attrs attribute."""

    def validate(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        require(attribute.name.lstrip("_"), value, kind, optional=optional)

    return validate


def shown(value: Any) -> str:
    """Return a value for a message: its type if it is long or has no good text, in ASCII if it cannot be encoded."""
    try:
        text = repr(value)
        text.encode()
    except UnicodeEncodeError:
        text = ascii(value)
    except Exception:  # noqa: BLE001 - a `__repr__` of the user's, or a number of thousands of digits
        return f"{article(type(value).__name__)} that cannot be shown"
    if isinstance(value, (str, int, float, bool, type(None))):
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return article(type(value).__name__) if len(text) > _SHOWN_CHARACTERS else f"{text} ({type(value).__name__})"


def article(noun: str) -> str:
    """Return a noun with its indefinite article."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def is_encodable(value: str) -> bool:
    """Return whether a text has a form in UTF-8: half of a surrogate pair has none."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def nesting_problem(value: object) -> str | None:
    """Return the problem of a value that contains itself or has too many levels; None if it has few levels."""
    if _is_nested_within(value, _MAX_LEVELS, {}):
        return None
    return f"contains itself, or is nested more than {_MAX_LEVELS} levels deep"


def _is_nested_within(value: object, levels: int, known: dict[int, int]) -> bool:
    """Return whether a value has at most that many levels.

    Args:
        value: the value.
        levels: the number of levels.
        known: by the identity of a structure, the fewest levels that it was checked against.
    """
    if not isinstance(value, (Mapping, list, tuple)) or known.get(id(value), levels + 1) <= levels:
        return True
    known[id(value)] = levels
    inner = value.values() if isinstance(value, Mapping) else value
    return levels > 0 and all(_is_nested_within(each, levels - 1, known) for each in inner)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float can hold. True and False are not accepted."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and value == math.inf


def _is_moment(value: Any) -> bool:
    import datetime as dt  # loaded on first use: most programs pass no moments

    return isinstance(value, dt.datetime)


def _is_path(value: Any) -> bool:
    if not isinstance(value, (str, os.PathLike)):
        return False
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def number(*, at_least: float | None = None, above: float | None = None, at_most: float | None = None) -> Kind:
    """Return the kind of finite numbers within bounds."""
    if at_least is not None and at_most is not None:
        text = f"between {at_least:g} and {at_most:g}"
    else:
        bounds = {"of at least": at_least, "above": above, "of at most": at_most}
        text = " and ".join(f"{words} {bound:g}" for words, bound in bounds.items() if bound is not None)

    def accepts(value: Any) -> bool:
        return (
            is_number(value)
            and (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (at_most is None or value <= at_most)
        )

    return Kind(f"a number {text}".rstrip(), accepts)


def integer(*, at_least: int = 0, at_most: int = 2**63 - 1) -> Kind:
    """Return the kind of integers within bounds; by default those that a database and an API can hold."""

    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most

    return Kind(f"an integer of at least {at_least}", accepts)


def one_of(*choices: str) -> Kind:
    """Return the kind of texts in a list."""
    few = len(choices) <= 2
    listed = " or ".join(map(repr, choices)) if few else f"one of {', '.join(choices)}"
    return Kind(listed, lambda value: isinstance(value, str) and value in choices)


def instance_of(*classes: type, name: str | None = None) -> Kind:
    """Return the kind of instances of a class of this package."""
    description = name or " or ".join(f"a processing.{each.__name__}" for each in classes)
    return Kind(description, lambda value: isinstance(value, classes))


def with_methods(description: str, *names: str) -> Kind:
    """Return the kind of objects, not classes, that have methods of these names."""

    def accepts(value: Any) -> bool:
        return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)

    return Kind(description, accepts)


def with_attributes(description: str, *names: str) -> Kind:
    """Return the kind of objects, not classes, that have attributes of these names."""
    return Kind(
        description,
        lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names),
    )


TEXT = Kind("a string", lambda value: isinstance(value, str) and is_encodable(value))
NAME = Kind(
    "a string that is not blank",
    lambda value: TEXT.accepts(value) and bool(value.strip()) and "\0" not in value,
)
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
FUNCTION = Kind("a function", callable)
PATH = Kind("a path", _is_path)
MAPPING = Kind("a dictionary", lambda value: isinstance(value, Mapping))
TEXT_OR_BYTES = Kind("a string or bytes", lambda value: isinstance(value, (bytes, bytearray)) or TEXT.accepts(value))
ITERABLE = Kind(
    "an iterable, not a string",
    lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray)),
)
INTEGER = integer(at_least=-(2**63))._replace(description="an integer")
SECONDS = number(at_least=0)
TIMEOUT = Kind("a number of seconds", lambda value: is_number(value) or _is_infinite(value))
MOMENT = Kind("a datetime", _is_moment)
CLOCK = with_methods("a clock with time(), monotonic() and sleep()", "time", "monotonic", "sleep")
