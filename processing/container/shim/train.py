"""Training jobs: the channels are the inputs of a program that knows nothing of SageMaker, and its outputs the model.

SageMaker starts the image with the word `train`. It has downloaded the channels, and uploads /opt/ml/model at the end.
With a channel `tasks` the job runs the tasks in its files, each host its share.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Sequence

from processing.container.shim.errors import ShimError
from processing.container.shim.files import empty
from processing.container.shim.hosts import share
from processing.container.shim.tasks import Task, parse_tasks

if TYPE_CHECKING:
    from processing.container.shim.program import ProgramEnd
    from processing.container.shim.settings import Settings

TASKS_CHANNEL = "tasks"
"""The name of the channel whose files contain tasks."""
FAILURE_BYTES = 1_024
"""The most bytes of /opt/ml/output/failure, which SageMaker shows as the FailureReason."""
_OWN = "sagemaker_"
"""The beginning of hyperparameters that SDKs add for their own containers."""


def hyperparameter_arguments(root: Path) -> List[str]:
    """Return the hyperparameters as arguments: `--name` and the value, in the order of their names.

    Args:
        root: the folder /opt/ml.

    Raises:
        ShimError: the file is damaged.
    """
    values = _read_json(root / "input/config/hyperparameters.json")
    words = []
    for name, value in sorted(values.items()):
        if not name.startswith(_OWN):
            words += ["--" + name, value if isinstance(value, str) else json.dumps(value)]
    return words


def channel_tasks(root: Path) -> List[Task]:
    """Return this host's share of the tasks in the channel `tasks`; empty without that channel.

    Raises:
        ShimError: a file cannot be read.
        TaskError: a file does not contain tasks.
    """
    folder = root / "input/data" / TASKS_CHANNEL
    if not folder.is_dir():
        return []
    try:
        files = sorted(each for each in folder.rglob("*") if each.is_file())
        tasks = [task for each in files for task in parse_tasks(each.read_bytes())]
    except OSError as error:
        raise ShimError("setup", "The channel %r cannot be read: %s" % (TASKS_CHANNEL, error)) from error
    return share(tasks, _read_json(root / "input/config/resourceconfig.json"))


def run_training(run: Callable[[], ProgramEnd], settings: Settings, root: Path) -> int:
    """Run the program with the channels as its inputs, and return its exit code.

    Args:
        run: runs the program.
        settings: the settings.
        root: the folder /opt/ml.
    """
    try:
        _link_channels(Path(settings.input_path), root / "input/data")
        empty(Path(settings.output_path))
        end = run()
    except (ShimError, OSError) as error:
        write_failure(root, str(error))
        return 1
    code, reason = end.return_code, end.message
    try:
        if code == 0 or settings.partial_outputs:
            _move(Path(settings.output_path), root / "model")
    except OSError as error:
        code, reason = code or 1, reason or "The outputs cannot be moved to the model: %s" % error
    if code:
        write_failure(root, reason or "exit code %d" % code, end.stderr)
    return code


def write_failure(root: Path, reason: str, lines: Sequence[str] = ()) -> None:
    """Write the FailureReason, unless the program has written its own.

    Args:
        root: the folder /opt/ml.
        reason: the reason.
        lines: the last lines of the program; their end is kept.
    """
    path = root / "output/failure"
    first = reason.encode("utf-8", "replace")[:FAILURE_BYTES]
    last = "".join(lines).rstrip("\n").encode("utf-8", "replace")
    room = FAILURE_BYTES - len(first) - 1
    text = first + b"\n" + last[-room:] if last and room > 0 else first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(text.decode("utf-8", "ignore").encode("utf-8"))
    except OSError:  # the program's own file, or a full disk: the exit code tells the failure too
        pass


def _link_channels(folder: Path, channels: Path) -> None:
    """Make a link to each channel in the input folder."""
    if os.path.realpath(str(folder)) == os.path.realpath(str(channels)):
        return
    empty(folder)
    if channels.is_dir():
        for each in sorted(channels.iterdir()):
            (folder / each.name).symlink_to(each)


def _move(folder: Path, model: Path) -> None:
    """Move outputs to the model's folder. Links stay as they are: SageMaker's archive contains them as links."""
    if os.path.realpath(str(folder)) == os.path.realpath(str(model)) or not folder.is_dir() or folder.is_symlink():
        return
    model.mkdir(parents=True, exist_ok=True)
    for each in sorted(folder.iterdir()):
        target = model / each.name
        if target.is_dir() and not target.is_symlink() and each.is_dir() and not each.is_symlink():
            _move(each, target)
        else:
            if target.is_symlink() or target.exists():
                target.unlink()
            shutil.move(str(each), str(target))


def _read_json(path: Path) -> Dict[str, Any]:
    """Return the object in a file of the configuration; empty without that file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ShimError("setup", "%s cannot be read: %s" % (path, error)) from error
    if not isinstance(value, dict):
        raise ShimError("setup", "%s is not a JSON object" % path)
    return value
