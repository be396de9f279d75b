"""The same tasks through sagemaker-shim 0.8.3 and the shim: equal ends, but for those in the table of the reference."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import shim_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs/reference/container-shim.md"


@pytest.fixture(scope="module")
def comparison() -> Iterator[shim_cases.Comparison]:
    """Both shims, with one engine."""
    if not (shim_cases.CLIENTS / "sagemaker-shim/installed").exists():
        pytest.skip("sagemaker-shim is not installed: ./scripts/test --all does it, and needs Python 3.12")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # programs run as other users, too
        yield shim_cases.Comparison(Path(folder))


def documented() -> dict[str, tuple[str, str]]:
    """Return the rows of the table by their situation."""
    table = PAGE.read_text(encoding="utf-8").partition("| " + " | ".join(shim_cases.HEAD) + " |\n")[2]
    rows = [line.strip("| ").split(" | ") for line in table.partition("\n\n")[0].splitlines()[1:]]
    return {situation: (theirs, ours) for situation, theirs, ours in rows}


@pytest.mark.parametrize("name", shim_cases.CASES)
def test_a_situation_ends_as_the_reference_says(name: str, comparison: shim_cases.Comparison) -> None:
    """Results and objects are the same, or the table has both."""
    ((_, theirs, ours),) = comparison.rows([name])
    assert documented().get(name) == (None if theirs == ours else (theirs, ours))


def test_the_table_has_no_other_rows() -> None:
    """Each row comes from a situation that is tried."""
    assert documented()
    assert set(documented()) <= set(shim_cases.CASES)
