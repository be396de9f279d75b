"""Scalars as text: numbers, booleans, times and bytes, converted by their shape."""

from __future__ import annotations

import base64
import datetime as dt
import re
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.model import Shape

BODY_TIME = "iso8601"
HEADER_TIME = "rfc822"


def to_text(shape: Shape, value: Any, time_format: str = BODY_TIME) -> str:
    """Return a scalar as text for an XML element, a header or a query."""
    kind = shape.type_name
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp" and not isinstance(value, str):
        return time_text(value, shape.serialization.get("timestampFormat", time_format))
    if kind == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    return str(value)


def from_text(shape: Shape, text: str) -> Any:
    """Return the value of a text.

    Raises:
        ApiError: the text is not valid for the shape (`InvalidArgument`).
    """
    read = _READERS.get(shape.type_name)
    if read is None:
        return text
    try:
        return read(text)
    except (ValueError, KeyError, OverflowError):
        raise ApiError("InvalidArgument", f"{text!r} is not a valid {shape.type_name}", ArgumentValue=text) from None


def time_text(value: dt.datetime | float, time_format: str) -> str:
    """Format a time (a datetime, or seconds since the epoch) in one of the formats of the service models."""
    moment = value if isinstance(value, dt.datetime) else dt.datetime.fromtimestamp(value, dt.timezone.utc)
    moment = moment.replace(tzinfo=dt.timezone.utc) if moment.tzinfo is None else moment.astimezone(dt.timezone.utc)
    if time_format == "unixTimestamp":
        return str(round(moment.timestamp(), 3))
    if time_format == "rfc822":
        return format_datetime(moment.replace(microsecond=0), usegmt=True)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def to_time(value: Any) -> dt.datetime:
    """Parse a time in any format of the service models: seconds since the epoch, ISO 8601, RFC 822.

    Raises:
        ValueError: the value is not a time.
    """
    from botocore.utils import parse_timestamp

    try:
        if isinstance(value, (int, float)):
            return dt.datetime.fromtimestamp(value, dt.timezone.utc)
        moment: dt.datetime = parse_timestamp(value)
    except (RuntimeError, OverflowError, OSError) as error:  # a number outside the range of datetime
        raise ValueError(str(error)) from None
    # `email.utils` only accepts this zone as UTC, and the parser has one of its own.
    return moment.replace(tzinfo=dt.timezone.utc) if moment.tzinfo is None else moment.astimezone(dt.timezone.utc)


def _to_integer(text: str, bits: int) -> int:
    # `int` also reads other scripts' digits, underscores and blanks, and the stores have no larger numbers.
    if not _INTEGER.fullmatch(text) or not -(1 << bits - 1) <= int(text) < 1 << bits - 1:
        raise ValueError(text)
    return int(text)


def _to_real(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)


_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_READERS: dict[str, Callable[[str], Any]] = {
    "integer": lambda text: _to_integer(text, 32),
    "long": lambda text: _to_integer(text, 64),
    "float": _to_real,
    "double": _to_real,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
    "timestamp": to_time,
    "blob": lambda text: base64.b64decode(text, validate=True),
}
