"""A container's folder for programs, empty at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from program_container import ContainerFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def container(tmp_path: Path) -> ContainerFolder:
    """Return an empty training container."""
    return ContainerFolder(tmp_path)
