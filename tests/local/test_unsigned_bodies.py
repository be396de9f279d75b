"""Clients without a key, and clients that stall: neither keeps the server from serving others."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from typing import TYPE_CHECKING

import pytest

from processing.local.transports import connection as connection_module
from processing.local.transports import server as server_module
from raw_http import RawConnection, signed, signed_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession
    from processing.local.transports.server import Server

SCOPE = "20260101/us-east-1/sagemaker/aws4_request"
UNKNOWN = f"AWS4-HMAC-SHA256 Credential=no/{SCOPE}, SignedHeaders=host, Signature=x"


PRESIGNED = (
    f"PUT /bucket/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=no/{SCOPE.replace('sagemaker', 's3')}"
    "&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=60&X-Amz-Signature=x"
)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """A stack that closes connections at the end."""
    with contextlib.ExitStack() as made:
        yield made


def connect(server: Server, stack: contextlib.ExitStack) -> RawConnection:
    """Return a connection that is closed at the end."""
    return stack.enter_context(contextlib.closing(RawConnection(server)))


def request(line: str, length: int, **headers: str) -> bytes:
    """Return the head of a request with a body of that length."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{lines}\r\n".encode()


@pytest.mark.parametrize("length", [10, 1 << 16, 1 << 20, 1 << 24, 1 << 40])
@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("POST /", {"Authorization": UNKNOWN}),
        ("POST /", {"Authorization": UNKNOWN, "X-Amz-Target": "SageMaker.ListProcessingJobs"}),
        ("POST /", {"Authorization": "nonsense"}),
        ("POST /", {}),
        ("POST /", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("POST /", {"X-Amz-Target": "AmazonSQS.ListQueues"}),
        ("PUT /bucket/k", {}),
        ("PUT /bucket/k?AWSAccessKeyId=no&Signature=x&Expires=9999999999", {}),
        (PRESIGNED, {}),
    ],
)
def test_a_body_without_a_key_is_not_awaited(
    server: Server, stack: contextlib.ExitStack, line: str, headers: dict[str, str], length: int
) -> None:
    """The refusal comes although the body does not, and the connection ends."""
    wire = connect(server, stack)
    wire.send(request(line, length, **headers))
    assert wire.answer("POST")[0] in {400, 403}
    assert wire.rest() == b""


def test_a_body_with_an_old_signature_is_not_awaited(
    server: Server, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is checked first, too."""
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: long_ago)
    wire = connect(server, stack)
    call = signed_call(server, "SageMaker.ListProcessingJobs", b"", headers={"Content-Length": "99"}, framed=False)
    wire.send(call)
    status, _, body = wire.answer("POST")
    assert (status, b"Signature expired" in body) == (403, True)


def test_a_refused_request_whose_body_has_come_costs_no_connection(server: Server, stack: contextlib.ExitStack) -> None:
    """A client with a wrong key goes on, since its body is already here."""
    wire = connect(server, stack)
    wire.send(request("POST /", 3, Authorization=UNKNOWN) + b"abc" + signed(server, "GET", "/"))
    assert wire.answer("POST")[0] == 400
    assert wire.answer()[0] == 200


@pytest.mark.parametrize("kind", ["idle", "head", "refused", "stalled", "trickling"])
def test_a_stalled_connection_makes_room(
    server: Server, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With all connections in use, one that waits for its client ends, and the next client is served."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(connection_module, "EVICTABLE_SECONDS", 0.0)
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 60)
    for _ in range(4):
        wire = connect(server, stack)
        if kind == "head":
            wire.send(b"GET / HT")
        elif kind == "refused":
            wire.send(request("POST /", 1 << 24, Authorization=UNKNOWN))
        elif kind in {"stalled", "trickling"}:
            put = signed(server, "PUT", "/bucket/k", headers={"Content-Length": "100000"}, framed=False)
            wire.send(put + (b"x" if kind == "trickling" else b""))
    served = connect(server, stack)
    served.send(signed(server, "GET", "/"))
    assert served.answer()[0] == 200


def test_an_idle_connection_goes_before_a_stalled_one(
    server: Server, local_session: LocalSession, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost with it, however short it has been idle. The slow upload ends as it should."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(connection_module, "EVICTABLE_SECONDS", 0.0)
    local_session.engine.objects.create_bucket("bucket")
    upload, idle = connect(server, stack), connect(server, stack)
    body = b"x" * 100_000
    data = signed(server, "PUT", "/bucket/k", body, headers={"Expect": "100-continue"})
    upload.send(data.removesuffix(body))
    assert upload.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    served = connect(server, stack)
    served.send(signed(server, "GET", "/"))
    assert served.answer()[0] == 200
    assert idle.is_closed()
    upload.send(body)
    assert upload.answer("PUT")[0] == 200


def test_a_busy_connection_is_never_evicted(
    server: Server, local_session: LocalSession, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that waits for the engine, and not the other way round, keeps its connection."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(connection_module, "EVICTABLE_SECONDS", 0.0)
    entered, leave = threading.Event(), threading.Event()
    handle = local_session.engine.handle

    def slow(*arguments: object) -> object:
        entered.set()
        assert leave.wait(30)
        return handle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(local_session.engine, "handle", slow)
    busy = connect(server, stack)
    busy.send(signed(server, "GET", "/"))
    assert entered.wait(30)
    waiting = connect(server, stack)
    waiting.send(signed(server, "GET", "/"))
    leave.set()
    assert busy.answer()[0] == 200
    assert waiting.answer()[0] == 200
