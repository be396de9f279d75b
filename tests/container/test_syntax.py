"""Code for any image keeps to the Python of old images."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import processing.container

FOLDER = Path(processing.container.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
TRAVELLING = {"cloudpickle"}
"""Packages that travel with a remote function."""
OF_VALUES = {"pyarrow", "torch"}
"""Packages that a job has if a value needs them."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_the_syntax_is_that_of_python_3_8(path: Path) -> None:
    """Each file parses as Python 3.8 and imports only the standard library and its own package.

    Functions of remote calls may import packages that travel, or those of the values.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    inside = {each for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for each in ast.walk(node)}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        others = TRAVELLING | OF_VALUES if path.parent.name == "remote" and node in inside else set()
        for name in names:
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | others or name.startswith("processing.container")
