"""Event streams (application/vnd.amazon.eventstream): answers that consist of messages with headers and checksums."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
INITIAL = "initial-response"
"""The event type of the first message, which has the members of the answer beside the stream."""

_STRING = 7  # the type of a header's value


class Events:
    """A handler's answer for a stream: an iterator over events, each a mapping from the event's name to its members.

    `ApiError` ends the stream with that error. One thread iterates. Any thread may close the stream, which ends it.
    """

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def close(self) -> None:
        """End the stream, also while another thread waits for its next event."""


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return a message: prelude (both lengths), checksum of the prelude, headers, payload, checksum of the message."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    content = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return content + struct.pack(">I", zlib.crc32(content))


def _header(name: str, value: str) -> bytes:
    label, content = name.encode(), value.encode()
    return struct.pack(">B", len(label)) + label + struct.pack(">BH", _STRING, len(content)) + content


class EventStreamBody(io.RawIOBase):
    """Events as the body of an answer. Each `read` waits for the next message and returns bytes of it.

    Args:
        events: the events. They are closed with the body.
        initial: the answer's members beside the stream; None if they are in the answer's headers.
        encode: encodes the members of an event.
        content_type: the content type of an encoded event.
        message_member: the member of the service's errors for their message.
    """

    def __init__(
        self,
        events: Events,
        initial: Mapping[str, Any] | None,
        encode: Callable[[Any], bytes],
        content_type: str,
        message_member: str = "message",
    ) -> None:
        self._events = events
        self._encode = encode
        self._content_type = content_type
        self._message_member = message_member
        self._waiting = b"" if initial is None else self._message("event", INITIAL, initial)
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, of one message at most, or b"" at the end."""
        if not self._waiting and not self._ended:
            self._waiting = self._next_message()
        end = len(self._waiting) if size is None or size < 0 else size
        piece, self._waiting = self._waiting[:end], self._waiting[end:]
        return piece

    def readinto(self, buffer: Any, /) -> int:
        """Read the next bytes into a buffer and return their number."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """End the stream."""
        self._ended = True
        self._events.close()
        super().close()

    def _next_message(self) -> bytes:
        try:
            for name, members in next(self._events).items():
                return self._message("event", name, members)
        except StopIteration:
            pass
        except ApiError as error:
            self._ended = True
            return self._message("exception", error.code, {self._message_member: error.message, **error.details})
        self._ended = True
        return b""

    def _message(self, kind: str, name: str, members: Mapping[str, Any]) -> bytes:
        headers = {f":{kind}-type": name, ":content-type": self._content_type, ":message-type": kind}
        return message(headers, self._encode(members))
