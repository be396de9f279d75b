"""CSV and libsvm as rows of numbers: round trips, the forms of other writers, and wrong text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from processing.local.programs import csv_rows, libsvm
from processing.local.programs.rows import SparseRows, from_dense

if TYPE_CHECKING:
    from pathlib import Path

MATRICES = arrays.arrays(
    np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(allow_nan=False)
)


@given(MATRICES)
def test_round_trip_of_csv(matrix: np.ndarray) -> None:
    """Every matrix is the same after a round trip through CSV."""
    assert csv_rows.parse(csv_rows.write(matrix)).dense().tolist() == matrix.tolist()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_ends_of_lines(delimiter: str, end: str) -> None:
    """The delimiter is found, whatever ends the lines, and blank lines mean nothing."""
    text = end.join([delimiter.join("123"), "", delimiter.join("456"), "", ""])
    assert csv_rows.parse(text.encode()).dense().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_columns_of_labels_and_weights() -> None:
    """The label is the first column, and the weight the second."""
    rows = csv_rows.parse(b"1,2,3\n4,5,6\n", labels=1, weights=1)
    assert (rows.labels is not None, rows.weights is not None) == (True, True)
    assert [each.tolist() for each in (rows.labels, rows.weights, rows.dense()) if each is not None] == [
        [1, 4],
        [2, 5],
        [[3], [6]],
    ]


def test_empty_and_quoted_cells() -> None:
    """An empty cell is a missing value, and a quoted number is a number. A byte order mark is none."""
    found = csv_rows.parse(b'\xef\xbb\xbf"1",,3\n , "5" ,nan\n'.replace(b' "5" ', b"5")).dense()
    assert np.isnan(found).tolist() == [[False, True, False], [True, False, True]]
    assert found[~np.isnan(found)].tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1,2\n3\n", "line 2 has 1 columns, and line 1 has 2"),
        (b"age,size\n1,2\n", "line 1: 'age' is not a number; a file for training has no header"),
        (b"1,2\n3,x\n", "line 2: 'x' is not a number$"),
        (b"1,1_000\n", "line 1: '1_000' is not a number"),
        (b"1,\xff\n", "byte 2 is not UTF-8"),
        (b"1,\x00\n", "line 1"),
    ],
)
def test_text_that_is_no_csv(data: bytes, message: str) -> None:
    """Wrong CSV is refused with the line."""
    with pytest.raises(ValueError, match=message):
        csv_rows.parse(data)


@given(st.data())
def test_round_trip_of_libsvm(data: st.DataObject) -> None:
    """Sparse rows are the same after a round trip, with labels as training data and without them as a request."""
    keys = data.draw(st.lists(st.sets(st.integers(0, 10**6), max_size=4), min_size=1, max_size=5))
    starts = np.cumsum([0, *map(len, keys)])
    indices = np.array([key for row in keys for key in sorted(row)], np.int64)
    numbers = st.floats(allow_nan=False)
    values = np.array(data.draw(st.lists(numbers, min_size=len(indices), max_size=len(indices))), np.float64)
    labels = np.array(data.draw(st.lists(numbers, min_size=len(keys), max_size=len(keys))), np.float64)
    rows = SparseRows(starts, indices, values, int(indices.max(initial=-1)) + 1)
    for found in (
        libsvm.parse(libsvm.write(rows, labels)),
        libsvm.parse(libsvm.write(rows, labels), training=False),
        libsvm.parse(libsvm.write(rows), training=False),
    ):
        assert isinstance(found.features, SparseRows)
        assert [each.tolist() for each in found.features[:3]] == [each.tolist() for each in rows[:3]]
        assert found.width == rows.width
        assert found.labels is None or found.labels.tolist() == labels.tolist()


def test_libsvm_of_scikit_learn(tmp_path: Path) -> None:
    """A file that scikit-learn wrote has the same rows, and the same query ids."""
    path = tmp_path / "data"
    matrix = np.array([[0, 1.5], [2, 0], [0, 0]])
    sklearn.datasets.dump_svmlight_file(matrix, [1, 0, 1], str(path), query_id=[1, 1, 2], comment="by scikit-learn")
    rows = libsvm.parse(path.read_bytes())
    assert rows.dense().tolist() == matrix.tolist()
    assert rows.labels is not None
    assert rows.queries is not None
    assert (rows.labels.tolist(), rows.queries.tolist()) == ([1, 0, 1], [1, 1, 2])


def test_weights_and_comments_of_libsvm() -> None:
    """A label may have a weight, and a line a comment. Lines without a weight have the weight 1."""
    rows = libsvm.parse(b"1:2 0:3 # first\n\n# nothing\n0 1:4\n")
    assert rows.weights is not None
    assert rows.weights.tolist() == [2, 1]
    assert rows.dense().tolist() == [[3, 0], [0, 4]]


def test_blank_lines_of_requests_are_rows() -> None:
    """A line without features is a row to predict, the last one too. What follows the last line end is none."""
    assert libsvm.parse(b"0:1\n\n\n0:2\n", training=False).height == 4
    assert libsvm.parse(b"1 0:1\n\n1 0:2\n", training=False).height == 3
    assert libsvm.parse(b"0:1\n\n", training=False).height == 2
    assert libsvm.parse(b"0:1", training=False).height == 1
    assert libsvm.parse(b"", training=False).height == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1 0:1\n1 x:1\n", "line 2: 'x' is not a whole number, and a column is one"),
        (b"1 -1:1\n", "a column"),
        (b"1 1.5:1\n", "line 1: '1.5' is not a whole number"),
        (b"1 nan:1\n", "line 1: 'nan' is not a whole number"),
        (b"1 0:one\n", "line 1: 'one' is not a number, and a value is one"),
        (b"one 0:1\n", "line 1: 'one' is not a number, and a label is one"),
        (b"1:two 0:1\n", "line 1: 'two' is not a number, and a weight is one"),
        (b"1 0:1 5\n", "line 1: '5' is not column:value"),
        (b"1 0:1:2\n", "line 1: '1:2' is not a number"),
        (b"1 0:1_0\n", "line 1: '1_0' is not a number"),
        (b"1 qid:a 0:1\n", "'a' is not a whole number, and a qid is one"),
        (b"1 qid:1 0:1\n1 0:1\n", "some lines have a qid and some have none"),
        (b"1 0:1\n1 3:1 3:2\n", "row 2: a column is there twice"),
        (b"1 0:1\n1 2147483647:1\n", "row 2: a column must be from 0 to 2147483646"),
        (b"1 \xff:1\n", "byte 2 is not UTF-8"),
    ],
)
def test_text_that_is_no_libsvm(data: bytes, message: str) -> None:
    """Wrong libsvm is refused with the line or the row."""
    with pytest.raises(ValueError, match=message):
        libsvm.parse(data)


@given(st.text(alphabet="01 :.#-\nqidnax_", max_size=30), st.booleans())
def test_any_text_is_libsvm_or_refused(text: str, training: bool) -> None:
    """No text makes the reader fail in another way, and both ways through it agree."""
    try:
        rows = libsvm.parse(text.encode(), training=training)
    except ValueError:
        return
    again = libsvm._parse_each([line for line in text.split("\n") if not training or line.strip()], training=training)
    if training:
        assert rows.dense().tolist() == again.dense().tolist() or np.isnan(rows.dense()).any()


def test_rows_from_a_matrix() -> None:
    """A matrix as sparse rows stores its zeros, which are not missing values."""
    rows = from_dense(np.array([[0.0, 1], [2, 0]]))
    assert libsvm.write(rows) == b"0:0.0 1:1.0\n0:2.0 1:0.0\n"
    assert rows.to_dense().tolist() == [[0, 1], [2, 0]]
