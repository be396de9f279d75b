"""Run `prepare.py` as a processing job on this machine, and show its results.

`instance_type="local"` is the embedded engine. With a role, an image and an instance type such as `ml.m5.xlarge` the
same program runs on AWS.
"""

from __future__ import annotations

import json
from pathlib import Path

from processing import ProcessingInput, ProcessingOutput, ScriptProcessor

HERE = Path(__file__).resolve().parent
INPUT = "/opt/ml/processing/input"
OUTPUT = "/opt/ml/processing/output"


def main() -> None:
    """Run the job, fetch its outputs, print the report."""
    processor = ScriptProcessor(
        command=["python3"],
        instance_type="local",
        instance_count=1,
        base_job_name="penguins",
    )
    job = processor.run(
        code=HERE / "prepare.py",
        inputs=[
            ProcessingInput(HERE / "data" / "penguins-raw.csv", f"{INPUT}/penguins", input_name="penguins"),
            ProcessingInput(HERE / "data" / "islands.csv", f"{INPUT}/islands", input_name="islands"),
        ],
        outputs=[
            ProcessingOutput(f"{OUTPUT}/datasets", output_name="datasets"),
            ProcessingOutput(f"{OUTPUT}/report", output_name="report"),
        ],
        arguments=[
            *("--penguins", f"{INPUT}/penguins", "--islands", f"{INPUT}/islands"),
            *("--datasets", f"{OUTPUT}/datasets", "--report", f"{OUTPUT}/report"),
        ],
    )

    results = HERE / "results"
    for output in job.outputs:
        output.download(results)
    report = json.loads((results / "report.json").read_text(encoding="utf-8"))

    print(f"\n{job.job_name}: {job.status}\n")
    print(f"{'species':<10} {'rows':>4}  {'mass, g':>8} {'flipper, mm':>12} {'bill, mm':>9}  islands")
    for line in report["species"]:
        print(
            f"{line['species']:<10} {line['rows']:>4}  {line['body_mass_g']:>8.1f} {line['flipper_length_mm']:>12.1f} "
            f"{line['bill_length_mm']:>9.1f}  {', '.join(line['islands'])}"
        )
    rows = report["rows"]
    print(
        f"\n{rows['read']} rows read, {rows['dropped']} dropped: {rows['train']} to train with, {rows['test']} to test"
    )
    print(f"In {results}: {', '.join(sorted(path.name for path in results.iterdir()))}")


if __name__ == "__main__":
    main()
