"""The command `processing`.

`doctor` needs the standard library only, so that it runs when packages are missing. Every other command needs click and
rich (the extra `cli`), which `processing.cli.app` imports.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    The code is 0 if the command has done its work or the job has completed, 1 for a failure, 2 for wrong usage, 3 for a
    stopped job, 4 if the time is up, 5 if a job cannot be watched any more, and 130 after Ctrl-C.

    Args:
        arguments: the arguments after `processing`, by default those of the process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["doctor"]:
        from processing.cli import exit_codes

        return exit_codes.flushed(lambda: _doctor(words[1:]))
    try:
        import click  # noqa: F401 - its absence is the question
    except ImportError:
        return _without_click(words)
    from processing.cli.app import run

    return run(words)


def _doctor(words: list[str]) -> int:
    import argparse

    from processing.doctor import findings
    from processing.exceptions import ConfigurationError

    parser = argparse.ArgumentParser(
        prog="processing doctor",
        description="Find obstacles for a script on this machine. AWS is not called.",
    )
    parser.add_argument("script", nargs="?", help="the script or its folder (default: the current directory)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="the form of the result")
    options = parser.parse_args(words)
    try:
        found = findings(options.script)
    except ConfigurationError as error:
        sys.stderr.write(f"processing: error: {error}\n")
        return 2
    if options.output == "json":
        import json

        rows = [{"severity": each.severity, "topic": each.topic, "text": each.text} for each in found]
        sys.stdout.write(json.dumps({"version": 1, "findings": rows}, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{finding}\n" for finding in found)
    return int(any(finding.severity == "problem" for finding in found))


def _without_click(words: list[str]) -> int:
    """Show the help that needs no package, or the packages that a command needs."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="processing",
        description="Run AWS SageMaker Processing jobs.",
        epilog="The other commands need click and rich: pip install 'sm-processing[cli]'",
    )
    parser.add_argument("--version", action="version", version=f"sm-processing {sys.modules['processing'].__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser("doctor", help="find obstacles for a script on this machine")
    if not words or words[0] in {"-h", "--help", "--version"}:
        parser.parse_args(words)
    sys.stderr.write(
        f"processing: error: {words[0]} needs click and rich, which are not installed; "
        "pip install 'sm-processing[cli]'\n"
    )
    return 2
