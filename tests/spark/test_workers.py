"""The work of Spark's workers without Spark: uploads, predictions, faults on the wire."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing import LocalSession
from processing.exceptions import StagingError
from processing.local.programs import recordio as files
from processing.local.programs.rows import SparseRows
from processing.request.s3_uri import S3Uri
from processing.spark.ml import shipping
from processing.spark.ml.batch_transform import write_requests
from processing.spark.ml.datasource import DataSourceTarget
from processing.spark.ml.deserializers import ResponseRowDeserializer
from processing.spark.ml.formats import CSVFormat, ParquetFormat, RecordIOFormat
from processing.spark.ml.invoke import PredictionError, PredictionSettings, invoke_batches
from processing.spark.ml.serializers import UnlabeledCSVRequestRowSerializer
from processing.spark.ml.upload import delete, list_keys, sweep, upload_batches
from processing.spark.ml.vectors import vectors_from, vectors_from_sparse
from processing.staging.transfers import put_bytes
from processing.testing import FaultInjector, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from conftest import Summing  # type: ignore[import-not-found]

NUMBERS = np.arange(60.0).reshape(30, 2)


class Column:
    """The field of a schema, as far as answers need it."""

    name = "sum"
    dataType = None  # noqa: N815 - Spark's name


class Sums(ResponseRowDeserializer):
    """The answers of the summing program."""

    schema: Any = type("Schema", (), {"fields": [Column()]})

    def decode(self, body: bytes, rows: int) -> dict[str, Any]:  # noqa: ARG002 - the rows are counted by the caller
        return {"sum": pa.array(map(float, body.split()), pa.float64())}


def batches(count: int = 3) -> Iterator[Any]:
    """Yield the numbers in batches, of which the first is empty."""
    column = vectors_from(NUMBERS)
    ids = pa.array(range(len(NUMBERS)))
    whole = pa.RecordBatch.from_arrays([ids, column], names=["id", "features"])
    yield whole[:0]
    for start in range(0, len(NUMBERS), len(NUMBERS) // count):
        yield whole[start : start + len(NUMBERS) // count]


def predict(session: LocalSession, **options: Any) -> list[tuple[int, float]]:
    """Return the numbers' identities and sums, as a task yields them."""
    settings = PredictionSettings(
        **{"endpoint": "sums", "serializer": UnlabeledCSVRequestRowSerializer(), "deserializer": Sums(), **options}
    )
    found = invoke_batches(batches(), session=session, settings=settings)
    return [(row["id"], row["sum"]) for batch in found for row in batch.to_pylist()]


EXPECTED = list(enumerate(NUMBERS.sum(axis=1).tolist()))


@pytest.mark.parametrize("limit", [40, 200, 5_000_000])
def test_predictions_keep_the_order_of_rows(summing: Summing, limit: int) -> None:
    """Rows and answers belong together, for requests of a few rows and of many."""
    assert predict(summing.session(), limit=limit) == EXPECTED


def test_bodies_that_are_too_large_are_halved(summing: Summing) -> None:
    """The endpoint takes 200 bytes, and the limit allows more: each refused batch is halved until it fits."""
    faults = FaultInjector()
    session = summing.session(faults)
    settings = PredictionSettings("sums", UnlabeledCSVRequestRowSerializer(), Sums())
    found = list(invoke_batches(batches(1), session=session, settings=settings))
    assert [row["sum"] for batch in found for row in batch.to_pylist()] == [total for _, total in EXPECTED]
    assert faults.count()["InvokeEndpoint"] == 3  # all rows have 285 bytes, and each half fits


@pytest.mark.parametrize("kind", ["throttle", "error500", "error503", "unreachable", "reset_after", "truncate"])
def test_faults_change_no_prediction(summing: Summing, kind: Any) -> None:
    """Calls that fail are repeated, and the result is that without faults."""
    faults = FaultInjector(seed=3).on("InvokeEndpoint", kind, times=2)
    assert predict(summing.session(faults), limit=200) == EXPECTED
    assert len(faults.injected) == 2


def test_time_outs_halve_a_batch(summing: Summing) -> None:
    """A batch without an answer in time is halved at once: the same one would take as long again."""
    clock = VirtualClock()
    faults = FaultInjector(clock=clock).on("InvokeEndpoint", "hang", times=1)
    assert predict(summing.session(faults), in_flight=1, limit=5_000_000) == EXPECTED
    assert faults.count()["InvokeEndpoint"] == 5  # three batches, of which one was halved


def test_a_model_that_fails_is_asked_again(summing: Summing) -> None:
    """An answer 500 of the program itself is repeated, and the predictions are complete."""
    summing.deploy("failing", FAILURES="2")
    try:
        assert predict(summing.session(), endpoint="failing") == EXPECTED
    finally:
        summing.delete("failing")


def test_answers_that_do_not_fit_the_rows(summing: Summing) -> None:
    """An answer with fewer rows than were sent is an error: no row is dropped."""
    summing.deploy("dropping", DROP="1")
    try:
        with pytest.raises(PredictionError, match="endpoint dropping: the answer has 9 rows, and 10 were sent"):
            predict(summing.session(), endpoint="dropping")
    finally:
        summing.delete("dropping")


def test_one_row_above_the_limit(summing: Summing) -> None:
    """A row that alone exceeds the limit is named."""
    with pytest.raises(PredictionError, match="one row has 8 bytes, and a request may have 5"):
        predict(summing.session(), limit=5)


def test_missing_endpoint_is_named(summing: Summing) -> None:
    """The error of an endpoint that does not exist names it, after one call."""
    faults = FaultInjector()
    with pytest.raises(PredictionError, match=r"endpoint nowhere: .*nowhere"):
        predict(summing.session(faults), endpoint="nowhere", in_flight=1)
    assert faults.count()["InvokeEndpoint"] == 1


@pytest.fixture
def storage(tmp_path: Path) -> tuple[FaultInjector, LocalSession]:
    """An engine with the bucket `data`, and the faults of its wire."""
    faults = FaultInjector(seed=1)
    session = LocalSession(tmp_path / "engine", transport=faults.wrap)
    session.boto_session.client("s3").create_bucket(Bucket="data")
    return faults, session


def upload(session: LocalSession, source: Iterable[Any], layout: Any = None, **options: Any) -> list[dict[str, Any]]:
    """Return the rows that a task yields."""
    given: dict[str, Any] = {"upload": "once", "kms_key": None, "compressed": False, "owner": None, **options}
    chosen = RecordIOFormat("features") if layout is None else layout
    made = upload_batches(source, session=session, layout=chosen, prefix=S3Uri("data", "job"), **given)
    return [row for batch in made for row in batch.to_pylist()]


def content(session: LocalSession, key: str) -> bytes:
    """Return an object."""
    body: bytes = session.boto_session.client("s3").get_object(Bucket="data", Key=key)["Body"].read()
    return body


@pytest.mark.parametrize("kind", [None, "throttle", "error503", "reset_before", "reset_after", "timeout_after"])
def test_a_task_uploads_its_rows_once(storage: tuple[FaultInjector, LocalSession], kind: Any) -> None:
    """A task's object has all of its rows, with and without faults on the wire."""
    faults, session = storage
    if kind is not None:
        faults.on("PutObject", kind, times=2)
    (row,) = upload(session, batches())
    assert row["rows"] == 30
    assert list_keys(session, S3Uri("data", "job")) == [row["key"]]
    assert files.decode(content(session, row["key"])).dense().tolist() == NUMBERS.tolist()


def test_a_task_that_fails_leaves_nothing(storage: tuple[FaultInjector, LocalSession]) -> None:
    """After an error in the rows, the objects that the task has written are deleted."""
    _, session = storage

    def failing() -> Iterator[Any]:
        yield from batches()
        assert list_keys(session, S3Uri("data", "job")), "some objects are there"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        upload(session, failing(), Whole("features"))
    assert list_keys(session, S3Uri("data", "job")) == []


class Whole(CSVFormat):
    """An object for each batch."""

    concatenable = False


def test_a_task_that_outlives_the_upload_leaves_nothing(storage: tuple[FaultInjector, LocalSession]) -> None:
    """A task that writes after the driver has ended the upload deletes its objects, the earlier ones too."""
    _, session = storage
    marker = S3Uri("data", "job/uploading")
    put_bytes(session.api, b"", marker, expected_owner=session.expected_owner)

    def outliving() -> Iterator[Any]:
        first, second, *others = batches()
        yield from (first, second)
        delete(session, S3Uri("data", "job"))  # as the driver does after the failure of another task
        yield from others

    with pytest.raises(StagingError, match="the upload was ended"):
        upload(session, outliving(), Whole("features"), marker=marker)
    assert list_keys(session, S3Uri("data", "job")) == []


def test_requests_of_a_task_that_outlives_the_transform(storage: tuple[FaultInjector, LocalSession]) -> None:
    """A task that writes requests after the driver has given up deletes them."""
    _, session = storage
    place = S3Uri("data", "transform")
    put_bytes(session.api, b"", place / "uploading", expected_owner=session.expected_owner)

    def outliving() -> Iterator[Any]:
        first, second, *others = batches()
        yield from (first, second)
        delete(session, place)
        yield from others

    settings = PredictionSettings("", UnlabeledCSVRequestRowSerializer(), Sums())
    given: dict[str, Any] = {"session": session, "settings": settings, "place": place, "marker": place / "uploading"}
    with pytest.raises(StagingError, match="the transform was ended"):
        list(write_requests(outliving(), **given))
    assert list_keys(session, place) == []


def test_a_task_that_may_not_read_uploads(storage: tuple[FaultInjector, LocalSession]) -> None:
    """A role that may only write cannot look for the marker, and its objects count."""
    faults, session = storage
    faults.on("HeadObject", "denied", times=99)
    rows = upload(session, batches(), Whole("features"), marker=S3Uri("data", "job/uploading"))
    assert [row["rows"] for row in rows] == [10, 10, 10]


def test_an_upload_without_permission(storage: tuple[FaultInjector, LocalSession]) -> None:
    """An upload that S3 refuses is the error of the task."""
    faults, session = storage
    faults.on("PutObject", "denied", times=99)
    with pytest.raises(Exception, match="AccessDenied"):
        upload(session, batches())


def test_empty_partition_makes_no_object(storage: tuple[FaultInjector, LocalSession]) -> None:
    """A task without rows yields and uploads nothing."""
    _, session = storage
    assert upload(session, [next(batches())]) == []
    assert list_keys(session, S3Uri("data", "job")) == []


def test_objects_of_other_uploads_stay(storage: tuple[FaultInjector, LocalSession]) -> None:
    """Objects that tasks have left are deleted; the data, and another upload at the same place, stay."""
    _, session = storage
    (other,) = upload(session, batches(), upload="other")
    (kept,) = upload(session, batches())
    upload(session, batches())
    sweep(session, S3Uri("data", "job"), "once", {kept["key"]})
    assert list_keys(session, S3Uri("data", "job")) == sorted([other["key"], kept["key"]])


@pytest.mark.parametrize("in_s3", [True, False], ids=["S3", "folder"])
def test_the_data_source_leaves_what_counts(
    storage: tuple[FaultInjector, LocalSession], tmp_path: Path, *, in_s3: bool
) -> None:
    """A task that ran twice counts once. An aborted write has nothing, and what was there before stays."""
    _, session = storage
    path = "s3://data/records" if in_s3 else str(tmp_path / "records")

    def listed() -> list[str]:
        if in_s3:
            return list_keys(session, S3Uri("data", "records"))
        return sorted(file.name for file in Path(path).iterdir())

    def target(upload: str, *, overwrite: bool = False) -> DataSourceTarget:
        return DataSourceTarget(session, RecordIOFormat("features"), path, overwrite=overwrite, upload=upload)

    before = target("before").write(batches())
    first, _ = target("first").write(batches()), target("first").write(batches())
    target("first").commit(set(first))
    assert listed() == sorted([*before, *first])
    target("aborted").write(batches())
    target("aborted").sweep(set())
    assert listed() == sorted([*before, *first])
    last = target("last", overwrite=True).write(batches())
    target("last", overwrite=True).commit(set(last))
    assert listed() == last


def test_an_aborted_write_without_a_folder(storage: tuple[FaultInjector, LocalSession], tmp_path: Path) -> None:
    """A write whose tasks all failed before their first file has no folder."""
    path = str(tmp_path / "none")
    DataSourceTarget(storage[1], RecordIOFormat("features"), path, overwrite=False, upload="x").sweep(set())
    assert not (tmp_path / "none").exists()


def test_the_header_of_csv_is_quoted_where_it_must_be() -> None:
    """A name with the separator or a quote in it is one column."""
    layout = CSVFormat("", None, {"header": "true", "sep": ";"})
    assert layout.header(["a;b", 'c"d', "e,f"]) == b'"a;b";"c""d";e,f\n'


def test_null_vectors_are_null_in_parquet() -> None:
    """A column of vectors beside the features may have nulls, and sparse vectors among dense ones."""
    row = SparseRows(np.array([0, 1]), np.array([1]), np.array([4.0]), 2)
    column = pa.concat_arrays([vectors_from(np.array([[1.0, 2.0]])), vectors_from_sparse(row)])
    column = column.take(pa.array([None, 0, None, 1]))
    file = io.BytesIO()
    ParquetFormat("other").write(file, pa.RecordBatch.from_pydict({"features": column}))
    assert pq.read_table(file).column("features").to_pylist() == [None, [1, 2], None, [0, 4]]


def test_compressed_objects(storage: tuple[FaultInjector, LocalSession]) -> None:
    """With gzip, each object is compressed, and its name says so."""
    import gzip

    _, session = storage
    (row,) = upload(session, batches(), CSVFormat("features"), compressed=True)
    assert row["key"].endswith(".csv.gz")
    lines = gzip.decompress(content(session, row["key"])).decode().splitlines()
    assert lines == [f"{a},{b}" for a, b in NUMBERS.tolist()]


def test_siblings_of_the_data_stay(storage: tuple[FaultInjector, LocalSession]) -> None:
    """Deletion covers more objects than one call takes, and no object whose key only begins with the same letters."""
    _, session = storage
    s3 = session.boto_session.client("s3")
    for key in ("job2/part", "jobs", *(f"job/{number}" for number in range(1001))):
        s3.put_object(Bucket="data", Key=key, Body=b"")
    delete(session, S3Uri("data", "job"))
    assert list_keys(session, S3Uri("data", "")) == ["job2/part", "jobs"]


def test_the_reason_of_unsuitable_workers_is_the_error() -> None:
    """The message has the error of the worker, not the line of code that raised it."""
    trace = (
        "An exception was thrown from the Python worker:\n"
        '  File "worker.py", line 7, in main\n'
        "    raise PySparkRuntimeError(\n"
        "pyspark.errors.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.12\n"
    )
    problem = shipping._unsuitable("run another Python", RuntimeError(trace))
    assert "and the workers run another Python: pyspark.errors.PySparkRuntimeError: [PYTHON_VERSION_MISM" in str(
        problem
    )
    stopped = shipping._last_line(AttributeError("'NoneType' object has no attribute 'sc'"))
    assert stopped == "'NoneType' object has no attribute 'sc'"
