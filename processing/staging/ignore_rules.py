"""Which files of a code directory stay behind: what the user's ignore files say, and what never travels.

The rules are those of `.processingignore`, or where the directory has none, of `.gitignore`: the one in it and those
further down, in Git's own syntax and precedence. Data inputs have no such rules; they travel whole.
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
"""Folders that never travel, in lower case; beside those of `SECRET_FOLDERS`."""

SECRET_FOLDERS = frozenset({".aws", ".ssh", ".gnupg", ".kube", ".docker"})
"""Folders with credentials, in lower case: not even a link leads into them."""

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
"""Files that never travel, in lower case."""

_EXCLUDED_SUFFIXES = (
    *("_accesskeys.csv", "_credentials.csv"),  # as the AWS console names what it hands out
    *(".p12", ".pfx", ".jks"),  # key stores
)
_ENV_EXAMPLES = (".example", ".sample", ".template")
_KEY_SUFFIXES = (".pem", ".key")  # certificates have them too: the content tells
_KEY_NAMES = frozenset({"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"})
_LONGEST_KEY = 1024 * 1024


@attrs.frozen
class _Rule:
    """A line of an ignore file."""

    pattern: Pattern[str]
    ignores: bool  # False for a line that begins with !
    folders_only: bool


@attrs.frozen
class IgnoreRules:
    """The rules for one directory of a tree, those of the directories above it included.

    Args:
        file_name: the name of the tree's ignore files.
        files: for each ignore file, outermost first, its directory's prefix (`a/b/`) and its rules.
    """

    file_name: str
    files: tuple[tuple[str, tuple[_Rule, ...]], ...] = ()

    def excludes(self, path: Path, name: str, *, is_dir: bool) -> bool:
        """Say whether something stays behind; of a directory everything in it does.

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
            ConfigurationError: a line of the file is no pattern.
            StagingError: the file cannot be read.
        """
        rules = _read_rules(directory / self.file_name)
        return attrs.evolve(self, files=(*self.files, (prefix, rules))) if rules else self

    def _ignores(self, name: str, *, is_dir: bool) -> bool:
        """Git's precedence: the file deepest down decides, and in it the last line that matches."""
        for prefix, rules in reversed(self.files):
            relative = name[len(prefix) :]
            for rule in reversed(rules):
                if (is_dir or not rule.folders_only) and _matches(rule, relative):
                    return rule.ignores
        return False


def load_ignore_rules(directory: Path) -> IgnoreRules:
    """Return the rules of a code directory: its `.processingignore` if it has one, else its `.gitignore`.

    Further ones of the same name further down are found on the way.

    Raises:
        ConfigurationError: a line of the file is no pattern.
        StagingError: the file cannot be read.
    """
    name = PROCESSING_IGNORE if (directory / PROCESSING_IGNORE).exists() else GIT_IGNORE
    return IgnoreRules(name).below(directory, "")


def is_always_excluded(path: Path, *, is_dir: bool) -> bool:
    """Say whether a file or directory stays behind whatever the ignore files say.

    That is version control, virtual environments, caches of tools, and what holds credentials by its name, or a private
    key by its content. Of a link the name that it leads to counts, too.
    """
    if path.is_symlink():
        leads_to = Path(os.path.realpath(path))  # `resolve` raises where a link leads to itself
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


# Ignore files.


def _read_rules(file: Path) -> tuple[_Rule, ...]:
    """Return the rules of an ignore file; none where there is no such file."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
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
        # Whether it is a folder is known here, so that the pattern is matched without the slash that asks for one.
        wanted = bare.rstrip("/") if folders_only else line
        try:
            patterns = GitIgnoreSpec.from_lines([wanted]).patterns
        except ValueError as error:
            raise ConfigurationError(f"{file}, line {number}: {given!r} is no pattern of an ignore file") from error
        for pattern in patterns:
            if pattern.include is not None and pattern.regex is not None:  # neither empty nor a comment
                yield _Rule(pattern.regex, pattern.include, folders_only)


def _matches(rule: _Rule, name: str) -> bool:
    """Say whether a rule means this very name. pathspec's patterns also match what is below a name that they mean.

    What is below an ignored folder is never asked for; and what is below one that a `!` took in again is not meant by
    that line, in Git.
    """
    match = rule.pattern.search(name)
    return match is not None and match.groupdict().get("ps_d") is None


def _holds_private_key(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"PRIVATE KEY-----" in file.read(_LONGEST_KEY)
    except OSError:  # said where it is read to be bundled
        return False
