"""A soak: one process follows 1,000 jobs with all their logs for ten minutes, under quotas, with 5 % of calls failing.

Nothing may be missed, lost or doubled, and the memory must not grow with time. The ten minutes are virtual. Then the
same happens on the embedded engine, which has no quotas: 64 real jobs at a time, each with numbered lines.

    python benchmarks/soak.py [MINUTES]     # of the real jobs, such as 10; three rounds of 64 by default
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import watchers
from figures import Figure, finish, scaled

import processing
from processing import LocalSession, ScriptProcessor
from processing.testing.faults import FaultInjector
from processing.watching.events import LogEvent, StatusChanged

JOBS, SECONDS, FAULTS = scaled(1_000, 100), 600, 0.05
TOGETHER, LINES = scaled(64, 8), 200
ROUNDS = scaled(3, 1)
"""The least number of rounds of real jobs. Memory is expected to stay constant after the first."""
SETTLED = 3
"""Minutes after which memory is expected to stay constant."""
SCRIPT = """
import sys, time
for number in range(int(sys.argv[2])):
    print(f"#{sys.argv[1]}/{number}", flush=number % 50 == 0)
"""


def simulated() -> list[Figure]:
    found = watchers.watch(sys.executable, "processing", "soak", JOBS, SECONDS, FAULTS)
    lags, memory = sorted(found["lags"]), found["memory_mb"]
    number = sum(found["calls"].values())
    print(
        f"{found['lines']:,} lines of {JOBS:,} jobs in {found['seconds']:.0f} s: {number:,} calls "
        f"({', '.join(f'{count} {name}' for name, count in sorted(found['calls'].items()))}); "
        f"memory by minute {', '.join(f'{each:.0f}' for each in memory)} MB; "
        f"lag with all lines p50 {lags[len(lags) // 2]:.1f} s, p99 {lags[len(lags) * 99 // 100]:.1f} s"
    )
    what = f"{JOBS:,} jobs followed with {found['lines']:,} lines, 5 % faults"
    return [
        Figure(f"{what}: ends missed", found["ends_missing"], 0),
        Figure(f"{what}: ends doubled", found["ends_doubled"], 0),
        Figure(f"{what}: lines lost", found["lines_missing"], 0),
        Figure(f"{what}: lines doubled", found["lines_doubled"], 0),
        Figure(f"{what}: memory gained after minute {SETTLED}", memory[-1] - memory[SETTLED], 20, "MB"),
    ]


def real(minutes: float) -> list[Figure]:
    """Run real jobs, 64 at a time, until the time is over; follow each round by one stream."""
    wrong, rounds, memory = 0, 0, []
    faults = FaultInjector(seed=TOGETHER)
    for kind in watchers.FAULTS:
        faults.on("*", kind, probability=FAULTS / len(watchers.FAULTS))
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        script = Path(name, "lines.py")
        script.write_text(SCRIPT)
        session = LocalSession(Path(name, "engine"), transport=faults.wrap)
        while rounds < ROUNDS or time.monotonic() < until:
            wrong += one_round(session, script)
            rounds += 1
            memory.append(watchers.resident_mb())
    print(
        f"{rounds} rounds of {TOGETHER} real jobs: {len(faults.injected):,} of {len(faults.calls):,} calls failed; "
        f"memory by round {', '.join(f'{each:.0f}' for each in memory)} MB"
    )
    what = f"{rounds * TOGETHER:,} real jobs, {TOGETHER} at a time, 5 % faults"
    return [
        Figure(f"{what}: ends or lines missed or doubled", wrong, 0),
        Figure(f"{what}: memory gained after the first", memory[-1] - memory[0], 20, "MB"),
    ]


def one_round(session: LocalSession, script: Path) -> int:
    """Return the numbers of missed and doubled ends and lines of a round."""
    jobs = []
    for number in range(TOGETHER):
        processor = ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
        )
        jobs.append(processor.run(script, arguments=[str(number), str(LINES)], wait=False))
    expected = Counter(f"#{number}/{line}" for number in range(TOGETHER) for line in range(LINES))
    expected.update(job.name for job in jobs)
    seen: Counter[str] = Counter()
    for event in processing.events(jobs, logs=True):
        if isinstance(event, LogEvent):
            seen[event.message] += 1
        elif isinstance(event, StatusChanged) and event.status == "Completed":
            seen[event.job_name] += 1
    return (expected - seen).total() + (seen - expected).total()


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    finish([*simulated(), *real(minutes)])


if __name__ == "__main__":
    main()
