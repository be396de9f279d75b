"""The guide to stages, followed: its blocks in order, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[3] / "docs/how-to/spark-ml.md"


def test_the_guide_can_be_followed(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of Python on the page does what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    program = "\n".join(block for block in blocks if not block.startswith(">>>"))
    found: dict[str, Any] = {"__name__": "guide"}
    exec(compile(program, str(PAGE), "exec"), found)
    assert found["data"]
    created = [model.getCreatedResources() for model in (found["model"], found["pipeline"].stages[-1])]
    assert not any(created), "the page deletes its endpoints"
