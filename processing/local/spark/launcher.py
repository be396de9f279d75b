"""The program `smspark-submit` of one host: a script that starts `submit` on the engine's own interpreter.

The supervisor writes it. A job's interpreter may be older than this package needs, and lack boto3.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

NAME = "smspark-submit"
"""The name of the program in AWS's images."""
_START = "import sys; sys.path.extend({path!r}); from processing.local.spark.submit import main; main(sys.argv[1:])"


class LauncherSettings(NamedTuple):
    """The facts about a host that its program needs.

    Attributes:
        ml_root: the folder that the program sees as /opt/ml.
        rendezvous: the folder in which the hosts of the job find each other.
        python: the interpreter of the application.
        memory: the bytes of memory that the host may use; None for the machine's.
    """

    ml_root: str
    rendezvous: str
    python: str
    memory: int | None


def write_launcher(folder: Path, settings: LauncherSettings, path: list[str]) -> Path:
    """Write the program into a new folder, and return it.

    Args:
        folder: the folder.
        settings: the facts about the host.
        path: the import search path on which this package and boto3 are found.
    """
    folder.mkdir()
    program = folder / NAME
    words = [sys.executable, "-I", "-c", _START.format(path=path), json.dumps(settings._asdict())]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    return program
