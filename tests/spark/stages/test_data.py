"""Data on its way: formats of training data, files, extra columns, rows by serializers of the user's own, faults."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.sql.types import StructType

import arrow_bodies
from killing_format import KillingFormat
from processing.exceptions import ConfigurationError
from processing.local.programs import recordio as files
from processing.request.s3_uri import S3Uri
from processing.spark import recordio
from processing.spark.ml import KMeansSageMakerEstimator, register, write_records
from processing.spark.ml.datasource import write_to_folder
from processing.spark.ml.formats import format_of
from processing.spark.ml.shipping import carried, check_workers
from processing.spark.ml.upload import check_contents, list_keys, upload
from processing.spark.ml.values import from_json, to_json
from row_helpers import Lines, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing import Session

ROWS = [
    (0, 1.0, Vectors.dense(1.0, 0.0, 2.5)),
    (1, 2.0, Vectors.sparse(3, {1: 4.0})),
    (2, 3.0, Vectors.sparse(3, {})),
    (3, 4.0, Vectors.dense(float("nan"), -1.0, 1e300)),
]


@pytest.fixture(scope="module")
def frame(spark: Any) -> Any:
    """Dense and sparse vectors on three partitions."""
    return spark.createDataFrame(ROWS, ["id", "label", "features"]).repartition(3).cache()


@pytest.fixture
def bucket(session: Session, tmp_path: Path) -> S3Uri:
    """A place in S3 for the test alone."""
    s3: Any = session.boto_session.client("s3")
    s3.create_bucket(Bucket="data")
    return S3Uri("data", tmp_path.name)


def content(session: Session, place: S3Uri, suffix: str) -> bytes:
    """Return the objects of a suffix below a place, joined."""
    s3: Any = session.boto_session.client("s3")
    keys = sorted(key for key in list_keys(session, place) if key.endswith(suffix))
    return b"".join([s3.get_object(Bucket=place.bucket, Key=key)["Body"].read() for key in keys])


@pytest.mark.parametrize("name", ["sagemaker", "csv", "libsvm", "parquet"])
def test_each_format_has_every_row(name: str, frame: Any, session: Session, bucket: S3Uri) -> None:
    """Every row is in the objects once, with its label, in each format."""
    layout = format_of(name, {"labelColumnName": "label"}, frame.schema)
    chosen = frame.select(*layout.columns(frame.columns))
    assert check_contents(chosen, layout).rows == 4
    staged = upload(session, chosen, layout, bucket, expected_rows=4)
    assert staged.rows == 4
    data = content(session, bucket, layout.suffix)
    if name == "sagemaker":
        labels = [record.label["values"].values.tolist()[0] for record in recordio.iter_records(data)]
    elif name == "csv":
        labels = [float(line.split(b",")[0]) for line in data.splitlines()]
        assert len(data.splitlines()[0].split(b",")) == 4
    elif name == "libsvm":
        labels = [float(line.split(b" ")[0]) for line in data.splitlines()]
    else:
        import pyarrow.parquet

        s3: Any = session.boto_session.client("s3")
        keys = [key for key in list_keys(session, bucket) if key.endswith(".parquet")]
        bodies = [s3.get_object(Bucket="data", Key=key)["Body"].read() for key in keys]
        tables = [pyarrow.parquet.read_table(io.BytesIO(body)) for body in bodies]
        labels = [value for table in tables for value in table.column("label").to_pylist()]
        assert [0.0, 4.0, 0.0] in [value for table in tables for value in table.column("features").to_pylist()]
    assert sorted(labels) == [1, 2, 3, 4]


def test_columns_of_csv_without_vectors(spark: Any, session: Session, bucket: S3Uri) -> None:
    """Frames of plain columns are written as they are, compressed and with a header if that was asked for."""
    plain = spark.createDataFrame([(1, "a,b", None), (2, 'say "x"', 0.5)], "n int, text string, x double").coalesce(1)
    layout = format_of("csv", {"header": "true", "SEP": ";"}, plain.schema)
    upload(session, plain.select(*layout.columns(plain.columns)), layout, bucket, compressed=True)
    assert gzip.decompress(content(session, bucket, ".csv.gz")) == b'n;text;x\n1;"a,b";\n2;"say ""x""";0.5\n'


def test_a_frame_that_differs_at_each_reading(frame: Any, session: Session, bucket: S3Uri) -> None:
    """Fewer rows than were checked are an error, and nothing is left in S3."""
    layout = format_of("sagemaker", {}, frame.schema)
    with pytest.raises(Exception, match="had 5 rows when it was checked, and 4 when it was uploaded"):
        upload(session, frame.select("features", "label"), layout, bucket, expected_rows=5)
    assert list_keys(session, bucket) == []


def test_a_killed_task_leaves_nothing(frame: Any, session: Session, bucket: S3Uri) -> None:
    """A worker that dies during the upload fails the fit, and the driver deletes what the task has written."""
    layout = format_of("sagemaker", {}, frame.schema)
    chosen = frame.select("features", "label")

    def dying(batches: Any) -> Iterator[Any]:
        for batch in batches:
            yield batch
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(Exception, match=r"."):
        upload(session, chosen.mapInArrow(dying, chosen.schema), layout, bucket)
    assert list_keys(session, bucket) == []


def test_a_task_that_is_killed_and_repeated(
    spark: Any, frame: Any, session: Session, bucket: S3Uri, tmp_path: Path
) -> None:
    """A worker dies during the upload, after an object was written. The rows are those of an upload without that."""
    killed = tmp_path / "killed"
    chosen = frame.select("id", "label").coalesce(1)

    def dying_once(batches: Any) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            yield batch
            if number == 2 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    layout = format_of("parquet", {}, chosen.schema)
    size = "spark.sql.execution.arrow.maxRecordsPerBatch"
    spark.conf.set(size, "1")
    try:
        expected = rows_of(session, upload(session, chosen, layout, bucket / "whole").prefix)
        staged = upload(session, chosen.mapInArrow(dying_once, chosen.schema), layout, bucket / "repeated")
    finally:
        spark.conf.unset(size)
    assert killed.exists()
    assert rows_of(session, staged.prefix) == expected == [(row[0], row[1]) for row in ROWS]


def test_a_killed_writer_of_files_leaves_nothing(spark: Any, frame: Any, session: Session, tmp_path: Path) -> None:
    """A task is killed while it writes its file, and repeated; or killed each time. No part of a file is left."""
    folder, layout = tmp_path / "records", KillingFormat("features", "label", {"killed": str(tmp_path / "killed")})
    chosen = frame.select("features", "label").coalesce(1)
    write_to_folder(chosen, layout, folder, "append")
    assert Path(layout.options["killed"]).exists()
    (part,) = (path for path in folder.iterdir() if path.name != "_SUCCESS")
    assert len(list(recordio.iter_records(part.read_bytes()))) == 4
    always = KillingFormat("features", "label", {"killed": str(tmp_path / "no folder" / "killed")})
    for mode in ("append", "overwrite"):
        with pytest.raises(Exception, match=r"."):
            write_to_folder(chosen, always, folder, mode)
    assert sorted(path.name for path in folder.iterdir()) == sorted([part.name, "_SUCCESS"]), "what was there stays"


def test_data_that_are_kept_have_no_other_objects(
    frame: Any, session: Session, instances: dict[str, Any], keys: Callable[[], set[str]]
) -> None:
    """Objects of a task that outlives the upload and is killed are deleted at the job's end; the data stay."""
    before = keys()
    estimator = KMeansSageMakerEstimator(
        **instances,
        session=session,
        wait=False,
        deleteStagingDataAfterTraining=False,
        endpointCreationPolicy="DO_NOT_CREATE",
    )
    model = estimator.setK(2).fit(frame.filter("id < 3").select("features"))
    (manifest,) = (key for key in keys() - before if key.endswith("manifest.json"))
    s3: Any = session.boto_session.client("s3")
    bucket = f"{session.account_id()}-sagemaker-{session.boto_region_name}"
    parts = {key for key in keys() - before if "/part-" in key}
    late = min(parts).replace("/part-", "/part-1")
    s3.put_object(Bucket=bucket, Key=late, Body=b"late")
    model._training.wait()
    left = keys() - before
    assert {manifest, *parts} <= left
    assert late not in left


def rows_of(session: Session, prefix: S3Uri) -> list[tuple[Any, ...]]:
    """Return the rows of the objects in a manifest, in order; the prefix has no others."""
    import pyarrow.parquet

    s3: Any = session.boto_session.client("s3")

    def content(key: str) -> bytes:
        body: bytes = s3.get_object(Bucket=prefix.bucket, Key=key)["Body"].read()
        return body

    first, *names = json.loads(content(f"{prefix.key}/manifest.json"))
    assert first == {"prefix": f"{prefix}/"}
    keys = [f"{prefix.key}/{name}" for name in names]
    assert sorted(list_keys(session, prefix)) == sorted([*keys, f"{prefix.key}/manifest.json"])
    tables = [pyarrow.parquet.read_table(io.BytesIO(content(key))) for key in keys]
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


def test_records_in_files(frame: Any, session: Session, tmp_path: Path, bucket: S3Uri) -> None:
    """`write_records` writes a folder or a prefix, and overwrites only if it is told to."""
    folder = tmp_path / "records"
    assert write_records(frame, str(folder), featuresColumnName="features", session=session) == 4
    parts = sorted(folder.glob("*.pbr"))
    rows = [record for part in parts for record in recordio.iter_records(part.read_bytes())]
    assert len(rows) == 4
    assert (folder / "_SUCCESS").exists()
    with pytest.raises(ConfigurationError, match=r"path: .* has files already"):
        write_records(frame, str(folder), session=session)
    write_records(frame, str(folder), mode="overwrite", session=session)
    assert sum(len(list(recordio.iter_records(part.read_bytes()))) for part in folder.glob("*.pbr")) == 4
    write_records(frame, f"s3a://{bucket.bucket}/{bucket.key}", session=session)
    assert len(list(recordio.iter_records(content(session, bucket, ".pbr")))) == 4


def test_matrices(spark: Any, session: Session, tmp_path: Path) -> None:
    """A column of matrices is written row by row, with the shape of each, and sparse ones as they are."""
    matrices = [(Matrices.dense(2, 3, [1, 4, 2, 5, 3, 6]),), (Matrices.sparse(2, 2, [0, 1, 1], [1], [7.0]),)]
    frame = spark.createDataFrame(matrices, ["m"]).coalesce(1)
    layout = format_of("sagemaker", {"featuresColumnName": "m"}, frame.schema)
    found = frame.mapInArrow(carried(arrow_bodies.encoded, layout=layout), "body binary").collect()
    records = [record for row in found for record in recordio.iter_records(bytes(row["body"]))]
    assert [record.features["values"].shape for record in records] == [(2, 3), (2, 2)]
    assert [record.features["values"].values.tolist() for record in records] == [[1, 2, 3, 4, 5, 6], [7]]
    keys = records[1].features["values"].keys
    assert keys is not None
    assert keys.tolist() == [2]
    with pytest.raises(ConfigurationError, match="different sizes"):
        write_records(frame, str(tmp_path / "m"), featuresColumnName="m", session=session)


def test_the_data_source_of_spark_4(spark: Any, frame: Any, session: Session, tmp_path: Path, bucket: S3Uri) -> None:
    """`df.write.format("sagemaker")` writes the same records; Spark 3.5 names the function instead."""
    if spark.version.startswith("3."):
        with pytest.raises(ConfigurationError, match=r"need Spark 4.0, .* write_records"):
            register(spark, session)
        return
    register(spark, session)
    chosen = frame.select("features", "label")
    folder = tmp_path / "records"
    for _ in range(2):
        chosen.write.format("sagemaker").mode("overwrite").save(str(folder))
    assert sum(len(list(recordio.iter_records(part.read_bytes()))) for part in folder.glob("*.pbr")) == 4
    chosen.write.format("sagemaker").mode("append").save(f"s3://{bucket.bucket}/{bucket.key}")
    assert len(list(recordio.iter_records(content(session, bucket, ".pbr")))) == 4


def test_helpers_of_the_user_s_own_by_row(frame: Any) -> None:
    """A serializer and a deserializer by row work on the workers, and their stage can be saved."""

    def echoed(batches: Any) -> Iterator[Any]:
        from processing.spark.ml.invoke import PredictionSettings, answered

        settings = PredictionSettings("none", Words("id"), Lines())
        for batch in batches:
            yield answered(settings.serializer.encode(batch), batch, settings)

    schema = StructType([*frame.schema.fields, *Lines().schema.fields])
    rows = frame.mapInArrow(carried(echoed), schema).orderBy("id").collect()
    assert [(row["word"], row["size"]) for row in rows] == [(str(number), 3) for number in range(4)]
    assert [row["features"] for row in rows[:3]] == [row[2] for row in ROWS[:3]], "vectors pass unchanged"
    assert from_json("x", to_json("x", Words("id"))) == Words("id")
    assert from_json("x", to_json("x", Lines())) == Lines()


def test_workers_without_a_package(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that workers lack is found by a tiny task, and the error names PYSPARK_PYTHON."""
    from processing.spark.ml import shipping

    monkeypatch.setattr(shipping, "_NEEDED", ("numpy", "not_installed"))
    monkeypatch.setattr(shipping, "_ready", set())
    with pytest.raises(ConfigurationError, match=r"PYSPARK_PYTHON: .* lack not_installed"):
        check_workers(spark)


def test_the_package_travels_with_its_functions(spark: Any) -> None:
    """Workers run this package's code although its folder is on no path of theirs."""

    def origin(batches: Any) -> Iterator[Any]:
        import pyarrow as pa

        import processing.spark.ml.vectors

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"file": [processing.spark.ml.vectors.__file__]})

    found = spark.range(1).mapInArrow(carried(origin), "file string").first()["file"]
    assert "sm-processing-" in found


def test_dense_rows_are_those_of_numpy(spark: Any) -> None:
    """A frame encoded by Spark's workers has the bytes of the matrix encoded here."""
    matrix = np.random.default_rng(1).normal(size=(50, 5))
    frame = spark.createDataFrame([(Vectors.dense(row),) for row in matrix], ["features"]).coalesce(1)
    layout = format_of("sagemaker", {}, frame.schema)
    body = b"".join(
        bytes(row["body"])
        for row in frame.mapInArrow(carried(arrow_bodies.encoded, layout=layout), "body binary").collect()
    )
    assert body == recordio.encode_dense(matrix.astype(np.float32))
    assert np.array_equal(files.decode(body).dense(), matrix.astype(np.float32))
