"""Scripts for `sagemaker` 2.x, run by it: what they print is what tests/test_compat.py holds this package to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
SCRIPTS = sorted(Path(__file__).parent.with_name("v2_scripts").glob("*.py"))
RUN = """
import os, runpy, sys, sagemaker.session
# It asks STS at an address that it makes of the region's name.
sagemaker.session.sts_regional_endpoint = lambda region: os.environ["AWS_ENDPOINT_URL"]
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_expected_results_are_those_of_sagemaker_2(foreign: Client, script: Path) -> None:
    """Each script runs on the engine, and gives what is written down."""
    printed = foreign.script(RUN, str(script))
    results = ["RESULT" + line.partition("RESULT")[2] for line in printed.splitlines() if "RESULT" in line]
    assert results == script.with_suffix(".expected").read_text().splitlines()
