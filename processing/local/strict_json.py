"""A reader of JSON from clients. It refuses each text that a later step could not store or visit."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 100
"""The limit on nested lists and objects. Requests of AWS's services have about ten levels."""

_MAX_DIGITS = 19
"""The digits of the largest integers in the service models, which have 64 bits."""


def loads(content: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the content is not UTF-8 or not JSON, it is nested too deeply, a number is beyond 64 bits, or a text
            has half of a surrogate pair.
    """
    text = content.decode()
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_real, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # These checks visit the whole value, and almost no text needs them.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError("a number beyond 64 bits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError("a number beyond 64 bits")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")
