"""Filter patterns of CloudWatch Logs: what they match, and which are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.handlers.patterns import matcher

EVENT = {
    "eventType": "UpdateTrail",
    "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": None,
    "cluster.name": "c",
    "dash-ed": "d",
    "flag": True,
    "latency": 50,
    "ratio": 1e-3,
    "text": "4",
    "nested": {"email": "x@y.z", "deep": {"er": [0, [7]]}},
}


def matches(pattern: str, message: Any = EVENT) -> bool:
    """Whether a pattern matches a message, or an event as JSON."""
    test = matcher(pattern)
    assert test is not None
    return test(message if isinstance(message, str) else json.dumps(message))


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.eventType = "UpdateTrail" }',
        "{ $.eventType = UpdateTrail }",
        "{$.eventType=UpdateTrail}",
        '{ $.eventType != "NoTrail" }',
        "{ $.sourceIPAddress = 111.111.* }",
        '{ $.sourceIPAddress = "*.111" }',
        '{ $.sourceIPAddress != "123.123.*" }',
        '{ $.arrayKey[0] = "value" }',
        '{ $.arrayKey[*] = "another value" }',
        "{ $.objectList[1].id = 2 }",
        "{ $.objectList[*].id > 1 }",
        "{ $.SomeObject IS NULL }",
        "{ $.flag IS TRUE }",
        "{ $.flag is true }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.latency = 50 }",
        "{ $.latency >= 5e1 && $.latency <= +50.0 }",
        "{ $.latency < 51 }",
        "{ $.ratio = 1e-3 }",
        "{ $.['cluster.name'] = c }",
        "{ $['cluster.name'] = c }",
        '{ $.["cluster.name"] = "c" }',
        "{ $.dash-ed = d }",
        "{ $.nested.email = %^[a-z]@y\\.z$% }",
        "{ $.nested.* = x@y.z }",
        "{ $.nested.deep.er[1][0] = 7 }",
        '{ ($.eventType = "x") || ($.latency = 50 && ($.flag IS TRUE || $.flag IS NULL)) }',
        '{ $.eventType = "x" && $.flag IS NULL || $.latency = 50 }',  # && binds more
        '{ $.text = "4" }',
    ],
)
def test_json_events_match(pattern: str) -> None:
    """By every form of a condition that the service documents."""
    assert matches(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.eventType = "updatetrail" }',
        '{ $.eventType = "Update" }',
        '{ $.missing != "x" }',  # what is not there is not compared
        '{ $.eventType[0] = "U" }',
        "{ $.latency > 50 }",
        "{ $.eventType > 1 }",
        "{ $.flag = 1 }",
        "{ $.text = 4 }",  # a number is no text
        "{ $.SomeObject NOT EXISTS }",
        "{ $.latency IS NULL }",
        "{ $.flag IS FALSE }",
        '{ $.eventType = "x" && ($.latency = 50 || $.latency = 51) }',
        "{ $.sourceIPAddress = 112.* }",
        '{ $.eventType = "Up?ateTrail*" }',  # only the asterisk is a wildcard
        "{ $.eventType = %^Trail% }",
        "{ $.latency = %50% }",
    ],
)
def test_json_events_do_not_match(pattern: str) -> None:
    """Where the condition does not hold."""
    assert not matches(pattern)


def test_other_messages_are_no_json_events() -> None:
    """Not even where nothing is asked of a member."""
    for message in ("", "text", "{", '"text"', "7", "[" * 100_000):
        assert not matches("{ $.a NOT EXISTS }", message)
    assert matches("{ $.a NOT EXISTS }", "{}")
    assert matches("{ $[0] = 1 }", "[1]")


@pytest.mark.parametrize(
    ("pattern", "message", "found"),
    [
        ("%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", True),
        ("%^AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", False),
        (r"%4\d{2}%", "ERROR 404", True),
        (r"%^\[?[A-Z]+%", "ERROR 404", True),
        (r"%a|b%", "xbx", True),
        ("%^[[|]x%", "[x", True),
        ("%^[[|]x%", "|x", True),
        (r"%^\[[a-c]%", "[b", True),
        ("a -b", "a c", True),
        ("a -b", "a b", False),
        ("?a ?b", "b", True),
        ("?a ?b", "c", False),
        ("?a ?b c", "c", True),
        ("?a -b", "c", True),
        ("?a -b", "a b", False),
        (r'"say \"hi\""', 'say "hi" there', True),
        ("naïve", "a naïve thing", True),
    ],
)
def test_terms_and_expressions(pattern: str, message: str, found: bool) -> None:
    """Expressions stand between percent signs; terms hold anywhere in the message."""
    assert matches(pattern, message) is found


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        "{}",
        "{ $.a }",
        "{ $.a = }",
        "{ $.a == 1 }",
        "{ a = 1 }",
        "{ $.a = 1 && }",
        "{ $.a = 1 $.b = 2 }",
        "{ ($.a = 1 }",
        "{ $.a IS SOMETHING }",
        "{ $.a NOT NULL }",
        '{ $.a > "1" }',
        '{ $.a = "unclosed }',
        "{ $.a = ( }",
        "{ $.a = 1 } x",
        "{ $.a = %b% || $.a = %c% || $.a = %d% }",  # two at most
        "%a(b)%",
        "%a!b%",
        "%%",
        "%a",
        "%[%",
        "%[[%",
        "%a{99999999999}%",
        "%a% b",
        "%é%",
        'a "b',
        "{" + "(" * 5000 + "$.a = 1" + ")" * 5000 + "}",
    ],
)
def test_malformed_patterns_are_refused(pattern: str) -> None:
    """With the service's code."""
    with pytest.raises(ApiError, match="InvalidParameterException: Invalid filter pattern"):
        matcher(pattern)


def test_space_delimited_patterns_are_said_to_be_missing() -> None:
    """Instead of matching the wrong events."""
    with pytest.raises(ApiError, match="space-delimited") as caught:
        matcher("[ip, user, ...]")
    assert caught.value.status == 501


@given(text=st.text(st.sampled_from(list("[]|-^\\\\ab*{}1,?")), max_size=12))
def test_any_expression_is_one_or_a_client_error(text: str) -> None:
    """Without a warning of Python's."""
    try:
        test = matcher(f"%{text}%")
    except ApiError as error:
        assert error.code == "InvalidParameterException"  # noqa: PT017
    else:
        assert test is not None
        assert test("a[b|") in {True, False}


@given(pattern=st.text(st.sampled_from(list('{}[]()$.*"%&|=<>!-? ab1')) | st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_a_pattern_or_a_client_error(pattern: str) -> None:
    """Never another exception, neither when it is read nor when it is used."""
    try:
        test = matcher(pattern)
    except ApiError as error:
        assert error.code in {"InvalidParameterException", "NotImplemented"}  # noqa: PT017
    else:
        assert test is None or test('{"a": "b"}') in {True, False}
