"""Changed bytes of stored values: only DeserializationError appears."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import DeserializationError, LocalSession
from processing.remote_function.serialization import (
    CloudpickleSerializer,
    deserialize_obj_from_s3,
    serialize_obj_to_s3,
)
from stored_values import KEY, Slot, joined, public, split

VALUE = [np.arange(3000), "text", {"a": 1}]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slot, bytes]:
    """Return a signed value, and its bytes."""
    session = LocalSession(tmp_path_factory.mktemp("fuzz") / "engine")
    slot = Slot(session, f"s3://{session.default_bucket()}/fuzz")
    serialize_obj_to_s3(VALUE, session, slot.uri, KEY)
    return slot, slot.content()


def read(slot: Slot, content: bytes) -> None:
    """Read changed bytes with and without a key."""
    slot.replace(content)
    for key in (None, public(KEY)):
        with pytest.raises(DeserializationError):
            deserialize_obj_from_s3(slot.session, slot.uri, key)


@given(position=st.integers(0, 10**9), change=st.integers(1, 255))
def test_one_changed_byte(stored: tuple[Slot, bytes], position: int, change: int) -> None:
    """No byte of a signed value can change."""
    slot, content = stored
    changed = bytearray(content)
    changed[position % len(content)] ^= change
    slot.replace(bytes(changed))
    with pytest.raises(DeserializationError):
        deserialize_obj_from_s3(slot.session, slot.uri, public(KEY))


@given(st.integers(1, 10**9))
def test_truncated(stored: tuple[Slot, bytes], size: int) -> None:
    """No proper beginning or end of a value is one."""
    slot, content = stored
    size %= len(content)
    read(slot, content[:size])
    read(slot, content[len(content) - size :])


@given(st.binary(max_size=300))
def test_any_bytes(stored: tuple[Slot, bytes], content: bytes) -> None:
    """Bytes of any other kind, also with the right end, are refused."""
    slot, _ = stored
    for end in (b"", b"SMVALUE\x01", len(content).to_bytes(4, "little") + b"SMVALUE\x01"):
        read(slot, content + end)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=8,
    )
)
def test_any_metadata(stored: tuple[Slot, bytes], metadata: Any) -> None:
    """JSON of any shape in place of the metadata is refused."""
    slot, content = stored
    _, packed = split(content)
    read(slot, joined(packed, metadata))


@given(st.sampled_from(["kind", "s3_uri", "sha256", "size", "python", "version", "context_signature"]), st.data())
def test_any_value_of_a_field(stored: tuple[Slot, bytes], field: str, data: st.DataObject) -> None:
    """A field with another value makes the signature invalid, whatever its type."""
    slot, content = stored
    metadata, packed = split(content)
    value = data.draw(st.none() | st.integers() | st.text(max_size=70) | st.lists(st.integers(), max_size=2))
    if value == metadata[field]:
        return
    slot.replace(joined(packed, {**metadata, field: value}))
    with pytest.raises(DeserializationError):
        deserialize_obj_from_s3(slot.session, slot.uri, public(KEY))


@given(st.binary(max_size=100))
def test_a_pickle_of_random_bytes(content: bytes) -> None:
    """The serializer reads any bytes without another error."""
    with contextlib.suppress(DeserializationError):
        CloudpickleSerializer.deserialize("s3://b/k", content)
