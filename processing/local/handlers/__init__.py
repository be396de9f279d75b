"""The operations of each service, as functions from params to result over the stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Operation = Callable[[dict[str, Any]], dict[str, Any]]
"""What carries an operation out: its parameters to its result, both by boto3's names and with its types."""
