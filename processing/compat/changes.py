"""The changes that move a script from `sagemaker` 2.x to this package, as a unified diff.

Names with a public place in this package get it: in imports, and in dotted uses such as `sagemaker.Session()`. Other
supported names keep their imports, and `processing.compat.install()` goes before them. An unsupported name gets a
comment above its import.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from typing import TYPE_CHECKING

import attrs

import processing
from processing.compat import __all__ as compat_names
from processing.compat.modules import ALIASES, MODULES, explain_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = 88
_INSTALL = ("import processing.compat", "", "processing.compat.install()")
_RETRIEVE = "processing.compat.image_uris"
_IMAGE_URI = ("processing.images", "image_uri")
# The positional parameters of sagemaker's `retrieve` that `image_uri` takes by name or in another order.
_RETRIEVE_ORDER = ("framework", "region", "version", "py_version", "instance_type")
# Members and parameters of sessions that only the old names have.
_SESSION_MEMBERS = frozenset(
    {
        "get_caller_identity_arn",
        "list_s3_files",
        "local_mode",
        "logs_for_processing_job",
        "s3_client",
        "s3_resource",
        "sagemaker_client",
        "wait_for_processing_job",
        "was_processing_job_successful",
    }
)
_SESSION_PARAMETERS = frozenset(
    {
        "disable_local_code",
        "s3_endpoint_url",
        "sagemaker_featurestore_runtime_client",
        "sagemaker_metrics_client",
        "sagemaker_runtime_client",
        "settings",
    }
)


@attrs.frozen
class _Edit:
    """A replacement of the text between two offsets."""

    start: int
    end: int
    text: str


def unified_diff(source: bytes, script: str) -> str:
    """Return the changes of a script as a unified diff; empty if it needs none.

    Args:
        source: the content of the script.
        script: its path, for the headers.

    Raises:
        SyntaxError: the content is not Python.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    before = source.decode(encoding)
    after = changed_text(before)
    name = script.lstrip("/")
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def changed_text(text: str) -> str:
    """Return the text of a script with the changes.

    Raises:
        SyntaxError: the text is not Python.
    """
    script = _Script(text)
    edits = sorted(script.edits(), key=lambda edit: edit.start, reverse=True)
    for edit in edits:
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


class _Script:
    """A parsed script, and the edits that its imports and uses need."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Split as the parser does it: a form feed does not end a line.
        self._lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text)
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._tree = ast.parse(text)
        self._imports = [node for node in ast.walk(self._tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        self._bound = dict(_bindings(self._imports))
        self._keeps_sessions = self._uses_old_sessions()
        self._uses = self._dotted_uses()
        # The local names of modules with uses that stay as they are.
        self._kept = {name for name, path, _ in self._uses if self._target(path) is None}

    def edits(self) -> Iterator[_Edit]:
        for _, path, node in self._uses:
            target = self._target(path)
            if target is not None:
                yield _Edit(*self._span(node), ".".join(target))
        yield from self._retrieve_arguments()
        installed = imported = False
        for statement in sorted(self._imports, key=lambda each: each.lineno):
            lines, stays = self._rewritten(statement)
            if lines is None:
                continue
            if stays and not installed:
                lines, installed = [*_INSTALL, "", *lines], True
            if not imported and self._needs_package(statement):
                lines, imported = ["import processing", *lines], True
            yield self._replacement(statement, lines)

    def _replacement(self, statement: ast.stmt, lines: list[str]) -> _Edit:
        """Return the edit that replaces a statement by lines, or removes it."""
        start, end = self._span(statement)
        if not lines:
            line_start, line_end = self._starts[statement.lineno - 1], self._starts[statement.end_lineno or 0]
            alone = not (self._text[line_start:start] + self._text[end:line_end]).strip()
            # A block may have no other statement.
            return _Edit(line_start, line_end, "") if alone and not statement.col_offset else _Edit(start, end, "pass")
        indent = " " * statement.col_offset
        indented = [line and f"{indent if index else ''}{line}" for index, line in enumerate(lines)]
        return _Edit(start, end, self._newline.join(indented))

    def _rewritten(self, node: ast.Import | ast.ImportFrom) -> tuple[list[str] | None, bool]:
        """Return the lines that replace an import, or None to keep it; and whether names of `sagemaker` stay."""
        if isinstance(node, ast.ImportFrom):
            return self._rewritten_from(node) if _is_sagemaker(node.module) and not node.level else (None, False)
        if not any(_is_sagemaker(alias.name) for alias in node.names):
            return None, False
        staying = [
            alias
            for alias in node.names
            if not _is_sagemaker(alias.name) or (alias.asname or alias.name.partition(".")[0]) in self._kept
        ]
        stays = any(_is_sagemaker(alias.name) for alias in staying)
        bound = {name for name, _ in _bindings([node])}
        paths = [alias.name for alias in staying] + [path for name, path, _ in self._uses if name in bound]
        missing = dict.fromkeys(path for path in paths if _is_sagemaker(path) and not _is_supported(path))
        comments = [f"# sm-processing: {explain_missing(path)}" for path in missing]
        lines = [f"import {', '.join(map(_written, staying))}"] if staying else []
        return [*comments, *lines], stays

    def _rewritten_from(self, node: ast.ImportFrom) -> tuple[list[str] | None, bool]:
        moved: dict[str, list[str]] = {}
        staying, comments = [], []
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            local = alias.asname or alias.name
            if _module_of(path) is not None:
                if local in self._kept or not any(name == local for name, _, _ in self._uses):
                    staying.append(alias)
                continue
            target = self._target(path)
            if target is not None:
                kept_name = alias.asname or (alias.name if alias.name != target[1] else None)
                moved.setdefault(target[0], []).append(target[1] + (f" as {kept_name}" if kept_name else ""))
                continue
            staying.append(alias)
            if alias.name != "*" and not _is_supported(path):
                comments.append(f"# sm-processing: {explain_missing(path)}")
        lines = [line for module, names in moved.items() for line in _import_lines(module, names, node.col_offset)]
        if staying:
            lines += [
                *comments,
                *_import_lines(str(node.module), [_written(each) for each in staying], node.col_offset),
            ]
        supported = any(alias.name == "*" or _is_supported(f"{node.module}.{alias.name}") for alias in staying)
        return lines, supported

    def _needs_package(self, node: ast.Import | ast.ImportFrom) -> bool:
        """Return True if a name that the import binds has uses that become `processing.<name>`."""
        names = {name for name, _ in _bindings([node])}
        return any(name in names and self._target(path) is not None for name, path, _ in self._uses)

    def _dotted_uses(self) -> list[tuple[str, str, ast.expr]]:
        """Return the uses of modules: the local name, the path in `sagemaker`, and the expression of that path."""
        uses: list[tuple[str, str, ast.expr]] = []
        inner: set[int] = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name) and id(node) not in inner and _module_of(self._bound.get(node.id, "")):
                uses.append((node.id, self._bound[node.id], node))
            if not isinstance(node, ast.Attribute) or id(node) in inner:
                continue
            chain: list[ast.Attribute] = []
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                chain.insert(0, root)
                root = root.value
            inner |= {id(root), *(id(each) for each in chain)}
            if not isinstance(root, ast.Name) or not _module_of(self._bound.get(root.id, "")):
                continue
            name, path = root.id, self._bound[root.id]
            expression: ast.expr = root
            for each in chain:
                if _module_of(path) is None:
                    break
                path, expression = f"{_module_of(path)}.{each.attr}", each
            uses.append((name, path, expression))
        return uses

    def _retrieve_arguments(self) -> Iterator[_Edit]:
        """Yield the names of the positional arguments of `retrieve`, whose order differs."""
        paths = {id(node): path for _, path, node in self._uses}
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Call):
                continue
            path = paths.get(id(node.func))
            if isinstance(node.func, ast.Name):
                path = self._bound.get(node.func.id)
            if path is not None and self._target(path) == _IMAGE_URI:
                for name, argument in list(zip(_RETRIEVE_ORDER, node.args, strict=False))[1:]:
                    start = self._span(argument)[0]
                    yield _Edit(start, start, f"{name}=")

    def _uses_old_sessions(self) -> bool:
        """Return True if the script uses sessions in a way that only the old names have."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and node.attr in _SESSION_MEMBERS:
                return True
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
                given = {keyword.arg for keyword in node.keywords}
                if name == "Session" and (given & _SESSION_PARAMETERS or len(node.args) > 2):
                    return True
                if name == "LocalSession" and (given or node.args):
                    return True
        return False

    def _target(self, path: str) -> tuple[str, str] | None:
        """Return the module and name that replace a path of `sagemaker`, or None if there is no public one."""
        module, _, name = path.rpartition(".")
        home = MODULES.get(_module_of(module) or "", {}).get(name)
        if home == _RETRIEVE:
            return _IMAGE_URI
        if home is None or (name in {"Session", "LocalSession"} and self._keeps_sessions):
            return None
        if name in processing.__all__:
            return "processing", name
        return ("processing.compat", name) if name in compat_names else None

    def _span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        """Return the offset of a position; the parser counts columns in bytes."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _bindings(imports: list[ast.Import | ast.ImportFrom]) -> Iterator[tuple[str, str]]:
    """Yield the local names that imports of `sagemaker` bind, each with its path."""
    for node in imports:
        if isinstance(node, ast.ImportFrom):
            if _is_sagemaker(node.module) and not node.level:
                yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
            continue
        for alias in node.names:
            if _is_sagemaker(alias.name):
                yield (alias.asname, alias.name) if alias.asname else ("sagemaker", "sagemaker")


def _is_sagemaker(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "sagemaker"


def _module_of(path: str) -> str | None:
    """Return the full name of the supported module at a path, or None."""
    parent, _, name = path.rpartition(".")
    path = ALIASES.get(parent, {}).get(name, path)
    return path if path in MODULES else None


def _is_supported(path: str) -> bool:
    module, _, name = path.rpartition(".")
    return _module_of(path) is not None or name in MODULES.get(module, {})


def _written(alias: ast.alias) -> str:
    return alias.name + (f" as {alias.asname}" if alias.asname else "")


def _import_lines(module: str, names: list[str], indent: int) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    if indent + len(line) <= _LINE:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]
