"""`git_config`: code that is fetched from a Git repository, as `sagemaker` 2.x does it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.exceptions import ConfigurationError, StagingError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KNOWN = frozenset({"repo", "branch", "commit"})
_CREDENTIALS = frozenset({"2FA_enabled", "username", "password", "token"})
# What says which repository is meant: set in a hook of Git's and in `git rebase --exec`, for the user's own one.
_OF_ANOTHER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")


@contextlib.contextmanager
def clone(git_config: Any) -> Iterator[Path | None]:
    """Clone the repository into a directory that is there as long as the context is; yields None where none is given.

    Git's own settings hold for how it authenticates; it asks for no password.

    Args:
        git_config: `repo`, an URL or path; `branch`, and `commit`.

    Raises:
        ConfigurationError: it is not of that form.
        StagingError: Git is not there, or could not fetch it; a link in it leads to a file of this machine.
    """
    if git_config is None:
        yield None
        return
    _check(git_config)
    with tempfile.TemporaryDirectory(prefix="processing-git-") as folder:
        branch = ["--branch", git_config["branch"]] if "branch" in git_config else []
        _git("clone", "--quiet", *branch, "--", git_config["repo"], folder)
        if "commit" in git_config:
            _git("-C", folder, "checkout", "--quiet", "--detach", git_config["commit"])
        root = Path(folder)
        _refuse_links_out_of(root)
        yield root


def _refuse_links_out_of(root: Path) -> None:
    """Refuse links to what is not in the repository: bundles follow links, and these would take the user's files."""
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in [*folders, *files]):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise StagingError(
                    "git_config: a link leads out of the repository",
                    [(path.relative_to(root).as_posix(), f"leads to {os.readlink(path)}")],  # noqa: PTH115 - as written
                )


def _check(git_config: Any) -> None:
    if not isinstance(git_config, dict) or not git_config.get("repo"):
        raise ConfigurationError('git_config: must be a dictionary with "repo"; "branch" and "commit" may be in it')
    for name, value in git_config.items():
        if name in _CREDENTIALS:
            raise ConfigurationError(
                f'git_config["{name}"]: leave it out; Git authenticates with its own credential helper, or with SSH'
            )
        if name not in _KNOWN:
            raise ConfigurationError(f'git_config["{name}"]: is not known; there are "repo", "branch" and "commit"')
        if not isinstance(value, str) or (name != "repo" and value.startswith("-")):
            raise ConfigurationError(f'git_config["{name}"]: must be a name, not {value!r}')


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - no shell is between; what could be an option is refused
            ["git", *arguments],  # noqa: S607 - the one on the user's PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**_environment(), "GIT_TERMINAL_PROMPT": "0"},
        )
    except OSError as error:
        raise StagingError(f"git_config: git cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        said = _IN_URL.sub("", done.stderr.decode(errors="replace").strip())  # an URL may hold a password
        raise StagingError(f"git_config: {said or f'git ended with exit code {done.returncode}'}")
