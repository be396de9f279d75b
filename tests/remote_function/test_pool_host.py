"""The two processes of a pool's host, with services that fail or wait."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from processing import SerializationError
from processing.container.remote import channel, packing, pool_host
from processing.container.remote.channel import (
    CALL,
    CLOSE,
    OWNER_LIVES,
    FrameReader,
    PoolPlaces,
    _Channel,
    send_frame,
)
from processing.container.remote.pool_host import LIFE_SECONDS, _Member
from processing.container.remote.worker import VALUE
from processing.container.remote.workers import CallLimits, Workers
from processing.remote_function.pool.messages import OutgoingCall

PATIENCE = 20.0
PLACES = PoolPlaces(["calls"], "results", "s3://bucket/pool", "eu-west-1", None)


class _GoneError(Exception):
    """The answer of a queue that was deleted."""

    response: ClassVar = {"Error": {"Code": "QueueDoesNotExist"}}


class _Sqs:
    """The queues of a host.

    Args:
        calls: the messages to the host. The queue is gone after the last of them.
    """

    def __init__(self, *calls: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._calls = iter(calls)

    def receive_message(self, **_options: object) -> dict[str, Any]:
        for message in self._calls:
            return {"Messages": [{"Body": json.dumps(message), "ReceiptHandle": "1"}]}
        raise _GoneError

    def delete_message_batch(self, **_options: object) -> None:
        pass

    def get_queue_url(self, QueueName: str) -> dict[str, str]:  # noqa: N803 - boto3's name
        return {"QueueUrl": QueueName}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803 - as above
        assert QueueUrl == PLACES.results
        self.sent += [json.loads(each["MessageBody"]) for each in Entries]
        return {"Successful": Entries}


def _channel(far: socket.socket, sqs: object, s3: object, folder: Path) -> _Channel:
    """Return the connection of a host with these services."""
    clients = {"sqs": sqs, "s3": s3}
    session = SimpleNamespace(client=clients.__getitem__)
    boto3 = SimpleNamespace(session=SimpleNamespace(Session=lambda **_options: session))
    return _Channel(boto3, far, PLACES, 0, str(folder))


def _no_calls(_digest: str, _size: int) -> bytes:
    raise AssertionError("the data are in the message")


def test_a_failed_upload_is_the_error_of_its_call_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call gets the reason, with the proof of its host, and later results are sent."""

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError("the key may not be used")

    monkeypatch.setattr(channel, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", sys.exit)
    near, far = socket.socketpair()
    sqs = _Sqs()
    large = tmp_path / "large"
    large.write_bytes(b"x")
    value = packing.pack("small").to_bytes()
    for number, data, path in ((1, b"", str(large)), (2, value, None)):
        message = {"kind": "result", "number": number, "outcome": VALUE, "seconds": 0.0}
        send_frame(near, (message, b"key", data, path))
    near.close()
    with far, pytest.raises(SystemExit):
        _channel(far, sqs, SimpleNamespace(upload_file=refuse), tmp_path).send_results()
    calls = [OutgoingCall(number, "call", b"key", "", Future()) for number in (1, 2)]
    failed, returned = (call.outcome(each, _no_calls) for call, each in zip(calls, sqs.sent, strict=True))
    assert failed is not None
    assert isinstance(failed.error, SerializationError)
    assert "PermissionError: the key may not be used" in str(failed.error)
    assert returned is not None
    assert returned.value == "small"
    assert not large.exists()


def test_signs_of_life_pass_a_long_download(tmp_path: Path) -> None:
    """The host hears of its owner while an argument is loaded, and gets its messages in their order."""
    heard = threading.Event()

    def download(_bucket: str, _key: str, path: str) -> None:
        heard.wait(PATIENCE)
        Path(path).write_bytes(b"large")

    parts = [{"sha256": hashlib.sha256(b"large").hexdigest()}]
    call = {"kind": CALL, "number": 1, "key": "00", "sha256": "", "function": [], "arguments": parts}
    near, far = socket.socketpair()
    near.settimeout(PATIENCE)
    reader = FrameReader(near)
    host = _channel(far, _Sqs(call, {"kind": OWNER_LIVES}), SimpleNamespace(download_file=download), tmp_path)
    receiver = threading.Thread(target=host.receive_calls, args=("calls",))
    receiver.start()
    frames: list[Any] = []
    closed = False
    with near, far:
        while len(frames) < 2 and not closed:
            values, closed = reader.read()
            frames += values
        in_time = [kind for kind, _ in frames]
        heard.set()
        while not frames or frames[-1][0] != CLOSE:
            frames += reader.read()[0]
        receiver.join()
    assert in_time == [OWNER_LIVES, OWNER_LIVES]
    assert [kind for kind, _ in frames[2:]] == [CALL, CLOSE]
    assert frames[2][1].problem == ""


def test_signs_that_came_during_a_long_step_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that waited for the upload of a result reads what came meanwhile before it gives up."""
    near, far = socket.socketpair()
    owner = far.dup()
    clock = [0.0]
    steps: list[bool] = []
    step = Workers.step

    def late_step(workers: Workers, seconds: float | None) -> bool:
        if steps:
            return step(workers, seconds)
        steps.append(step(workers, 0.0))
        clock[0] += 2 * LIFE_SECONDS
        send_frame(owner, (CLOSE, None))
        owner.shutdown(socket.SHUT_WR)
        return steps[0]

    monkeypatch.setattr(pool_host, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Workers, "step", late_step)
    with monkeypatch.context() as patches:
        patches.setattr(socket, "socketpair", lambda: (near, far))
        patches.setattr(os, "fork", lambda: 1)  # the test is the other process
        member = _Member(PLACES, "algo-1", 0, str(tmp_path), LIFE_SECONDS)
    before = signal.getsignal(signal.SIGTERM)
    try:
        reason = member.run(CallLimits(workers=1))
    finally:
        signal.signal(signal.SIGTERM, before)
    with near, owner:
        frames, _ = FrameReader(owner).read()
    assert steps == [False]
    assert reason == "closed"
    assert [message.get("abandoned") for message, *_ in frames] == [None, False]
