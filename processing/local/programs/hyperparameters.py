"""Hyperparameters: texts in a request, checked against a table and converted."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class InvalidHyperparameterError(ValueError):
    """A hyperparameter is missing, unknown or wrong. The message names it."""


class Hyperparameter(NamedTuple):
    """The rule of one hyperparameter.

    Attributes:
        description: its valid values, for a message.
        convert: returns the value of a text; raises ValueError for a wrong one.
        required: whether a request must have it.
        default: the value without it.
    """

    description: str
    convert: Callable[[str], Any]
    required: bool = False
    default: Any = None

    def needed(self) -> Hyperparameter:
        """Return the same rule for a hyperparameter that a request must have."""
        return self._replace(required=True)

    def or_else(self, default: Any) -> Hyperparameter:
        """Return the same rule with a default."""
        return self._replace(default=default)

    def or_auto(self, *words: str) -> Hyperparameter:
        """Return the same rule with `auto` and other words, which are None, as more values."""
        convert, more = self.convert, ("auto", *words)
        return self._replace(
            description=" or ".join([self.description, *map(repr, more)]),
            convert=lambda text: None if text in more else convert(text),
        )


def integer(least: int | None = None, most: int | None = None) -> Hyperparameter:
    """Return the rule of an integer within limits, which belong to the valid values."""

    def convert(text: str) -> int:
        number = (
            int(text)
            if re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text)
            else _whole(float(text if "_" not in text else ""))
        )
        if (least is not None and number < least) or (most is not None and number > most):
            raise ValueError
        return number

    return Hyperparameter(f"an integer{_limits(least, most)}", convert)


def _whole(number: float) -> int:
    if not number.is_integer():  # SDKs write 5.0
        raise ValueError
    return int(number)


def real(
    least: float | None = None, most: float | None = None, *, above: float | None = None, below: float | None = None
) -> Hyperparameter:
    """Return the rule of a number within limits. Those named `above` and `below` are not valid themselves."""

    def convert(text: str) -> float:
        number = float(text if "_" not in text else "")
        inside = (least is None or number >= least) and (most is None or number <= most)
        if not (inside and (above is None or number > above) and (below is None or number < below)):
            raise ValueError
        if not math.isfinite(number):
            raise ValueError
        return number

    strict = "".join(f" {word} {limit:g}" for word, limit in (("above", above), ("below", below)) if limit is not None)
    return Hyperparameter(f"a number{_limits(least, most)}{strict}", convert)


def _limits(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if least is not None else "" if most is None else f" of at most {most:g}"


def one_of(*values: str) -> Hyperparameter:
    """Return the rule of a text from a list."""

    def convert(text: str) -> str:
        if text not in values:
            raise ValueError
        return text

    return Hyperparameter("one of " + ", ".join(map(repr, values)), convert)


def boolean() -> Hyperparameter:
    """Return the rule of true or false, in any case, as SDKs write Python's and JSON's."""

    def convert(text: str) -> bool:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]

    return Hyperparameter("'true' or 'false'", convert)


def items(valid: Callable[[str], object], description: str) -> Hyperparameter:
    """Return the rule of a list of texts: separated by commas, or as JSON or Python write it."""

    def convert(text: str) -> list[str]:
        found = [item.strip(" '\"") for item in text.strip().strip("[]()").split(",")]
        if not all(map(valid, found)):
            raise ValueError
        return found

    return Hyperparameter(description, convert)


def text() -> Hyperparameter:
    """Return the rule of any text."""
    return Hyperparameter("a text", str)


def validate(rules: Mapping[str, Hyperparameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of hyperparameters, with the defaults of those that are not given.

    Names that begin with `_` are SageMaker's own, and have no effect.

    Args:
        rules: the rule of each name.
        given: the texts of a request.

    Raises:
        InvalidHyperparameterError: one is missing, unknown or wrong.
    """
    missing = [name for name, rule in rules.items() if rule.required and name not in given]
    if missing:
        raise InvalidHyperparameterError(f"the hyperparameter {' and '.join(missing)} is required")
    values = {name: rule.default for name, rule in rules.items() if rule.default is not None}
    for name, value in given.items():
        if name.startswith("_"):
            continue
        if name not in rules:
            raise InvalidHyperparameterError(
                f"{name}: this algorithm has no such hyperparameter; it has {', '.join(sorted(rules))}"
            )
        try:
            values[name] = rules[name].convert(value)
        except (ValueError, KeyError, OverflowError):
            raise InvalidHyperparameterError(f"{name}: must be {rules[name].description}, not {value!r}") from None
    return values
