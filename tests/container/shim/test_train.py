"""Training jobs: channels are inputs, hyperparameters arguments, outputs the model, and failures have a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.commands import main

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import os, sys, pathlib
text = pathlib.Path(os.environ["IN"], "numbers/a").read_text()
pathlib.Path(os.environ["OUT"], "deep").mkdir()
pathlib.Path(os.environ["OUT"], "deep/model").write_text(text + " ".join(sys.argv[1:]))
"""


@pytest.fixture
def ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder /opt/ml of a training job with one channel."""
    root = tmp_path / "ml"
    for name in ("input/config", "input/data/numbers", "model", "output"):
        (root / name).mkdir(parents=True)
    (root / "input/data/numbers/a").write_text("1 ")
    for name in ("input", "output"):
        monkeypatch.setenv(f"PROCESSING_SHIM_{name.upper()}_PATH", str(tmp_path / name))
        monkeypatch.setenv(name.upper()[: 2 + (name == "output")], str(tmp_path / name))
    monkeypatch.setenv("PROCESSING_SHIM_ML_ROOT", str(root))
    configure(root, hyperparameters={"rate": "0.1", "depth": "3", "sagemaker_region": "x"})
    return root


def configure(root: Path, **files: Any) -> None:
    for name, content in files.items():
        (root / f"input/config/{name}.json").write_text(json.dumps(content))


def train(source: str, *options: str) -> int:
    return main(["train", *options, "--", sys.executable, "-c", source])


def test_channels_are_inputs_and_outputs_the_model(ml: Path) -> None:
    """The program finds channels below its input folder, and hyperparameters as arguments."""
    (ml / "model/deep").mkdir()
    (ml / "model/deep/kept").write_text("kept")
    assert train(SOURCE) == 0
    assert (ml / "model/deep/model").read_text() == "1 --depth 3 --rate 0.1"
    assert (ml / "model/deep/kept").exists()
    assert not (ml / "output/failure").exists()


def test_a_failure_has_a_reason(ml: Path) -> None:
    """The reason has the exit code and the end of the last lines; partial outputs are kept."""
    source = "import os; open(os.environ['OUT'] + '/part', 'w').close(); raise SystemExit('x' * 2000 + 'é the end')"
    assert train(source) == 1
    reason = (ml / "output/failure").read_bytes()
    assert len(reason) <= 1024
    assert reason.decode().startswith("exit code 1\nxx")
    assert reason.decode().endswith("é the end")
    assert (ml / "model/part").exists()


@pytest.mark.parametrize(
    ("words", "name", "content", "reason"),
    [
        (["no-such-program"], "hyperparameters", {}, "'no-such-program' does not exist"),
        (["true"], "hyperparameters", [], "hyperparameters.json is not a JSON object"),
    ],
    ids=range(2),
)
def test_a_failure_before_the_start_has_a_reason(
    words: list[str], name: str, content: Any, reason: str, ml: Path
) -> None:
    """A program that cannot start, and a damaged file of the configuration."""
    configure(ml, **{name: content})
    assert main(["train", "--", *words]) == 1
    assert reason in (ml / "output/failure").read_text()


def test_the_program_s_own_reason_stays(ml: Path) -> None:
    """A program that knows SageMaker writes its own reason."""
    assert train(f"open({str(ml / 'output/failure')!r}, 'w').write('mine'); raise SystemExit(3)") == 3
    assert (ml / "output/failure").read_text() == "mine"


def test_each_host_runs_its_share_of_tasks(shim: Any, ml: Path) -> None:
    """With a channel `tasks`, each host runs its share of them; a failed one is the job's reason."""
    folder = ml / "input/data/tasks/deep"
    folder.mkdir(parents=True)
    tasks = [shim.task(name) for name in "abcd"]
    (folder / "1.json").write_text(json.dumps(tasks[:3]))
    (folder / "2.json").write_text(json.dumps(tasks[3]))
    configure(ml, resourceconfig={"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    source = "import os, sys; open(os.environ['OUT'] + '/x', 'w').close(); sys.exit(len(sys.argv) - 1)"
    words = ["--", sys.executable, "-c", source]
    assert main(["train", *words], shim.store) == 0
    assert shim.keys() == ["out/b/x", "out/d/x"]
    assert main(["train", *words, "argument"], shim.store) == 1
    assert (ml / "output/failure").read_text() == "The task b failed with return code 1"


def test_a_stop_gives_the_program_time(ml: Path, tmp_path: Path) -> None:
    """SIGTERM reaches the program, which may write its model before it ends."""
    os.mkfifo(tmp_path / "started")
    source = f"""
import os, signal, sys, time
def stop(*_):
    open(os.environ["OUT"] + "/checkpoint", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open({str(tmp_path / "started")!r}, "w").close()
time.sleep(60)
"""
    command = [sys.executable, "-m", "processing.container.shim", "train", "--", sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        (tmp_path / "started").read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert (ml / "model/checkpoint").exists()
    assert "The shim was stopped" in (ml / "output/failure").read_text()


def test_the_program_in_a_variable(ml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable has the program as words of a shell; a damaged one is named."""
    monkeypatch.setenv("PROCESSING_SHIM_PROGRAM", "sh -c 'exit 7'")
    assert main(["train"]) == 7
    monkeypatch.setenv("PROCESSING_SHIM_PROGRAM", "sh 'x")
    assert main(["train"]) == 2
