"""Cost of a wait for 1,000 and for 10,000 jobs at one time, under the published quotas.

1,000 jobs end within ten minutes while 5 % of all calls fail, beside one thread with the wait of `sagemaker` 2.x for
each job. 1,000 jobs end within 30 seconds. 10,000 jobs end at one a second. All time is virtual. The processor time is
that of the client without the simulation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
import clients
import watchers
from figures import Figure, finish, scaled


@attrs.frozen
class Scale:
    """A number of jobs that end over a number of seconds, while a share of the calls fails."""

    jobs: int
    seconds: float
    faults: float

    @property
    def name(self) -> str:
        return f"{self.jobs:,} jobs"


THOUSAND = Scale(scaled(1_000, 50), 600, 0.05)
AT_ONCE = Scale(scaled(1_000, 50), 30, 0)
TEN_THOUSAND = Scale(scaled(10_000, 500), scaled(10_000, 500), 0)


def measured(python: Path | str, client: str, scale: Scale) -> dict[str, Any]:
    found = watchers.watch(python, client, "many", scale.jobs, scale.seconds, scale.faults)
    number = sum(found["calls"].values())
    lags = sorted(found["lags"]) or [float("inf")]
    found["p99"] = lags[len(lags) * 99 // 100]
    found["per_minute"] = number / found["seconds"] * 60
    print(
        f"{client:<10} {scale.name}: {len(found['lags']):,} ends seen, lag p50 {lags[len(lags) // 2]:.1f} s, "
        f"p99 {found['p99']:.1f} s, at most {lags[-1]:.1f} s; {number:,} calls, {found['per_minute']:.0f} a minute "
        f"(the busiest {found['busiest_minute']}), {found['throttled']} throttled; "
        f"CPU {found['cpu_seconds']:.1f} s in {found['seconds']:.0f} s; {found['memory_mb']:.0f} MB"
    )
    return found


def thousand() -> list[Figure]:
    ours = measured(sys.executable, "processing", THOUSAND)
    theirs = measured(clients.SAGEMAKER_2, "sagemaker", THOUSAND)
    lost = THOUSAND.jobs - len(ours["lags"])
    return [
        Figure(f"{THOUSAND.name}, 5 % faults: waits lost", lost, 0, note=f"{THOUSAND.jobs - len(theirs['lags'])}"),
        Figure(f"{THOUSAND.name}, 5 % faults: status calls a minute", ours["per_minute"], 120),
        Figure(f"{THOUSAND.name}, 5 % faults: lag, 99 %", ours["p99"], 5, "s"),
    ]


def at_once() -> list[Figure]:
    ours = measured(sys.executable, "processing", AT_ONCE)
    name = f"{AT_ONCE.name} end within {AT_ONCE.seconds:.0f} s"
    return [
        Figure(f"{name}: waits lost", AT_ONCE.jobs - len(ours["lags"]), 0),
        Figure(f"{name}: calls throttled", ours["throttled"], 0),
        Figure(f"{name}: lag, 99 %", ours["p99"], 3, "s"),
    ]


def ten_thousand() -> list[Figure]:
    ours = measured(sys.executable, "processing", TEN_THOUSAND)
    name = f"{TEN_THOUSAND.name}, one end a second"
    return [
        Figure(f"{name}: waits lost", TEN_THOUSAND.jobs - len(ours["lags"]), 0),
        Figure(f"{name}: cores", ours["cpu_seconds"] / ours["seconds"], 1),
        Figure(f"{name}: memory", ours["memory_mb"], 150, "MB"),
        Figure(f"{name}: lag, 99 %", ours["p99"], 5, "s"),
        Figure(f"{name}: calls throttled", ours["throttled"], 0),
        Figure(f"{name}: status calls a minute", ours["per_minute"], 120),
    ]


def main() -> None:
    finish([*thousand(), *at_once(), *ten_thousand()])


if __name__ == "__main__":
    main()
