"""Calls and final delay of a wait with logs for a one-hour job, beside `sagemaker` 2.x.

Both wait for the same simulated jobs on virtual time, with one host and with four. The jobs log a line a second, a line
in a few minutes, next to nothing, or hundreds at a time. They end at many different moments between two status calls.
The delay is from the visible terminal state to the return of `wait` with all lines shown. The last line is written up
to three seconds before the end, and CloudWatch delays it by up to two.

With an event source, a queue reports the end, after an assumed half second to a second. The queue's own calls are not
simulated: one long poll every twenty seconds is added.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import clients
import watchers
from figures import SHORT, Figure, finish, scaled

PHASES = {1: scaled(52, 2), 4: scaled(20, 1)}
"""Jobs by number of hosts, for each pace: 208 ends of one host, 80 of four."""
PACES = ("chatty",) if SHORT else tuple(watchers.PACES)
PHASES_TOLD = scaled(6, 1)
"""The same with an event source."""
LONG_POLLS = 180
"""Calls an hour to listen to a queue."""
TURNS_OF_THE_OTHER = 1
LIMITS = {1: 0.25, 4: 0.1}
"""Calls against those of `sagemaker` 2.x, by number of hosts; it reads each host's stream every ten seconds."""


def measured(python: Path | str, client: str, pace: str, hosts: int, count: int) -> dict[str, Any]:
    found = watchers.watch(python, client, "hour", pace, hosts, count)
    summary = {name: statistics.mean(values) for name, values in found.items()}
    print(
        f"{client:<22} {pace:<7} {hosts} hosts: {summary['calls']:.0f} calls, delay {summary['delay']:.1f} s "
        f"(at most {max(found['delay']):.1f}), lines missing {sum(found['missing'])}, doubled {sum(found['doubled'])}"
    )
    return found


def compare(hosts: int) -> list[Figure]:
    ours = {pace: measured(sys.executable, "processing", pace, hosts, PHASES[hosts]) for pace in PACES}
    theirs = {pace: measured(clients.SAGEMAKER_2, "sagemaker", pace, hosts, TURNS_OF_THE_OTHER) for pace in PACES}
    delays = {pace: each["delay"] for pace, each in ours.items()}
    others = [delay for each in theirs.values() for delay in each["delay"]]
    wrong = sum(sum(each["missing"]) + sum(each["doubled"]) for each in ours.values())
    us = {pace: statistics.mean(each["calls"]) for pace, each in ours.items()}
    them = statistics.mean(theirs["chatty"]["calls"])
    most = max(us, key=lambda pace: us[pace])
    what = f"one hour with logs, {hosts} host{'s' if hosts > 1 else ''}"
    return [
        Figure(
            f"{what}: calls against sagemaker 2.x",
            us[most] / them,
            LIMITS[hosts],
            note=f"{us[most]:.0f} ({most}) and {them:.0f}; "
            + ", ".join(f"{pace} {number:.0f}" for pace, number in us.items() if pace != most),
        ),
        Figure(f"{what}: lines lost or doubled", wrong, 0),
        Figure(
            f"{what}: end to return, mean",
            statistics.mean(delay for each in delays.values() for delay in each),
            8,
            "s",
            f"sagemaker 2.x {statistics.mean(others):.1f} s",
        ),
        Figure(
            f"{what}: end to return, worst",
            max(max(each) for each in delays.values()),
            15,
            "s",
            f"of {sum(map(len, delays.values()))} ends; sagemaker 2.x {max(others):.1f} s",
        ),
    ]


def told() -> list[Figure]:
    found = [measured(sys.executable, "processing with events", pace, 1, PHASES_TOLD) for pace in PACES]
    delays = [delay for each in found for delay in each["delay"]]
    calls = statistics.mean(number for each in found for number in each["calls"])
    early, late = watchers.EVENT_DELAY
    what = "one hour with logs and an event source"
    return [
        Figure(f"{what}: lines lost or doubled", sum(sum(each["missing"]) + sum(each["doubled"]) for each in found), 0),
        Figure(
            f"{what}: end to return, mean",
            statistics.mean(delays),
            2,
            "s",
            f"events come {early:g} to {late:g} s after the end; {calls:.0f} calls and {LONG_POLLS} long polls",
        ),
        Figure(
            f"{what}: end to return, worst",
            max(delays),
            2,
            "s",
            f"of {len(delays)} ends",
        ),
    ]


def main() -> None:
    finish([*(figure for hosts in PHASES for figure in compare(hosts)), *told()])


if __name__ == "__main__":
    main()
