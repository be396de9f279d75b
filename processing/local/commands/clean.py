"""The command `clean`: removes old data from the engine's folder."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError
from processing.local.cleaning import Cleaned, parse_age, parse_size
from processing.local.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = ("B", "KB", "MB", "GB", "TB")


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to those of a program."""
    parser = commands.add_parser(
        "clean",
        help="remove old data from the engine's folder",
        description="Remove finished jobs, their logs and metrics, objects and unfinished uploads by age, by the "
        "folder's size, or both. Files that killed processes left are always removed. Running jobs and the objects "
        "that they read stay.",
    )
    parser.add_argument("--home", type=Path, metavar="DIR", help="the engine's folder")
    parser.add_argument("--older-than", type=_option(parse_age), metavar="AGE", help="such as 30d or 12h")
    parser.add_argument(
        "--larger-than",
        type=_option(parse_size),
        metavar="SIZE",
        help="such as 5GB: the oldest data is removed until the folder is no larger",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    parser.set_defaults(run=_clean)


def _clean(options: argparse.Namespace) -> None:
    if options.home is not None and not os.path.lexists(options.home):  # an engine would make the folder
        raise ConfigurationError(f"--home: there is no folder {options.home}")
    cleaned = Engine(options.home).clean(
        older_than=options.older_than, larger_than=options.larger_than, dry_run=options.dry_run
    )
    sys.stdout.write(_summary(cleaned, options.larger_than, dry_run=options.dry_run))


def _summary(cleaned: Cleaned, limit: int | None, *, dry_run: bool) -> str:
    counts = (
        (cleaned.jobs, "finished job"),
        (cleaned.log_lines, "log line"),
        (cleaned.samples, "metric sample"),
        (cleaned.objects, "object"),
        (cleaned.uploads, "unfinished upload"),
        (cleaned.leftovers, "leftover"),
    )
    removed = ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts if count) or "nothing"
    text = (
        f"{'would remove' if dry_run else 'removed'} {removed}\n"
        f"{_amount(cleaned.freed)} {'would be ' * dry_run}freed, {_amount(cleaned.size)} left\n"
    )
    if limit is not None and cleaned.size > limit and not dry_run:
        text += f"still larger than {_amount(limit)}: the rest is in use, or the engine needs it\n"
    return text


def _amount(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {_UNITS[-1]}"


def _option(parse: Callable[[str], float]) -> Callable[[str], float]:
    """Return the parser of an option, whose errors argparse shows."""

    def parsed(text: str) -> float:
        try:
            return parse(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from error

    return parsed
