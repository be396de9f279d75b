"""Run every benchmark in turn. Exit with 1 if one breaks or a figure is over its limit.

python benchmarks/run_all.py            # the figures; about 17 minutes on 2 cores
python benchmarks/run_all.py --short    # small sizes, which show that each benchmark works; figures over their limits
                                        # are no failure
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from figures import OVER_THE_LIMIT

BENCHMARKS = (
    "import_time",
    "footprint",
    "cold_start",
    "command_line",
    "aws_calls",
    "bundle",
    "submission",
    "unchanged",
    "uploads",
    "downloads",
    "large_file",
    "remote_serialization",
    "recordio_records",
    "spark_stages",
    "spark_jvm",
    "remote_map",
    "remote_call",
    "cards",
    "local_jobs",
    "hosting",
    "local_training",
    "shim",
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
    short = "--short" in sys.argv[1:]
    environment = {**os.environ, "PROCESSING_BENCHMARKS": "short"} if short else None
    allowed = {0, OVER_THE_LIMIT} if short else {0}
    here, failed = Path(__file__).parent, []
    for name in BENCHMARKS:
        began = time.monotonic()
        done = subprocess.run([sys.executable, here / f"{name}.py"], env=environment, check=False)
        print(f"{name}: exit code {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode not in allowed:
            failed.append(name)
    if failed:
        sys.exit(f"over the limit or broken: {', '.join(failed)}")


if __name__ == "__main__":
    main()
