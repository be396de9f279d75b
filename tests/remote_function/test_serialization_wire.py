"""Stored values on the wire: the parameters of every call, both transports, another S3, and every fault."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import boto3
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from processing import DeserializationError, LocalSession, ServiceError, Session
from processing.aws.retry import RetryPolicy
from processing.local.transports.server import Server
from processing.remote_function.serialization import (
    deserialize_exception_from_s3,
    deserialize_func_from_s3,
    deserialize_obj_from_s3,
    json_serialize_obj_to_s3,
    serialize_exception_to_s3,
    serialize_func_to_s3,
    serialize_obj_to_s3,
)
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import operation_of
from stored_values import KEY, public

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024
LARGE = np.arange(17 * MB // 8, dtype=np.float64)  # three parts


class Recorder:
    """A transport that records the operation and the headers of every request, and passes it on."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._lock = threading.Lock()

    def wrap(self, transport: Any) -> Any:
        self._transport = transport
        return self

    def send(self, request: Any) -> Any:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        with self._lock:
            self.requests.append((operation_of(request), headers))
        return self._transport.send(request)

    def take(self) -> list[tuple[str, dict[str, str]]]:
        """Return the requests since the last call."""
        taken, self.requests = self.requests, []
        return taken


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def recorder() -> Recorder:
    """The recorder of the test's session."""
    return Recorder()


@pytest.fixture
def session(tmp_path: Path, recorder: Recorder) -> LocalSession:
    """An engine of the test's own behind the recorder."""
    session = LocalSession(tmp_path / "engine", transport=recorder.wrap)
    session.default_bucket()
    session.account_id()
    recorder.take()
    return session


def test_a_key_of_kms_encrypts_every_object(session: LocalSession, recorder: Recorder) -> None:
    """Each call that creates an object names the key: of functions, objects large and small, exceptions and JSON."""
    root = f"s3://{session.default_bucket()}/kms"
    recorder.take()
    serialize_func_to_s3(print, session, root + "/function", KEY, "alias/a")
    serialize_obj_to_s3(1, session, root + "/object", s3_kms_key="alias/a")
    serialize_obj_to_s3(LARGE, session, root + "/large", KEY, s3_kms_key="alias/a")
    serialize_exception_to_s3(ValueError(), session, root + "/exception", "alias/a")
    json_serialize_obj_to_s3(1, "Result", session, root + "/results.json", "alias/a")
    created = [headers for name, headers in recorder.take() if name in {"PutObject", "CreateMultipartUpload"}]
    assert len(created) == 5
    for headers in created:
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/a"
    found = session.client("s3").head_object(Bucket=session.default_bucket(), Key="kms/large/payload.bin")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/a")


def test_without_a_key_the_bucket_decides(session: LocalSession, recorder: Recorder) -> None:
    """No header asks for an encryption."""
    root = f"s3://{session.default_bucket()}/plain"
    recorder.take()
    serialize_obj_to_s3(1, session, root)
    ((_, headers),) = recorder.take()
    assert not [name for name in headers if "encryption" in name]


def test_a_small_value_takes_two_calls(session: LocalSession, recorder: Recorder) -> None:
    """One call stores it, and one loads it; no HEAD, no second object."""
    root = f"s3://{session.default_bucket()}/small"
    recorder.take()
    serialize_obj_to_s3({"a": 1}, session, root, KEY)
    assert deserialize_obj_from_s3(session, root, public(KEY)) == {"a": 1}
    assert [name for name, _ in recorder.take()] == ["PutObject", "GetObject"]


def test_a_large_value_goes_in_parts_and_comes_in_ranges(session: LocalSession, recorder: Recorder) -> None:
    """Each range is fetched once, and under the ETag of the first one."""
    root = f"s3://{session.default_bucket()}/large"
    recorder.take()
    serialize_obj_to_s3(LARGE, session, root, KEY)
    calls = Counter(name for name, _ in recorder.take())
    assert calls == {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}
    assert (deserialize_obj_from_s3(session, root, public(KEY)) == LARGE).all()
    reads = recorder.take()
    assert [name for name, _ in reads] == ["GetObject"] * 4
    assert len({headers["if-match"] for _, headers in reads if "if-match" in headers}) == 1
    assert min(headers["range"] for _, headers in reads) == "bytes=-1048576"


def test_every_call_names_the_owner_of_the_bucket(session: LocalSession, recorder: Recorder) -> None:
    """Reads and writes of both layouts go to a bucket of the session's account only."""
    root = f"s3://{session.default_bucket()}/owner"
    recorder.take()
    serialize_obj_to_s3(LARGE, session, root)
    deserialize_obj_from_s3(session, root)
    with pytest.raises(ServiceError):
        deserialize_exception_from_s3(session, root, accept="v3")
    owners = [headers.get("x-amz-expected-bucket-owner") for _, headers in recorder.take()]
    assert set(owners) == {session.account_id()}


def test_values_travel_over_http(local_session: LocalSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that reaches the engine over HTTP stores and loads small and large values."""
    with Server(local_session.engine) as server:
        for name, text in server.environment().items():
            monkeypatch.setenv(name, text)
        session = Session(boto3.Session())
        root = f"s3://{session.default_bucket()}/http"
        values: list[Any] = [{"a": 1}, LARGE]
        for value in values:
            serialize_obj_to_s3(value, session, root, KEY)
            assert np.array_equal(deserialize_obj_from_s3(session, root, public(KEY)), value)
        serialize_func_to_s3(len, session, root, KEY)
        assert deserialize_func_from_s3(session, root, public(KEY)) is len
        session.client("s3").close()
    assert deserialize_func_from_s3(local_session, root, public(KEY)) is len


def test_values_travel_through_another_s3(seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS stores and returns large and small values."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweedfs.url)
    keys = {"aws_access_key_id": seaweedfs.access_key, "aws_secret_access_key": seaweedfs.secret_key}
    session = Session(boto3.Session(region_name="us-east-1", **keys))
    with_owner: dict[str, Any] = {"bucket_owner": "000000000000"}
    session.client("s3").create_bucket(Bucket="values-of-remote-functions")
    values: list[Any] = [{"a": [1, "x"]}, LARGE, np.zeros(2 * MB, dtype=np.uint8)]
    for value in values:
        serialize_obj_to_s3(value, session, "s3://values-of-remote-functions/values/v", KEY, **with_owner)
        back = deserialize_obj_from_s3(session, "s3://values-of-remote-functions/values/v", public(KEY), **with_owner)
        assert np.array_equal(back, value)
    other = public(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(DeserializationError):
        deserialize_obj_from_s3(session, "s3://values-of-remote-functions/values/v", other, **with_owner)
    session.client("s3").close()


FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
REFUSED = {"denied", "expired", "skew"}  # not repeated: the answer would be the same
ONE_CALL = ("PutObject", "GetObject")
MANY_CALLS = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "GetObject")


@pytest.fixture
def faulty(tmp_path: Path) -> tuple[FaultInjector, LocalSession]:
    """A fault injector, and an engine of the test's own behind it. No wait takes time."""
    clock = VirtualClock()
    faults = FaultInjector(1, clock=clock)
    policy = RetryPolicy(attempts=4, budget=600.0)
    session = LocalSession(tmp_path / "engine", retry_policy=policy, transport=faults.wrap, clock=clock)
    session.default_bucket()
    session.account_id()
    return faults, session


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_each_call_is_survived_or_reported(
    faulty: tuple[FaultInjector, LocalSession], kind: FaultKind
) -> None:
    """The right value comes back, or a ServiceError says why not: never another error, never another value."""
    faults, session = faulty
    root = f"s3://{session.default_bucket()}/faults"

    def round_trip(value: Any) -> Any:
        serialize_obj_to_s3(value, session, root, KEY)
        return deserialize_obj_from_s3(session, root, public(KEY))

    cases: list[tuple[Any, tuple[str, ...]]] = [({"a": 1}, ONE_CALL), (LARGE, MANY_CALLS)]
    for value, operations in cases:
        if kind in REFUSED:
            for operation in operations:
                faults.on(operation, kind, probability=1)
                with pytest.raises(ServiceError) as caught:
                    round_trip(value)
                assert caught.value.__cause__ is not None
                faults.clear()
        else:
            for operation in operations:
                faults.on(operation, kind)
            assert np.array_equal(round_trip(value), value)
            assert {operation for operation, _ in faults.injected} >= {*operations}


@pytest.mark.parametrize(
    "kind", sorted({*FAULTS} - {"slow_body", "double", "truncate"})
)  # those have no lasting effect
def test_a_lasting_fault_is_a_service_error(faulty: tuple[FaultInjector, LocalSession], kind: FaultKind) -> None:
    """Each function names the URI and the reason. Nothing is half written: an object is the old one or the new one."""
    faults, session = faulty
    root = f"s3://{session.default_bucket()}/lasting"
    serialize_obj_to_s3("old", session, root, KEY)
    faults.on("*", kind, probability=1)
    for act in (
        lambda: serialize_obj_to_s3("new", session, root, KEY),
        lambda: serialize_obj_to_s3(LARGE, session, root + "/large", KEY),
        lambda: deserialize_obj_from_s3(session, root, public(KEY)),
        lambda: deserialize_exception_from_s3(session, root, accept="v3"),
    ):
        with pytest.raises(ServiceError, match=f"^{root}"):
            act()
    faults.clear()
    is_carried_out = kind in {"reset_after", "timeout_after"}
    assert deserialize_obj_from_s3(session, root, public(KEY)) == ("new" if is_carried_out else "old")
