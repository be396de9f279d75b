"""Words for errors: the value that was probably meant, and what was given instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def meant(value: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the known value that is closest, in any case; empty where none is close.

    A value that the given one begins is closest.
    """
    import difflib  # loaded for a mistake only

    given, by_lower = value.lower(), {name.lower(): name for name in known}
    longer = [name for name in by_lower if given and name.startswith(given)]
    close = longer or difflib.get_close_matches(given, by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def type_name(value: object) -> str:
    """Return the type with its module: `sagemaker.processing` has classes of the same names."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
