"""SageMaker stages on each Spark that `./scripts/test --all` installs: the tests of `stages/` in its environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from spark_environments import spark_environment

ROOT = Path(__file__).parents[2]
DEADLINE = 1800
"""Seconds after which tests that have not ended have failed."""


@pytest.mark.parametrize(
    ("name", "remote"),
    [("spark-3.5", False), ("spark-4", False), ("spark-4", True)],
    ids=["spark-3.5", "spark-4", "spark-4 over Connect, engine over HTTP"],
)
def test_stages(name: str, *, remote: bool, tmp_path: Path) -> None:
    """Every test of stages passes on this Spark."""
    python = spark_environment(name) / "bin/python"
    environment = {
        **os.environ,
        "PROCESSING_TEST_CONNECT": "1" if remote else "",
        "PROCESSING_TEST_HTTP": "1" if remote else "",
        "PYTHONPATH": str(ROOT / "tests/helpers"),  # for functions that the workers import
    }
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [python, "-m", "pytest", *options, f"--basetemp={tmp_path / 'stages'}", ROOT / "tests/spark/stages"],
        env=environment,
        cwd=tmp_path,  # the package is imported from there if it is a folder of the current one
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
