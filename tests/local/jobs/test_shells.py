"""Commands that begin with a shell: oversized commands, the bootstrap, and a Python of the job's own."""

from __future__ import annotations

import io
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.bootstrap import NAME, Payload, bootstrap
from processing.container.command import FILE, command_script

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "/opt/ml/processing/input"


def test_what_a_request_has_no_room_for_reaches_every_sandbox(every_sandbox: Any) -> None:
    """Variables, arguments and paths below /opt/ml come from the file, and the exit code is the program's."""
    jobs = every_sandbox
    jobs.objects.put("data", f"spilled/{FILE}", command_script({"SAID": "it's"}, ["a b", f"{FOLDER}/command/{FILE}"]))
    show = 'echo "$SAID" "$1"; test -f "$2" && exit 3'
    name = jobs.create(
        entrypoint=["/bin/sh", f"{FOLDER}/command/{FILE}", "/bin/sh", "-c", show, "sh"],
        inputs={"input/command": f"s3://data/spilled/{FILE}"},
    )
    described = jobs.wait(name)
    assert described["FailureReason"].endswith("exit code: 3"), described
    assert jobs.lines(name) == ["it's a b"]


def test_the_bootstrap_runs_in_every_sandbox(every_sandbox: Any) -> None:
    """It finds the bundle from its own path, and becomes the command."""
    jobs = every_sandbox
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as writing:
        entry = tarfile.TarInfo("show.sh")
        text = b'echo "from $(basename "$PWD")" "$@"; exit 4\n'
        entry.size = len(text)
        writing.addfile(entry, io.BytesIO(text))
    jobs.objects.put("data", "source/sourcedir.tar.gz", archive.getvalue())
    jobs.objects.put("data", f"source/{NAME}", bootstrap(["sh"], Payload("show.sh")).encode())
    name = jobs.create(
        entrypoint=["/bin/sh", f"{FOLDER}/entrypoint/{NAME}"],
        arguments=["a b"],
        inputs={
            "input/code": "s3://data/source/sourcedir.tar.gz",
            "input/entrypoint": f"s3://data/source/{NAME}",
        },
    )
    described = jobs.wait(name)
    assert jobs.lines(name) == ["from code a b"], described
    assert described["FailureReason"].endswith("exit code: 4")


@pytest.mark.parametrize("program", ["python", "python3"])
def test_a_shell_has_a_python_of_the_jobs_own(own_programs: Any, program: str) -> None:
    """By either name, over the one that jobs run on, and gone with the job."""
    jobs = own_programs
    show = f"{program} -c 'import attrs, sys; print(sys.prefix, sys.version_info[:2])'"
    name = jobs.create(entrypoint=["sh", "-c", show])
    jobs.wait(name)
    (line,) = jobs.lines(name)
    assert line.startswith(str(jobs.home))
    assert line.endswith(str(sys.version_info[:2]))
    jobs.check_nothing_left()


def test_a_python_that_makes_none_still_leaves_the_users_alone(make_jobs: Any, tmp_path: Path) -> None:
    """Without the module venv, pip installs into a folder of the job's."""
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    jobs = make_jobs(python=str(python))
    name = jobs.create(entrypoint=["sh", "-c", 'echo "$PIP_TARGET" "$PYTHONPATH"'])
    jobs.wait(name)
    (line,) = jobs.lines(name)
    target, path = line.split()
    assert target == path
    assert target.startswith(str(jobs.home))
