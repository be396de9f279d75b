"""Spark's vectors in Arrow, the bodies made of them, and the answers: all without Spark."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.programs.rows import SparseRows
from processing.spark import recordio
from processing.spark.ml.formats import CSVFormat, RecordIOFormat
from processing.spark.ml.serializers import (
    LibSVMRequestRowSerializer,
    ProtobufRequestRowSerializer,
    RequestRowSerializer,
    UnlabeledCSVRequestRowSerializer,
    UnlabeledLibSVMRequestRowSerializer,
)
from processing.spark.ml.vectors import VectorError, iter_runs, sizes, vectors_from, vectors_from_sparse

TYPE = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.int32())),
        pa.field("values", pa.list_(pa.float64())),
    ]
)


def dense(*values: float) -> dict[str, Any]:
    return {"type": 1, "size": None, "indices": None, "values": list(values)}


def sparse(size: int, pairs: dict[int, float]) -> dict[str, Any]:
    return {"type": 0, "size": size, "indices": list(pairs), "values": list(pairs.values())}


MATRIX_TYPE = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("numRows", pa.int32()),
        pa.field("numCols", pa.int32()),
        pa.field("colPtrs", pa.list_(pa.int32())),
        pa.field("rowIndices", pa.list_(pa.int32())),
        pa.field("values", pa.list_(pa.float64())),
        pa.field("isTransposed", pa.bool_()),
    ]
)


def matrix(
    rows: int,
    columns: int,
    values: list[float],
    starts: list[int] | None = None,
    indices: list[int] | None = None,
    *,
    transposed: bool = False,
) -> dict[str, Any]:
    """Return a matrix as Spark stores it: dense, or sparse with the starts of its columns."""
    layout = {"type": int(starts is None), "colPtrs": starts, "rowIndices": indices, "isTransposed": transposed}
    return {**layout, "numRows": rows, "numCols": columns, "values": values}


VECTORS = st.one_of(
    st.lists(st.floats(allow_nan=False), max_size=4).map(lambda values: dense(*values)),
    st.dictionaries(st.integers(0, 5), st.floats(allow_nan=False), max_size=4).map(
        lambda pairs: sparse(6, dict(sorted(pairs.items())))
    ),
)


def plain(value: dict[str, Any]) -> list[float]:
    if value["type"] == 1:
        return list(value["values"])
    pairs = dict(zip(value["indices"], value["values"], strict=True))
    return [pairs.get(index, 0.0) for index in range(value["size"])]


@given(values=st.lists(VECTORS, max_size=8), start=st.integers(0, 3))
def test_runs_have_every_row_once_and_in_order(values: list[dict[str, Any]], start: int) -> None:
    """Mixed columns, and slices of them, are read as runs of one kind and one size each."""
    column = pa.array(values, TYPE)[start:]
    rows: list[list[float]] = []
    for run in iter_runs(column):
        assert run.start == len(rows)
        matrix = run.features.to_dense() if isinstance(run.features, SparseRows) else run.features
        rows += matrix.tolist()
        assert run.stop == len(rows)
    assert rows == [plain(value) for value in values[start:]]
    assert sizes(column).tolist() == [len(plain(value)) for value in values[start:]]


def test_vectors_are_made_as_spark_declares_them() -> None:
    """Columns of answers have Spark's own type and values."""
    made = vectors_from(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert made.type == TYPE
    assert made.to_pylist() == [dense(1, 2), dense(3, 4)]
    rows = SparseRows(np.array([0, 1, 1]), np.array([2]), np.array([5.0]), 3)
    assert vectors_from_sparse(rows).to_pylist() == [sparse(3, {2: 5.0}), sparse(3, {})]


def test_null_is_named() -> None:
    """A null vector is an error with its row, and has the size -1."""
    column = pa.array([dense(1), None], TYPE)
    with pytest.raises(VectorError, match="row 1 is null"):
        list(iter_runs(column))
    assert sizes(column).tolist() == [1, -1]


def test_matrices_are_read_in_both_orders() -> None:
    """Spark stores a matrix by columns, or by rows if it is transposed, dense or sparse."""
    shape = {"numRows": 2, "numCols": 3, "colPtrs": None, "rowIndices": None}
    by_columns = {**shape, "type": 1, "values": [1, 4, 2, 5, 3, 6], "isTransposed": False}
    by_rows = {**shape, "type": 1, "values": [1, 2, 3, 4, 5, 6], "isTransposed": True}
    few = {"type": 0, "numRows": 2, "numCols": 3, "colPtrs": [0, 1, 1, 2], "rowIndices": [1, 0], "values": [7, 8]}
    column = pa.array([by_columns, by_rows, {**few, "isTransposed": False}], MATRIX_TYPE)
    found = [run.features.tolist()[0] for run in iter_runs(column) if not isinstance(run.features, SparseRows)]
    assert found == [[[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]], [[0, 0, 8], [7, 0, 0]]]
    assert sizes(column).tolist() == [6, 6, 6]


BATCH = pa.RecordBatch.from_pydict(
    {"label": [2, 3, 4], "features": pa.array([dense(1, 0, 2.5), sparse(3, {1: 4.0}), sparse(3, {})], TYPE)}
)


def test_a_part_of_a_column_of_arrays() -> None:
    """A null of another part does not matter."""
    (run,) = iter_runs(pa.array([[1.0, None], [1.0, 2.0]])[1:])
    assert run.features.tolist() == [[1, 2]]


def test_bodies_of_the_serializers() -> None:
    """Each serializer writes its format: zeros of dense rows are written, and positions of libsvm count from 1."""
    assert UnlabeledCSVRequestRowSerializer().encode(BATCH) == b"1.0,0.0,2.5\n0.0,4.0,0.0\n0.0,0.0,0.0\n"
    lines = [b"2.0 1:1.0 2:0.0 3:2.5", b"3.0 2:4.0", b"4.0", b"0 1:0", b""]
    assert LibSVMRequestRowSerializer().encode(BATCH).split(b"\n") == lines
    assert LibSVMRequestRowSerializer().padding(BATCH) == 1, "readers leave out a row without elements at the end"
    assert LibSVMRequestRowSerializer().padding(BATCH[:2]) == 0
    assert UnlabeledLibSVMRequestRowSerializer().encode(BATCH[:2]) == b"1:1.0 2:0.0 3:2.5\n2:4.0\n"
    first, second, third = recordio.iter_records(ProtobufRequestRowSerializer().encode(BATCH))
    assert first.features["values"].values.dtype == np.float32
    assert first.features["values"].values.tolist() == [1, 0, 2.5]
    assert second.features["values"].shape == third.features["values"].shape == (3,)
    assert not first.label


def test_matrices_are_rows_of_their_elements() -> None:
    """CSV and libsvm have no matrices: the elements of each are one row."""
    batch = pa.RecordBatch.from_pydict({"features": pa.array([matrix(2, 2, [1, 3, 2, 4])], MATRIX_TYPE)})
    assert UnlabeledCSVRequestRowSerializer().encode(batch) == b"1.0,2.0,3.0,4.0\n"
    assert UnlabeledLibSVMRequestRowSerializer().encode(batch) == b"1:1.0 2:2.0 3:3.0 4:4.0\n"
    file = io.BytesIO()
    CSVFormat("features").write(file, batch)
    assert file.getvalue() == b"1.0,2.0,3.0,4.0\n"


def test_column_names_in_both_spellings() -> None:
    """A serializer takes the names of columns in camelCase and snake_case, and equals one with the same."""
    batch = BATCH.rename_columns(["label", "x"])
    one = ProtobufRequestRowSerializer(featuresColumnName="x")
    other = ProtobufRequestRowSerializer(features_column_name="x")
    assert one == other
    assert one.encode(batch) == ProtobufRequestRowSerializer().encode(BATCH)


def test_missing_label_of_libsvm_is_zero() -> None:
    """Rows to predict need no label."""
    batch = pa.RecordBatch.from_pydict({"features": pa.array([dense(1)], TYPE)})
    assert LibSVMRequestRowSerializer().encode(batch) == b"0.0 1:1.0\n"


def test_serializer_without_a_method() -> None:
    """A serializer that overrides nothing says what is missing."""
    with pytest.raises(NotImplementedError, match="neither encode"):
        RequestRowSerializer().serializeRow(None)


# Written by the JVM of sagemaker_pyspark 1.4.5 on Spark 3.3.0: dense rows with labels, the same without, rows of which
# two are sparse, one of them without a value, and matrices: dense, sparse, empty, and transposed ones.
JVM = {
    "dense": (
        "0a23d7ce300000000a1a0a0676616c7565731210120e0a0c0000c03f000000c00000404012120a0676616c75"
        "6573120812060a040000803f0a23d7ce300000000a1a0a0676616c7565731210120e0a0c0000803e0000c07f"
        "0000807f12120a0676616c756573120812060a0400000000"
    ),
    "unlabelled": (
        "0a23d7ce1c0000000a1a0a0676616c7565731210120e0a0c0000c03f000000c0000040400a23d7ce1c000000"
        "0a1a0a0676616c7565731210120e0a0c0000803e0000c07f0000807f"
    ),
    "mixed": (
        "0a23d7ce2e0000000a180a0676616c756573120e120c0a040000e0401201021a010612120a0676616c756573"
        "120812060a040000803f00000a23d7ce250000000a0f0a0676616c756573120512031a010612120a0676616c"
        "756573120812060a04000000400000000a23d7ce3c0000000a260a0676616c756573121c121a0a180000803f"
        "0000004000004040000080400000a0400000c04012120a0676616c756573120812060a0400004040"
    ),
    "matrices": (
        "0a23d7ce400000000a2a0a0676616c7565731220121e0a180000803f0000004000004040000080400000a040"
        "0000c0401a02020312120a0676616c756573120812060a040000803f0a23d7ce2f0000000a190a0676616c75"
        "6573120f120d0a040000e0401201021a02020212120a0676616c756573120812060a0400000040000a23d7ce"
        "3e0000000a280a0676616c756573121e121c0a10000000400000803f00004040000080401204060104021a02"
        "030312120a0676616c756573120812060a040000404000000a23d7ce260000000a100a0676616c7565731206"
        "12041a02020312120a0676616c756573120812060a040000804000000a23d7ce3e0000000a280a0676616c75"
        "6573121e121c0a10000000400000803f00004040000080401204020304061a02030312120a0676616c756573"
        "120812060a040000a04000000a23d7ce400000000a2a0a0676616c7565731220121e0a180000803f00008040"
        "000000400000a040000040400000c0401a02030212120a0676616c756573120812060a040000c040"
    ),
}
TWO = [dense(1.5, -2, 3), dense(0.25, float("nan"), float("inf"))]
FEW = ([2.0, 1.0, 3.0, 4.0], [0, 1, 3, 4], [2, 0, 1, 0])
MATRICES = [
    matrix(2, 3, [1, 4, 2, 5, 3, 6]),
    matrix(2, 2, [7], [0, 1, 1], [1]),
    matrix(3, 3, *FEW),
    matrix(2, 3, [], [0, 0, 0, 0], []),
    matrix(3, 3, *FEW, transposed=True),
    matrix(3, 2, [1, 4, 2, 5, 3, 6], transposed=True),
]
THREE = [sparse(6, {2: 7.0}), sparse(6, {}), dense(1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("name", "vectors", "labels"),
    [
        ("dense", TWO, [1.0, 0.0]),
        ("unlabelled", TWO, None),
        ("mixed", THREE, [1.0, 2.0, 3.0]),
        ("matrices", MATRICES, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ],
)
def test_training_data_have_the_bytes_of_the_jvm(name: str, vectors: list[Any], labels: list[float] | None) -> None:
    """Dense, sparse, empty and mixed rows, NaN, infinity and matrices are written as by SageMaker Spark."""
    kind = MATRIX_TYPE if name == "matrices" else TYPE
    batch = pa.RecordBatch.from_pydict({"features": pa.array(vectors, kind), "label": pa.array(labels or [0.0] * 2)})
    layout = RecordIOFormat("features", None if labels is None else "label")
    file = io.BytesIO()
    layout.write(file, batch)
    assert file.getvalue() == bytes.fromhex(JVM[name])
