"""The command on a full disk: each command ends with an error of one line or does its work, never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from command_line import COMMAND

if TYPE_CHECKING:
    import pathlib

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs"),
    pytest.mark.complete("takes a while"),
]
FILL = "dd if=/dev/zero of=$PROCESSING_LOCAL_HOME/filler bs=1k 2>/dev/null"


def on_a_small_disk(place: pathlib.Path, *lines: str) -> tuple[list[str], str]:
    """Run lines of a shell with an engine on a disk of 3 MB; return the exit codes that they print, and the errors."""
    script = f"mount -t tmpfs -o size=3m none {place} && export PROCESSING_LOCAL_HOME={place}\n" + "\n".join(lines)
    done = subprocess.run(
        ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount", "sh", "-c", script],
        cwd=place.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if line.startswith("code ")], done.stderr


def test_each_command_on_a_full_disk(tmp_path: pathlib.Path) -> None:
    """A run is refused, reading commands answer, and cleaning makes room for the next run."""
    place = tmp_path / "disk"
    place.mkdir()
    (tmp_path / "hello.py").write_text("print('hello')\n")
    processing = " ".join(COMMAND)
    codes, errors = on_a_small_disk(
        place,
        f"{processing} run hello.py -t local --name before -q; echo code $?",
        FILL,
        f"{processing} run hello.py -t local --name full; echo code $?",
        f"{processing} ls --local; echo code $?",
        f"{processing} logs before --local; echo code $?",
        "rm $PROCESSING_LOCAL_HOME/filler",
        f"{processing} run hello.py -t local --name after -q; echo code $?",
    )
    assert codes == ["code 0", "code 1", "code 0", "code 0", "code 0"], errors
    assert "Traceback" not in errors
    assert "processing: error: " in errors
