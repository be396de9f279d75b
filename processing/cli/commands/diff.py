"""`processing diff`: compare the settings of two jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from processing.cli import output
from processing.cli.options import Target, output_option, target_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Members that differ between any two jobs, or that say how a job went rather than how it was set up.
_STATE = frozenset(
    {
        "CreationTime",
        "ExitMessage",
        "FailureReason",
        "LastModifiedTime",
        "ProcessingEndTime",
        "ProcessingJobArn",
        "ProcessingJobName",
        "ProcessingJobStatus",
        "ProcessingStartTime",
        "ResponseMetadata",
    }
)


@click.command("diff")
@click.argument("a")
@click.argument("b")
@output_option
@target_options
def command(target: Target, a: str, b: str, form: str) -> None:
    """Show the settings in which the jobs A and B differ."""
    from processing.job.job import attach

    session = target.session()
    first, second = (attach(name, session=session).describe() for name in (a, b))
    _show(first, second, form)


def _show(first: Mapping[str, Any], second: Mapping[str, Any], form: str) -> None:
    left, right = (dict(_leaves({k: v for k, v in each.items() if k not in _STATE})) for each in (first, second))
    changes = [
        {"setting": name, "a": left.get(name), "b": right.get(name)}
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]
    if form == "json":
        output.write_json(differences=changes)
        return
    for change in changes:
        output.write(str(change["setting"]))
        for side, sign in (("a", "-"), ("b", "+")):
            if change[side] is not None:
                output.write(f"  {sign} {json.dumps(change[side], default=str)}")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value below a description with its path. Named inputs and outputs are found by their names."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        for number, member in enumerate(value):
            name = member.get("InputName") or member.get("OutputName") or number
            yield from _leaves(member, f"{path}[{name}]")
    else:
        yield path, value
