"""Cost of `from processing import ScriptProcessor`, compared with `import boto3`.

Fresh interpreters alternate. Each measures its own import, so the start of the interpreter is not counted. The figures
are medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from figures import Figure, finish, scaled

ROUNDS = scaled(15, 3)
LIMIT = 0.4
HEAVY = ("boto3", "botocore", "tenacity")

CHILD = """
import json, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {heavy!r} if name in sys.modules]]))
"""


def measure(statement: str) -> tuple[float, list[str]]:
    """Run one statement in a fresh interpreter; return its seconds and the heavy modules that it loaded."""
    command = [sys.executable, "-c", CHILD.format(statement=statement, heavy=HEAVY)]
    # Both imports use bytecode, however they were installed, so Python must be allowed to write it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds, loaded = json.loads(done.stdout)
    return seconds, loaded


def main() -> None:
    ours: list[float] = []
    theirs: list[float] = []
    loaded: set[str] = set()
    for number in range(ROUNDS + 1):
        our_seconds, modules = measure("from processing import ScriptProcessor")
        their_seconds, _ = measure("import boto3")
        loaded.update(modules)
        if number:  # the first round writes the bytecode and fills the disk cache
            ours.append(our_seconds)
            theirs.append(their_seconds)
    our_median, their_median = statistics.median(ours), statistics.median(theirs)
    note = f"{our_median * 1000:.0f} ms against {their_median * 1000:.0f} ms, medians of {ROUNDS}"
    finish(
        [
            Figure("import of ScriptProcessor / import of boto3", our_median / their_median, LIMIT, note=note),
            Figure(
                "heavy modules loaded by it",
                len(loaded),
                0,
                note=", ".join(sorted(loaded)) or "none of " + ", ".join(HEAVY),
            ),
        ]
    )


if __name__ == "__main__":
    main()
