"""`CodeOptions`: what a user gave beside the script, until it is packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing._utils import StrPath


@attrs.frozen
class CodeOptions:
    """What `run` takes beside `code`. Paths are of this machine, save that `source_dir` may be in S3.

    Args:
        source_dir: a directory whose files travel with the script.
        dependencies: further directories and files; each is at the bundle's root under its own name.
        requirements: a requirements file: its name in `source_dir`, or the path of any other.
        entry_point: the script in `code`, where that is a directory; else a shell script that runs before `code`.
        codeartifact_repo_arn: the CodeArtifact repository that pip installs from.
        git_config: the repository that the paths are in.
    """

    source_dir: StrPath | None = None
    dependencies: Sequence[StrPath] | None = None
    requirements: StrPath | dict[str, str] | None = None
    entry_point: StrPath | None = None
    codeartifact_repo_arn: str | None = None
    git_config: dict[str, str] | None = None

    @property
    def given(self) -> list[str]:
        """The names of those that say something."""
        return [field.name for field in attrs.fields(CodeOptions) if getattr(self, field.name)]
