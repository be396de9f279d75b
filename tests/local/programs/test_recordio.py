"""RecordIO files of SageMaker's records: bytes of other writers, round trips, and damage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from processing.local.programs import recordio
from processing.local.programs.record import Record, RecordIOError, Tensor, read_record, write_record
from processing.local.programs.rows import SparseRows, concatenate

MATRIX = np.array([[1.5, -2, 3], [0, 4.25, -5]])

# Written by sagemaker 2.257.7 with protobuf 6.33.6: write_numpy_to_dense_tensor of the matrix above with labels (1, 0),
# write_spmatrix_to_sparse_tensor of the rows below with labels (1, 0, 1), and a record with texts and two labels.
KNOWN = {
    "dense-float32": (
        "0a23d7ce300000000a1a0a0676616c7565731210120e0a0c0000c03f000000c00000404012120a0676616c75"
        "6573120812060a040000803f0a23d7ce300000000a1a0a0676616c7565731210120e0a0c0000000000008840"
        "0000a0c012120a0676616c756573120812060a0400000000"
    ),
    "dense-float64": (
        "0a23d7ce400000000a260a0676616c756573121c1a1a0a18000000000000f83f00000000000000c000000000"
        "0000084012160a0676616c756573120c1a0a0a08000000000000f03f0a23d7ce400000000a260a0676616c75"
        "6573121c1a1a0a180000000000000000000000000000114000000000000014c012160a0676616c756573120c"
        "1a0a0a080000000000000000"
    ),
    "dense-int64": (
        "0a23d7ce2d0000000a1a0a0676616c75657312103a0e0a0c01feffffffffffffffff0103120f0a0676616c75"
        "657312053a030a01010000000a23d7ce2d0000000a1a0a0676616c75657312103a0e0a0c0004fbffffffffff"
        "ffffff01120f0a0676616c75657312053a030a0100000000"
    ),
    "unlabelled": (
        "0a23d7ce1c0000000a1a0a0676616c7565731210120e0a0c0000c03f000000c0000040400a23d7ce1c000000"
        "0a1a0a0676616c7565731210120e0a0c00000000000088400000a0c0"
    ),
    "sparse-float32": (
        "0a23d7ce360000000a200a0676616c756573121612140a080000c03f000000c0120301ac021a03f0a2041212"
        "0a0676616c756573120812060a040000803f00000a23d7ce270000000a110a0676616c756573120712051a03"
        "f0a20412120a0676616c756573120812060a0400000000000a23d7ce300000000a1a0a0676616c7565731210"
        "120e0a04000040401201021a03f0a20412120a0676616c756573120812060a040000803f"
    ),
    "texts": (
        "0a23d7ce5c0000000a190a0676616c756573120f120d0a080000803f000000401a0102121f0a0f7072656469"
        "637465645f6c6162656c120c1a0a0a08000000000000f03f12110a0573636f7265120812060a040000003f1a"
        "036162632202c3a92a027b7d"
    ),
}
SPARSE = SparseRows(np.array([0, 2, 2, 3]), np.array([1, 300, 2]), np.array([1.5, -2, 3], np.float32), 70_000)


def known(name: str) -> bytes:
    return bytes.fromhex(KNOWN[name])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_dense_records_have_the_bytes_of_another_writer(dtype: str) -> None:
    """Dense records are read from, and written as, the bytes of sagemaker's writer."""
    matrix, labels = MATRIX.astype(dtype), np.array([1, 0], dtype)
    assert recordio.encode(matrix, labels) == known(f"dense-{dtype}")
    rows = recordio.decode(known(f"dense-{dtype}"))
    assert rows.dense().tolist() == matrix.tolist()
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0]


def test_records_without_labels() -> None:
    """Records without a label have none after reading."""
    assert recordio.encode(MATRIX.astype(np.float32)) == known("unlabelled")
    assert recordio.decode(known("unlabelled")).labels is None


def test_sparse_records_have_the_bytes_of_another_writer() -> None:
    """Sparse records, an empty one too, are read from, and written as, the bytes of sagemaker's writer."""
    labels = np.array([1, 0, 1], np.float32)
    assert recordio.encode_sparse(SPARSE, labels) == known("sparse-float32")
    rows = recordio.decode(known("sparse-float32"))
    assert isinstance(rows.features, SparseRows)
    assert [each.tolist() for each in rows.features[:3]] == [each.tolist() for each in SPARSE[:3]]
    assert rows.width == 70_000


def test_record_with_texts_and_several_labels() -> None:
    """A record keeps its shape, its labels by name, and its three texts."""
    (record,) = recordio.read_records(known("texts"))
    assert record.features["values"].values.tolist() == [1, 2]
    assert record.features["values"].shape == (2,)
    assert {name: each.values.tolist() for name, each in record.label.items()} == {
        "score": [0.5],
        "predicted_label": [1],
    }
    assert (record.uid, record.metadata, record.configuration) == ("abc", "é", "{}")
    assert recordio.frame(write_record(record)) == known("texts")


def test_answers_have_one_record_for_each_row() -> None:
    """Answers are labels by name, and are read back by name."""
    data = recordio.encode_answers({"score": np.array([0.5, 1], np.float32), "all": np.eye(2, dtype=np.float32)})
    assert [sorted(record.label) for record in recordio.read_records(data)] == [["all", "score"]] * 2
    answers = recordio.decode_answers(data)
    assert answers["score"].tolist() == [[0.5], [1]]
    assert answers["all"].tolist() == [[1, 0], [0, 1]]


def test_last_entry_of_a_name_counts() -> None:
    """A name that occurs twice has its last value, as in protobuf: AWS's XGBoost image accumulates entries."""
    first, last = (write_record(Record({"values": Tensor(np.array([value], np.float32))}, {})) for value in (1, 2))
    data = recordio.frame(first + last)
    assert recordio.decode(data * 2).dense().tolist() == [[2], [2]]


def test_dense_and_sparse_rows_mix() -> None:
    """Dense records among sparse ones become sparse rows that store all of their values."""
    dense = recordio.encode(np.array([[7, 8]], np.float32))
    rows = recordio.decode(known("sparse-float32")[:0] + dense + recordio.encode_sparse(SPARSE))
    assert isinstance(rows.features, SparseRows)
    assert rows.features.indices.tolist() == [0, 1, 1, 300, 2]
    assert rows.features.starts.tolist() == [0, 2, 4, 4, 5]


@pytest.mark.parametrize("kinds", [("f4",), ("i4",), ("f4", "f8", "i4")])
def test_many_records_of_several_layouts(kinds: tuple[str, ...]) -> None:
    """Records that are read together are those that are read one by one: dense and sparse, with and without an id."""
    random = np.random.default_rng(1)
    written = []
    for number in range(600):
        size = 40 if number % 3 else int(random.integers(0, 4))
        values = random.integers(-300, 300, size).astype(random.choice(kinds))
        keys = None if number % 3 else np.sort(random.choice(40, size, replace=False)).astype(np.uint64)
        tensor = Tensor(values, keys, () if keys is None else (40,))
        label = {"values": Tensor(np.array([number % 7], np.float32))}
        written.append(Record({"values": tensor}, label, None if number % 2 else f"id-{number:03}"))
    rows = recordio.decode(b"".join([recordio.frame(write_record(record)) for record in written]))
    assert rows.labels is not None
    assert rows.labels.tolist() == [number % 7 for number in range(600)]
    assert isinstance(rows.features, SparseRows)
    for record, first, last in zip(written, *_bounds(rows.features), strict=True):
        tensor = record.features["values"]
        assert rows.features.values[first:last].tolist() == tensor.values.tolist()
        expected = list(range(40)) if tensor.keys is None else tensor.keys.tolist()
        assert rows.features.indices[first:last].tolist() == expected


def _bounds(rows: SparseRows) -> tuple[list[int], list[int]]:
    starts = rows.starts.tolist()
    return starts[:-1], starts[1:]


def test_unpacked_lists_are_read() -> None:
    """A list of numbers that another writer did not pack is read, too."""
    tensor = b"".join(b"\x0d" + np.float32(value).tobytes() for value in (1, 2))
    value = b"\x12" + bytes([len(tensor)]) + tensor
    entry = b"\x0a\x06values\x12" + bytes([len(value)]) + value
    assert read_record(b"\x0a" + bytes([len(entry)]) + entry).features["values"].values.tolist() == [1, 2]


TYPES = st.sampled_from([np.float32, np.float64, np.int32])


@given(st.data())
def test_round_trip_of_dense_rows(data: st.DataObject) -> None:
    """Every dense matrix of every type is the same after a round trip, bit by bit, labelled or not."""
    shape = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
    matrix = data.draw(TYPES.flatmap(lambda dtype: arrays.arrays(dtype, shape)))
    labels = data.draw(st.none() | TYPES.flatmap(lambda dtype: arrays.arrays(dtype, len(matrix))))
    rows = recordio.decode(recordio.encode(matrix, labels))
    assert rows.dense().dtype == matrix.dtype
    assert rows.dense().tobytes() == matrix.tobytes()
    assert (rows.labels is None) == (labels is None)
    assert labels is None or rows.labels is None or rows.labels.tobytes() == labels.tobytes()


@given(st.data())
def test_round_trip_of_sparse_rows(data: st.DataObject) -> None:
    """Sparse rows of any width are the same after a round trip."""
    width = data.draw(st.sampled_from([1, 200, 20_000, 2**31 - 1]))
    keys = data.draw(st.lists(st.sets(st.integers(0, width - 1), max_size=5), min_size=1, max_size=5))
    starts = np.cumsum([0, *map(len, keys)])
    indices = np.array([key for row in keys for key in sorted(row)], np.int64)
    values = data.draw(TYPES.flatmap(lambda dtype: arrays.arrays(dtype, len(indices))))
    rows = recordio.decode(recordio.encode_sparse(SparseRows(starts, indices, values, width)))
    assert isinstance(rows.features, SparseRows)
    assert rows.features.starts.tolist() == starts.tolist()
    assert rows.features.indices.tolist() == indices.tolist()
    assert rows.features.values.tobytes() == values.tobytes()
    assert rows.width == width


@given(noise=st.binary(max_size=60), framed=st.booleans())
def test_damage_is_an_error_of_its_own(noise: bytes, *, framed: bool) -> None:
    """Bytes that are no records raise RecordIOError, and nothing else."""
    data = recordio.frame(noise) if framed else noise
    try:
        recordio.decode(data)
        list(recordio.read_records(data))
    except RecordIOError:
        pass


@pytest.mark.parametrize("name", KNOWN)
def test_every_truncation_is_found(name: str) -> None:
    """A file that ends within a record is refused, wherever it ends."""
    data = known(name)
    ends = {0} | {end for start, end in recordio.iter_frames(data)}
    ends |= {end + pad for end in ends for pad in range(4)}  # the padding of the last record may be missing
    for size in set(range(len(data))) - ends:
        with pytest.raises(RecordIOError):
            recordio.decode(data[:size])


@given(st.sampled_from(sorted(KNOWN)), st.data())
def test_a_changed_byte_is_an_error_or_another_value(name: str, data: st.DataObject) -> None:
    """A changed byte never makes the reader fail in another way."""
    damaged = bytearray(known(name))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = recordio.decode(damaged)
    except RecordIOError:
        return
    assert rows.height >= 1


def test_file_without_records() -> None:
    """An empty file has no rows."""
    assert recordio.decode(b"").height == 0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\x0a\x0e\x0a\x06values\x12\x04\x4a\x02\x0a\x00", "a value of bytes, such as an image"),
        (write_record(Record({}, {})), "the features have the names \\[\\]"),
        (write_record(Record({"values": Tensor(np.ones(1), np.array([5]), (3,))}, {})), "outside its shape"),
        (write_record(Record({"values": Tensor(np.ones(1), np.array([5]))}, {})), "needs a shape"),
        (write_record(Record({"values": Tensor(np.ones(2), np.array([1, 1]), (3,))}, {})), "a key is there twice"),
        (write_record(Record({"values": Tensor(np.ones(2), np.array([1]), (3,))}, {})), "more values than keys"),
        (write_record(Record({"values": Tensor(np.ones(1))}, {"values": Tensor(np.ones(2))})), "must be one number"),
    ],
    ids=["bytes", "no features", "key outside", "no shape", "key twice", "missing key", "two labels"],
)
def test_records_that_are_no_rows(record: bytes, message: str) -> None:
    """Records that are no rows of numbers are refused with the reason."""
    with pytest.raises(RecordIOError, match=message):
        recordio.decode(recordio.frame(record))


def test_rows_that_differ() -> None:
    """Records of different widths, or of which only some have a label, are refused."""
    one, two = (recordio.encode(np.ones((1, width))) for width in (1, 2))
    labelled = recordio.encode(np.ones((1, 1)), np.ones(1))
    with pytest.raises(RecordIOError, match=r"different widths: \[1, 2\]"):
        recordio.decode(one + two)
    with pytest.raises(RecordIOError, match="1 of 2 records have a label"):
        recordio.decode(one + labelled)


def test_values_that_no_record_can_have() -> None:
    """A type without a tensor, and an integer of more than 32 bits, are refused."""
    with pytest.raises(RecordIOError, match="not complex128"):
        recordio.encode(np.ones((1, 1), complex))
    with pytest.raises(RecordIOError, match="more than 32 bits"):
        recordio.encode(np.full((1, 1), 1 << 31))


def test_parts_of_several_files() -> None:
    """Rows of several files follow one another, dense ones beside sparse ones."""
    sparse = recordio.decode(known("sparse-float32"))
    dense = recordio.decode(known("dense-float32"))
    for parts in itertools.permutations([sparse, dense, sparse]):
        rows = concatenate(parts)
        expected = [np.pad(part.dense(), ((0, 0), (0, 70_000 - part.width))) for part in parts]
        assert (rows.dense() == np.concatenate(expected)).all()
        assert rows.labels is not None
        assert len(rows.labels) == rows.height == 8
