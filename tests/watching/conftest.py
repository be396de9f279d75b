"""Fixtures of the tests of watching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processing.watching.render.live_line import note_mid_line
from pseudo_terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal that is the standard output and the standard error."""
    made = Terminal()
    for name in ("CI", "AIRFLOW_CTX_DAG_ID", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    note_mid_line(mid_line=False)  # another test may have left a line without its end
    yield made
    made.close()
