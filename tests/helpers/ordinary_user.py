"""Python programs with the rights of an ordinary user, also when root runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_ROOTS_RIGHTS = "-dac_override,-dac_read_search,-fowner"
"""The capabilities by which root reads and changes every file, whatever its mode and owner."""


def ordinary_user() -> list[str]:
    """Return the words before a command that take root's rights to files from it."""
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "root needs setpriv (util-linux) for this test"
    return [setpriv, f"--bounding-set={_ROOTS_RIGHTS}", f"--inh-caps={_ROOTS_RIGHTS}"]


def run_as_ordinary_user(program: str, *arguments: object) -> str:
    """Run a Python program without root's rights to files, and return its output.

    Args:
        program: the source of the program.
        arguments: its arguments.
    """
    command = [*ordinary_user(), sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
