"""The command `processing`. It uses the standard library only, so that it runs when packages are missing."""

from __future__ import annotations

import argparse
import sys

from processing.exceptions import ConfigurationError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    The code is 0 on success, 1 if the doctor found a problem, and 2 for wrong usage.

    Args:
        arguments: the arguments after `processing`, by default those of the process.
    """
    parser = argparse.ArgumentParser(prog="processing", description="Run AWS SageMaker Processing jobs.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="find obstacles for a script on this machine",
        description="Find obstacles for a script on this machine. AWS is not called.",
    )
    doctor.add_argument("script", nargs="?", help="the script or its folder (default: the current directory)")
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
