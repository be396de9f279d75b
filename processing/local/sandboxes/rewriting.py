"""The last choice of a sandbox, which works everywhere: paths below /opt/ml are rewritten in arguments and environment.

The program itself sees no /opt/ml. A path in its source code cannot be rewritten; `literal_paths` finds such paths.
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
    """A sandbox that rewrites the command line and the environment. Binds become symbolic links."""

    name = "rewriting"
    isolates_network = False
    mounts = False
    reports = False

    @classmethod
    def probe(cls) -> tuple[Rewriting | None, str]:
        """Return the sandbox, which works everywhere, and no reason."""
        return cls(), ""

    def state(self) -> dict[str, Any]:
        """Return the name and the arguments of this sandbox for `restore`."""
        return {"name": self.name}

    def prepare(self, host: HostSpec, check: Check = lambda: None) -> None:
        """Link the binds into `ml_root`."""
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
        """Return the program's own command line with rewritten paths."""
        del report_fd  # the command is the program itself, so its id is known without a report
        rewritten = {name: rewrite(value, host.ml_root) for name, value in env.items()}
        return HostCommand([rewrite(each, host.ml_root) for each in argv], rewritten, cwd, reports=False)


def rewrite(text: str, ml_root: str) -> str:
    """Replace each /opt/ml that begins a path, or is one, with `ml_root`."""
    return contract.ML_PATH.sub(lambda _: ml_root, text)


def literal_paths(path: str | os.PathLike[str], body: bytes | None = None) -> list[tuple[int, str]]:
    """Return the lines of a script that contain a path below /opt/ml, which cannot be rewritten there.

    In Python only strings count, without docstrings. In other languages every line counts that is not a comment.

    Args:
        path: the script. A file that is not text has no such lines.
        body: its content; None to read the file.

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
    """Return the line numbers of strings with such a path; None if `text` is not Python."""
    import ast
    import io
    import tokenize

    try:
        docstrings = set(_docstring_positions(ast.parse(text)))
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    numbers: set[int] = set()
    for token in tokens:
        if token.type in {tokenize.COMMENT, tokenize.NL} or token.start in docstrings:
            continue
        if token.type == tokenize.OP or not contract.ML_PATH.search(token.string):
            continue
        offsets = (match.start() for match in contract.ML_PATH.finditer(token.string))
        numbers.update(token.start[0] + token.string.count("\n", 0, offset) for offset in offsets)
    return numbers


def _docstring_positions(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield the line and column of each string that is a statement of its own."""
    import ast

    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.lineno, node.value.col_offset
