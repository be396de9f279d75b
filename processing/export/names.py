"""Names in other tools, made from the name of a job."""

from __future__ import annotations

import re

from processing._utils.validation import NAME, require
from processing.exceptions import ConfigurationError


def base_of(job_name: str, longest: int = 63) -> str:
    """Return the beginning of a job's name, without the time at the end of a generated one."""
    return re.sub(r"-\d{4}(-\d{2}){5}-\d{3}$", "", job_name)[:longest].rstrip("-") or "job"


def checked(parameter: str, value: str | None, default: str, pattern: str, description: str) -> str:
    """Return a name that the user gave, or the default for None.

    Args:
        parameter: the parameter's name.
        value: its value.
        default: the name for None.
        pattern: the names that the tool accepts.
        description: the same in words.

    Raises:
        ConfigurationError: the tool does not accept the name.
    """
    require(parameter, value, NAME, optional=True)
    name = default if value is None else value
    if not re.fullmatch(pattern, name):
        raise ConfigurationError(f"{parameter}: must be {description}, not {name!r}")
    return name
