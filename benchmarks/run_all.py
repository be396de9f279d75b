"""Run every benchmark, one after another; exit with 1 where a figure is over its limit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("import_time", "footprint", "aws_calls", "local_jobs")


def main() -> None:
    here = Path(__file__).parent
    failed = [
        name for name in BENCHMARKS if subprocess.run([sys.executable, here / f"{name}.py"], check=False).returncode
    ]
    if failed:
        sys.exit(f"over the limit or broken: {', '.join(failed)}")


if __name__ == "__main__":
    main()
