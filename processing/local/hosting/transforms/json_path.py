"""The JSONPath expressions of a transform job's filters.

The operators are those that AWS documents: `$`, `.name`, `.*`, `['a','b']`, `[0,2]`, `[1:3]`, `[*]`, and mixtures of
indexes and slices such as `[0,5:]`. See
https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform-data-processing.html.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NAME = re.compile(r"\.([A-Za-z_][\w-]*|\*)")
_BRACKET = re.compile(r"\[((?:'[^']*'|\"[^\"]*\"|[^'\"\]])*)\]")
_QUOTED = re.compile(r"\s*(?:'([^']*)'|\"([^\"]*)\")\s*")
_INDEX = re.compile(r"\s*(-?\d+)\s*")
_SLICE = re.compile(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?")


class JsonPathError(Exception):
    """An expression that is not supported, or one that selects nothing from a record."""


class _Step(NamedTuple):
    """One step of a path.

    Attributes:
        selectors: names, indexes and slices.
        single: whether the step selects one value, and not a part of an object or of an array.
    """

    selectors: tuple[str | int | slice, ...]
    single: bool


class JsonPath:
    """A parsed expression.

    Args:
        text: the expression.

    Raises:
        JsonPathError: the expression is not supported.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if not text.startswith("$"):
            raise JsonPathError(f"{text!r} must begin with $")
        self._steps: list[_Step] = []
        position = 1
        while position < len(text):
            match = _NAME.match(text, position) or _BRACKET.match(text, position)
            if match is None:
                raise JsonPathError(f"{text!r}: {text[position:]!r} is not supported")
            self._steps.append(_bracket(match[1], text) if match[0].startswith("[") else _name(match[1]))
            position = match.end()

    @property
    def is_root(self) -> bool:
        """True if the expression selects the whole record."""
        return not self._steps

    def select(self, value: Any) -> Any:
        """Return the selected part of a record. Several names keep an object, several indexes keep an array.

        Raises:
            JsonPathError: the record does not have the part.
        """
        for step in self._steps:
            value = self._apply(step, value)
        return value

    def _apply(self, step: _Step, value: Any) -> Any:
        try:
            if step.single:
                return value[step.selectors[0]] if _fits(step.selectors[0], value) else self._missing(value)
            if step.selectors == ("*",):
                return value if isinstance(value, (dict, list)) else self._missing(value)
            if all(isinstance(each, str) for each in step.selectors):
                return {name: value[name] for name in step.selectors}
            return [each for selector in step.selectors for each in _elements(value, selector)]
        except (LookupError, TypeError):
            return self._missing(value)

    def _missing(self, value: Any) -> Any:
        raise JsonPathError(f"{self.text!r} selects nothing in a record with {_shape(value)}")


def _fits(selector: str | int | slice, value: Any) -> bool:
    return isinstance(value, dict if isinstance(selector, str) else list)


def _elements(value: Any, selector: str | int | slice) -> list[Any]:
    if not isinstance(value, list) or isinstance(selector, str):
        raise TypeError
    return value[selector] if isinstance(selector, slice) else [value[selector]]


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} fields"
    return f"the keys {', '.join(map(str, value))}" if isinstance(value, dict) else "a single value"


def _name(name: str) -> _Step:
    return _Step((name,), single=name != "*")


def _bracket(content: str, text: str) -> _Step:
    if content.strip() == "*":
        return _name("*")
    selectors: list[str | int | slice] = []
    for part in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^,'\"])+", content) or [""]:
        if quoted := _QUOTED.fullmatch(part):
            selectors.append(quoted[1] if quoted[1] is not None else quoted[2])
        elif index := _INDEX.fullmatch(part):
            selectors.append(int(index[1]))
        elif bounds := _SLICE.fullmatch(part):
            selectors.append(slice(*(int(each) if each else None for each in bounds.groups())))
        else:
            raise JsonPathError(f"{text!r}: [{content}] is not supported")
    if len({isinstance(each, str) for each in selectors}) > 1:
        raise JsonPathError(f"{text!r}: [{content}] mixes names and indexes")
    return _Step(tuple(selectors), single=len(selectors) == 1 and not isinstance(selectors[0], slice))
