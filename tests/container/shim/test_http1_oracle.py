"""The shim's HTTP parser compared with h11: h11 accepts each message that it accepts, and reads it alike.

A proxy and the program behind it are two readers. If they disagreed about the end of a request, a client could hide a
second request in the first one.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processing.container.shim.http1 import (
    CutOffError,
    Head,
    HttpError,
    Incoming,
    MessageBody,
    parse_answer,
    parse_request,
)

h11: Any = pytest.importorskip("h11")


class Message(NamedTuple):
    """A parsed message."""

    first: tuple[str, str, int]
    """Method, target and status."""
    headers: list[tuple[str, str]]
    body: bytes
    rest: bytes
    """The bytes that follow the message."""


def read_by_the_shim(data: bytes, *, answer: bool) -> Message | None:
    """Return the first message in the data; None if the shim refuses it."""
    client, server = socket.socketpair()
    with client, server:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        incoming, deadline = Incoming(server), time.monotonic() + 20
        with contextlib.suppress(HttpError, CutOffError):
            received = incoming.read_head(deadline)
            if not received:
                return None
            head: Head = (parse_answer if answer else parse_request)(received)
            body = MessageBody(incoming, head)
            content = b"".join(iter(lambda: body.read(deadline), b""))
            rest = b"".join(iter(lambda: incoming.read(1 << 16, deadline), b""))
            return Message((head.method, head.target, head.status), head.headers, content, rest)
    return None


def read_by_h11(data: bytes, *, answer: bool) -> Message | str:
    """Return the first message by h11, or its error."""
    connection = h11.Connection(h11.CLIENT if answer else h11.SERVER, max_incomplete_event_size=1 << 20)
    if answer:
        connection.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    message: Any = None
    body = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, (h11.Request, h11.Response, h11.InformationalResponse)):
                message = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return f"h11 waits for more: {event}"
            if isinstance(event, h11.InformationalResponse):
                break
    except h11.RemoteProtocolError as error:
        return str(error)
    rest = bytes(connection.trailing_data[0])
    headers = [(name.decode(), value.decode("latin-1")) for name, value in message.headers]
    if answer:
        return Message(("", "", message.status_code), headers, body, rest)
    return Message((message.method.decode(), message.target.decode(), 0), headers, body, rest)


# fmt: off
pieces = st.sampled_from([
    b"GET", b" ", b"\t", b"/", b"/k?a=b", b"#f", b"http://h/p", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7", b"\r\n", b"\n",
    b"\r", b"\0", b"\x01", b"\x0b", b"\x7f", b"\xc2\x85", b"\xff", b":", b";", b",", b"Host: x", b"Content-Length: 3",
    b"Content-Length:+3", b"5", b"\xd9\xa3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: identity", b"Connection: close", b"Connection: Upgrade", b"Upgrade: x",
    b"Expect: 100-continue", b"A: b\r\n", b" folded\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nT: x\r\n\r\n", b"0x3",
    b'3;e="\r"', b"03", b"3_0", b"204", b"304", b"100", b"99", b"600",
])
# fmt: on
junk = st.lists(pieces | st.binary(max_size=4), max_size=6).map(b"".join)
ENDS = [*[b"\r\n"] * 12, b"\n", b"\r\r\n"]
LINES = [b"A: b", b"a: \tc ", b"B:", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue"]
FIRST = [
    *(b"PUT " + target + b" HTTP/1.1" for target in (b"/", b"/k?a=b", b"http://h/p?q", b"//", b"*")),
    b"GET / HTTP/1.0",
]
STATUS = [
    b"HTTP/1.1 " + each for each in (b"200 OK", b"204 No Content", b"304", b"500 \xff", b"100 Continue", b"999 x")
]


@st.composite
def messages(draw: st.DrawFn, first: list[bytes], host: bytes) -> bytes:
    """Messages that are valid save for at most one place."""
    head = [draw(st.sampled_from(first)), host, *draw(st.lists(st.sampled_from(LINES), max_size=3))]
    lines = b"".join(line + draw(st.sampled_from(ENDS)) for line in head) + draw(st.sampled_from(ENDS))
    body = draw(
        st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3;e\r\nabc\r\n0\r\nT: x\r\n\r\n", b"0\r\nno\r\n\r\n"])
    )
    data = lines + body + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    place, removed = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
    flaw = draw(st.just(b"") | junk)
    return data if not flaw else data[:place] + flaw + data[place + removed :]


often = settings(max_examples=400, deadline=None, derandomize=True, database=None)


@often
@given(
    data=messages(FIRST, b"Host: x") | junk.map(lambda head: b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nabc")
)
@example(data=b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\nrest")
@example(data=b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcrest")
def test_requests_are_read_alike(data: bytes) -> None:
    """Method, target, headers, body, and the bytes that follow."""
    ours = read_by_the_shim(data, answer=False)
    assert ours is None or ours == read_by_h11(data, answer=False)


@often
@given(data=messages(STATUS, b"Server: x"))
@example(data=b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nto the end")
@example(data=b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc")
def test_answers_are_read_alike(data: bytes) -> None:
    """Status, headers, body, and the bytes that follow. After an interim answer a final one is to come."""
    ours = read_by_the_shim(data, answer=True)
    assert ours is None or ours == read_by_h11(data, answer=True)


@pytest.mark.parametrize("answer", [False, True])
def test_most_examples_are_accepted(answer: bool) -> None:
    """The shim accepts at least a third of the messages; otherwise there is little to compare."""
    accepted = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(data=messages(STATUS if answer else FIRST, b"Host: x"))
    def count(data: bytes) -> None:
        accepted.append(read_by_the_shim(data, answer=answer) is not None)

    count()
    assert sum(accepted) > len(accepted) / 3


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ],
    ids=range(10),
)
def test_ambiguous_requests_are_refused(data: bytes) -> None:
    """A request whose end two readers could see at different places is refused."""
    assert read_by_the_shim(data, answer=False) is None
