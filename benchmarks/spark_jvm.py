"""A DataFrame as files of records: this package beside the JVM of sagemaker_pyspark 1.4.5, each with its own Spark.

Processor time is that of a JVM and its workers together. Both programs are warm, and write in turns. The peer is
measured where it is installed: `./scripts/install-spark --peer`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import Figure, finish, scaled
from spark_stages import FRAME, PYTHON

PEER = PYTHON.parents[2] / "sagemaker-pyspark/bin/python"
ROWS = scaled(60_000, 2_000)
ROUNDS = scaled(8, 2)

CLASS_PATH = """
import sagemaker_pyspark
class_path = ":".join(sagemaker_pyspark.classpath_jars())
"""
OURS = """
from processing.spark.ml.datasource import write_to_folder
from processing.spark.ml.formats import format_of

spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "2000")  # as the guide advises for wide vectors


def write():
    write_to_folder(frame, format_of("sagemaker", {}, frame.schema), Path(home, "ours"), "overwrite")
"""
THEIRS = """
def write():
    frame.write.format("sagemaker").mode("overwrite").save(Path(home, "theirs").as_uri())
"""
LOOP = """
write(), write()
print("READY", flush=True)
for _ in sys.stdin:
    print("FOUND", measured(write)[0], flush=True)
"""


def start(python: Path, program: str, home: str) -> subprocess.Popen[str]:
    """Start a program, and wait until it is warm."""
    command = [str(python), "-W", "ignore", "-c", program + LOOP, str(ROWS), "0", home]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    read(made, "READY")
    return made


def read(program: subprocess.Popen[str], word: str) -> str:
    """Return the rest of the next line that begins with a word."""
    assert program.stdout is not None
    for line in program.stdout:
        if line.startswith(word):
            return line.removeprefix(word)
    sys.exit(f"a program broke: {program.args!r}")


def seconds(program: subprocess.Popen[str]) -> float:
    """Let a program write once, and return its processor time."""
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()
    return float(read(program, "FOUND"))


def main() -> None:
    if not PYTHON.exists():
        sys.exit(f"{PYTHON} is missing: ./scripts/install-spark installs it")
    if not PEER.exists():
        print(f"{PEER} is missing: ./scripts/install-spark --peer installs it")
        return
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # the engine may write until the end
        programs: dict[str, Any] = {
            "ours": start(PYTHON, FRAME + OURS, home),
            "theirs": start(PEER, CLASS_PATH + FRAME + THEIRS, home),
        }
        for _ in range(ROUNDS):
            for name, program in programs.items():
                found[name].append(seconds(program))
        for program in programs.values():
            program.stdin.close()
            program.wait(60)
        sizes = {name: sum(file.stat().st_size for file in Path(home, name).glob("*.pbr")) for name in programs}
    assert sizes["ours"] == sizes["theirs"], sizes
    ours, theirs = min(found["ours"]), min(found["theirs"])
    note = f"{ROWS / ours:,.0f} and {ROWS / theirs:,.0f} rows a CPU second"
    finish([Figure("DataFrame to files: processor time beside sagemaker_pyspark", ours / theirs, 1.25, note=note)])


if __name__ == "__main__":
    main()
