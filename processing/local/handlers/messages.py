"""What a message of SQS may be, and the digests by which clients find out whether it came as it was sent."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ATTRIBUTES = 10
_VALID = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_INVALID_TEXT = (
    "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
    "#x10000 to #x10FFFF"
)


def check(body: str, attributes: Mapping[str, Any]) -> int:
    """Find out whether SQS would take a message; return its size in bytes, attributes included.

    Raises:
        ApiError: `MissingParameter`, `InvalidMessageContents`, `InvalidParameterValue`.
    """
    if not body:
        raise ApiError("MissingParameter", "The request must contain the parameter MessageBody.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise ApiError(
            "InvalidParameterValue",
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].",
        )
    for name, value in attributes.items():
        _check_attribute(name, value)
    check_text(body)
    for value in attributes.values():
        check_text(value["DataType"] + (value.get("StringValue") or ""))
    sizes = [len(name.encode()) + len(value["DataType"].encode()) for name, value in attributes.items()]
    return len(body.encode()) + sum(sizes) + sum(len(_content(value)) for value in attributes.values())


def check_text(text: str) -> None:
    """Find out whether SQS would take a text.

    Raises:
        ApiError: `InvalidMessageContents`.
    """
    if not _VALID.fullmatch(text):
        raise ApiError("InvalidMessageContents", _INVALID_TEXT)


def _check_attribute(name: str, value: Mapping[str, Any]) -> None:
    problem = None
    kind = _DATA_TYPE.fullmatch(value.get("DataType") or "")
    if not _ATTRIBUTE_NAME.fullmatch(name):
        problem = f"Message (user) attribute name '{name}' is invalid."
    elif kind is None:
        problem = (
            f"The message attribute '{name}' has an invalid message attribute type, the set of supported type "
            "prefixes is Binary, Number, and String."
        )
    elif not value.get("BinaryValue" if kind[1] == "Binary" else "StringValue"):
        problem = (
            f"The message attribute '{name}' must contain non-empty message attribute value for message attribute "
            f"type '{kind[1]}'."
        )
    elif kind[1] == "Number" and not _is_number(value["StringValue"]):
        problem = f"Can't cast the value of message (user) attribute '{name}' to a number."
    if problem is not None:
        raise ApiError("InvalidParameterValue", problem)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _content(value: Mapping[str, Any]) -> bytes:
    binary: bytes | None = value.get("BinaryValue")
    return (value.get("StringValue") or "").encode() if binary is None else binary


def to_json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's attributes in a form that JSON can keep."""
    return {
        name: {
            key: base64.b64encode(part).decode() if isinstance(part, bytes) else part
            for key, part in value.items()
            if key in {"DataType", "StringValue", "BinaryValue"} and part is not None
        }
        for name, value in attributes.items()
    }


def from_json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that `to_json` wrote."""
    return {
        name: {key: base64.b64decode(part) if key == "BinaryValue" else part for key, part in value.items()}
        for name, value in attributes.items()
    }


def digest(body: str) -> str:
    """Return the MD5 of a body, in hexadecimal digits."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def digest_of_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the MD5 of attributes as SQS computes it.

    Of each, in order of the names: the name, the data type, a byte that tells a text (1) from bytes (2), and the
    value; name, type and value each behind its length in four bytes.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    whole = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        value = attributes[name]
        transport = b"\x02" if value["DataType"].startswith("Binary") else b"\x01"
        whole.update(_prefixed(name.encode()) + _prefixed(value["DataType"].encode()))
        whole.update(transport + _prefixed(_content(value)))
    return whole.hexdigest()


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part
