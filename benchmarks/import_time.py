"""Cost of `from processing import ScriptProcessor`, compared with `import boto3`.

Fresh interpreters alternate. Each measures its own import, so the start of the interpreter is not counted. The figures
are medians. The second one adds the inputs and outputs, which are classes of attrs, and therefore import it. A
processor imports them, and most of its own modules, on its first run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from figures import Figure, finish, scaled

ROUNDS = scaled(15, 3)
IMPORTS = {
    "ScriptProcessor": ("from processing import ScriptProcessor", 0.2),
    "ScriptProcessor, inputs and outputs": (
        "from processing import ProcessingInput, ProcessingOutput, ScriptProcessor",
        0.4,
    ),
}
"""By name: the statement, and the limit of its time as a share of boto3's."""

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
    ours: dict[str, list[float]] = {name: [] for name in IMPORTS}
    theirs: list[float] = []
    loaded: set[str] = set()
    for number in range(ROUNDS + 1):
        for name, (statement, _) in IMPORTS.items():
            our_seconds, modules = measure(statement)
            loaded.update(modules)
            if number:  # the first round writes the bytecode and fills the disk cache
                ours[name].append(our_seconds)
        their_seconds, _ = measure("import boto3")
        if number:
            theirs.append(their_seconds)
    their_median = statistics.median(theirs)
    medians = {name: statistics.median(found) for name, found in ours.items()}
    finish(
        [
            *(
                Figure(
                    f"import of {name} / of boto3",
                    median / their_median,
                    IMPORTS[name][1],
                    note=f"{median * 1000:.0f} ms against {their_median * 1000:.0f} ms, medians of {ROUNDS}",
                )
                for name, median in medians.items()
            ),
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
