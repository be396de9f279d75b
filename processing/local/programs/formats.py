"""Media types: from the data of a channel or a request to rows, and from the header Accept to a type."""

from __future__ import annotations

from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING

from processing.local.programs import csv_rows, json_rows, libsvm, parquet, recordio
from processing.local.programs.container import ContainerError
from processing.local.programs.http_server import RefusedError
from processing.local.programs.rows import Rows, concatenate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.local.programs.container import Channel
    from processing.local.programs.http_server import Invocation

CSV = "text/csv"
LIBSVM = "text/libsvm"
RECORDIO = "application/x-recordio-protobuf"
PARQUET = "application/x-parquet"
JSON = "application/json"
JSON_LINES = "application/jsonlines"

# Other names of the same types, which AWS's images take.
_ALIASES = {
    "csv": CSV,
    "libsvm": LIBSVM,
    "text/x-libsvm": LIBSVM,
    "recordio-protobuf": RECORDIO,
    "parquet": PARQUET,
    "application/parquet": PARQUET,
    "application/x-jsonlines": JSON_LINES,
    "application/json-lines": JSON_LINES,
}


def media_type(header: str) -> tuple[str, int | None]:
    """Return the type of a Content-Type, and its parameter label_size.

    Raises:
        ValueError: label_size is neither 0 nor 1.
    """
    message = Message()
    message["Content-Type"] = header.lower()
    name = header.lower().partition(";")[0].strip()
    size = str(message.get_param("label_size", ""))
    if size not in {"", "0", "1"}:
        raise ValueError(f"{header}: label_size must be 0 or 1")
    return _ALIASES.get(name, name), int(size) if size else None


def read_channel(channel: Channel, types: Sequence[str], *, weights: bool = False) -> Rows:
    """Return the rows of a channel.

    Args:
        channel: the channel.
        types: the types that the algorithm takes. The first is that of a channel without ContentType.
        weights: True if the second column of CSV has weights.

    Raises:
        ContainerError: the type is another one, or the data are not of that type.
    """
    try:
        return _read_channel(channel, types, weights=weights)
    except ContainerError:
        raise
    except ValueError as error:
        raise ContainerError(f"channel {channel.name}: {error}") from error


def _read_channel(channel: Channel, types: Sequence[str], *, weights: bool) -> Rows:
    name, label_size = media_type(channel.content_type or types[0])
    if name not in types:
        raise ValueError(f"ContentType {channel.content_type} is not one of {', '.join(types)}")
    if name == LIBSVM and channel.is_pipe:
        raise ValueError(f"{LIBSVM} needs the input mode File or FastFile")
    labels = 1 if label_size is None else label_size
    parts = []
    for content in channel.contents():
        if name == CSV:
            parts.append(csv_rows.parse(content, labels=labels, weights=int(weights)))
        else:
            parts.append(_PARSERS[name](content))
    parts = [part for part in parts if part.height]
    if not parts:
        raise ContainerError(f"there are no data in the channel {channel.name}")
    return concatenate(parts)


_PARSERS: Mapping[str, Callable[[bytes], Rows]] = {
    LIBSVM: libsvm.parse,
    RECORDIO: recordio.decode,
    PARQUET: parquet.parse,
}
"""The parsers of channels in formats that tell labels and features apart themselves."""


def read_request(invocation: Invocation, types: Sequence[str]) -> Rows:
    """Return the rows of a request.

    Args:
        invocation: the request.
        types: the types that the algorithm takes. The first is that of a request without Content-Type.

    Raises:
        RefusedError: the type is another one (415), or the body is not of that type (400).
    """
    try:
        name, label_size = media_type(invocation.content_type or types[0])
        rows = _parse_body(name, invocation.body, label_size or 0) if name in types else None
    except ValueError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"The body is not {invocation.content_type}: {error}") from error
    if rows is None:
        refused = f"Content-Type {invocation.content_type} is not one of {', '.join(types)}."
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, refused)
    if not rows.height:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The body has no rows.")
    return rows


def _parse_body(name: str, body: bytes, labels: int) -> Rows:
    if name == CSV:
        return csv_rows.parse(body, labels=labels)
    if name == LIBSVM:
        return libsvm.parse(body, training=False)
    if name == RECORDIO:
        return recordio.decode(body)
    return json_rows.parse(body) if name == JSON else json_rows.parse_lines(body)


def negotiate(accept: str, types: Sequence[str]) -> str:
    """Return the type of an answer: the first that the client accepts and the algorithm has.

    Args:
        accept: the header Accept.
        types: the types that the algorithm has. The first is that of a request without a preference.

    Raises:
        RefusedError: there is no such type (406).
    """
    names = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    for name in names or ["*/*"]:
        if name == "*/*":
            return types[0]
        if _ALIASES.get(name, name) in types:
            return _ALIASES.get(name, name)
    raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, f"Accept {accept} is not one of {', '.join(types)}.")
