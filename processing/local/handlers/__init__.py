"""Handlers: the operations of each AWS service, as functions on the stores.

Packages with a handler are named for their service. `remote_s3` forwards S3 to another server instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Operation = Callable[[dict[str, Any]], dict[str, Any]]
"""A function that performs an operation. Its parameters and result have boto3's names and types."""
