"""Checksums in S3's requests and answers."""

from __future__ import annotations

from collections import ChainMap
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.stores.checksums import ALGORITHMS, FULL_OBJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

MEMBERS = {f"Checksum{name.upper()}": name for name in ALGORITHMS}
"""The algorithms, by the members of requests and answers with their values."""


def expected_checksums(params: Mapping[str, Any], body: Any) -> MutableMapping[str, str]:
    """Return the checksums that a body must have. Trailing checksums appear once the body has been read."""
    expected = sent_checksums(params)
    if len(expected) > 1:
        raise ApiError(
            "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    if "ContentMD5" in params:
        expected["content-md5"] = params["ContentMD5"]
    return ChainMap(expected, getattr(body, "checksums", {}))


def sent_checksums(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums in the parameters, by algorithm."""
    return {algorithm: params[name] for name, algorithm in MEMBERS.items() if name in params}


def to_members(values: Mapping[str, str]) -> dict[str, str]:
    """Convert checksums by algorithm to members of an answer."""
    return {name: values[algorithm] for name, algorithm in MEMBERS.items() if values.get(algorithm)}


def checksum_names(headers: Mapping[str, str]) -> list[str]:
    """Return the names of the checksums among an object's stored headers."""
    return [name for name in headers if name in MEMBERS]


def object_checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """Return an object's checksums and their type, as members of an answer."""
    found = {name: headers[name] for name in checksum_names(headers)}
    return {**found, "ChecksumType": headers.get("ChecksumType", "FULL_OBJECT")} if found else {}


def algorithm_and_type(params: Mapping[str, Any]) -> dict[str, str]:
    """Return a new upload's `ChecksumAlgorithm` and `ChecksumType`, or {} if the client names no algorithm."""
    name, kind = params.get("ChecksumAlgorithm"), params.get("ChecksumType")
    if name is None:
        if kind is not None:
            raise ApiError(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return {}
    algorithm = name.lower()
    if algorithm not in ALGORITHMS:
        raise ApiError("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again.")
    kind = kind or ("FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE")
    impossible = algorithm == "crc64nvme" if kind == "COMPOSITE" else algorithm not in FULL_OBJECT
    if impossible or kind not in {"COMPOSITE", "FULL_OBJECT"}:
        raise ApiError(
            "InvalidRequest", f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm."
        )
    return {"ChecksumAlgorithm": name.upper(), "ChecksumType": kind}
