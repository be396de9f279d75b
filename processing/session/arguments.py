"""The arguments of a session and of its methods: their kinds, and their defaults from the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal, cast

from processing._utils import type_name
from processing._utils.validation import MAPPING, TEXT, Kind, require, with_attributes
from processing.exceptions import ConfigurationError
from processing.request.bucket_names import bucket_problem

if TYPE_CHECKING:
    from collections.abc import Callable

CodeLayout = Literal["content", "job"]

REGION_NAME = Kind(
    'the name of an AWS region, such as "eu-west-1"',
    lambda value: isinstance(value, str) and re.fullmatch(r"[a-z0-9-]{1,63}", value, re.ASCII) is not None,
)
RETRY_POLICY = with_attributes("a processing.RetryPolicy", "attempts", "patience")
POLLING = with_attributes("a processing.Polling", "list_every", "settle")
BUCKET = Kind("the name of a bucket", lambda value: isinstance(value, str) and bucket_problem(value) is None)
KEY = Kind("a string without NUL", lambda value: TEXT.accepts(value) and "\0" not in value)
ONE_LINE = Kind("a string without NUL and line breaks", lambda value: KEY.accepts(value) and "\n" not in value)
OBJECT_KEY = Kind("a key, which is not empty", lambda value: KEY.accepts(value) and bool(value))


def check_extra(extra_args: Any, service_model: Callable[[str], Any], operation: str) -> None:
    """Refuse extra parameters that an operation of S3 does not have."""
    require("extra_args", extra_args, MAPPING, optional=True)
    if extra_args:
        known = service_model("s3").operation_model(operation).input_shape.members
        names = Kind(f"a dictionary with the parameters of {operation}", known.__contains__)
        for name in extra_args:
            require("extra_args", name, names)


def check(field: str, value: object, is_valid: bool, kind: str) -> None:
    """Refuse a value that is given and not valid."""
    if value is not None and not is_valid:
        raise ConfigurationError(f"{field}: must be {kind}, not {type_name(value)}")


def read_code_layout(value: str | None) -> CodeLayout:
    """Return the layout of code keys: the argument, else the environment's."""
    origin = "code_layout" if value is not None else "PROCESSING_CODE_LAYOUT"
    layout = value if value is not None else os.environ.get("PROCESSING_CODE_LAYOUT") or "content"
    if layout not in ("content", "job"):  # a tuple, because the value may be unhashable
        raise ConfigurationError(f"{origin}: must be 'content' or 'job', not {layout!r}")
    return cast("CodeLayout", layout)


def read_bundle_limit(given: int | None) -> int | None:
    """Return the limit of a bundle in bytes: the argument, else the environment's."""
    variable = os.environ.get("PROCESSING_BUNDLE_LIMIT") if given is None else None
    origin = "PROCESSING_BUNDLE_LIMIT" if variable else "bundle_limit"
    if given is None and not variable:
        return None
    limit: Any = given
    if variable:
        limit = int(variable) if variable.isdecimal() else None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(f"{origin}: must be a number of bytes above 0, not {variable or given!r}")
    return limit
