"""CloudWatch Logs' filter patterns: terms, regular expressions, and conditions on JSON events."""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Matches = Callable[[str], bool]
    Test = Callable[[Any], bool]

MAX_EXPRESSIONS = 2
"""Regular expressions in one pattern."""

_TERM = re.compile(r'([?-]?)(?:"((?:\\.|[^"\\])*)"|([^\s"]+))(?:\s+|$)')
_EXPRESSION = re.compile(r"%([A-Za-z0-9:_#=@/;,^$?\[\]{}|\\*+.-]+)%")
_SET = re.compile(r"(?P<escaped>\\.)|(?P<open>\[\^?\]?)(?P<inside>(?:\\.|[^\]\\])*)(?P<close>\])|\[")
_IN_SET = re.compile(r"(\\.)|([\[|]|(?<=-)-)")
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>\(|\)|&&|\|\||!=|<=|>=|=|<|>)
    |(?P<selector>\$(?:\.?\[\s*(?:'[^']*'|"[^"]*"|\d+|\*)\s*\]|\.(?:[\w-]+|\*))*)
    |(?P<expression>%[^%]*%)
    |(?P<text>"(?:\\.|[^"\\])*")
    |(?P<word>[^\s()=!<>&|"%]+))""",
    re.VERBOSE,
)
_STEP = re.compile(
    r"""\.?\[\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<index>\d+|\*))\s*\]|\.(?P<name>[\w-]+|\*)"""
)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ORDERS = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_IS = {"NULL": None, "TRUE": True, "FALSE": False}


def matcher(pattern: str) -> Matches | None:
    """Return what a pattern means; None for one that lets everything through.

    Terms: `a b` wants both, `?a ?b` one of them, `-a` none of it, quotes hold words together; case counts. Beside other
    terms, those with a question mark are ignored, as the service does.
    `%...%` is a regular expression. `{ $.level = "error" && $.took > 5 }` wants JSON events with such members.

    Raises:
        ApiError: it is malformed, or of the one form that the engine does not have (`[a, b, ...]`).
    """
    pattern = pattern.strip()
    if not pattern:
        return None
    if pattern[0] == "[":
        raise ApiError("NotImplemented", "The local engine does not have space-delimited filter patterns ([...]).", 501)
    if pattern[0] == "{":
        return _json(pattern)
    if pattern[0] == "%":
        found = _expression(pattern)
        return lambda message: found.search(message) is not None
    return _terms(pattern)


def _invalid() -> ApiError:
    return ApiError("InvalidParameterException", "Invalid filter pattern")


def _expression(text: str) -> re.Pattern[str]:
    """Return the regular expression between percent signs, if it has only what the service allows."""
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise _invalid()
    try:
        return re.compile(_SET.sub(_plain_set, match[1]), re.ASCII)
    except (re.error, OverflowError):  # of a number of repetitions
        raise _invalid() from None


def _plain_set(match: re.Match[str]) -> str:
    """Return a set with a backslash before what Python warns of, as it may once begin a set in a set."""
    if match["escaped"] is not None:
        return match[0]
    if match["open"] is None:  # and no end
        raise _invalid()
    inside = _IN_SET.sub(lambda found: found[1] or rf"\{found[2]}", match["inside"])
    return match["open"] + inside + match["close"]


def _terms(pattern: str) -> Matches:
    wanted: dict[str, list[str]] = {"": [], "?": [], "-": []}
    position = 0
    while position < len(pattern):
        match = _TERM.match(pattern, position)
        if match is None:
            raise _invalid()
        term = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        wanted[match[1]].append(term)
        position = match.end()
    if not wanted[""] and not wanted["-"]:
        return lambda message: any(term in message for term in wanted["?"])

    def matches(message: str) -> bool:
        return all(term in message for term in wanted[""]) and not any(term in message for term in wanted["-"])

    return matches


def _json(pattern: str) -> Matches:
    if not pattern.endswith("}"):
        raise _invalid()
    test = _Conditions(pattern[1:-1]).read()

    def matches(message: str) -> bool:
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return isinstance(event, (dict, list)) and test(event)

    return matches


class _Conditions:
    """Reads what stands between the braces: comparisons, held together by `&&`, `||` and parentheses."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0
        self._expressions = 0

    def read(self) -> Test:
        try:
            test = self._any()
        except RecursionError:
            raise _invalid() from None
        if self._position != len(self._tokens):
            raise _invalid()
        return test

    def _any(self) -> Test:
        tests = [self._all()]
        while self._accept("||"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda event: any(test(event) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._accept("&&"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda event: all(test(event) for test in tests)

    def _one(self) -> Test:
        if self._accept("("):
            test = self._any()
            if not self._accept(")"):
                raise _invalid()
            return test
        kind, selector = self._next()
        if kind != "selector":
            raise _invalid()
        steps = _steps(selector)
        kind, sign = self._next()
        if kind == "word":
            return self._worded(steps, sign.upper())
        if sign in _ORDERS:
            return _ordered(steps, sign, self._next())
        if sign not in {"=", "!="}:
            raise _invalid()
        equal = self._equal(*self._next())
        if sign == "=":
            return lambda event: any(equal(value) for value in _select(event, steps))
        return lambda event: any(not equal(value) for value in _select(event, steps))

    def _worded(self, steps: list[str | int | None], word: str) -> Test:
        _, following = self._next()
        if word == "NOT" and following.upper() == "EXISTS":
            return lambda event: next(iter(_select(event, steps)), _NOTHING) is _NOTHING
        if word != "IS" or following.upper() not in _IS:
            raise _invalid()
        wanted = _IS[following.upper()]
        return lambda event: any(value is wanted for value in _select(event, steps))

    def _equal(self, kind: str, text: str) -> Test:
        """Return the test for a value that stands behind = or !=."""
        if kind == "expression":
            self._expressions += 1
            if self._expressions > MAX_EXPRESSIONS:
                raise _invalid()
            found = _expression(text)
            return lambda value: isinstance(value, str) and found.search(value) is not None
        if kind == "word" and _NUMBER.fullmatch(text):
            number = float(text)
            return lambda value: _is_number(value) and value == number
        if kind == "text":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        elif kind != "word":
            raise _invalid()
        if "*" not in text:
            return lambda value: _text(value) == text
        wildcard = re.compile(fnmatch.translate(re.sub(r"([\[?])", r"[\1]", text)))
        return lambda value: wildcard.match(_text(value) or "") is not None

    def _accept(self, sign: str) -> bool:
        found = self._position < len(self._tokens) and self._tokens[self._position] == ("sign", sign)
        self._position += found
        return found

    def _next(self) -> tuple[str, str]:
        if self._position == len(self._tokens):
            raise _invalid()
        self._position += 1
        return self._tokens[self._position - 1]


_NOTHING = object()


def _tokens(text: str) -> Iterable[tuple[str, str]]:
    text = text.rstrip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _invalid()
        yield match.lastgroup, match[match.lastgroup]
        position = match.end()


def _steps(selector: str) -> list[str | int | None]:
    """Return the way that a selector goes: names, positions, None for all there are."""
    steps: list[str | int | None] = []
    for match in _STEP.finditer(selector):
        place = match["name"] or match["index"]
        if place == "*":
            steps.append(None)
        elif match["index"]:
            steps.append(int(match["index"]))
        else:
            steps.append(match["name"] or match["single"] or match["double"] or "")
    return steps


def _select(event: Any, steps: list[str | int | None]) -> list[Any]:
    """Return the values that a selector leads to."""
    found = [event]
    for step in steps:
        following: list[Any] = []
        for value in found:
            if step is None:
                following += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
            elif isinstance(step, int):
                following += value[step : step + 1] if isinstance(value, list) else []
            elif isinstance(value, dict) and step in value:
                following.append(value[step])
        found = following
    return found


def _ordered(steps: list[str | int | None], sign: str, token: tuple[str, str]) -> Test:
    if token[0] != "word" or not _NUMBER.fullmatch(token[1]):
        raise _invalid()
    compare, limit = _ORDERS[sign], float(token[1])
    return lambda event: any(_is_number(value) and compare(value, limit) for value in _select(event, steps))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str | None:
    """Return the value as text, if it is a text or a number."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if _is_number(value) else None
