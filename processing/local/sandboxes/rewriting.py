"""The last choice, which works everywhere: paths below /opt/ml are rewritten in what the program is given.

The program itself sees no /opt/ml. A path that is written in its source cannot be rewritten; `literal_paths` finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local.sandboxes.base import Check, HostCommand, HostSpec, OwnPrograms

if TYPE_CHECKING:
    import ast
    import os
    from collections.abc import Iterator, Mapping, Sequence


class Rewriting(OwnPrograms):
    """Translates the command line and the environment; what is used in place becomes a symbolic link."""

    name = "rewriting"
    isolates_network = False
    mounts = False
    reports = False

    @classmethod
    def probe(cls) -> tuple[Rewriting | None, str]:
        """Return the sandbox: it works everywhere."""
        return cls(), ""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"name": self.name}

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Link what is used in place."""
        del check
        for bind in host.binds:
            place = Path(contract.resolve_path(host.ml_root, bind.target))
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() and not place.is_symlink():
                place.rmdir()
            place.symlink_to(bind.source)

    def command(
        self, argv: Sequence[str], host: HostSpec, *, env: Mapping[str, str], cwd: str, report_fd: int | None
    ) -> HostCommand:
        """Return the command itself, its paths rewritten."""
        del report_fd  # the program is started directly: whoever starts it knows its id
        rewritten = {name: rewrite(value, host.ml_root) for name, value in env.items()}
        return HostCommand([rewrite(each, host.ml_root) for each in argv], rewritten, cwd, reports=False)


def rewrite(text: str, ml_root: str) -> str:
    """Replace each /opt/ml that begins a path, or is one, with `ml_root`."""
    return contract.ML_PATH.sub(lambda _: ml_root, text)


def literal_paths(path: str | os.PathLike[str], body: bytes | None = None) -> list[tuple[int, str]]:
    """Return the lines of a script that name a path below /opt/ml, which rewriting cannot reach.

    In Python only strings count, and not those that document; elsewhere every line that is no comment.

    Args:
        path: the script. A file that is not text has no such lines.
        body: its content, where it is known; else it is read.

    Returns:
        pairs of the line's number, from 1, and the line without its indentation.
    """
    try:
        text = (Path(path).read_bytes() if body is None else body).decode()
    except (OSError, UnicodeDecodeError):
        return []
    lines = text.splitlines()
    if contract.ML not in text:
        return []
    numbers: set[int] | None = None
    if Path(path).suffix in {".py", ".pyw", ""}:
        numbers = _python_literals(text)
    if numbers is None:
        numbers = {
            number
            for number, line in enumerate(lines, 1)
            if contract.ML_PATH.search(line) and not line.lstrip().startswith("#")
        }
    return [(number, lines[number - 1].strip()) for number in sorted(numbers) if number <= len(lines)]


def _python_literals(text: str) -> set[int] | None:
    """Return the line numbers of strings with such a path; None where `text` is not Python."""
    import ast
    import io
    import tokenize

    try:
        documentation = set(_documentation(ast.parse(text)))
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    numbers: set[int] = set()
    for token in tokens:
        if token.type in {tokenize.COMMENT, tokenize.NL} or token.start in documentation:
            continue
        if token.type == tokenize.OP or not contract.ML_PATH.search(token.string):
            continue
        offsets = (match.start() for match in contract.ML_PATH.finditer(token.string))
        numbers.update(token.start[0] + token.string.count("\n", 0, offset) for offset in offsets)
    return numbers


def _documentation(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Where the strings begin that stand alone as a statement."""
    import ast

    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.lineno, node.value.col_offset
