"""Cost of a `run` of a processor that has run before, beside `sagemaker` 2.x and boto3 by hand in the same run.

The job has an unchanged script, one local input and a role ARN, and is not waited for. The clients alternate, each in a
process of its own. The first run of a process is not counted. One measurement uses the default bucket, as most scripts
do, and one a named bucket. The latter is compared with boto3, too: two uploads and CreateProcessingJob, as a user
writes them, and with the fewest round trips.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import clients
import standin
from figures import Figure, finish, scaled

TURNS = scaled(3, 1)
RUNS = scaled(11, 3)
LIMITS = {"": 0.35, clients.BUCKET: 0.45}
"""By the bucket of the session. With a named one `sagemaker` makes five round trips and we make two: 0.4 at best."""

LIMIT_BY_HAND = 0.42
"""Five round trips of boto3, of which `Expect: 100-continue` takes two, and two of ours: 0.4 at best."""

LIMIT_WITH_THREADS = 1.15
"""The same requests of botocore from threads that wait already, without any check: 1 at best."""


def warm_runs(
    server: standin.StandIn, python: Path | str, client: str, folder: Path, bucket: str
) -> tuple[list[float], list[float]]:
    """Return the seconds, and those of the processor, of the runs after the first."""
    action = {"boto3": "runs_by_hand", "boto3 with threads": "runs_with_threads"}.get(client, "runs")
    words = (action, folder / "script.py", folder / "data", bucket, RUNS)
    found = clients.measure(python, client.split(maxsplit=1)[0], *words, environment=server.environment)
    counted = server.reset()
    calls = ", ".join(f"{number} {operation}" for operation, number in sorted(counted.calls.items()))
    print(f"{client}, {'a' if bucket else 'no'} bucket named, {RUNS} runs: {calls}")
    return found["seconds"][1:], found["cpu_seconds"][1:]


def compare(server: standin.StandIn, folder: Path, bucket: str) -> list[Figure]:
    pythons = {"processing": Path(sys.executable), "sagemaker": clients.SAGEMAKER_2}
    if bucket:
        pythons |= dict.fromkeys(("boto3", "boto3 with threads"), Path(sys.executable))
    seconds: dict[str, list[float]] = {client: [] for client in pythons}
    cpu: dict[str, list[float]] = {client: [] for client in pythons}
    for _ in range(TURNS):
        for client, python in pythons.items():
            found = warm_runs(server, python, client, folder, bucket)
            seconds[client] += found[0]
            cpu[client] += found[1]
    what = f"warm run(), {'a bucket named' if bucket else 'the default bucket'}"
    calls = {
        "boto3": ("boto3 by hand", LIMIT_BY_HAND),
        "boto3 with threads": ("these requests alone", LIMIT_WITH_THREADS),
    }
    return [
        *(
            ratio(f"{what}: time against {name}", seconds["processing"], seconds[client], limit)
            for client, (name, limit) in calls.items()
            if client in pythons
        ),
        ratio(f"{what}: time against sagemaker 2.x", seconds["processing"], seconds["sagemaker"], LIMITS[bucket]),
        ratio(f"{what}: CPU against it", cpu["processing"], cpu["sagemaker"], 1.0),
    ]


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], limit: float) -> Figure:
    us, them = statistics.median(ours), statistics.median(theirs)
    return Figure(name, us / them, limit, note=f"{us * 1000:.0f} ms and {them * 1000:.0f} ms, medians of {len(ours)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        (folder / "script.py").write_text("print('hello')\n")
        (folder / "data").mkdir()
        (folder / "data" / "one.txt").write_text("1\n")
        finish([figure for bucket in LIMITS for figure in compare(server, folder, bucket)])


if __name__ == "__main__":
    main()
