"""The public names of the package: importable, listed once for Python and once for type checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import processing


@pytest.mark.parametrize("name", processing.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    """Each name of `__all__` leads to its object."""
    assert getattr(processing, name).__module__.startswith("processing")


def test_type_checkers_see_the_same_names() -> None:
    """The imports for type checkers name the same modules and objects as the table that is used at run time."""
    tree = ast.parse(Path(processing.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    modules = dict.fromkeys(processing._MODULES, "processing")
    assert seen == {**modules, **processing._MODULE_OF}


EXPENSIVE = (
    "boto3",
    "botocore",
    "email",
    "importlib.metadata",
    "json",
    "logging",
    "socket",
    "tempfile",
    "tenacity",
    "zipfile",
)
NOT_NEEDED = ("processing.images", "processing.job", "processing.local", "processing.request.build")


def test_a_processor_is_imported_alone() -> None:
    """The import of a processor loads neither expensive modules nor those that only a run needs."""
    names = set(EXPENSIVE + NOT_NEEDED)
    program = f"import sys; from processing import ScriptProcessor; print({names} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
