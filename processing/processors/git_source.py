"""Code from a Git repository: the `git_config` of `sagemaker` 2.x."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import ConfigurationError, StagingError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = frozenset({"repo", "branch", "commit"})
_CREDENTIAL_KEYS = frozenset({"2FA_enabled", "username", "password", "token"})

GIT_KEYS: Final = _KEYS | _CREDENTIAL_KEYS
"""The keys of a `git_config` of `sagemaker` 2.x."""

# Git hooks and `git rebase --exec` set these variables for the user's own repository. They would redirect the clone.
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


@contextlib.contextmanager
def clone(git_config: Any) -> Iterator[Path | None]:
    """Clone the repository into a temporary directory, and yield its path. Yield None if `git_config` is None.

    The context deletes the directory at its end. Git authenticates with its own settings and never asks for a password.

    Args:
        git_config: a dictionary with `repo`, a URL or path, and optionally `branch` and `commit`.

    Raises:
        ConfigurationError: the dictionary has another form.
        StagingError: Git is not installed or cannot fetch the repository, or a link in it leads out of it.
    """
    if git_config is None:
        yield None
        return
    _check_config(git_config)
    with tempfile.TemporaryDirectory(prefix="processing-git-") as folder:
        branch = ["--branch", git_config["branch"]] if "branch" in git_config else []
        _git("clone", "--quiet", *branch, "--", git_config["repo"], folder)
        if "commit" in git_config:
            _git("-C", folder, "checkout", "--quiet", "--detach", git_config["commit"])
        root = Path(folder)
        _refuse_links_out_of(root)
        yield root


def _refuse_links_out_of(root: Path) -> None:
    """Raise an error for a link out of the repository.

    A bundle follows links, so it would contain the user's other files. It leaves out links that lead nowhere.
    """

    def fail(error: OSError) -> None:
        raise StagingError(
            "git_config: a folder of the repository cannot be read", [(str(error.filename), str(error.strerror))]
        )

    inside = root.resolve()
    for folder, folders, files in os.walk(root, onerror=fail):
        for path in (Path(folder, name) for name in [*folders, *files]):
            if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(inside):
                raise StagingError(
                    "git_config: a link leads out of the repository",
                    [(path.relative_to(root).as_posix(), f"leads to {os.readlink(path)}")],  # noqa: PTH115 - the target as it is written
                )


def _check_config(git_config: Any) -> None:
    if not isinstance(git_config, dict) or not git_config.get("repo"):
        raise ConfigurationError('git_config: must be a dictionary with "repo"; "branch" and "commit" may be in it')
    for name, value in git_config.items():
        if name in _CREDENTIAL_KEYS:
            raise ConfigurationError(
                f'git_config["{name}"]: leave it out; Git authenticates with its own credential helper, or with SSH'
            )
        if name not in _KEYS:
            raise ConfigurationError(f'git_config["{name}"]: is not known; there are "repo", "branch" and "commit"')
        if not isinstance(value, str) or (name != "repo" and value.startswith("-")):
            raise ConfigurationError(f'git_config["{name}"]: must be a name, not {value!r}')


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - runs without a shell, and values that look like options are refused
            ["git", *arguments],  # noqa: S607 - the git on the user's PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env={**_environment(), "GIT_TERMINAL_PROMPT": "0"},
        )
    except OSError as error:
        raise StagingError(f"git_config: git cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        # A URL in Git's message may contain a password.
        message = _URL_CREDENTIALS.sub("", done.stderr.decode(errors="replace").strip())
        raise StagingError(f"git_config: {message or f'git ended with exit code {done.returncode}'}")
