"""`CustomFileFilter`: the files of the working directory that do not travel to a job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from processing._utils.validation import ITERABLE, NAME, require

if TYPE_CHECKING:
    from collections.abc import Sequence


class CustomFileFilter:
    """Patterns of file and directory names that stay at home when the working directory travels.

    Args:
        ignore_name_patterns: patterns of names as in a shell, such as `*.csv` or `data`.

    Raises:
        ConfigurationError: it is not a list of strings.
    """

    def __init__(self, *, ignore_name_patterns: Sequence[str] | None = None) -> None:
        require("ignore_name_patterns", ignore_name_patterns, ITERABLE, optional=True)
        self._patterns = tuple(ignore_name_patterns or ())
        for index, pattern in enumerate(self._patterns):
            require(f"ignore_name_patterns[{index}]", pattern, NAME)

    @property
    def ignore_name_patterns(self) -> list[str]:
        """The patterns."""
        return list(self._patterns)

    @property
    def workdir(self) -> str:
        """The working directory of this process."""
        return os.getcwd()  # noqa: PTH109 - a text, as in sagemaker
