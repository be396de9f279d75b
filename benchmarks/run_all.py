"""Run every benchmark, one after another; exit with 1 where one broke or a figure is over its limit.

python benchmarks/run_all.py [--report]    # --report: figures over their limits are shown, and are no failure
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from figures import OVER_THE_LIMIT

BENCHMARKS = (
    "import_time",
    "footprint",
    "aws_calls",
    "bundle",
    "submission",
    "unchanged",
    "uploads",
    "downloads",
    "large_file",
    "local_jobs",
    "many_jobs",
    "http_objects",
    "log_pages",
    "watch_hour",
    "watch_many",
    "log_lines",
    "soak",
    "engine_watch",
    "create_quota",
)


def main() -> None:
    here = Path(__file__).parent
    codes = {name: subprocess.run([sys.executable, here / f"{name}.py"], check=False).returncode for name in BENCHMARKS}
    allowed = {0, OVER_THE_LIMIT} if "--report" in sys.argv[1:] else {0}
    failed = [name for name, code in codes.items() if code not in allowed]
    if failed:
        sys.exit(f"over the limit or broken: {', '.join(failed)}")


if __name__ == "__main__":
    main()
