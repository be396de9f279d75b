"""The engine's HTTP parser compared with h11: every message that it accepts, h11 accepts too, and reads alike.

Request smuggling exploits two parsers that disagree about the end of a request. So the bytes that follow the
message are compared as well. The engine may refuse more than h11. `DIFFERENCES` lists what it accepts beyond h11.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.protocols.http1 import parse_head
from processing.local.transports.connection import RequestBody, _ReceiveBuffer

h11: Any = pytest.importorskip("h11")


class Message(NamedTuple):
    """A parsed request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    rest: bytes
    """The bytes that follow the message."""


class Difference(NamedTuple):
    """A kind of message that the engine accepts and h11 refuses."""

    complaint: str
    """A pattern of h11's error."""

    after_head: bool
    """Whether h11 accepts the head."""

    reason: str


DIFFERENCES = (
    Difference(
        r"no request line received|illegal request line: bytearray\(b['\"](\\r|\\n)+[A-Z]+ .*",
        after_head=False,
        reason="RFC 9112, section 2.2: a server should ignore empty lines before a request. Bare line ends count too.",
    ),
    Difference(
        r"illegal chunk header: bytearray\(b['\"][ \\t]*[0-9a-fA-F]{1,15}[ \\t]*(;.*)?\\r\\n['\"]\)",
        after_head=True,
        reason="Blanks around a chunk's size, which old clients pad, change neither the size nor the end of the line.",
    ),
    Difference(
        r"illegal header line: .*",
        after_head=True,
        reason="Trailers are discarded unread, so their syntax changes nothing.",
    ),
)


def read_by_the_engine(data: bytes) -> Message | None:
    """Return the first message in the data, or None if the engine refuses it or waits for more."""
    client, server = socket.socketpair()
    with client, server:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = _ReceiveBuffer(server)
        try:
            if not received.wait_for_request():
                return None
            head = parse_head(received.read_head())
            body = RequestBody(received, head, server).read()
        except ApiError:
            return None
        rest = b"".join(iter(lambda: received.read(1 << 16), b""))
    target = head.path + (f"?{head.query}" if head.query else "")
    return Message(head.method, target, dict(head.headers), body, rest)


def read_by_h11(data: bytes) -> Message | str:
    """Return the first message by h11, or its error. Errors after the head begin with `body: `."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    connection.receive_data(b"")
    request, body, place = None, b"", ""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                request, place = event, "body: "
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                return f"{place}h11 waits for more: {event}"
    except h11.RemoteProtocolError as error:
        return f"{place}{error}"
    assert request is not None
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode(), value.decode()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return Message(request.method.decode(), origin_form(request.target.decode()), headers, body, trailing(connection))


def origin_form(target: str) -> str:
    """Return the path and the query of a target, as the engine does: without host and fragment."""
    if not target.startswith("/"):
        target = re.sub(r"^[a-zA-Z]+://[^/?#]*", "", target)
    path, _, query = target.partition("#")[0].partition("?")
    return (path or "/") + (f"?{query}" if query else "")


def trailing(connection: Any) -> bytes:
    """Return the bytes that h11 keeps for the next message."""
    data, _ = connection.trailing_data
    return bytes(data)


def is_deliberate(complaint: str) -> bool:
    """Return whether an error of h11's is a listed difference."""
    after_head, text = complaint.startswith("body: "), complaint.removeprefix("body: ")
    return any(
        after_head == difference.after_head and re.fullmatch(difference.complaint, text, re.DOTALL)
        for difference in DIFFERENCES
    )


# fmt: off
pieces = st.sampled_from([
    b"GET", b"PUT", b" ", b"\t", b"/", b"/k?a=b", b"#f", b"?", b"http://h/p", b"http://h?q", b"HTTP/1.1", b"HTTP/1.0",
    b"HTTP/1.7", b"\r\n", b"\n", b"\r", b"\0", b"\x01", b"\x0b", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\xff", b":",
    b";", b",", b"Host: x", b"Content-Length: 3", b"Content-Length:+3", b"5", b"\xd9\xa3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: identity", b"Connection: close", b"Connection: Upgrade",
    b"Upgrade: x", b"Expect: 100-continue", b"A: b\r\n", b"a:c\r\n", b" folded\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n",
    b"0\r\nT: x\r\n\r\n", b"0x3", b'3;e="\r"', b"03", b"3_0",
])
# fmt: on
junk = st.lists(pieces | st.binary(max_size=4), max_size=6).map(b"".join)

ENDS = [*[b"\r\n"] * 12, b"\n", b"\r\r\n"]
lines = st.sampled_from(
    [b"A: b", b"a: \tc ", b"B:", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue"]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Requests that are valid save for at most one place."""
    target = draw(st.sampled_from([b"/", b"/k?a=b", b"/k#f?x", b"http://h/p?q", b"http://h", b"//", b"/?"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0", b"1.7"]))
    head = [b"PUT " + target + b" HTTP/" + version, b"Host: x", *draw(st.lists(lines, max_size=3))]
    head_bytes = b"".join(line + draw(st.sampled_from(ENDS)) for line in head) + draw(st.sampled_from(ENDS))
    body = draw(
        st.sampled_from([b"abc", b"3\r\nabc\r\n0\r\n\r\n", b" 3 ;e\r\nabc\r\n0\r\nT: x\r\n\r\n", b"0\r\nno\r\n\r\n"])
    )
    data = head_bytes + body + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    place, removed = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
    flaw = draw(st.just(b"") | junk)
    return data if not flaw else data[:place] + flaw + data[place + removed :]


@settings(max_examples=800, deadline=None, derandomize=True, database=None)
@given(data=messages() | junk.map(lambda head: b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nabc"))
@example(data=b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
@example(data=b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 3 ;e\r\nabc\r\n0\r\nno\r\n\r\nrest")
def test_what_the_engine_accepts_h11_reads_alike(data: bytes) -> None:
    """Method, target, headers, body, and the bytes that follow."""
    ours = read_by_the_engine(data)
    if ours is None:
        return
    theirs = read_by_h11(data)
    if isinstance(theirs, str):
        assert is_deliberate(theirs), (theirs, ours)
    else:
        assert ours == theirs


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        (b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 3 ;e\r\nabc\r\n0\r\n\r\n", 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nno\r\n\r\n", 2),
    ],
)
def test_each_difference_is_one(data: bytes, difference: int) -> None:
    """The engine accepts the message, and h11 refuses it with the listed error."""
    assert read_by_the_engine(data) is not None
    complaint = read_by_h11(data)
    assert isinstance(complaint, str)
    assert re.fullmatch(DIFFERENCES[difference].complaint, complaint.removeprefix("body: "), re.DOTALL)


def test_most_examples_are_accepted() -> None:
    """The engine accepts at least a third of the strategy's messages. Otherwise there is little to compare."""
    accepted = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(data=messages())
    def count(data: bytes) -> None:
        with contextlib.suppress(ApiError):
            accepted.append(read_by_the_engine(data) is not None)

    count()
    assert sum(accepted) > len(accepted) / 3
