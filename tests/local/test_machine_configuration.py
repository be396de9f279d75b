"""The machine's AWS configuration, which the engine has no use for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import pathlib, sys
from processing import LocalSession, ScriptProcessor
script = pathlib.Path(sys.argv[1], "script.py")
script.write_text("print(1)")
session = LocalSession(pathlib.Path(sys.argv[1], "engine"))
processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
processor.run(str(script), logs=False)
"""


@pytest.mark.parametrize("broken", ["profile", "file"])
def test_a_job_runs_where_the_configuration_cannot_be_read(broken: str, tmp_path: Path) -> None:
    """Neither a profile that does not exist nor a file that is no configuration keeps the engine from running a job."""
    credentials = tmp_path / "credentials"
    credentials.write_text("[default]\n" if broken == "profile" else "nonsense\n")
    environment = {**os.environ, "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    if broken == "profile":
        environment["AWS_PROFILE"] = "of-another-machine"
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, env=environment)
