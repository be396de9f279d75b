"""Packed values: round trips without copies, and bytes that are no packed value."""

from __future__ import annotations

import enum
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import types
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import DeserializationError, SerializationError
from processing.container.remote import packing
from processing.remote_function.packing import load_pickle, pack, unpack


def copied(value: Any) -> Any:
    """Return a value after its journey as bytes."""
    return unpack(bytearray(pack(value, "value").to_bytes()), "the test")


def test_arrays_are_chunks_of_their_own_memory() -> None:
    """The chunks of an array's bytes are views of the array, and the array read back is a view of the bytes."""
    array = np.arange(100_000, dtype=np.float64)
    packed = pack({"a": array}, "value")
    assert any(np.shares_memory(np.frombuffer(chunk, np.uint8), array) for chunk in packed.chunks if chunk.nbytes)
    assert packed.size - array.nbytes < 1000
    memory = bytearray(packed.to_bytes())
    back = unpack(memory, "the test")["a"]
    assert np.shares_memory(back, np.frombuffer(memory, np.uint8))
    assert (back == array).all()


@pytest.mark.parametrize("writable", [True, False])
def test_an_array_may_be_changed_if_the_original_could(writable: bool) -> None:
    """A read-only array stays read-only."""
    array = np.arange(10_000)
    array.flags.writeable = writable
    assert copied(array).flags.writeable is writable


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5)),
        np.asfortranarray(np.arange(6000.0).reshape(60, 100)),
        np.arange(60_000)[::3],
        np.array(["a", None, 3], dtype=object),
        np.arange(5000).astype("datetime64[s]"),
        np.zeros(700, dtype=[("a", "i4"), ("b", "f8")]),
        np.float64(3.5),
        np.array(7),
    ],
    ids=["empty", "fortran", "strided", "objects", "times", "records", "scalar", "no-dimension"],
)
def test_every_kind_of_array_survives(array: Any) -> None:
    """Order, strides, element types and shapes are no obstacle."""
    back = copied(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()


def test_frames_and_tables_survive() -> None:
    """A DataFrame with several types of columns, and a table of Arrow, are equal to the originals."""
    frame = pd.DataFrame(
        {"a": range(5000), "b": np.linspace(0, 1, 5000), "c": [f"s{n}" for n in range(5000)]},
        index=pd.date_range("2026-01-01", periods=5000, freq="s"),
    )
    frame["d"] = frame["c"].astype("category")
    pd.testing.assert_frame_equal(copied(frame), frame)
    table = pa.Table.from_pandas(frame)
    assert copied(table).equals(table)


def test_large_strings_and_bytes_are_not_copied_to_be_packed() -> None:
    """A chunk refers to the user's own bytes object."""
    content = b"x" * 1_000_000
    packed = pack([content, bytearray(content), "y" * 1_000_000], "value")
    assert any(chunk.obj is content for chunk in packed.chunks)
    assert unpack(packed.to_bytes(), "the test") == [content, bytearray(content), "y" * 1_000_000]


def test_size_and_hash_are_those_of_the_written_bytes() -> None:
    """All forms of the bytes agree."""
    packed = pack(np.arange(10_000), "value")
    file = io.BytesIO()
    packed.write(file)
    assert file.getvalue() == packed.to_bytes()
    assert packed.size == len(file.getvalue())
    assert packed.sha256 == hashlib.sha256(file.getvalue()).hexdigest()


def test_shared_objects_stay_shared() -> None:
    """One array in two places is one array afterwards."""
    array = np.arange(10_000)
    first, second = copied([array, array])
    assert first is second


def test_a_value_that_cannot_be_pickled_is_named() -> None:
    """The error has the name that the caller gave."""
    with pytest.raises(SerializationError, match=r"^arguments: an object of the type _thread.lock"):
        pack(threading.Lock(), "arguments")


PACKED = pack([np.arange(1000), "text", np.zeros(400)], "value").to_bytes()


@given(st.integers(0, len(PACKED) - 1))
def test_a_truncated_value_is_refused(size: int) -> None:
    """No proper beginning of a packed value is one."""
    with pytest.raises(DeserializationError):
        unpack(PACKED[:size], "the test")


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(content: bytes) -> None:
    """Bytes of any other kind, longer values included, raise the one error."""
    with pytest.raises(DeserializationError):
        unpack(content, "the test")
    with pytest.raises(DeserializationError):
        unpack(PACKED + content + b"\0", "the test")


@given(st.integers(0, 55), st.integers(0, 255))
def test_a_damaged_header_never_raises_another_error(position: int, value: int) -> None:
    """Sizes and counts of any value are checked before they are used."""
    damaged = bytearray(PACKED)
    damaged[position] = value
    try:
        unpack(damaged, "the test")
    except DeserializationError:
        pass
    else:  # a flag of a buffer, or the same value
        assert sum(a != b for a, b in zip(damaged, PACKED, strict=True)) <= 1


@pytest.mark.parametrize("error", [SystemExit(3), RecursionError("deep"), ValueError("bad")], ids=repr)
def test_an_error_while_loading_is_a_deserialization_error(error: BaseException) -> None:
    """The code of a value may raise anything when it is loaded, even SystemExit."""
    with pytest.raises(DeserializationError, match=type(error).__name__):
        copied(_Raises(error))


class _Raises:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _raise, (self.error,)


def _raise(error: BaseException) -> None:
    raise error


def test_a_pickle_is_not_a_packed_value() -> None:
    """The first bytes tell the two apart."""
    assert not pickle.dumps(1).startswith(packing.MAGIC[:1])
    with pytest.raises(DeserializationError, match="not those of a packed value"):
        unpack(pickle.dumps("a pickle of an ordinary length"), "the test")


def test_a_class_that_comes_back_stays_as_it_is() -> None:
    """A class by value, of `__main__` or of a function, keeps its methods when an instance returns from a job."""

    class Local:
        def get(self) -> str:
            return "local"

    class Color(enum.Enum):
        RED = 1

    before = dict(vars(Local)), dict(vars(Color))
    back = subprocess.run(
        [sys.executable, "-c", _ROUND_TRIP], input=cloudpickle.dumps((Local, Color)), capture_output=True, check=True
    )
    value, color = load_pickle(back.stdout, "the result")
    assert type(value) is Local
    assert color is Color.RED
    assert (dict(vars(Local)), dict(vars(Color))) == before


_ROUND_TRIP = """
import cloudpickle, pickle, sys
local, color = pickle.loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(cloudpickle.dumps((local(), color.RED)))
"""


def _functions() -> dict[str, Any]:
    """Return functions of every kind, with what each returns for 2."""
    step = 3

    def default(x: int, *, y: int = 4) -> tuple[int, int]:
        """Add."""
        return x + step, y

    def factorial(x: int) -> int:
        return x * factorial(x - 1) if x else 1

    def describe(x: int) -> tuple[Any, ...]:
        return x, describe.__doc__, describe.__name__, describe.kind  # type: ignore[attr-defined]

    describe.kind = "attribute"  # type: ignore[attr-defined]

    def unassigned(x: int) -> int:
        if x > 2:
            return later
        return x

    if step > 3:
        later = 1

    return {
        "default": (default, (5, 4)),
        "recursion": (factorial, 2),
        "attributes": (describe, (2, None, "describe", "attribute")),
        "an empty cell": (unassigned, 2),
        "a module": (lambda x: struct.pack(">H", x), b"\0\x02"),
        "a submodule": (lambda x: os.path.join("a", str(x)), "a/2"),  # noqa: PTH118 - the submodule is the point
        "a function as a value": (lambda x, inner=default: inner(x), (5, 4)),
        "a type of the interpreter": (lambda x, kind=types.CodeType: (x, kind.__name__), (2, "code")),
    }


_LOAD = """
import pickle, sys
from processing.container.remote import packing
for name, data in pickle.load(sys.stdin.buffer).items():
    function, expected = packing.unpack(bytearray(data))
    assert function(2) == expected, (name, function(2), expected)
    packing.pack({"a": [1, 2.5, None, (b"x", {"y"})]})
    print(name, "cloudpickle" in sys.modules)
"""


def test_a_function_is_loaded_without_cloudpickle() -> None:
    """Functions of any kind and plain results need no import of cloudpickle, and a class loads it."""

    class Local:
        value = 2

    values = {**_functions(), "a class": (lambda _x: Local.value, 2)}
    data = pickle.dumps({name: pack(value, name).to_bytes() for name, value in values.items()})
    done = subprocess.run([sys.executable, "-c", _LOAD], input=data, capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.decode().splitlines() == [f"{name} {name == 'a class'}" for name in values]


@pytest.mark.parametrize("value", [bytes(3 << 20), list(range(1 << 20)), {"a": [1, pd.Timestamp(0)]}], ids=type)
def test_a_large_or_unusual_result_is_packed_after_a_first_attempt(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the short way does not have is packed whole by cloudpickle."""
    monkeypatch.delitem(sys.modules, "cloudpickle")
    assert unpack(packing.pack(value).to_bytes(), "the test") == value
