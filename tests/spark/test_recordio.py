"""RecordIO as users write and read it: dense, sparse and mixed rows, matrices, and answers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from processing.local.programs.record import write_record
from processing.local.programs.recordio import frame
from processing.local.programs.rows import SparseRows
from processing.spark import recordio

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


@pytest.mark.parametrize(
    ("starts", "indices", "width", "labels"),
    [
        ([0, 2], [1], 4, None),
        ([0, 1], [4], 4, None),
        ([0, 1], [-1], 4, None),
        ([0, 1], [1], 1 << 31, None),
        ([0, 1], [1], 4, [1, 2]),
    ],
)
def test_sparse_rows_that_contradict_themselves(
    starts: list[int], indices: list[int], width: int, labels: list[int] | None
) -> None:
    """Indices outside the width, and sizes that differ, are refused."""
    with pytest.raises(recordio.RecordIOError):
        recordio.encode_sparse(
            np.array(starts),
            np.array(indices),
            np.ones(1),
            width,
            None if labels is None else np.array(labels, float),
        )


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
