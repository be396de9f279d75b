"""HTTP/1.1 on sockets: heads and bodies of requests and answers, under limits of size and time.

The parser is strict wherever two readers could disagree about the end of a message: a proxy and the program behind it
are two readers. It refuses line ends other than CR LF, and continued header lines. It also refuses a Content-Length
that is repeated or not a plain number, Content-Length together with Transfer-Encoding, and codings other than chunked.
Tests compare it with h11: h11 reads each message that it accepts alike.
"""

from __future__ import annotations

import re
import select
import socket
import time
from typing import Callable, List, NamedTuple, Optional, Tuple

MAX_HEAD = 65_536
"""The most bytes of a head."""
MAX_LINE = 16_384
"""The most bytes of the line before a chunk, and of a request's first line."""
MAX_HEADERS = 200
"""The most lines of headers or trailers."""
PIECE = 1 << 16
"""The most bytes that one read returns."""
LONGEST_WAIT = 86_400.0
"""The longest wait of one system call, which takes no longer one than some weeks. A wait may have several."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([0-9])")
_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")


class HttpError(Exception):
    """A message that is not valid HTTP, or exceeds a limit.

    Args:
        status: the status of the answer to such a request.
        message: the reason.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CutOffError(Exception):
    """A connection that ended within a message."""


class PeerLostError(Exception):
    """A client that went away while its answer was awaited."""


Headers = List[Tuple[str, str]]
"""Headers in their order, by names in lower case."""


class Head(NamedTuple):
    """The head of a request or of an answer.

    Attributes:
        method: the method of a request; empty in an answer.
        target: the target of a request; empty in an answer.
        status: the status of an answer; 0 in a request.
        headers: the headers.
        length: the length of the body; None if it is chunked, or ends with the connection.
        chunked: whether the body is chunked.
        keep_alive: whether another message may follow.
        minor: the version after `HTTP/1.`.
    """

    method: str
    target: str
    status: int
    headers: Headers
    length: Optional[int]
    chunked: bool
    keep_alive: bool
    minor: int

    @property
    def path(self) -> str:
        """The path of the target, which may be a whole URL."""
        target = self.target.partition("?")[0]
        if target.startswith("/"):
            return target
        return "/" + target.partition("://")[2].partition("/")[2]

    @property
    def expects_continue(self) -> bool:
        """True if the client waits for `100 Continue` before it sends the body."""
        return self.minor > 0 and header(self.headers, "expect").lower() == "100-continue"


def header(headers: Headers, name: str) -> str:
    """Return a header's value; those of a repeated header are joined by commas. Empty without such a header."""
    return ",".join(value for each, value in headers if each == name)


def parse_request(data: bytes) -> Head:
    """Parse the head of a request, from the method to the empty line.

    Raises:
        HttpError: the head is malformed.
    """
    first, headers = _split(data)
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise HttpError(400, "the request line is malformed")
    minor = int(found.group(3))
    if not header(headers, "host") and minor:
        raise HttpError(400, "the request has no Host header")
    length, chunked = _framing(headers, minor)
    expectation = header(headers, "expect").lower()
    if expectation not in {"", "100-continue"}:
        raise HttpError(417, "the only expectation that can be met is 100-continue")
    target = found.group(2).decode("ascii")
    body_length = None if chunked else length or 0
    return Head(found.group(1).decode(), target, 0, headers, body_length, chunked, _keep_alive(headers, minor), minor)


def parse_answer(data: bytes) -> Head:
    """Parse the head of an answer to GET or POST.

    Raises:
        HttpError: the head is malformed.
    """
    first, headers = _split(data)
    found = _STATUS.fullmatch(first)
    if found is None:
        raise HttpError(502, "the status line is malformed")
    minor, status = int(found.group(1)), int(found.group(2))
    length, chunked = _framing(headers, minor)
    if status < 200 or status in {204, 304}:
        length, chunked = 0, False
    keep_alive = _keep_alive(headers, minor) and (chunked or length is not None)
    return Head("", "", status, headers, length, chunked, keep_alive, minor)


def _split(data: bytes) -> Tuple[bytes, Headers]:
    """Return the first line, and the headers."""
    first, *lines = data[:-4].split(b"\r\n")
    if len(first) > MAX_LINE:
        raise HttpError(414, "the request line is too long")
    if len(lines) > MAX_HEADERS:
        raise HttpError(431, "there are more than %d headers" % MAX_HEADERS)
    headers = [_parse_header(line) for line in lines]
    for name in ("host", "content-length", "transfer-encoding"):
        if sum(each == name for each, _ in headers) > 1:
            raise HttpError(400, "the header %s is repeated" % name)
    return first, headers


def _parse_header(line: bytes) -> Tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise HttpError(400, "a header is malformed")
    return name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")


def _framing(headers: Headers, minor: int) -> Tuple[Optional[int], bool]:
    """Return the body's length, and whether the body is chunked."""
    names = {name for name, _ in headers}
    if "transfer-encoding" in names:
        if "content-length" in names or not minor:
            raise HttpError(400, "Transfer-Encoding excludes Content-Length and HTTP/1.0")
        if header(headers, "transfer-encoding").lower() != "chunked":
            raise HttpError(501, "the only Transfer-Encoding that is known is chunked")
        return None, True
    if "content-length" not in names:
        return None, False
    text = header(headers, "content-length")
    if _LENGTH.fullmatch(text) is None:
        raise HttpError(400, "the Content-Length is not a number")
    return int(text), False


def _keep_alive(headers: Headers, minor: int) -> bool:
    options = {each.strip() for each in header(headers, "connection").lower().split(",")}
    return "close" not in options and (minor > 0 or "keep-alive" in options)


class Incoming:
    """Bytes that arrive on a socket.

    Args:
        sock: the socket.
        peer: the socket of the client that these bytes are read for. Its end ends a wait; None for no such client.
    """

    def __init__(self, sock: socket.socket, peer: Optional[socket.socket] = None) -> None:
        self._socket = sock
        self._peer = peer
        self._buffer = b""
        self._scanned = 0

    @property
    def buffered(self) -> bool:
        """True if bytes have arrived that were not read."""
        return bool(self._buffer)

    def read(self, size: int, deadline: float) -> bytes:
        """Return at least one byte and at most `size`; empty at the end of the connection.

        Args:
            size: the most bytes.
            deadline: the time at which to give up, by `time.monotonic`.

        Raises:
            TimeoutError: nothing arrived in time.
            PeerLostError: the client went away.
        """
        if not self._buffer:
            self._buffer = self._receive(deadline)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_head(self, deadline: float) -> bytes:
        """Return a head with its empty line; empty if the connection ends before its first byte.

        Raises:
            HttpError: the head is too long, or this is not HTTP.
            CutOffError: the connection ends within the head.
            TimeoutError: the head has not arrived in time.
        """
        while True:
            end = self._buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if end >= 0:
                end += 4
            self._scanned = len(self._buffer)
            if max(end, self._scanned if end < 0 else 0) > MAX_HEAD:
                raise HttpError(431, "the head has more than %d bytes" % MAX_HEAD)
            if end >= 0:
                data, self._buffer, self._scanned = self._buffer[:end], self._buffer[end:], 0
                return data
            more = self._receive(deadline)
            if not more:
                if self._buffer:
                    raise CutOffError("the connection ended within a head")
                return b""
            self._buffer += more
            # The end of a TLS handshake, or of lines that end otherwise, would never come.
            if not self._buffer[:1].isalpha() or _BARE_LINE_END.search(self._buffer.partition(b"\r\n\r\n")[0]):
                raise HttpError(400, "this is not HTTP with lines that end with CR LF")

    def read_line(self, deadline: float) -> bytes:
        """Return a line without its CR LF.

        Raises:
            HttpError: the line is too long, or ends otherwise.
            CutOffError: the connection ends within it.
            TimeoutError: it has not arrived in time.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise HttpError(400, "a line between chunks is too long")
            more = self._receive(deadline)
            if not more:
                raise CutOffError("the connection ended within a body")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.endswith(b"\r") or len(line) > MAX_LINE:
            raise HttpError(400, "a line between chunks is malformed")
        return line[:-1]

    def _receive(self, deadline: float) -> bytes:
        wait_for(self._socket, select.POLLIN, deadline, self._peer)
        return self._socket.recv(PIECE)


def wait_for(sock: socket.socket, event: int, deadline: float, peer: Optional[socket.socket] = None) -> None:
    """Wait until a socket is ready. Unlike `select`, this takes descriptors above 1023.

    Args:
        sock: the socket.
        event: `select.POLLIN` or `select.POLLOUT`.
        deadline: the time at which to give up, by `time.monotonic`.
        peer: the socket of a client whose end ends the wait.

    Raises:
        TimeoutError: it was not ready in time.
        PeerLostError: the client went away.
    """
    poll = select.poll()
    poll.register(sock, event)
    if peer is not None:
        poll.register(peer, select.POLLIN)
    while True:
        left = max(0.0, deadline - time.monotonic())
        ready = dict(poll.poll(min(left, LONGEST_WAIT) * 1000))
        if not ready:
            if left <= LONGEST_WAIT:
                raise TimeoutError
            continue
        if peer is not None and peer.fileno() in ready:
            if has_ended(peer):
                raise PeerLostError
            poll.unregister(peer)  # the client sends its next request already
            peer = None
        if sock.fileno() in ready:
            return


def has_ended(sock: socket.socket) -> bool:
    """Return whether the other side of a socket has ended its connection."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    try:
        return bool(poll.poll(0)) and not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


class MessageBody:
    """The body of a message, read in pieces as they arrive.

    Args:
        incoming: the bytes that follow the head.
        head: the head.
        limit: the most bytes of the body; None for any number.
        before: is called before the first read, as to send `100 Continue`.

    Attributes:
        ended: whether the body was read to its end.
        received: the bytes that were read.
    """

    def __init__(
        self,
        incoming: Incoming,
        head: Head,
        limit: Optional[int] = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._incoming = incoming
        self._left = head.length
        self._chunked = head.chunked
        self._chunk: Optional[int] = None
        self._limit = limit
        self._before: Optional[Callable[[], None]] = before
        self.ended = head.length == 0
        self.received = 0
        if limit is not None and head.length is not None and head.length > limit:
            raise HttpError(413, "the body has more than %d bytes" % limit)

    @property
    def awaited(self) -> bool:
        """True if the client may still wait for `100 Continue`."""
        return self._before is not None

    def read(self, deadline: float) -> bytes:
        """Return the next piece; empty at the end.

        Raises:
            HttpError: a chunk is malformed, or the body exceeds the limit (status 413).
            CutOffError: the connection ends within the body.
            TimeoutError: nothing arrived in time.
        """
        if self.ended:
            return b""
        before, self._before = self._before, None
        if before is not None:
            before()
        if self._chunked and not self._chunk and not self._next_chunk(deadline):
            return b""
        left = self._chunk if self._chunked else self._left
        data = self._incoming.read(PIECE if left is None else min(PIECE, left), deadline)
        if not data and left is not None:
            raise CutOffError("the connection ended within a body")
        self._count(data)
        return data

    def _count(self, data: bytes) -> None:
        self.received += len(data)
        if self._limit is not None and self.received > self._limit:
            raise HttpError(413, "the body has more than %d bytes" % self._limit)
        if self._chunk is not None:
            self._chunk -= len(data)
        elif self._left is not None:
            self._left -= len(data)
            self.ended = not self._left
        else:
            self.ended = not data

    def _next_chunk(self, deadline: float) -> bool:
        """Read up to the content of the next chunk; return False if there is none."""
        if self._chunk is not None and self._incoming.read_line(deadline):
            raise HttpError(400, "a chunk is longer than its size")
        found = _CHUNK.fullmatch(self._incoming.read_line(deadline))
        if found is None:
            raise HttpError(400, "the size of a chunk is malformed")
        self._chunk = int(found.group(1), 16)
        if self._limit is not None and self.received + self._chunk > self._limit:
            raise HttpError(413, "the body has more than %d bytes" % self._limit)
        if not self._chunk:
            self._skip_trailers(deadline)
            self.ended = True
        return not self.ended

    def _skip_trailers(self, deadline: float) -> None:
        for _ in range(MAX_HEADERS + 1):
            line = self._incoming.read_line(deadline)
            if not line:
                return
            _parse_header(line)
        raise HttpError(400, "there are more than %d trailers" % MAX_HEADERS)


def encode_head(first: str, headers: Headers) -> bytes:
    """Return a head: its first line, its headers and an empty line. Line breaks within them become blanks."""
    lines = [first, *("%s: %s" % pair for pair in headers)]
    clean = [line.replace("\r", " ").replace("\n", " ") for line in lines]
    return ("\r\n".join(clean) + "\r\n\r\n").encode("latin-1", "replace")
