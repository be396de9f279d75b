"""SageMaker stages in Spark: records to files beside a count alone, and predictions beside one request at a time.

The measured program runs with the Spark of `./scripts/install-spark`, on two cores. Processor time is that of the JVM
and its workers together. Values are compared in the same run, alternating.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure, finish, scaled

PYTHON = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute() / "spark-3.5/bin/python"
ROWS = scaled(60_000, 2_000)
BATCHES = scaled(24, 4)
HELPERS = Path(__file__).parents[1] / "tests/helpers"

FRAME = '''
import json, os, shutil, sys, tempfile, time
from pathlib import Path

rows, batches, home = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.environ["PYSPARK_PYTHON"] = sys.executable
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession, functions

spark = (
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "2g")
    .config("spark.ui.showConsoleProgress", "false").config("spark.sql.execution.arrow.maxRecordsPerBatch", "10000")
    .config("spark.driver.extraClassPath", globals().get("class_path", "")).getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")


def processor_time():
    """Return the seconds of the processor that the descendants of this process have used."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        used[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    mine = {os.getpid()}
    for _ in range(8):
        mine |= {pid for pid, parent in parents.items() if parent in mine}
    return sum(used.get(pid, 0) for pid in mine)


def measured(work):
    before, began = processor_time(), time.perf_counter()
    work()
    return processor_time() - before, time.perf_counter() - began


elements = functions.array(*[functions.rand(number).alias(str(number)) for number in range(784)])
frame = spark.range(rows, numPartitions=4).select(
    array_to_vector(elements).alias("features"), functions.lit(1.0).alias("label")
).cache()
frame.count()
'''
"""A session of Spark, a cached frame of vectors, and a measure of processor time. A list of jars may go before."""

PROGRAM = """
from processing import LocalSession
from processing.spark.ml import *
from processing.spark.ml.hosting import Hosting
from processing.spark.ml.names import RandomNamePolicy


def counted(given):
    import pyarrow as pa

    for batch in given:
        yield pa.RecordBatch.from_pydict({"rows": [len(batch)]})


def count():
    frame.mapInArrow(counted, "rows bigint").collect()


def write():
    from processing.spark.ml.datasource import write_to_folder
    from processing.spark.ml.formats import format_of

    write_to_folder(frame, format_of("sagemaker", {}, frame.schema), Path(home, "records"), "overwrite")


count(), write()
found = {"count": [], "write": []}
for _ in range(3):
    found["count"].append(measured(count)[0])
    found["write"].append(measured(write)[0])

session = LocalSession(Path(home, "engine"), programs={"*": "summing_program"}, tick=0.02, grace=1.0)
hosting = Hosting(session, RandomNamePolicy())
container = {"Image": "image", "Environment": {"LATENCY": "0.3"}}
model = {"PrimaryContainer": container, "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r"}
endpoint = hosting.ensure_endpoint(model, {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}, [])
vectors = [(Vectors.dense(float(n), 1.0),) for n in range(batches * 100)]
small = spark.createDataFrame(vectors, ["features"]).repartition(2).cache()
small.count()


def predict(in_flight):
    stage = SageMakerModel.fromEndpoint(
        endpointName=endpoint, requestRowSerializer=UnlabeledCSVRequestRowSerializer(),
        responseRowDeserializer=XGBoostCSVRowDeserializer(), session=session,
        requestsInFlight=in_flight, maxPayloadInBytes=900,
    )
    answers = [row["prediction"] for row in stage.transform(small).collect()]
    assert len(answers) == batches * 100


predict(4)
found["one"], found["several"] = [], []
for _ in range(2):
    found["one"].append(measured(lambda: predict(1))[1])
    found["several"].append(measured(lambda: predict(4))[1])
hosting.close()
print("FOUND", json.dumps(found))
"""


def main() -> None:
    if not PYTHON.exists():
        sys.exit(f"{PYTHON} is missing: ./scripts/install-spark installs it")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # the engine may write until the end
        path = os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [str(PYTHON), "-c", FRAME + PROGRAM, str(ROWS), str(BATCHES), home]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=False, text=True, env={**os.environ, "PYTHONPATH": path}
        )
    if done.returncode:
        sys.exit(f"the program broke\n{done.stdout[-2000:]}")
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND")).partition(" ")[2])
    count, write = min(found["count"]), min(found["write"])
    one, several = min(found["one"]), min(found["several"])
    finish(
        [
            Figure(
                "DataFrame to files: processor time beside a count alone",
                write / count,
                1 / 0.8,
                note=f"{ROWS / write:,.0f} and {ROWS / count:,.0f} rows a CPU second",
            ),
            Figure(
                "transform, 0.3 s a request: four in flight beside one",
                several / one,
                1 / 1.8,
                note=f"{several:.1f} s and {one:.1f} s",
            ),
        ]
    )


if __name__ == "__main__":
    main()
