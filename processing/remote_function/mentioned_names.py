"""Names that a function's code mentions: the modules that it imports, and the attributes that it uses of modules."""

from __future__ import annotations

import dis
import functools
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class ImportStatement(NamedTuple):
    """An import in the body of a function.

    Attributes:
        module: the name after `import` or `from`; empty for `from . import name`.
        level: the number of leading dots.
        names: the names that are imported from it; empty for `import module`.
    """

    module: str
    level: int
    names: tuple[str, ...]


class Mentions(NamedTuple):
    """The names in the code of a function and of the functions inside it.

    Attributes:
        imports: the imports in its body.
        names: the names of variables and attributes, and texts that may be passed to `getattr`.
    """

    imports: tuple[ImportStatement, ...]
    names: frozenset[str]


@functools.lru_cache(maxsize=4096)
def mentions(code: CodeType) -> Mentions:
    """Return the names that code mentions."""
    imports: list[ImportStatement] = []
    names: set[str] = set()
    for each in _all_code(code):
        names.update(each.co_names)
        names.update(text for text in each.co_consts if isinstance(text, str) and text.isidentifier())
        imports.extend(_imports(each))
    return Mentions(tuple(imports), frozenset(names))


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_code(constant)


def _imports(code: CodeType) -> Iterator[ImportStatement]:
    """Yield the imports of code. The two values before IMPORT_NAME are the level and the names."""
    values: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = values[-2:]
            yield ImportStatement(str(instruction.argval), int(level or 0), tuple(names or ()))
        elif instruction.opname != "EXTENDED_ARG":
            values = [*values[-1:], instruction.argval]
