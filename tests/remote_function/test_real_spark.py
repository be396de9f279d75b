"""A remote function on a real Spark of the engine, which `./scripts/test --all` installs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from processing import LocalSession
from processing.remote_function import SparkConfig, remote
from spark_environments import spark_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["spark-3.5"])
def test_a_function_has_a_working_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The function runs as an application on two hosts; executors have its modules; its result comes back verified."""
    session = LocalSession(tmp_path / "engine", python=spark_environment(name))
    session.client("s3").create_bucket(Bucket="logs")
    (tmp_path / "tables.py").write_text("FACTOR = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tables", raising=False)
    config = SparkConfig(
        submit_py_files=["tables.py"],
        configuration={"Classification": "spark-defaults", "Properties": {"spark.shop.day": "monday"}},
        spark_event_logs_uri="s3://logs/events",
    )

    @remote(
        instance_type="local",
        instance_count=2,
        image_uri="spark:1",
        spark_config=config,
        sagemaker_session=session,
    )
    def total(count: int) -> tuple[int, str]:
        from pyspark.sql import SparkSession

        def times(number: int) -> int:
            import importlib

            return int(importlib.import_module("tables").FACTOR) * number

        spark = SparkSession.builder.getOrCreate()
        numbers = spark.sparkContext.parallelize(range(count)).map(times)
        return int(numbers.sum()), spark.conf.get("spark.shop.day")

    assert total(5) == (30, "monday")
    assert session.client("s3").list_objects_v2(Bucket="logs")["KeyCount"] == 1
