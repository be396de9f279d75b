"""The files of a code bundle: those that the ignore rules do not exclude."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.exceptions import ConfigurationError
from processing.request.warnings import warn_user
from processing.staging.bundles import Member
from processing.staging.ignore_rules import is_always_excluded, load_ignore_rules
from processing.staging.sources import LocalSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def code_members(source_dir: Path | None, dependencies: Sequence[Path], field: str = "source_dir") -> list[Member]:
    """Return the files of a code bundle.

    Args:
        source_dir: a directory, whose files are at the bundle's root; or a single file, or None.
        dependencies: directories and files, each at the root under its own name. If two files have the same name, the
            later one replaces the earlier, as in `sagemaker` 2.x, and a warning follows.
        field: the first parameter's name as the user wrote it.

    Raises:
        ConfigurationError: no file of a directory is left, or a file is always excluded.
        StagingError: a directory or an ignore file cannot be read.
    """
    members: dict[str, Member] = {}
    given = [] if source_dir is None else [(field, source_dir, "")]
    given += [(f"dependencies[{index}]", path, f"{path.name}/") for index, path in enumerate(dependencies)]
    for name, path, prefix in given:
        found = _members_of(path, prefix, name)
        for member in found:
            there = members.get(member.name)
            if there is not None and not there.path.samefile(member.path):
                warn_user(f"{name}: {member.path} replaces {there.path}: both are {member.name} in the job")
            members[member.name] = member
    return list(members.values())


def _members_of(path: Path, prefix: str, field: str) -> list[Member]:
    if not path.is_dir():
        if is_always_excluded(path, is_dir=False):
            raise ConfigurationError(
                f"{field}: {str(path)!r} may hold credentials, so it is never uploaded with code; give the job a role, "
                "or keep the secret in AWS Secrets Manager"
            )
        return [Member(path, path.name)]
    rules = load_ignore_rules(path)
    found = [Member(file, prefix + name) for file, name in LocalSource(path, is_dir=True).files(rules)]
    if not found:
        raise ConfigurationError(
            f"{field}: no file of {str(path)!r} is left after {rules.file_name} and the fixed exclusions"
        )
    return found
