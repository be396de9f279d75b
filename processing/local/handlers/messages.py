"""Validation of SQS's messages, and the digests with which clients verify that a message is intact."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ATTRIBUTES = 10
"""SQS's limit for the attributes of a message."""
_VALID = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_INVALID_TEXT = (
    "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
    "#x10000 to #x10FFFF"
)


def validate(body: str, attributes: Mapping[str, Any]) -> int:
    """Validate a message as SQS does, and return its size in bytes, attributes included.

    Raises:
        ApiError: the body is empty (`MissingParameter`), a text has invalid characters (`InvalidMessageContents`), or
            an attribute is invalid (`InvalidParameterValue`).
    """
    if not body:
        raise ApiError("MissingParameter", "The request must contain the parameter MessageBody.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise ApiError(
            "InvalidParameterValue",
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].",
        )
    for name, value in attributes.items():
        _validate_attribute(name, value)
    validate_text(body)
    for value in attributes.values():
        validate_text(value["DataType"] + (value.get("StringValue") or ""))
    sizes = [len(name.encode()) + len(value["DataType"].encode()) for name, value in attributes.items()]
    return len(body.encode()) + sum(sizes) + sum(len(_content(value)) for value in attributes.values())


def validate_text(text: str) -> None:
    """Validate the characters of a text as SQS does.

    Raises:
        ApiError: the text has invalid characters (`InvalidMessageContents`).
    """
    if not _VALID.fullmatch(text):
        raise ApiError("InvalidMessageContents", _INVALID_TEXT)


def _validate_attribute(name: str, value: Mapping[str, Any]) -> None:
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
    """Convert a message's attributes to JSON values."""
    return {
        name: {
            key: base64.b64encode(part).decode() if isinstance(part, bytes) else part
            for key, part in value.items()
            if key in {"DataType", "StringValue", "BinaryValue"} and part is not None
        }
        for name, value in attributes.items()
    }


def from_json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the result of `to_json` back to attributes."""
    return {
        name: {key: base64.b64decode(part) if key == "BinaryValue" else part for key, part in value.items()}
        for name, value in attributes.items()
    }


def digest(body: str) -> str:
    """Return the MD5 of a body, in hexadecimal digits."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def digest_of_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the MD5 of attributes as SQS computes it.

    The input joins the attributes, sorted by name. Each consists of the name, the data type, a byte for a text (1) or
    for bytes (2), and the value. The length in four bytes precedes each name, type and value.
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
