"""RecordIO as users write and read it: dense, sparse and mixed rows, matrices, and answers."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from processing.local.programs.record import write_record
from processing.local.programs.recordio import encode_answers, frame
from processing.local.programs.rows import SparseRows
from processing.spark import recordio

if TYPE_CHECKING:
    from pathlib import Path

ODD_FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(
    features=arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(0, 9)), elements=ODD_FLOATS),
    labelled=st.booleans(),
)
def test_dense_rows_are_written_as_protobuf_writes_each_record(features: np.ndarray, *, labelled: bool) -> None:
    """The table of all records has the bytes of the records written one by one, NaN and infinity too."""
    labels = np.arange(len(features), dtype=np.float32) if labelled else None
    one_by_one = b"".join(
        frame(
            write_record(
                recordio.Record(
                    {"values": recordio.Tensor(row)},
                    {} if labels is None else {"values": recordio.Tensor(labels[number : number + 1])},
                )
            )
        )
        for number, row in enumerate(features)
    )
    assert recordio.encode_dense(features, labels) == one_by_one
    file = io.BytesIO()
    recordio.write_dense(file, features, labels)
    assert file.getvalue() == one_by_one


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_matrices_are_written_in_blocks(dtype: type) -> None:
    """Matrices of several blocks, whose last one is shorter, have all rows; as bytes, and in a file behind others."""
    matrix: Any = np.arange(784_000).reshape(1_000, 784).astype(dtype)
    data = recordio.encode_dense(matrix, matrix[:, 0], as_float32=True)
    assert np.array_equal([record.features["values"].values for record in recordio.iter_records(data)], matrix)
    assert [record.label["values"].values[0] for record in recordio.iter_records(data)] == matrix[:, 0].tolist()
    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    recordio.write_dense(file, matrix, matrix[:, 0], as_float32=True)
    assert file.getvalue() == b"before" + data


def test_matrices_are_written_row_by_row_with_their_shape() -> None:
    """A matrix is a record with its values in the order of rows, its shape, and its label."""
    matrices = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    first, second = recordio.iter_records(recordio.encode_matrices(matrices, np.array([1, 2], np.float32)))
    assert first.features["values"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert first.features["values"].shape == (2, 3)
    assert second.label["values"].values.tolist() == [2]


def test_sparse_rows_keep_empty_ones() -> None:
    """A row without values has its shape alone."""
    data = recordio.encode_sparse(np.array([0, 2, 2]), np.array([1, 4]), np.array([5.0, 6.0]), 7)
    first, second = (record.features["values"] for record in recordio.iter_records(data))
    assert first.keys is not None
    assert (first.keys.tolist(), first.values.tolist(), first.shape) == ([1, 4], [5, 6], (7,))
    assert (second.keys, second.values.tolist(), second.shape) == (None, [], (7,))


ROWS: Any = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "made",
    [
        np.asfortranarray(ROWS),
        np.repeat(ROWS, 2, axis=1)[:, ::2],
        ROWS[::-1].copy()[::-1],
        np.frombuffer(ROWS.tobytes()).reshape(4, 3),
        ROWS.astype(">f8"),
    ],
    ids=["by columns", "strided", "reversed", "read-only", "big-endian"],
)
def test_the_memory_of_an_array_does_not_matter(made: np.ndarray) -> None:
    """Arrays of any order of bytes and any strides have the records of a plain one."""
    expected = recordio.encode_dense(ROWS, ROWS[:, 0])
    assert recordio.encode_dense(made, made[:, 0]) == expected
    assert recordio.encode_dense(ROWS, ROWS[:, 0], as_float32=True) == recordio.encode_dense(
        made.astype(np.float32), made[:, 0].astype(np.float32)
    )


def test_a_mapped_file(tmp_path: Path) -> None:
    """An array that numpy maps from a file is written as one in memory."""
    np.save(tmp_path / "rows.npy", ROWS)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert recordio.encode_dense(mapped) == recordio.encode_dense(ROWS)


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (3, 0)])
def test_matrices_without_numbers(shape: tuple[int, int]) -> None:
    """No rows are no bytes, and rows without columns are records without values."""
    records = list(recordio.iter_records(recordio.encode_dense(np.ones(shape), np.ones(shape[0]))))
    assert [record.features["values"].values.tolist() for record in records] == [[]] * shape[0]
    assert [record.label["values"].values.tolist() for record in records] == [[1.0]] * shape[0]


CUBE = np.ones((2, 2, 2))


@pytest.mark.parametrize(
    ("features", "labels", "problem"),
    [
        ([[1.0, 2.0]], None, r"features: must be a numpy array, not list; use np.asarray\(\)"),
        (sparse.csr_matrix(ROWS), None, "features: must be .*, not csr_matrix; .* to encode_sparse"),
        (np.ma.masked_array(ROWS, ROWS > 3), None, "features: has a mask"),
        (ROWS[0], None, r"features: must have 2 dimensions, not the shape \(3,\)"),
        (CUBE, None, r"features: must have 2 dimensions, not the shape \(2, 2, 2\)"),
        (ROWS.astype(complex), None, "features: .*not complex128; use .astype()"),
        (ROWS.astype(str), None, "features: .*use .astype()"),
        (ROWS.astype("M8[s]"), None, "features: .*not datetime64"),
        (ROWS, ROWS[:2, 0], "labels: 2 for 4 rows"),
        (ROWS, ROWS[:, :1], r"labels: must have 1 dimensions, not the shape \(4, 1\)"),
        (ROWS, ROWS[:, 0].astype(object), "labels: .*not object"),
        (ROWS, [1, 2, 3, 4], "labels: must be a numpy array, not list"),
    ],
)
def test_dense_arguments_that_cannot_be_written(features: Any, labels: Any, problem: str) -> None:
    """The message names the argument, with and without a conversion to float32."""
    for as_float32 in (False, True):
        with pytest.raises(recordio.RecordIOError, match=problem):
            recordio.encode_dense(features, labels, as_float32=as_float32)
        with pytest.raises(recordio.RecordIOError, match=problem):
            recordio.write_dense(io.BytesIO(), features, labels, as_float32=as_float32)


@pytest.mark.parametrize(
    ("matrices", "labels", "problem"),
    [
        (ROWS, None, "matrices: must have 3 dimensions"),
        (CUBE.astype(complex), None, "matrices: .*not complex128"),
        (CUBE, np.ones(3), "labels: 3 for 2 rows"),
    ],
)
def test_matrices_that_cannot_be_written(matrices: Any, labels: Any, problem: str) -> None:
    """The message names the argument."""
    with pytest.raises(recordio.RecordIOError, match=problem):
        recordio.encode_matrices(matrices, labels)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"starts": np.array([0, 3])}, "starts: must rise from 0 to 2"),
        ({"starts": np.array([1, 2])}, "starts: must rise from 0 to 2"),
        ({"starts": np.array([0, 2, 1, 2])}, "starts: must rise from 0 to 2"),
        ({"starts": np.array([], int)}, "starts: must rise from 0 to 2"),
        ({"starts": np.array([0.0, 2.0])}, "starts: must be integers, not float64"),
        ({"starts": [0, 2]}, "starts: must be a numpy array, not list"),
        ({"indices": np.array([0])}, "indices: 1 for 2 values"),
        ({"indices": np.array([0.0, 1.0])}, "indices: must be integers, not float64"),
        ({"indices": np.array([0, 4])}, "indices: from 0 to 4, and the width is 4"),
        ({"indices": np.array([-1, 0])}, "indices: from -1 to 0, and the width is 4"),
        ({"indices": np.array([1, 1])}, "indices: row 0 has a column twice"),
        ({"values": np.array([1, 2], complex)}, "values: .*not complex128"),
        ({"values": np.ones((2, 1))}, "values: must have 1 dimensions"),
        ({"width": 1 << 31}, "width: must be an integer from 0 to 2147483647"),
        ({"width": 4.5}, "width: must be an integer from 0 to 2147483647, not 4.5"),
        ({"labels": np.ones(2)}, "labels: 2 for 1 rows"),
        ({"labels": np.ones((1, 1))}, "labels: must have 1 dimensions"),
    ],
)
def test_sparse_rows_that_contradict_themselves(wrong: dict[str, Any], problem: str) -> None:
    """Positions outside the values, columns outside the width or twice, and sizes that differ are refused."""
    right: dict[str, Any] = {"starts": np.array([0, 2]), "indices": np.array([0, 2]), "values": np.ones(2), "width": 4}
    assert recordio.encode_sparse(**right)
    with pytest.raises(recordio.RecordIOError, match=problem):
        recordio.encode_sparse(**{**right, **wrong})


@pytest.mark.parametrize("indices", [[3, 1, 0, 2], [1, 3, 2, 0]])
def test_sparse_rows_with_columns_in_any_order(indices: list[int]) -> None:
    """Columns need no order, and two rows may have the same one."""
    starts, width = np.array([0, 2, 2, 4]), np.int64(4)
    data = recordio.encode_sparse(starts, np.array(indices), np.arange(4.0), width)
    found = [record.features["values"].keys for record in recordio.iter_records(data)]
    assert [None if keys is None else keys.tolist() for keys in found] == [indices[:2], None, indices[2:]]


@given(
    data=st.sampled_from(
        [
            recordio.encode_dense(ROWS, ROWS[:, 0]),
            recordio.encode_sparse(np.array([0, 2, 2]), np.array([0, 200]), np.ones(2), 300, np.ones(2)),
            encode_answers({"score": ROWS, "label": ROWS[:, 0].astype(int)}),
        ]
    ),
    position=st.integers(0, 300),
    replaced=st.binary(max_size=4),
    cut=st.integers(0, 300),
)
def test_damaged_bytes_are_refused_or_read(data: bytes, position: int, replaced: bytes, cut: int) -> None:
    """Bytes that were changed or cut off end in numbers or in a `RecordIOError`, never in another error."""
    damaged = (data[:position] + replaced + data[position + len(replaced) :])[: cut or None]
    for read in (lambda it: list(recordio.iter_records(it)), recordio.decode_uniform):
        with contextlib.suppress(recordio.RecordIOError):
            read(damaged)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_of_one_layout_and_of_several_are_the_same(dtype: type) -> None:
    """Answers parsed at once equal those that differ in their bytes and are parsed one by one."""
    scores: Any = np.array([[0.5, 1], [2, np.nan], [3, 4]], dtype)
    plain = b"".join(
        frame(write_record(recordio.Record({}, {"score": recordio.Tensor(row), "label": recordio.Tensor(row[:1])})))
        for row in scores
    )
    with_text = frame(
        write_record(
            recordio.Record(
                {}, {"score": recordio.Tensor(scores[0]), "label": recordio.Tensor(scores[0, :1])}, uid="first"
            )
        )
    )
    for data in (plain, with_text + plain[len(plain) // 3 :]):
        found = recordio.decode_uniform(data)
        assert np.array_equal(found["score"], scores, equal_nan=True)
        assert np.array_equal(found["label"], scores[:, :1], equal_nan=True)


def test_sparse_answers_keep_their_positions() -> None:
    """The keys and the shape of a sparse answer are not lost."""
    tensors = [
        recordio.Tensor(np.array([7.0]), np.array([2]), (4,)),
        recordio.Tensor(np.array([8.0, 9.0]), np.array([0, 3]), (4,)),
    ]
    data = b"".join(frame(write_record(recordio.Record({}, {"projection": each}))) for each in tensors)
    found = recordio.decode_uniform(data)["projection"]
    assert isinstance(found, SparseRows)
    assert found.to_dense().tolist() == [[0, 0, 7, 0], [8, 0, 0, 9]]


def test_no_answers() -> None:
    """No bytes are no answers."""
    assert recordio.decode_uniform(b"") == {}
