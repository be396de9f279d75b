"""The working directory as files of a job: those that neither ignore files nor the caller's filter leave out."""

from __future__ import annotations

import fnmatch
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils.validation import shown
from processing.container.remote.start import WORKSPACE
from processing.exceptions import ConfigurationError
from processing.staging.bundles import Member, describe_largest, size_text
from processing.staging.ignore_rules import IgnoreRules, load_ignore_rules
from processing.staging.sources import LocalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from processing.remote_function.custom_file_filter import CustomFileFilter

    FileFilter = Callable[[str, list[str]], Iterable[str]] | CustomFileFilter
    """The caller's filter: from a directory and the names in it to the names that are left out."""


@attrs.frozen
class _FilteredRules(IgnoreRules):
    """Ignore rules, and the names that the caller's filter leaves out of each directory."""

    left_out: Callable[[Path], frozenset[str]] = attrs.field(kw_only=True)

    def excludes(self, path: Path, name: str, *, is_dir: bool) -> bool:
        """Return whether a path is excluded."""
        # Not `super()`: a class with slots is another one than its statement has seen.
        return IgnoreRules.excludes(self, path, name, is_dir=is_dir) or path.name in self.left_out(path.parent)


def workspace_members(custom_file_filter: FileFilter | None = None) -> list[Member]:
    """Return the files of the working directory as members of a job's bundle.

    The rules of `.processingignore` apply, or those of `.gitignore` without one, and files that may hold credentials
    stay at home, as for `source_dir`.

    Args:
        custom_file_filter: leaves out more: a `CustomFileFilter`, or a function like the `ignore` of `shutil.copytree`.

    Raises:
        ConfigurationError: no file is left, or the filter returns something else than names.
        StagingError: a directory or an ignore file cannot be read.
    """
    folder = _working_directory()
    rules = load_ignore_rules(folder)
    chosen = rules
    if custom_file_filter is not None:
        left_out = functools.cache(functools.partial(_left_out, custom_file_filter))
        chosen = _FilteredRules(rules.file_name, rules.files, left_out=left_out)
    found = [Member(file, f"{WORKSPACE}/{name}") for file, name in LocalSource(folder, is_dir=True).files(chosen)]
    if not found:
        raise ConfigurationError(
            f"include_local_workdir: no file of {str(folder)!r} is left after {rules.file_name}, custom_file_filter "
            "and the fixed exclusions"
        )
    return found


def check_size(members: Sequence[Member], limit: int | None) -> None:
    """Refuse files of a call that are larger than the limit for code.

    Args:
        members: the caller's files in the bundle.
        limit: bytes; None for no limit.

    Raises:
        ConfigurationError: they are larger. The message names the largest folders.
    """
    if limit is None:
        return
    entries = [(each.name.removeprefix(f"{WORKSPACE}/"), _size(each)) for each in members]
    total = sum(size for _, size in entries)
    if total > limit:
        raise ConfigurationError(
            f"bundle_limit: the files of the call have {size_text(total)}, at most {size_text(limit)} are allowed. "
            f"{describe_largest(entries)}, or leave them out with custom_file_filter"
        )


def _size(member: Member) -> int:
    if member.body is not None:
        return len(member.body)
    try:
        return member.path.stat().st_size
    except OSError:  # bundling reports it
        return 0


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigurationError(
            "include_local_workdir: the working directory was removed; change to another one"
        ) from error


def _left_out(custom_file_filter: FileFilter, directory: Path) -> frozenset[str]:
    """Return the names in a directory that the filter leaves out."""
    names = sorted(os.listdir(directory))  # noqa: PTH208 - names, not paths
    patterns = getattr(custom_file_filter, "ignore_name_patterns", None)
    if patterns is not None:
        return frozenset(name for pattern in patterns for name in fnmatch.filter(names, pattern))
    assert callable(custom_file_filter)
    left_out: Any = custom_file_filter(str(directory), names)
    try:
        found = frozenset(left_out)
    except TypeError:
        found = frozenset({None})
    if not all(isinstance(name, str) for name in found) or isinstance(left_out, str):
        raise ConfigurationError(
            f"custom_file_filter: must return the names to leave out of {str(directory)!r}, not {shown(left_out)}"
        )
    return found
