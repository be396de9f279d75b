"""The module `sagemaker.utils`: names, tags and other small functions."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any

from processing.clock import SYSTEM_CLOCK
from processing.compat.workflow import is_pipeline_variable
from processing.request.job_names import unique_job_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STAMP = r"\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2}-\d{3}|\d{6}-\d{4}"


def name_from_base(base: str, max_length: int = 63, short: bool = False) -> str:
    """Return `<base>-<UTC to the millisecond>`, with the base cut to fit. A process never gets the same name twice.

    Args:
        base: the beginning of the name.
        max_length: the maximum length of the name in characters.
        short: True for a time to the minute, `yymmdd-HHMM`; then names can repeat.
    """
    return _joined(base, sagemaker_short_timestamp() if short else sagemaker_timestamp(), max_length)


def name_from_image(image: str, max_length: int = 63) -> str:
    """Return `<name of the image>-<UTC to the millisecond>`, at most `max_length` characters."""
    return name_from_base(base_name_from_image(image), max_length=max_length)


def unique_name_from_base(base: str, max_length: int = 63) -> str:
    """Return `<base>-<seconds since 1970>-<4 random hexadecimal digits>`, with the base cut to fit."""
    return _joined(base, f"{int(SYSTEM_CLOCK.time())}-{secrets.token_hex(2)}", max_length)


def unique_name_from_base_uuid4(base: str, max_length: int = 63) -> str:
    """Return `<base>-<UUID>`, with the base cut to fit."""
    return _joined(base, str(uuid.uuid4()), max_length)


def base_name_from_image(image: str, default_base_name: str | None = None) -> str:
    """Return the name part of an image's URI, or `default_base_name` for a pipeline variable."""
    if is_pipeline_variable(image):
        return default_base_name or "base_name"
    match = re.match("^(.+/)?([^:/]+)(:[^:]+)?$", image)
    return match[2] if match else image


def base_from_name(name: str) -> str:
    """Return the base of a name that `name_from_base` has returned."""
    match = re.match(rf"^(.+)-({_STAMP})", name)
    return match[1] if match else name


def sagemaker_timestamp() -> str:
    """Return the time as `YYYY-MM-DD-HH-MM-SS-mmm` in UTC. A process never gets the same time twice."""
    return unique_job_name("x", SYSTEM_CLOCK).removeprefix("x-")


def sagemaker_short_timestamp() -> str:
    """Return the time to the minute as `yymmdd-HHMM` in UTC."""
    return time.strftime("%y%m%d-%H%M", time.gmtime(SYSTEM_CLOCK.time()))


def format_tags(tags: Any) -> Any:
    """Return a dictionary of tags as a list of `{"Key": ..., "Value": ...}`, and other values unchanged."""
    if not isinstance(tags, dict):
        return tags
    return [{"Key": str(key), "Value": str(value)} for key, value in tags.items()]


def tag_exists(tag: Mapping[str, str], curr_tags: Sequence[Mapping[str, str]] | None) -> bool:
    """Return True if the tags have the key of a tag."""
    return any(tag["Key"] == each["Key"] for each in curr_tags or ())


def get_config_value(key_path: str, config: Mapping[str, Any] | None) -> Any:
    """Return the value at a path such as `SageMaker.ProcessingJob.Tags`, or None."""
    found: Any = config
    for key in key_path.split("."):
        if found is None or key not in found:
            return None
        found = found[key]
    return found


def build_dict(key: str, value: Any) -> dict[str, Any]:
    """Return `{key: value}`, or an empty dictionary for an empty value."""
    return {key: value} if value else {}


def get_short_version(framework_version: str) -> str:
    """Return the first two parts of a version: `2.5` for `2.5.1`."""
    return ".".join(framework_version.split(".")[:2])


def to_string(obj: object) -> str:
    """Return the value as text."""
    return str(obj)


def retries(max_retry_count: int, exception_message_prefix: str, seconds_to_sleep: float = 10) -> Iterator[int]:
    """Yield 0, 1, ... with a pause after each, and raise an exception after `max_retry_count` of them."""
    for attempt in range(max_retry_count):
        yield attempt
        SYSTEM_CLOCK.sleep(seconds_to_sleep)
    raise Exception(  # noqa: TRY002 - the class of 2.x
        f"{exception_message_prefix!r} has reached the maximum retry count of {max_retry_count}"
    )


def _joined(base: str, end: str, max_length: int) -> str:
    return f"{base[: max_length - len(end) - 1]}-{end}"
