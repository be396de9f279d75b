"""Digest of a function's code, which is the same in each process.

A pickle of the same function differs from process to process, as sets have an order of their own in each.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH: Final = 32
_PLAIN: Final = (bool, bytes, complex, float, int, str, type(None))


def function_digest(function: Any) -> str:
    """Return a digest of the code of a function, and of the functions of its module that it mentions.

    Args:
        function: the function. A function without code of Python has the digest of its name.
    """
    digest = hashlib.sha256()
    for part in _parts(function, set()):
        digest.update(repr(part).encode() + b"\n")
    return digest.hexdigest()[:_LENGTH]


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield what distinguishes a function, or a value that it uses, without order of sets and without addresses."""
    if isinstance(value, _PLAIN):
        yield value
    elif isinstance(value, frozenset):
        yield sorted(map(repr, value))
    elif id(value) not in seen:
        seen.add(id(value))
        yield getattr(value, "__qualname__", type(value).__qualname__)
        for each in _members(value):
            yield from _parts(each, seen)


def _members(value: Any) -> Iterator[Any]:
    """Yield the values that a value consists of; nothing for an object of any other class."""
    if isinstance(value, (tuple, list)):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, sorted(value.keywords.items()))
    elif isinstance(value, MethodType):
        yield value.__func__
    elif isinstance(value, CodeType):
        yield from (value.co_code, value.co_names, value.co_varnames, value.co_consts)
    elif isinstance(value, FunctionType):
        yield from (value.__code__, value.__defaults__, sorted((value.__kwdefaults__ or {}).items()))
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # not assigned yet
                yield cell.cell_contents
        used = (value.__globals__.get(name) for name in value.__code__.co_names)
        yield from (each for each in used if isinstance(each, FunctionType) and each.__module__ == value.__module__)
