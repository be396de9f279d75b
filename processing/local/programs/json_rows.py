"""Rows of numbers from JSON and JSON lines, as SageMaker's algorithms take them."""

from __future__ import annotations

import json
from typing import Any

from processing.local.programs.rows import Rows, concatenate, sparse_row


def parse(data: bytes) -> Rows:
    """Parse `{"instances": [{"features": [1, 2]}, {"data": {"features": {"values": [1, 2]}}}]}`.

    Raises:
        ValueError: the data have another form; the message names the instance.
    """
    content = _loads(data)
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not instances:
        raise ValueError("expected {'instances': [...]} with one instance or more")
    return _rows([(f"instance {number}", each) for number, each in enumerate(instances, 1)])


def parse_lines(data: bytes) -> Rows:
    """Parse JSON lines: each line is one instance.

    Raises:
        ValueError: a line has another form; the message names it.
    """
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    return _rows([(f"line {number}", _loads(line, f"line {number}: ")) for number, line in lines])


def _loads(data: bytes, place: str = "") -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}not JSON: {error}") from error


def _rows(instances: list[tuple[str, Any]]) -> Rows:
    return concatenate([_row(place, instance) for place, instance in instances])


def _row(place: str, instance: Any) -> Rows:
    try:
        return _tensor(**_vector(instance))
    except (ValueError, TypeError) as error:
        reason = f": {error}" if isinstance(error, ValueError) else ""
        raise ValueError(f"{place}: not a list of numbers, or not a sparse vector{reason}") from error


def _tensor(values: Any, keys: Any = None, shape: Any = None) -> Rows:
    """Return one row of a tensor's members. A member of another name is a TypeError, as a wrong type is."""
    import numpy as np

    numbers = np.array(values, np.float64)
    return Rows(sparse_row(keys, numbers, shape) if keys else numbers.reshape(1, len(values)))


def _vector(instance: Any) -> dict[str, Any]:
    """Return the tensor of an instance, in any of the forms that AWS documents."""
    value = instance.get("data", instance) if isinstance(instance, dict) else instance
    value = value.get("features", value) if isinstance(value, dict) else value
    return value if isinstance(value, dict) else {"values": value}
