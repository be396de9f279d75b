"""The public names of the package: importable, listed once for Python and once for type checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import processing
from processing import remote_function, testing


@pytest.mark.parametrize("name", processing.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    """Each name of `__all__` leads to its object."""
    assert getattr(processing, name).__module__.startswith("processing")


@pytest.mark.parametrize("package", [processing, remote_function, testing], ids=lambda package: package.__name__)
def test_type_checkers_see_the_same_names(package: Any) -> None:
    """The imports for type checkers name the same modules and objects as the table that is used at run time."""
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    modules = dict.fromkeys(getattr(package, "_MODULES", ()), package.__name__)
    assert seen == {**modules, **package._MODULE_OF}
    assert all(getattr(package, name) is not None for name in package.__all__)


EXPENSIVE = (
    "asyncio",
    "boto3",
    "botocore",
    "cloudpickle",
    "concurrent",
    "email",
    "importlib.metadata",
    "json",
    "logging",
    "socket",
    "tempfile",
    "tenacity",
    "zipfile",
)
MAKES_CLASSES = ("attrs", "dataclasses", "inspect")
NOT_NEEDED = ("processing.images", "processing.job", "processing.local", "processing.request.build")


@pytest.mark.parametrize(
    ("statement", "further"),
    [
        ("from processing import ScriptProcessor", MAKES_CLASSES),
        ("from processing import remote; remote(print, instance_type='local')", ()),
        ("from processing.remote_function import remote; remote(print, dependencies='requirements.txt')", ()),
    ],
)
def test_a_name_is_imported_alone(statement: str, further: tuple[str, ...]) -> None:
    """The import of a processor or a decorator loads neither expensive modules nor those that only a run needs."""
    names = set(EXPENSIVE + NOT_NEEDED + further)
    program = f"import sys; {statement}; print({names} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
