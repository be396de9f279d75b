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


def test_a_run_in_a_notebook(foreign: Any) -> None:
    """The cell has one output for the status, which changes each second, and the log lines on standard output."""
    packages = [str(Path(processing.__file__).parents[1]), sysconfig.get_paths()["purelib"]]
    environment = {"PYTHONPATH": os.pathsep.join(packages), "PROCESSING_LOCAL_HOME": str(foreign.folder / "engine")}
    script = foreign.folder / "execute.py"
    script.write_text(EXECUTE)
    found = json.loads(foreign.run("python", str(script), CELL, **environment).splitlines()[-1])
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
