"""Values of sagemaker-core 3, recorded below `v3`: read with `accept="v3"`, and refused if anything in them is wrong.

`tests/foreign/test_sagemaker_3_values.py` has the script that stored them.
"""

from __future__ import annotations

import json
import operator
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from processing import DeserializationError, LocalSession, ServiceError
from processing.remote_function.serialization import (
    deserialize_exception_from_s3,
    deserialize_func_from_s3,
    deserialize_obj_from_s3,
)
from stored_values import Slot, public

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent / "v3"
KEY = (RECORDED / "public_key.pem").read_text()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Slot]:
    """Stores a recorded value, and returns its place."""
    session = LocalSession(tmp_path_factory.mktemp("v3") / "engine")

    def store(name: str) -> Slot:
        slot = Slot(session, f"s3://{session.default_bucket()}/job/{name}")
        for file in (RECORDED / name).iterdir():
            slot.replace(file.read_bytes(), file.name)
        return slot

    return store


def test_recorded_values_are_read(stored: Callable[[str], Slot]) -> None:
    """Function, arguments and result are the stored ones."""
    slot = stored("function")
    assert deserialize_func_from_s3(slot.session, slot.uri, KEY, accept="v3") is operator.add
    slot = stored("arguments")
    expected = ((1, "two"), {"three": [3.0]})
    assert deserialize_obj_from_s3(slot.session, slot.uri, KEY, accept="v3") == expected
    slot = stored("results")
    assert deserialize_obj_from_s3(slot.session, slot.uri, accept="v3") == {"answer": 42}


def test_code_runs_in_its_own_python_only(stored: Callable[[str], Slot]) -> None:
    """A lambda of Python 3.11 is loaded there, and refused elsewhere."""
    slot = stored("lambda")
    if sys.version_info[:2] == (3, 11):
        assert deserialize_func_from_s3(slot.session, slot.uri, KEY, accept="v3")(1) == 11
    else:
        with pytest.raises(DeserializationError, match=r"Python 3\.11.*contains code"):
            deserialize_func_from_s3(slot.session, slot.uri, KEY, accept="v3")


def test_a_recorded_exception_has_its_traceback(stored: Callable[[str], Slot]) -> None:
    """The exception, its cause and the frames of both come back."""
    slot = stored("exception")
    error = deserialize_exception_from_s3(slot.session, slot.uri, accept="v3")
    assert (type(error), error.filename) == (FileNotFoundError, "a/file")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert [frame.name for frame in traceback.extract_tb(error.__cause__.__traceback__)] == ["<module>", "divide"]


def test_the_layouts_are_not_mixed_up(stored: Callable[[str], Slot]) -> None:
    """Without `accept`, a value of v3 does not exist."""
    slot = stored("results")
    with pytest.raises(ServiceError, match="accept='v3'"):
        deserialize_obj_from_s3(slot.session, slot.uri)


@pytest.mark.parametrize(
    "key",
    [
        "garbage",
        public(rsa.generate_private_key(65537, 2048)),
        public(ec.generate_private_key(ec.SECP384R1())),
        public(ec.generate_private_key(ec.SECP256R1())),
    ],
    ids=["garbage", "rsa", "p384", "other"],
)
def test_another_key_is_refused(stored: Callable[[str], Slot], key: str) -> None:
    """A key of another kind, or of another signer, is a DeserializationError."""
    slot = stored("function")
    with pytest.raises(DeserializationError):
        deserialize_func_from_s3(slot.session, slot.uri, key, accept="v3")


METADATA = json.loads((RECORDED / "function" / "metadata.json").read_bytes())
WITHOUT_SIGNATURE = {name: value for name, value in METADATA.items() if name != "asymmetric_signature"}


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"sha256_hash": ' + b"1" * 5000 + b"}",
        b" " * (1024 * 1024) + b"{}",
        *(
            json.dumps(fields).encode()
            for fields in (
                {},
                WITHOUT_SIGNATURE,
                {**METADATA, "sha256_hash": None},
                {**METADATA, "sha256_hash": ["a"]},
                {**METADATA, "sha256_hash": "0" * 64},
                {**METADATA, "version": "2024-01-01"},
                {**METADATA, "serialization_module": "pickle"},
                {**METADATA, "asymmetric_signature": 5},
                {**METADATA, "asymmetric_signature": "ü"},
                {**METADATA, "asymmetric_signature": "AAAA"},
            )
        ),
    ],
    ids=range(18),
)
def test_wrong_metadata_is_refused(stored: Callable[[str], Slot], text: bytes) -> None:
    """Metadata of any other form or content is a DeserializationError, and the payload is not loaded."""
    slot = stored("function")
    slot.replace(text, "metadata.json")
    with pytest.raises(DeserializationError):
        deserialize_func_from_s3(slot.session, slot.uri, KEY, accept="v3")


def test_any_python_version_may_be_named(stored: Callable[[str], Slot]) -> None:
    """The version is not signed in v3: a value of any type neither crashes nor refuses data."""
    slot = stored("results")
    metadata = json.loads((RECORDED / "results" / "metadata.json").read_bytes())
    versions: list[Any] = [None, 5, [], "3", "", "x.y.z"]
    for version in versions:
        slot.replace(json.dumps({**metadata, "python_version": version}).encode(), "metadata.json")
        assert deserialize_obj_from_s3(slot.session, slot.uri, accept="v3") == {"answer": 42}


@given(st.binary(max_size=100))
def test_another_payload_is_refused(stored: Callable[[str], Slot], payload: bytes) -> None:
    """Bytes of another hash are never loaded, signed or not."""
    for name in ("arguments", "results"):
        slot = stored(name)
        slot.replace(payload, "payload.pkl")
        for key in (KEY, None):
            with pytest.raises(DeserializationError):
                deserialize_obj_from_s3(slot.session, slot.uri, key, accept="v3")


def test_a_missing_object_is_a_failure_of_s3(stored: Callable[[str], Slot]) -> None:
    """Each of the two objects has to exist."""
    for name in ("metadata.json", "payload.pkl"):
        slot = stored("results")
        key = slot.key.replace("payload.bin", name)
        slot.session.client("s3").delete_object(Bucket=slot.bucket, Key=key)
        with pytest.raises(ServiceError, match="NoSuchKey"):
            deserialize_obj_from_s3(slot.session, slot.uri, accept="v3")
