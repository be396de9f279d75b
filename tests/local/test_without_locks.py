"""A system without `fcntl`, such as Windows: each use of the engine is an EngineError with the remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys
sys.path[:] = sys.argv[1].split(os.pathsep)
sys.modules["fcntl"] = None
from processing import LocalSession, Processor, ScriptProcessor, attach, submit_all
from processing.exceptions import EngineError

def script(**options):
    return ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, **options)

try:
    {use}
except EngineError as error:
    print("EngineError", error)
"""

USES = {
    "run": 'script().run("ok.py")',
    "plan": 'script().plan("ok.py")',
    "request": 'script().request("ok.py")',
    "Processor": 'Processor("r", "i", 1, "local_gpu", ["true"]).run()',
    "session": "LocalSession()",
    "attach": 'os.environ["PROCESSING_TARGET"] = "local"; attach("job")',
    "submit_all": 'submit_all(script(), {"a": {"code": "ok.py"}}, name="fleet")',
    "engine": "from processing import *; from processing.local.engine import Engine; Engine()",
}


@pytest.mark.parametrize("use", USES)
def test_each_use_of_the_engine_names_the_remedy(tmp_path: Path, use: str) -> None:
    """Not a bare ModuleNotFoundError: the message names the remedy."""
    (tmp_path / "ok.py").write_text("print(1)\n")
    command = [sys.executable, "-c", PROGRAM.format(use=USES[use]), ":".join(sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.startswith("EngineError the embedded engine needs Linux or macOS"), done.stderr
    assert "Windows Subsystem for Linux" in done.stdout


@pytest.mark.parametrize("command", ["serve", "clean"])
def test_the_commands_name_it_in_one_line(command: str) -> None:
    """`python -m processing.local` ends with exit code 2."""
    program = (
        "import sys\nsys.modules['fcntl'] = None\nfrom processing.local.__main__ import main\nmain(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Windows Subsystem for Linux" in done.stderr
