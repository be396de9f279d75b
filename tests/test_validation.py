"""The vocabulary of checks, and the texts of its errors."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import pytest

from processing import ConfigurationError, LocalSession, Polling, RetryPolicy
from processing._utils.validation import (
    FLAG,
    FUNCTION,
    NAME,
    PATH,
    TEXT,
    TIMEOUT,
    integer,
    number,
    one_of,
    require,
    shown,
)


@pytest.mark.parametrize(
    ("kind", "accepted", "refused"),
    [
        (TEXT, ["", "é", "a\nb"], [None, 5, b"x", "\ud800"]),
        (NAME, ["x"], ["", " \t", "a\0b", "\udcff"]),
        (PATH, ["x", pathlib.Path("x")], ["", "\0", b"x", None, "\ud800"]),
        (FLAG, [True, False], [0, 1, None, "yes"]),
        (FUNCTION, [len, int], [None, "len"]),
        (TIMEOUT, [0, 1.5, math.inf], [math.nan, True, "5", 10**400]),
        (number(above=0), [0.1, 5], [0, math.inf, math.nan, True, 10**400, "1"]),
        (number(at_least=0, at_most=1), [0, 1, 0.5], [-0.1, 1.1]),
        (integer(at_least=1), [1, 2**63 - 1], [0, True, 1.0, 2**63, "1"]),
        (one_of("a", "b"), ["a"], ["A", ["a"], None]),
    ],
)
def test_kinds(kind: Any, accepted: list[Any], refused: list[Any]) -> None:
    """A kind accepts its values, and refuses all others by the parameter's name."""
    for value in accepted:
        require("x", value, kind)
    for value in refused:
        with pytest.raises(ConfigurationError, match=r"^x: must be "):
            require("x", value, kind)
    require("x", None, kind, optional=True)


class Silent:
    """A value whose text cannot be made."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("x" * 100, "'" + "x" * 79 + "..."),
        ("\ud800", r"'\ud800'"),
        (b"x", "b'x' (bytes)"),
        (Silent(), "a Silent that cannot be shown"),
        (10**5000, "an int that cannot be shown"),
        ([0] * 100, "a list"),
    ],
    ids=["short", "long", "surrogate", "bytes", "silent", "huge", "list"],
)
def test_shown(value: object, text: str) -> None:
    """Any value has a short text that can be printed."""
    assert shown(value) == text


def test_settings_are_validated_when_they_are_made(tmp_path: pathlib.Path) -> None:
    """A value that would fail in the middle of a wait is refused by the constructor."""
    for make in (
        lambda: Polling(first=-1.0),
        lambda: Polling(factor=0.5),
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(patience=math.nan),
        lambda: LocalSession(tmp_path, clock=5),  # type: ignore[arg-type]
        lambda: LocalSession(tmp_path, polling="fast"),  # type: ignore[arg-type]
        lambda: LocalSession(tmp_path, transport=lambda _: None),  # type: ignore[arg-type,return-value]
    ):
        with pytest.raises(ConfigurationError):
            make()


def test_a_session_without_a_region(tmp_path: pathlib.Path) -> None:
    """`region_name=None` is the engine's own region, as the default."""
    assert LocalSession(tmp_path, region_name=None).client("s3").meta.region_name == "us-east-1"
