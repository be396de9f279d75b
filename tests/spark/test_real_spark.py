"""Spark applications on the engine with a real Spark, which `./scripts/test --all` installs."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing import JobFailedError, LocalSession, ProcessingInput
from processing.spark import PySparkProcessor, SparkJarProcessor
from spark_environments import spark_environment, spark_home

if TYPE_CHECKING:
    from processing import ProcessingJob

APPLICATION = """\
import os, sys
from pyspark.sql import SparkSession

from shop import TAX

spark = SparkSession.builder.appName("orders").getOrCreate()
orders = spark.read.csv("file:///opt/ml/processing/input/orders", header=True, inferSchema=True)


def taxed(rows):
    import socket
    import time

    import shop

    time.sleep(1)  # so that no executor gets all partitions
    yield socket.gethostname(), os.path.exists("note.txt"), sum(row["price"] * shop.TAX for row in rows)


found = orders.repartition(8).rdd.mapPartitions(taxed).collect()
print("TAXED", sorted({host for host, _, _ in found}), all(known for _, known, _ in found), sum(x for _, _, x in found))
print("SETTING", spark.conf.get("spark.shop.day"), os.environ["SHOP"], spark.version)
"""
JAR = """\
import org.apache.spark.sql.SparkSession;

public class Main {
    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder().getOrCreate();
        System.out.println("SUM " + spark.range(10).selectExpr("sum(id)").first().getLong(0) + arguments[0]);
        throw new IllegalStateException("closed on Sundays");
    }
}
"""
BUNDLED = """\
import signal, sys
from pyspark import SparkContext

context = SparkContext()


def squared(number):
    import power
    import tools

    return tools.same(power.square(number))


print("SQUARES", context.parallelize(range(4)).map(squared).collect(), flush=True)
signal.pause()
"""

DOCS = Path(__file__).parents[2] / "docs"
ORDERS = "item,price\ntea,3\ncake,4\n"
BACKEND = """\
import zipfile


def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "power-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("power.py", open("power.py").read())
        wheel.writestr("power-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: power\\nVersion: 1\\n")
        wheel.writestr("power-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("power-1.dist-info/RECORD", "")
    return name
"""
PACKAGE = {
    "power/power.py": "def square(number):\n    return number * number\n",
    "power/backend.py": BACKEND,
    "power/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")


def write(files: dict[str, str]) -> None:
    """Write files below the working directory."""
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def line_of(job: ProcessingJob, begin: str) -> str:
    """Return the line of a job's log that begins with a text, without that."""
    (line,) = (line.message for line in job.logs() if line.message.startswith(begin))
    return line.removeprefix(begin)


def read(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("name", ["spark-3.5", "spark-4"])
def test_a_cluster_over_two_hosts_and_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Executors on both hosts have modules, files and settings; the history server shows the rolling event logs."""
    environment = spark_environment(name)
    session = LocalSession(tmp_path / "engine", python=environment)
    session.client("s3").create_bucket(Bucket="logs")
    write({"app.py": APPLICATION, "note.txt": "n", "shop/__init__.py": "TAX = 2\n", "data/orders.csv": ORDERS})
    processor = PySparkProcessor(None, "local", 2, "3.5", image_uri="spark:1", sagemaker_session=session)
    export = {"Classification": "export", "Properties": {"SHOP": "corner"}}
    rolling = {
        "spark.eventLog.rolling.enabled": "true",
        "spark.shop.day": "monday",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "300s",  # for a busy machine
    }
    job = processor.run(
        "app.py",
        ["shop"],
        submit_files=["note.txt"],
        inputs=[ProcessingInput("data", "/opt/ml/processing/input/orders")],
        configuration=[
            {"Classification": "spark-defaults", "Properties": rolling},
            {"Classification": "spark-env", "Properties": {}, "Configurations": [export]},
        ],
        spark_event_logs_s3_uri="s3://logs/events",
        logs=False,
    )
    assert line_of(job, "TAXED ") == "['algo-1', 'algo-2'] True 14"
    version = spark_version(environment)
    assert line_of(job, "SETTING ") == f"monday corner {version}"
    keys = [entry["Key"] for entry in session.client("s3").list_objects_v2(Bucket="logs")["Contents"]]
    assert all(key.startswith("events/eventlog_v2_app-") and "inprogress" not in key for key in keys)
    monkeypatch.setenv("SPARK_HOME", str(spark_home(environment)))
    try:
        url = processor.start_history_server()
        (shown,) = read(f"{url}/api/v1/applications")
        assert (shown["name"], shown["attempts"][0]["completed"]) == ("orders", True)
        executors = read(f"{url}/api/v1/applications/{shown['id']}/allexecutors")
        assert len({each["hostPort"] for each in executors if each["id"] != "driver"}) == 2
        assert read_environment_secrets(url, shown["id"]) == {"*********(redacted)"}
    finally:
        processor.terminate_history_server()


def spark_version(environment: Path) -> str:
    (jar,) = (spark_home(environment) / "jars").glob("spark-core_*.jar")
    return jar.stem.partition("-core_")[2].partition("-")[2]


def read_environment_secrets(url: str, application: str) -> set[str]:
    """Return the values of secret properties that the history server shows."""
    shown = read(f"{url}/api/v1/applications/{application}/environment")["sparkProperties"]
    return {value for name, value in shown if "secret" in name}


def test_a_jar_fails_with_its_exception(tmp_path: Path) -> None:
    """A compiled application runs with its class and arguments, and the exception of the JVM is the exit message."""
    environment = spark_environment("spark-3.5")
    jars = spark_home(environment) / "jars"
    write({"Main.java": JAR})
    subprocess.run(["javac", "-cp", f"{jars}/*", "Main.java"], check=True)
    subprocess.run(["jar", "--create", "--file", "app.jar", "Main.class"], check=True)
    session = LocalSession(tmp_path / "engine", python=environment, sandbox="namespaces")
    processor = SparkJarProcessor(None, "local", 1, image_uri="spark:1", sagemaker_session=session)
    with pytest.raises(JobFailedError) as caught:
        processor.run("app.jar", "Main", arguments=["!"], logs=False)
    message = "AlgorithmError: app.jar failed with exit code 1: java.lang.IllegalStateException: closed on Sundays"
    assert caught.value.exit_message == message
    assert processor.latest_job is not None
    assert line_of(processor.latest_job, "SUM ") == "45!"


def test_a_bundle_with_requirements_is_stopped_in_order(tmp_path: Path) -> None:
    """Executors import what the requirements installed, without a sandbox; a stopped application has whole events."""
    environment = spark_environment("spark-4")
    write({"app.py": BUNDLED, "tools.py": "same = int\n", "requirements.txt": "./power\n", **PACKAGE})
    session = LocalSession(tmp_path / "engine", python=environment, sandbox="rewriting", grace=60)
    session.client("s3").create_bucket(Bucket="logs")
    processor = PySparkProcessor(None, "local", 1, image_uri="spark:1", sagemaker_session=session)
    job = processor.run(
        "app.py", source_dir=".", requirements="requirements.txt", wait=False, spark_event_logs_s3_uri="s3://logs/e"
    )
    line = next(line.message for line in job.logs(follow=True) if line.message.startswith(("SQUARES", "Traceback")))
    assert line == "SQUARES [0, 1, 4, 9]"
    job.stop()
    job.wait(logs=False, on_stop="return")
    assert job.status == "Stopped"
    s3 = session.client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="logs")["Contents"]]
    assert any("appstatus_app-" in key for key in keys)


def test_the_page_s_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The section of the how-to about this machine runs as it is written, on the Spark of `SPARK_HOME`."""
    monkeypatch.setenv("SPARK_HOME", str(spark_home(spark_environment("spark-4"))))
    page = (DOCS / "how-to/spark-jobs.md").read_text().partition("## Run on this machine")[2]
    files = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", page, re.MULTILINE | re.DOTALL))
    assert set(files) == {"total.py", "orders/monday.csv"}
    write(files)
    code = page.rpartition("```python\n")[2].partition("```")[0]
    exec(compile(code, "spark-jobs.md", "exec"), {"PySparkProcessor": PySparkProcessor})
    assert "orders: 2" in capsys.readouterr().out
