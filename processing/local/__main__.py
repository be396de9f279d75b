"""The engine's commands: `python -m processing.local serve` and `clean`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from processing.exceptions import ProcessingError
from processing.local.commands.parser import OneLineParser
from processing.local.home import require_locks

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str] | None = None, prog: str = "python -m processing.local") -> None:
    """Run a command. An error in its arguments or on the machine is one line on stderr, and exit code 2.

    Args:
        arguments: the arguments after the program's name, by default those of the process.
        prog: the program's name in messages.
    """
    parser = OneLineParser(prog=prog, description="The embedded engine.")
    try:
        require_locks()
    except ProcessingError as error:
        sys.exit(_report_error(parser, error))
    from processing.local.commands import clean, serve  # they need the module whose existence is checked above

    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve.add_command(commands)
    clean.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ProcessingError, ValueError, TypeError, OSError) as error:
        sys.exit(_report_error(parser, error))


def _report_error(parser: argparse.ArgumentParser, error: Exception) -> int:
    text = " ".join(str(error.args[0] if type(error) is TypeError else error).split())
    sys.stderr.write(f"{parser.prog}: error: {text}\n")
    return 2


if __name__ == "__main__":
    main()
