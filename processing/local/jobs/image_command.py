"""The command of a job or an endpoint: that of its request, of its image, or of the program for its image."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.jobs.execution_plan import ExecutionPlan

_PYTHON = re.compile(r"python(3(\.\d+)?)?")


def command_of(
    plan: ExecutionPlan,
    command: str,
    requested: Mapping[str, str],
    *,
    entrypoint: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """Return the command line, and the variables with those that it needs.

    Args:
        plan: the execution plan.
        command: the command of an image without an entrypoint of the request's: `train` or `serve`.
        requested: the variables of the request.
        entrypoint: the entrypoint of the request, in place of the image's.
        arguments: the arguments of the request, in place of the command.
    """
    environment = dict(requested)
    if plan.python is None:
        return [*entrypoint, *(arguments or ([] if entrypoint else [command]))], environment
    if entrypoint or plan.program is None:
        argv = [*entrypoint, *arguments]
        if _PYTHON.fullmatch(argv[0]):
            argv[0] = plan.python.executable
        return argv, environment
    known = environment.get("PYTHONPATH")
    paths = [*plan.program.path, *([known] if known else [])]
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return [plan.python.executable, "-m", plan.program.module, command, *plan.program.arguments], environment
