"""The environments with a real Spark that `./scripts/test --all` makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CLIENTS = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute()


def spark_environment(name: str) -> Path:
    """Return the folder of an environment, or skip the test if it is not installed.

    Args:
        name: `spark-3.5` or `spark-4`.
    """
    place = CLIENTS / name
    if not (place / "installed").exists():
        pytest.skip(f"{name} is not installed: ./scripts/test --all does it")
    return place


def spark_home(environment: Path) -> Path:
    """Return the folder of the pyspark in an environment."""
    (home,) = environment.glob("lib/python3*/site-packages/pyspark")
    return home
