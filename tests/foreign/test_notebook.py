"""A run in the kernel of a notebook, executed by nbconvert: one output of the cell changes, and log lines follow it."""

from __future__ import annotations

import json
import os
import sysconfig
from pathlib import Path
from typing import Any

import processing

CLIENT = "notebook"
CELL = """
from processing import ScriptProcessor
open("slow.py", "w").write("import time\\nprint('one', flush=True)\\ntime.sleep(2.5)\\nprint('two')\\n")
processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1)
job = processor.run("slow.py", outputs=["/opt/ml/processing/output"], job_name="in-a-notebook")
"""
WAIT = """
import processing
from processing import ScriptProcessor
open("slow.py", "w").write("import time\\ntime.sleep(2.5)\\n")
processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1)
names = ("a", "b")
processing.wait([processor.run("slow.py", job_name=name, wait=False, quiet=True) for name in names])
"""
# The client records each update of an output; the notebook keeps the last one.
EXECUTE = """
import json, sys, nbclient, nbformat
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
shown = []

class Client(nbclient.NotebookClient):
    def process_message(self, message, cell, index):
        if message["msg_type"] in ("display_data", "update_display_data"):
            shown.append(message["content"]["data"]["text/plain"].splitlines()[-1])
        return super().process_message(message, cell, index)

Client(notebook, kernel_name="python3").execute()
print(json.dumps({"shown": shown, "outputs": notebook.cells[0].outputs}))
"""


def execute(foreign: Any, cell: str) -> Any:
    """Execute a cell, and return the last line of each update, and the outputs."""
    packages = [str(Path(processing.__file__).parents[1]), sysconfig.get_paths()["purelib"]]
    environment = {"PYTHONPATH": os.pathsep.join(packages), "PROCESSING_LOCAL_HOME": str(foreign.folder / "engine")}
    script = foreign.folder / "execute.py"
    script.write_text(EXECUTE)
    return json.loads(foreign.run("python", str(script), cell, **environment).splitlines()[-1])


def test_a_run_in_a_notebook(foreign: Any) -> None:
    """The cell has one output for the status, which changes each second, and the log lines on standard output."""
    found = execute(foreign, CELL)
    states = [line for line in found["shown"] if line.startswith("InProgress: running, ")]
    assert len(set(states)) >= 2
    displays = [each for each in found["outputs"] if each["output_type"] == "display_data"]
    assert len(displays) == 1
    lines = displays[0]["data"]["text/plain"].splitlines()
    assert lines[0] == "processing job in-a-notebook: on this machine"
    assert "in-a-notebook: Completed after" in lines[-2]
    assert "InProgress" not in displays[0]["data"]["text/html"]
    texts = "".join(each["text"] for each in found["outputs"] if each.get("name") == "stdout")
    assert texts == "one\ntwo\n"


def test_a_wait_for_jobs_in_a_notebook(foreign: Any) -> None:
    """The counts by status change in one output, and the ends of the jobs stay."""
    found = execute(foreign, WAIT)
    assert len({line for line in found["shown"] if line.startswith("2 jobs: 2 InProgress, ")}) >= 2
    displays = [each for each in found["outputs"] if each["output_type"] == "display_data"]
    assert len(displays) == 1
    first, *ends, last = displays[0]["data"]["text/plain"].splitlines()
    assert first == "waiting for 2 processing jobs: on this machine"
    assert sorted(line.split(" after ")[0] for line in ends) == ["a: Completed", "b: Completed"]
    assert last.startswith("2 jobs: 2 Completed after ")
