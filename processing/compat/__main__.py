"""The command `python -m processing.compat`: runs a script that was written for `sagemaker` 2.x."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from processing.exceptions import ProcessingError
from processing.local.commands.parser import OneLineParser

_DESCRIPTION = "Run an unchanged script that was written for sagemaker 2.x, or show the changes that a move needs."


def main(arguments: list[str] | None = None) -> None:
    """Run the command. The exit code is that of the script, or 2 for wrong usage or an engine that cannot serve.

    Args:
        arguments: the arguments after `python -m processing.compat`, by default those of the process.
    """
    parser = OneLineParser(prog="python -m processing.compat", description=_DESCRIPTION, allow_abbrev=False)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--local", action="store_true", help="run the script's jobs on this machine, without an account")
    mode.add_argument("--diff", action="store_true", help="print the changes as a unified diff, and change nothing")
    parser.add_argument("script", help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's arguments")
    options = parser.parse_args(arguments)
    source = _read(parser, options.script)
    if options.diff:
        _show_changes(parser, source, options)
        return
    if options.local:
        from processing.compat.local_target import serve_engine

        def report(line: str) -> None:
            sys.stderr.write(f"{parser.prog}: {line}\n")

        try:
            report(serve_engine(report, source))
        except ProcessingError as error:  # such as a machine without locks, or a folder that cannot be used
            parser.error(" ".join(str(error).split()))
    from processing.compat.script import run_script

    run_script(options.script, source, options.arguments)


def _show_changes(parser: OneLineParser, source: bytes, options: argparse.Namespace) -> None:
    from processing.compat.changes import unified_diff

    if options.arguments:
        parser.error(f"unrecognized arguments: {' '.join(options.arguments)} (--diff runs nothing)")
    try:
        text = unified_diff(source, options.script)
    except SyntaxError as error:
        place = "" if error.lineno is None else f"line {error.lineno}: "
        parser.error(f"{options.script}: {place}{error.msg}")
    except ValueError as error:  # bytes that are not text
        parser.error(f"{options.script}: {error}")
    if text:
        sys.stdout.write(text)
    else:
        sys.stderr.write(f"{parser.prog}: {options.script} needs no change\n")


def _read(parser: OneLineParser, script: str) -> bytes:
    if script.endswith(".ipynb"):
        parser.error(f"{script}: is a notebook; write its code to a script with `jupyter nbconvert --to script`")
    try:
        return Path(script).read_bytes()
    except OSError as error:
        parser.error(f"{script}: {error.strerror}")


if __name__ == "__main__":
    main()
