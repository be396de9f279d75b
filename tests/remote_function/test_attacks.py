"""Attacks on a call: whoever may write to S3, or create jobs, runs no code in the job or at the caller.

An attacker of the first kind acts between the upload and the creation of the job, or after the job's end.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processing import (
    ConfigurationError,
    DeserializationError,
    LocalSession,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    RemoteFunctionError,
    RuntimeEnvironmentError,
)
from processing.container.remote import packing
from processing.remote_function import get_future, list_futures, remote
from processing.remote_function.call_record import ExitMessage
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.local.transports.in_process import Transport


class Trap:
    """A value that leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that a trap leaves behind."""
    return tmp_path / "sprung"


@pytest.fixture
def trap(sprung: Path) -> Iterator[bytes]:
    """A packed trap. No test may spring it."""
    packed = packing.pack(Trap(sprung)).to_bytes()
    packing.unpack(packed)
    assert sprung.exists()  # it works
    sprung.unlink()
    yield packed
    assert not sprung.exists()


class Attacker:
    """A transport whose owner changes objects in S3 just before a job is created."""

    def __init__(self) -> None:
        self.attack: Callable[[dict[str, Any]], None] | None = None
        self.requests: list[Any] = []
        self._inner: Transport | None = None

    def wrap(self, inner: Transport) -> Attacker:
        self._inner = inner
        return self

    def send(self, request: Any) -> Any:
        assert self._inner is not None
        self.requests.append(request)
        if self.attack is not None and b"CreateProcessingJob" in str(request.headers.get("X-Amz-Target")).encode():
            attack, self.attack = self.attack, None
            attack(json.loads(request.body))
        return self._inner.send(request)


@pytest.fixture
def attacker() -> Attacker:
    """Whoever may write to S3."""
    return Attacker()


@pytest.fixture
def session(tmp_path: Path, attacker: Attacker) -> LocalSession:
    """An engine whose S3 the attacker may write to."""
    return LocalSession(tmp_path / "engine", tick=0.01, grace=1.0, transport=attacker.wrap)


class Objects:
    """The objects in S3, as an attacker sees them."""

    def __init__(self, session: LocalSession) -> None:
        self._client = session.client("s3")

    def get(self, uri: S3Uri) -> bytes:
        body: bytes = self._client.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read()
        return body

    def put(self, uri: S3Uri, body: bytes) -> None:
        self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=body)

    def delete(self, uri: S3Uri) -> None:
        self._client.delete_object(Bucket=uri.bucket, Key=uri.key)


def input_of(request: dict[str, Any], name: str) -> S3Uri:
    """The object of an input."""
    (found,) = (each["S3Input"]["S3Uri"] for each in request["ProcessingInputs"] if each["InputName"] == name)
    return S3Uri.parse(found)


def place(description: dict[str, Any], slot: str) -> S3Uri:
    """The object of a result or an exception."""
    outputs = description["ProcessingOutputConfig"]["Outputs"]
    (found,) = (each["S3Output"]["S3Uri"] for each in outputs if each["OutputName"] == f"remote-{slot}")
    return S3Uri.parse(found) / slot


def add(x: int, y: int) -> int:
    """A function."""
    return x + y


def with_member(bundle: bytes, name: str, text: bytes) -> bytes:
    """A bundle with another content of one file."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(made, "w") as new:
        assert name in old.namelist()
        for member in old.namelist():
            new.writestr(member, text if member == name else old.read(member))
    return made.getvalue()


def test_another_function_is_not_run(session: LocalSession, attacker: Attacker, trap: bytes) -> None:
    """The job refuses a call file whose function and arguments were replaced."""
    objects = Objects(session)

    def attack(request: dict[str, Any]) -> None:
        uri = input_of(request, "remote-call")
        manifest = objects.get(uri).partition(b"\n")[0]
        objects.put(uri, manifest + b"\n" + trap)

    attacker.attack = attack
    with pytest.raises(RuntimeEnvironmentError, match="the call is not the one that the request names"):
        remote(add, instance_type="local", sagemaker_session=session)(1, 1)


def test_another_manifest_is_not_read(session: LocalSession, attacker: Attacker, trap: bytes) -> None:
    """The job refuses a call file with a manifest that fits its own content, but not the request."""
    objects = Objects(session)

    def attack(request: dict[str, Any]) -> None:
        import hashlib

        uri = input_of(request, "remote-call")
        manifest = json.loads(objects.get(uri).partition(b"\n")[0])
        manifest["files"]["call"] = {"sha256": hashlib.sha256(trap).hexdigest(), "size": len(trap)}
        objects.put(uri, json.dumps(manifest).encode() + b"\n" + trap)

    attacker.attack = attack
    with pytest.raises(RuntimeEnvironmentError, match="the manifest of the call is not the one"):
        remote(add, instance_type="local", sagemaker_session=session)(1, 1)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_call_is_not_run(session: LocalSession, attacker: Attacker, kept: int) -> None:
    """The job refuses a call file of which a part is missing."""
    objects = Objects(session)

    def attack(request: dict[str, Any]) -> None:
        uri = input_of(request, "remote-call")
        objects.put(uri, objects.get(uri)[:kept])

    attacker.attack = attack
    with pytest.raises(RuntimeEnvironmentError, match="is not the one"):
        remote(add, instance_type="local", sagemaker_session=session)(1, 1)


def test_the_call_of_another_job_is_not_run(session: LocalSession, attacker: Attacker) -> None:
    """A call file of another job, genuine there, is refused here."""
    objects = Objects(session)
    function = remote(add, instance_type="local", sagemaker_session=session)
    other = function.submit(1, 2)
    assert other.result() == 3
    assert other.job is not None
    described = other.job.describe()

    def attack(request: dict[str, Any]) -> None:
        objects.put(input_of(request, "remote-call"), objects.get(input_of(described, "remote-call")))

    attacker.attack = attack
    with pytest.raises(RuntimeEnvironmentError, match="the manifest of the call is not the one"):
        function(10, 20)


@pytest.mark.parametrize("name", ["boot.py", "_processing_remote/call.py", "cloudpickle/cloudpickle.pyc"])
def test_other_code_in_the_bundle_is_not_run(
    session: LocalSession, attacker: Attacker, sprung: Path, name: str
) -> None:
    """The loader refuses another boot program, and the boot program any other change of the bundle."""
    objects = Objects(session)

    def attack(request: dict[str, Any]) -> None:
        uri = input_of(request, "remote-code")
        code = f"open({str(sprung)!r}, 'w')".encode()
        objects.put(uri, with_member(objects.get(uri), name, code))

    attacker.attack = attack
    with pytest.raises(RemoteFunctionError, match="is not the one that the request names"):
        remote(add, instance_type="local", sagemaker_session=session)(1, 1)
    assert not sprung.exists()


def test_the_user_s_files_in_the_bundle_are_not_changed(
    session: LocalSession, attacker: Attacker, sprung: Path
) -> None:
    """Commands that run before the function are verified as well."""
    objects = Objects(session)

    def attack(request: dict[str, Any]) -> None:
        uri = input_of(request, "remote-code")
        bundle = objects.get(uri)
        objects.put(uri, with_member(bundle, "files.tar.gz", f"touch {sprung}".encode()))

    attacker.attack = attack
    with pytest.raises(RuntimeEnvironmentError, match="the bundle is not the one"):
        remote(add, instance_type="local", sagemaker_session=session, pre_execution_commands=["true"])(1, 1)
    assert not sprung.exists()


def test_another_result_is_not_loaded(session: LocalSession, trap: bytes) -> None:
    """The caller refuses a result that the job did not write, whole, truncated, or of another job."""
    objects = Objects(session)
    function = remote(add, instance_type="local", sagemaker_session=session)
    first, second = function.submit(1, 2), function.submit(3, 4)
    assert [first.result(), second.result()] == [3, 7]
    assert first.job is not None
    assert second.job is not None
    uri, other = place(first.job.describe(), "result"), place(second.job.describe(), "result")
    genuine = objects.get(uri)
    for forged in (trap, objects.get(other), genuine[:-1], b"", genuine + b"\0"):
        objects.put(uri, forged)
        with pytest.raises(DeserializationError):
            get_future(first.job.job_name, session).result()
    objects.put(uri, genuine)
    assert get_future(first.job.job_name, session).result() == 3


def test_a_deleted_result_is_an_error(session: LocalSession) -> None:
    """A result that is gone is an error that names the object."""
    function = remote(add, instance_type="local", sagemaker_session=session)
    future = function.submit(1, 2)
    assert future.result() == 3
    assert future.job is not None
    uri = place(future.job.describe(), "result")
    Objects(session).delete(uri)
    with pytest.raises(RemoteFunctionError, match=str(uri)):
        get_future(future.job.job_name, session).result()


def test_another_exception_is_not_loaded(session: LocalSession, trap: bytes) -> None:
    """The caller refuses an exception that the job did not write, and has its text from the exit message."""

    def fail() -> None:
        raise KeyError("genuine")

    future = remote(fail, instance_type="local", sagemaker_session=session).submit()
    assert isinstance(future.exception(), KeyError)
    assert future.job is not None
    Objects(session).put(place(future.job.describe(), "exception"), trap)
    with pytest.raises(RemoteFunctionError, match="KeyError: 'genuine'"):
        get_future(future.job.job_name, session).result()


def test_an_exception_is_no_result(session: LocalSession) -> None:
    """The bytes of an exception in the slot of a result are refused, and those of a result in that of an exception."""
    function = remote(add, instance_type="local", sagemaker_session=session)
    good, bad = function.submit(1, 2), function.submit(1, "2")  # type: ignore[arg-type]
    assert good.result() == 3
    assert isinstance(bad.exception(), TypeError)
    assert good.job is not None
    assert bad.job is not None
    objects = Objects(session)
    result, exception = place(good.job.describe(), "result"), place(bad.job.describe(), "exception")
    genuine = objects.get(result)
    objects.put(result, objects.get(exception))
    objects.put(exception, genuine)
    with pytest.raises(DeserializationError):
        get_future(good.job.job_name, session).result()
    with pytest.raises(RemoteFunctionError, match="The exception is lost"):
        get_future(bad.job.job_name, session).result()


def test_a_result_without_a_digest_is_refused(session: LocalSession) -> None:
    """A job that completes without an exit message of ours has no result that can be trusted."""

    def silent() -> int:
        import atexit

        atexit.register(Path("/opt/ml/output/message").unlink)
        return 1

    future = remote(silent, instance_type="local", sagemaker_session=session).submit()
    with pytest.raises(DeserializationError, match="exit message does not name a result"):
        future.result()


def test_untrusted_code_can_return_values_only(session: LocalSession, trap: bytes, sprung: Path) -> None:
    """With `result_format="json"` not even the job's own code can make the caller unpickle something."""

    def forge(body: bytes) -> None:
        import hashlib

        def at_the_end() -> None:
            Path("/opt/ml/processing/output/remote/result/result").write_bytes(body)
            fields = {"slot": "result", "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
            Path("/opt/ml/output/message").write_text(json.dumps(fields))

        import atexit

        atexit.register(at_the_end)

    for body in (trap, pickle.dumps(Trap(sprung))):
        with pytest.raises(DeserializationError, match="it is not a value"):
            remote(forge, instance_type="local", sagemaker_session=session, result_format="json")(body)


def look_alike(session: LocalSession, bucket: str, name: str, trap: bytes) -> None:
    """Create a job that looks like a remote function's, with its files in another bucket."""
    client = session.client("s3")
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="x/call", Body=b"{}")
    import hashlib

    fields = {"slot": "result", "sha256": hashlib.sha256(trap).hexdigest(), "size": len(trap)}
    program = f"open('/opt/ml/output/message', 'w').write({json.dumps(fields)!r})"
    client.put_object(Bucket=bucket, Key="x/result/result", Body=trap)
    Processor(
        instance_type="local",
        instance_count=1,
        entrypoint=["python3", "-c", program],
        env={"PROCESSING_REMOTE_BOOT": "0" * 64, "PROCESSING_REMOTE_MANIFEST": "0" * 64},
        sagemaker_session=session,
    ).run(
        inputs=[
            ProcessingInput(f"s3://{bucket}/x/call", f"/opt/ml/processing/input/{each}", each)
            for each in ("remote-code", "remote-call")
        ],
        outputs=[
            ProcessingOutput(f"/opt/ml/processing/{each}", f"s3://{bucket}/x/{each[7:]}", each)
            for each in ("remote-result", "remote-exception")
        ],
        job_name=name,
        logs=False,
    )


def test_a_look_alike_job_has_no_future(session: LocalSession, trap: bytes) -> None:
    """A job whose files are in a bucket that is not trusted is refused by name, and left out of a list."""
    genuine = remote(add, instance_type="local", sagemaker_session=session, job_name="add-genuine").submit(1, 1)
    assert genuine.result() == 2
    look_alike(session, "bucket-of-another", "add-forged", trap)
    with pytest.raises(DeserializationError, match="s3_root_uri"):
        get_future("add-forged", session)
    names = [future.job.job_name for future in list_futures("add", session) if future.job is not None]
    assert names == ["add-genuine"]


def test_other_jobs_are_not_futures(session: LocalSession) -> None:
    """A job that is not a remote function's is refused."""
    Processor(instance_type="local", instance_count=1, entrypoint=["true"], sagemaker_session=session).run(
        job_name="other", logs=False
    )
    with pytest.raises(DeserializationError, match="it is not the job of a remote function"):
        get_future("other", session)
    assert list(list_futures("other", session)) == []


@given(st.one_of(st.text(max_size=200), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
@example('{"slot":"result","sha256":"a","size":-1}')
@example('{"slot":"result","sha256":null,"size":1}')
@example('{"slot":["result"],"sha256":"a","size":1}')
@example('{"slot":"result","sha256":"a","size":1,"python":3}')
@example("[" * 1000)
def test_any_exit_message_is_read(text: str) -> None:
    """A message that is not one of ours is none, and no text makes another error."""
    message = ExitMessage.of({"ExitMessage": text})
    assert message is None or ((message.size or 0) >= 0 and isinstance(message.slot, str))


@pytest.mark.parametrize("name", [None, 5, "", "a b", "a" * 64])
def test_a_name_that_no_job_can_have(session: LocalSession, name: Any) -> None:
    """A wrong name is refused before a call: a prefix of None would list every job."""
    with pytest.raises(ConfigurationError, match=r"^job_name: must be a job's name"):
        get_future(name, session)
    with pytest.raises(ConfigurationError, match=r"^job_name_prefix: must be the beginning of a job's name"):
        list_futures(name, session)


def test_a_bucket_of_another_account_is_not_read(session: LocalSession, attacker: Attacker) -> None:
    """Every read names the account that must own the bucket."""
    future = remote(add, instance_type="local", sagemaker_session=session).submit(1, 2)
    assert future.result() == future.replay() == 3
    reads = [request for request in attacker.requests if request.method == "GET"]
    assert len(reads) == 2
    assert {request.headers["x-amz-expected-bucket-owner"] for request in reads} == {session.account_id().encode()}


def test_a_replayed_call_is_verified(session: LocalSession, trap: bytes) -> None:
    """`replay` runs the call that the job got, and refuses one that was replaced since."""
    function = remote(add, instance_type="local", sagemaker_session=session)
    future = function.submit(20, 22)
    assert future.result() == future.replay() == 42
    assert future.job is not None
    objects, uri = Objects(session), input_of(future.job.describe(), "remote-call")
    genuine = objects.get(uri)
    for forged in (genuine.partition(b"\n")[0] + b"\n" + trap, trap, b"", genuine[:-1]):
        objects.put(uri, forged)
        with pytest.raises(DeserializationError, match="was replaced"):
            future.replay()
