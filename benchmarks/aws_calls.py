"""Calls to AWS from `run` to the created job.

The clients are those of a `Session` for AWS. Their requests are counted before the wire, and the embedded engine
answers them. The job has one local script, one local directory of N files, a given bucket and a role ARN.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from figures import Figure, finish

from processing import LocalSession, ProcessingInput, ProcessingOutput, ScriptProcessor, Session

FILES = 25
ROLE = "arn:aws:iam::000000000000:role/processing"
BUCKET = "a-bucket-of-mine"


def calls_of_a_run(folder: Path, layout: Literal["content", "job"], runs: int = 1) -> Counter[str]:
    """Return the operations of the last of several runs, each with its number."""
    boto_session = LocalSession(folder / "engine" / f"{layout}-{runs}").boto_session
    boto_session.client("s3").create_bucket(Bucket=BUCKET)
    calls: Counter[str] = Counter()

    def count(event_name: str, **_: Any) -> None:
        calls[event_name.removeprefix("before-send.")] += 1

    boto_session.events.register_first("before-send", count)
    session = Session(boto_session, default_bucket=BUCKET, code_layout=layout)
    processor = ScriptProcessor(ROLE, "image", ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)
    for _ in range(runs):
        calls.clear()
        job = processor.run(
            folder / "script.py",
            [ProcessingInput(folder / "data", "/opt/ml/processing/input/data")],
            [ProcessingOutput("/opt/ml/processing/output", output_name="out")],
            wait=False,
        )
        created = calls.copy()
        job.wait(logs=False)
    return created


def figure(name: str, calls: Counter[str], more: int) -> Figure:
    note = ", ".join(f"{number} {operation}" for operation, number in sorted(calls.items()))
    return Figure(name, calls.total(), FILES + more, note=note)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "script.py").write_text("print('hello')\n")
        (folder / "data").mkdir()
        for number in range(FILES):
            (folder / "data" / f"{number}.txt").write_text(str(number))
        finish(
            [
                figure(f'calls, {FILES} files, code_layout="job"', calls_of_a_run(folder, "job"), 2),
                figure(f"calls, {FILES} files", calls_of_a_run(folder, "content"), 3),
                figure(f"calls, {FILES} files, the script unchanged", calls_of_a_run(folder, "content", runs=2), 2),
            ]
        )


if __name__ == "__main__":
    main()
