"""Cost of 200,000 shown log lines, beside `sagemaker` 2.x: lines per second of the processor, and memory.

Both read the same simulated CloudWatch Logs, in pages of up to 10,000 lines or 1 MB, and print to a file. One job has
ended. Others are followed while they write, for an hour and for ten minutes. The processor time of the simulation is
not counted, nor are lines that are not shown. The clients alternate, each in a process of its own. The figures are
medians.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import clients
import watchers
from figures import Figure, finish, scaled

LINES = scaled(200_000, 20_000)
TURNS = scaled(3, 1)
MODES = {
    "ended": ("of a job that has ended", 1 / 1.5),
    "60": ("followed for an hour", 1 / 1.5),
    "10": (
        "followed for ten minutes",
        1.0,
    ),  # of our own time: the more lines a second, the more of them are read twice
}


def compare(mode: str) -> list[Figure]:
    pythons: dict[str, Path | str] = {"processing": sys.executable, "sagemaker": clients.SAGEMAKER_2}
    found: dict[str, list[dict[str, float]]] = {client: [] for client in pythons}
    for _ in range(TURNS):
        for client, python in pythons.items():
            found[client].append(watchers.watch(python, client, "log_lines", mode, LINES))
    cpu = {client: statistics.median(each["cpu_seconds"] for each in turns) for client, turns in found.items()}
    rates = {client: (LINES - found[client][0]["missing"]) / seconds for client, seconds in cpu.items()}
    ours = found["processing"]
    described, limit = MODES[mode]
    what = f"{LINES:,} lines {described}"
    return [
        Figure(
            f"{what}: CPU against sagemaker 2.x",
            rates["sagemaker"] / rates["processing"],
            limit,
            note=f"{rates['processing']:,.0f} and {rates['sagemaker']:,.0f} lines per CPU second",
        ),
        Figure(
            f"{what}: lost or doubled",
            max(each["missing"] + each["doubled"] for each in ours),
            0,
            note=f"{max(each['missing'] + each['doubled'] for each in found['sagemaker']):,.0f}",
        ),
        Figure(
            f"{what}: memory",
            max(each["memory_mb"] for each in ours),
            60,
            "MB",
            f"{max(each['memory_mb'] for each in found['sagemaker']):.0f} MB",
        ),
    ]


def main() -> None:
    finish([figure for mode in MODES for figure in compare(mode)])


if __name__ == "__main__":
    main()
