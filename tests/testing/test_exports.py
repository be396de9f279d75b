"""The public names of `processing.testing`: importable from the package, which itself imports next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import processing.testing


@pytest.mark.parametrize("name", processing.testing.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    """Each name of `__all__` leads to its object."""
    assert getattr(processing.testing, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Clock'"):
        getattr(processing.testing, "Clock")  # noqa: B009 - type checkers know that there is none


def test_type_checkers_see_the_same_names() -> None:
    """The imports for type checkers name the same modules and objects as the table that is used at run time."""
    tree = ast.parse(Path(processing.testing.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == processing.testing._MODULE_OF


def test_importing_the_package_is_cheap() -> None:
    """Neither a client nor pytest nor any module of its own is imported."""
    prefixes = ("botocore", "boto3", "pytest", "processing.testing.")
    program = f"import sys, processing.testing; print([name for name in sys.modules if name.startswith({prefixes})])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
