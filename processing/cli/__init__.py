"""The command `processing`. It needs no further package, since it is what one runs when something is missing."""

from __future__ import annotations

import argparse
import sys

from processing.exceptions import ConfigurationError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, 1 where the doctor found a problem, 2 for what cannot be asked.

    Args:
        arguments: what follows `processing` on the command line; that of the process where none is given.
    """
    parser = argparse.ArgumentParser(prog="processing", description="Run AWS SageMaker Processing jobs.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="look for what stands in the way of a script",
        description="Look for what stands in the way of a script on this machine. AWS is not called.",
    )
    doctor.add_argument("script", nargs="?", help="the script, or its folder; the current directory without")
    doctor.set_defaults(run=_doctor)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigurationError as error:
        sys.stderr.write(f"processing: error: {error}\n")
        return 2
    return code


def _doctor(options: argparse.Namespace) -> int:
    from processing.doctor import findings

    found = findings(options.script)
    sys.stdout.writelines(f"{finding}\n" for finding in found)
    return int(any(finding.severity == "problem" for finding in found))
