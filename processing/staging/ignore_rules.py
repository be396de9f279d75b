"""Ignore rules for code directories: the user's ignore files, and files that are always excluded.

The rules are those of `.processingignore`, or of `.gitignore` if the directory has none: the file in the directory and
those further down, with Git's own syntax and precedence. Data inputs have no such rules; they are uploaded completely.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from processing.exceptions import ConfigurationError, StagingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from re import Pattern

logger = logging.getLogger(__name__)

PROCESSING_IGNORE = ".processingignore"
GIT_IGNORE = ".gitignore"

EXCLUDED_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn"),  # version control
        *(".venv", ".tox", ".nox", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
    }
)
"""Folders that are always excluded, in lower case; those of `SECRET_FOLDERS` are, too."""

SECRET_FOLDERS = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".docker"})
"""Folders with credentials, in lower case: links into them are excluded, too."""

EXCLUDED_FILES = frozenset(
    {
        *(".git", ".ds_store"),
        *(
            ".env",
            ".envrc",
            ".netrc",
            "_netrc",
            ".pgpass",
            ".pypirc",
            ".git-credentials",
            ".boto",
            ".s3cfg",
            ".databrickscfg",
            ".npmrc",
        ),
        *("credentials", "credentials.json", "credentials.csv", "application_default_credentials.json", "rootkey.csv"),
        *("service-account.json", "service_account.json", "service-account-key.json", "service_account_key.json"),
    }
)
"""Files that are always excluded, in lower case."""

_EXCLUDED_SUFFIXES = (
    *("_accesskeys.csv", "_credentials.csv"),  # the names of downloads from the AWS console
    *(".p12", ".pfx", ".jks"),  # key stores
)
_ENV_EXAMPLES = (".example", ".sample", ".template")
_KEY_SUFFIXES = (".pem", ".key")  # certificates have them too, so the content decides
_KEY_NAMES = frozenset({"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"})
_LONGEST_KEY = 1024 * 1024  # bytes that are searched for a private key: more than any key file has


@attrs.frozen
class _Rule:
    """A line of an ignore file."""

    pattern: Pattern[str]
    ignores: bool  # False for a line that begins with !
    folders_only: bool


@attrs.frozen
class IgnoreRules:
    """The rules for one directory of a tree, including those of the directories above it.

    Args:
        file_name: the name of the tree's ignore files.
        files: for each ignore file, outermost first, its directory's prefix (`a/b/`) and its rules.
    """

    file_name: str
    files: tuple[tuple[str, tuple[_Rule, ...]], ...] = ()

    def excludes(self, path: Path, name: str, *, is_dir: bool) -> bool:
        """Return whether a path is excluded. An excluded directory excludes everything in it.

        Args:
            path: the file or directory.
            name: its name relative to the tree, with forward slashes and none at the end.
            is_dir: True for a directory.
        """
        return is_always_excluded(path, is_dir=is_dir) or self._ignores(name, is_dir=is_dir)

    def below(self, directory: Path, prefix: str) -> IgnoreRules:
        """Return the rules for a directory further down: these, and those of an ignore file in it.

        Args:
            directory: the directory.
            prefix: its name relative to the tree, with a slash at the end.

        Raises:
            ConfigurationError: a line of the file is not a pattern.
            StagingError: the file cannot be read.
        """
        rules = _read_rules(directory / self.file_name)
        return attrs.evolve(self, files=(*self.files, (prefix, rules))) if rules else self

    def _ignores(self, name: str, *, is_dir: bool) -> bool:
        """Apply Git's precedence: the deepest file decides, and in it the last matching line."""
        for prefix, rules in reversed(self.files):
            relative = name[len(prefix) :]
            for rule in reversed(rules):
                if (is_dir or not rule.folders_only) and _matches(rule, relative):
                    return rule.ignores
        return False


def load_ignore_rules(directory: Path) -> IgnoreRules:
    """Return the rules of a code directory: its `.processingignore` if it has one, otherwise its `.gitignore`.

    Files of the same name in its subdirectories are read during the walk.

    Raises:
        ConfigurationError: a line of the file is not a pattern.
        StagingError: the file cannot be read.
    """
    name = PROCESSING_IGNORE if (directory / PROCESSING_IGNORE).exists() else GIT_IGNORE
    return IgnoreRules(name).below(directory, "")


def is_always_excluded(path: Path, *, is_dir: bool) -> bool:
    """Return whether a file or directory is excluded regardless of the ignore files.

    These are version control, virtual environments, caches of tools, files that hold credentials by their name, and
    files that contain a private key. For a link, the name of its target counts, too.
    """
    if path.is_symlink():
        leads_to = Path(os.path.realpath(path))  # `resolve` raises for a link to itself
        passed = {part.lower() for part in leads_to.parts} - {part.lower() for part in path.parent.parts}
        if not SECRET_FOLDERS.isdisjoint(passed):
            return True
        return _is_excluded_by_name(path, is_dir=is_dir) or _is_excluded_by_name(leads_to, is_dir=is_dir)
    return _is_excluded_by_name(path, is_dir=is_dir)


def _is_excluded_by_name(path: Path, *, is_dir: bool) -> bool:
    name = path.name.lower()
    if is_dir:
        return name in EXCLUDED_FOLDERS or name in SECRET_FOLDERS or (path / "pyvenv.cfg").exists()
    if name in EXCLUDED_FILES or name.endswith(_EXCLUDED_SUFFIXES):
        return True
    if name.startswith(".env."):
        return not name.endswith(_ENV_EXAMPLES)
    return (name in _KEY_NAMES or name.endswith(_KEY_SUFFIXES)) and _holds_private_key(path)


def _read_rules(file: Path) -> tuple[_Rule, ...]:
    """Return the rules of an ignore file; none if there is no such file."""
    try:
        if not file.is_file():  # opening a pipe would wait for its writer
            return ()
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise StagingError("an ignore file could not be read", [(str(file), error.strerror or str(error))]) from error
    return tuple(_parse(text.split("\n"), file))


def _parse(lines: Iterable[str], file: Path) -> Iterator[_Rule]:
    from pathspec import GitIgnoreSpec

    for number, given in enumerate(lines, 1):
        line = given.rstrip("\r")
        bare = line.rstrip(" ")
        folders_only = bare.endswith("/")
        # The caller knows whether a path is a folder, so the pattern is matched without its final slash.
        wanted = bare.rstrip("/") if folders_only else line
        try:
            patterns = GitIgnoreSpec.from_lines([wanted]).patterns
        except ValueError as error:
            raise ConfigurationError(f"{file}, line {number}: {given!r} is not a pattern of an ignore file") from error
        for pattern in patterns:
            if pattern.include is not None and pattern.regex is not None:  # neither empty nor a comment
                yield _Rule(pattern.regex, pattern.include, folders_only)


def _matches(rule: _Rule, name: str) -> bool:
    """Return whether a rule matches this very name.

    pathspec's patterns also match paths below a matching name. Those matches are ignored. Paths below an ignored folder
    are never tested. In Git a `!` line does not include the paths below the folder that it re-includes.
    """
    match = rule.pattern.search(name)
    return match is not None and match.groupdict().get("ps_d") is None


def _holds_private_key(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            return b"PRIVATE KEY-----" in file.read(_LONGEST_KEY)
    except OSError:  # bundling reports it
        return False
