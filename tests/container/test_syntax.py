"""Code for any image keeps to the Python of old images."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import processing.container

FILES = sorted(Path(processing.container.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_syntax_is_that_of_python_3_8(path: Path) -> None:
    """Each file parses as Python 3.8 and imports only the standard library and its own package."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("processing.container")
