"""HTTP/1.1 as far as an AWS endpoint needs it: parsing of request heads under limits, and heads of answers.

Strategy: the parser is strict wherever a lenient one lets two readers disagree about a request. A proxy and a server
that see different ends of one message allow request smuggling. So the parser refuses:

- header lines that continue in the next line, and line ends other than CR LF between headers
- a Content-Length that is not a plain number, or is repeated
- Content-Length together with Transfer-Encoding, and codings other than chunked
- control characters, blanks in header names, and a repeated Host

After such an error the connection ends, since the start of the next request is unknown. Tests compare the parser with
h11: every message that it accepts, h11 reads alike, save for listed differences.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Limits on memory. AWS accepts smaller heads: S3's keys have 1,024 bytes, and its metadata 2 KiB.
MAX_REQUEST_LINE = 16_384
MAX_HEAD = 65_536
MAX_HEADERS = 200

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_METHOD = re.compile(r"[A-Z]{1,20}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._~:\[\]%-]*")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_VERSION = re.compile(r"HTTP/(\d)\.(\d)", re.ASCII)


@attrs.frozen
class RequestHead:
    """The head of a request.

    Attributes:
        method: the method in capitals.
        host: the host of the target if it is a whole URL, or else the Host header.
        path: the percent-encoded path, from the first slash on.
        query: the percent-encoded query, without the question mark.
        headers: the headers by name in lower case. The values of a repeated header are joined by commas.
        length: the length of the body. None if it is chunked.
        keep_alive: whether the client may send another request.
        expects_continue: whether the client waits for `100 Continue` before it sends the body.
        is_http_1_0: whether the client speaks HTTP/1.0, which has no chunks.
    """

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int | None
    keep_alive: bool
    expects_continue: bool
    is_http_1_0: bool = False


def end_of_head(data: bytes | bytearray) -> int | None:
    """Return the length of a request's head with its empty line, or None while the head is incomplete.

    Raises:
        ApiError: the head is too long, or the data is not HTTP.
    """
    match = _HEAD_END.search(data)
    end = match.end() if match else len(data)
    if b"\n" not in data[: MAX_REQUEST_LINE + 2]:
        if end > MAX_REQUEST_LINE:
            raise ApiError("RequestURITooLong", "The request line is too long.", 414)
        if data and not 0x41 <= data[0] <= 0x5A:  # not a capital letter, as in a TLS handshake
            raise _bad_request("This is not an HTTP request.")
    if end > MAX_HEAD:
        raise ApiError("RequestHeaderSectionTooLarge", "Your request header section exceeds the size allowed.", 431)
    return match.end() if match else None


def parse_head(data: bytes) -> RequestHead:
    """Parse the head of a request.

    Args:
        data: the head, from the method to the empty line.

    Raises:
        ApiError: the head is malformed. The connection cannot be used any further.
    """
    try:
        # Only the terminator is removed. A further carriage return belongs to the last header, and is refused there.
        text = _HEAD_END.split(data, maxsplit=1)[0].decode()
    except UnicodeDecodeError:
        raise _bad_request("The headers are not UTF-8.") from None
    first, *lines = text.split("\r\n")
    method, target, is_http_1_0 = _request_line(first)
    headers = _headers(lines)
    host, path, query = _target(target, headers.get("host", ""))
    if not is_http_1_0 and "host" not in headers:
        raise _bad_request("HTTP/1.1 requests need a Host header.")
    length = _body_length(headers, is_http_1_0=is_http_1_0)
    connection = headers.get("connection", "").lower()
    return RequestHead(
        method=method,
        host=host,
        path=path,
        query=query,
        headers=headers,
        length=length,
        keep_alive="keep-alive" in connection if is_http_1_0 else "close" not in connection,
        expects_continue=_expects_continue(headers) and length != 0,
        is_http_1_0=is_http_1_0,
    )


def _request_line(line: str) -> tuple[str, str, bool]:
    parts = line.split(" ")
    if len(line) > MAX_REQUEST_LINE:
        raise ApiError("RequestURITooLong", "The request line is too long.", 414)
    if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or not _TARGET.fullmatch(parts[1]):
        raise _bad_request("The request line is malformed.")
    version = _VERSION.fullmatch(parts[2])
    if version is None:
        raise _bad_request("The request line is malformed.")
    if version[1] != "1":
        raise ApiError("HttpVersionNotSupported", "The HTTP version specified is not supported.", 505)
    return parts[0], parts[1], version[2] == "0"


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        raise ApiError("RequestHeaderSectionTooLarge", f"A request may have {MAX_HEADERS} headers.", 431)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if (
            not colon
            or not _NAME.fullmatch(name)
            or (not value.isprintable() and _CONTROL.search(value.replace("\t", "")))
        ):
            raise _bad_request("A header is malformed.")
        name = name.lower()
        if name not in headers:
            headers[name] = value
        elif name in {"content-length", "host"}:
            raise _bad_request(f"The header {name} is repeated.")
        else:
            headers[name] += f",{value}"
    return headers


def _target(target: str, host: str) -> tuple[str, str, str]:
    if not target.startswith("/"):
        try:
            split = urlsplit(target)
        except ValueError:
            raise _bad_request("The request target is malformed.") from None
        if split.scheme.lower() not in {"http", "https"} or not split.netloc:
            raise _bad_request("The request target is malformed.")
        host, target = split.netloc, target.partition("://")[2].removeprefix(split.netloc) or "/"
    if not _HOST.fullmatch(host):
        raise _bad_request("The host is malformed.")
    path, _, query = target.partition("#")[0].partition("?")
    return host, path or "/", query


def _body_length(headers: Mapping[str, str], *, is_http_1_0: bool) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or is_http_1_0:
            raise _bad_request("Transfer-Encoding and Content-Length exclude each other.")
        if coding.lower() != "chunked":
            raise ApiError(
                "NotImplemented",
                "A header you provided implies functionality that is not implemented.",
                501,
                Header="Transfer-Encoding",
            )
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise _bad_request("The Content-Length is not a number.")
    return int(length)


def _expects_continue(headers: Mapping[str, str]) -> bool:
    expectation = headers.get("expect")
    if expectation is None:
        return False
    if expectation.lower() != "100-continue":
        raise ApiError("ExpectationFailed", "The only expectation that can be met is 100-continue.", 417)
    return True


def _bad_request(message: str) -> ApiError:
    return ApiError("BadRequest", message)


def response_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the head of an answer.

    Control characters become blanks, since values may come from requests: a line break would add a header.
    """
    return "".join(_response_lines(status, headers)).encode()


def _response_lines(status: int, headers: Mapping[str, str]) -> Iterator[str]:
    yield f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}\r\n"
    for name, value in headers.items():
        yield f"{_sanitized(name)}: {_sanitized(value)}\r\n"
    yield "\r\n"


def _sanitized(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub(" ", text)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
