"""Filter patterns of CloudWatch Logs, as far as they consist of plain terms.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

_TERM = re.compile(r'([?-]?)(?:"((?:\\.|[^"\\])*)"|([^\s"]+))(?:\s+|$)')
"""A term with its prefix: a phrase in quotes, or a run of characters without spaces and quotes."""

_UNSUPPORTED = {
    "{": "JSON filter patterns ({ $.member = value })",
    "[": "space-delimited filter patterns ([field, ...])",
    "%": "regular expressions in filter patterns (%...%)",
}
"""The forms that the engine refuses, by their first character."""


def compile_pattern(pattern: str) -> Callable[[str], bool] | None:
    r"""Return a predicate for messages, or None for a pattern that matches everything.

    A term matches anywhere in a message, and case matters.

    - `a b` matches messages with both terms, `-a` messages without the term.
    - `?a ?b` matches messages with one of the terms. Terms with a question mark are ignored beside other terms, as the
      service ignores them.
    - `"a b"` is one term. A backslash escapes the next character between the quotes.

    Raises:
        ApiError: `InvalidParameterException` if a quote is not closed; `NotImplemented` (501) if the pattern has
            another form, so that it never matches the wrong events.
    """
    pattern = pattern.strip()
    if not pattern:
        return None
    if pattern[0] in _UNSUPPORTED:
        raise _not_implemented(pattern[0])
    terms = _split_terms(pattern)
    included, excluded, optional = terms[""], terms["-"], terms["?"]
    if not included and not excluded:
        return lambda message: any(term in message for term in optional)

    def matches(message: str) -> bool:
        return all(term in message for term in included) and not any(term in message for term in excluded)

    return matches


def _split_terms(pattern: str) -> dict[str, list[str]]:
    """Return the terms of a pattern by their prefix."""
    terms: dict[str, list[str]] = {"": [], "-": [], "?": []}
    position = 0
    while position < len(pattern):
        match = _TERM.match(pattern, position)
        if match is None:
            raise ApiError("InvalidParameterException", "Invalid filter pattern")
        prefix, phrase, word = match.groups()
        if phrase is None and len(word) > 1 and word[0] == word[-1] == "%":
            raise _not_implemented("%")
        terms[prefix].append(word if phrase is None else re.sub(r"\\(.)", r"\1", phrase))
        position = match.end()
    return terms


def _not_implemented(form: str) -> ApiError:
    return ApiError(
        "NotImplemented",
        f'The local engine does not have {_UNSUPPORTED[form]}. Use plain terms (ERROR -retrying ?WARN "two words"), '
        f"or read all events and filter them yourself.",
        501,
    )
