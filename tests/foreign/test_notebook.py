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


def environment_of(foreign: Any) -> dict[str, str]:
    """Return the variables by which the kernel finds the package, and an engine of the test's own."""
    packages = [str(Path(processing.__file__).parents[1]), sysconfig.get_paths()["purelib"]]
    return {"PYTHONPATH": os.pathsep.join(packages), "PROCESSING_LOCAL_HOME": str(foreign.folder / "engine")}


def execute(foreign: Any, cell: str) -> Any:
    """Execute a cell, and return the last line of each update, and the outputs."""
    script = foreign.folder / "execute.py"
    script.write_text(EXECUTE)
    return json.loads(foreign.run("python", str(script), cell, **environment_of(foreign)).splitlines()[-1])


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


CARDS = [
    """
import processing
from processing import LocalSession, RemoteExecutor, ScriptProcessor, remote, submit_all
open("one.py", "w").write("print('<script>alert(1)</script>')\\nraise SystemExit(3)\\n")
session = LocalSession()
processor = ScriptProcessor(
    command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session, base_job_name="n"
)
job = processor.run("one.py", job_name="one", wait=False, quiet=True)
job.exception()
job
""",
    "processor.plan('one.py')",
    "processing.jobs(session=session)",
    "processing.wait([job])",
    "fleet = submit_all(processor, [{'code': 'one.py'}] * 2, name='two')\nfleet.wait()\nfleet",
    "processing.card('processing-job/one', session=session)",
    """
with RemoteExecutor(instance_type="local", sagemaker_session=session) as executor:
    future = executor.submit(pow, 2, 3)
    future.exception()
future
""",
    """
@remote(instance_type="local", sagemaker_session=session)
def half(number):
    return number / 2
calls = half.submit_map([2, 4])
calls[1].result()
calls
""",
]
# The HTML is that of `jupyter nbconvert --execute --to html`.
EXPORT = """
import json, sys, nbclient, nbconvert, nbformat
from nbformat.v4 import new_code_cell
notebook = nbformat.v4.new_notebook(cells=[new_code_cell(source) for source in json.load(sys.stdin)])
nbclient.NotebookClient(notebook, kernel_name="python3").execute()
shown = [[output for output in cell.outputs if output.output_type == "execute_result"] for cell in notebook.cells]
html, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
print(json.dumps({"shown": [outputs[-1]["data"] for outputs in shown], "cards": html.count('<div class="sm-card">')}))
"""


def test_cards_in_a_notebook(foreign: Any) -> None:
    """The last line of a cell is shown as a card, in the notebook and in the page that nbconvert makes of it."""
    script = foreign.folder / "export.py"
    script.write_text(f"import io, sys\nsys.stdin = io.StringIO({json.dumps(CARDS)!r})\n{EXPORT}")
    found = json.loads(foreign.run("python", str(script), **environment_of(foreign)).splitlines()[-1])
    words = [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "Plan of n-",
        'aria-label="1 Failed"',
        'aria-label="1 Failed"',
        'aria-label="2 Failed"',
        "AlgorithmError",
        "Completed",
        'aria-label="2 Completed"',
    ]
    for data, word in zip(found["shown"], words, strict=True):
        assert data["text/html"].startswith('<div class="sm-card">')
        assert word in data["text/html"]
        assert "<script>" not in data["text/html"]
    assert found["cards"] == len(CARDS)
