"""Requirements files, with the files of this machine that they name, in a form that a job can install.

pip and uv read the rewritten files in the job. A nested file, a wheel or a folder of wheels becomes a file of the
bundle, and its path becomes relative to the bundle. Everything else stays as the caller wrote it.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN = "requirements.txt"
"""The name of the first file in the job."""

_FILE_OPTIONS = {
    **dict.fromkeys(("-r", "--requirement", "--requirements"), "-r"),
    **dict.fromkeys(("-c", "--constraint", "--constraints"), "-c"),
    **dict.fromkeys(("-f", "--find-links"), "--find-links"),
    **dict.fromkeys(("-i", "--index-url", "--pypi-url", "--extra-index-url"), "index"),
    **dict.fromkeys(("-e", "--editable"), "-e"),
}
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C:\wheels is a path
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?)\s*@\s*(\S+)(.*)$", re.DOTALL)
_BARE = re.compile(r"(\S+?)(\[[^\]]*\])?((?:\s.*)?)$", re.DOTALL)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with the other one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BY_VALUE = "the caller's own modules travel with the function: remove the line, or name a wheel of the project"


class RequirementsFiles:
    """Files of a job that are made of requirements files.

    Args:
        own_projects: True to leave out folders of source code, whose modules travel by value. Otherwise they are
            refused.

    Attributes:
        files: the files by their name in the job, as paths of this machine or as contents.
    """

    def __init__(self, *, own_projects: bool = False) -> None:
        self.files: dict[str, Path | bytes] = {}
        self._own_projects = own_projects
        self._names: dict[Path, str] = {}

    def add_file(self, path: Path) -> None:
        """Add a requirements file and the files that it names.

        Raises:
            ConfigurationError: a line names a file that does not exist or cannot travel.
        """
        self._add_nested(path)

    def add_text(self, text: str, path: Path) -> None:
        """Add requirements that are not a requirements file.

        Args:
            text: the requirements, one per line.
            path: the file that they come from, to which their paths are relative.

        Raises:
            ConfigurationError: a line names a file that does not exist or cannot travel.
        """
        self._add(text, path, MAIN)

    def add_archive(self, path: Path) -> str:
        """Add a wheel or a source archive, and return its path in the job."""
        known = self._names.get(path)
        if known is None:
            known = self._names[path] = f"local/{len(self._names)}/{path.name}"
            self.files[known] = path
        return known

    def _add_nested(self, path: Path) -> str:
        known = self._names.get(path)
        if known is None:
            known = self._names[path] = f"requirements-{len(self._names)}.txt" if self._names else MAIN
            self._add(_read(path), path, known)
        return known

    def _add(self, text: str, path: Path, name: str) -> None:
        lines = [self._rewritten(line, path, number) for number, line in _logical_lines(text)]
        self.files[name] = "".join(f"{line}\n" for line in lines if line).encode()

    def _rewritten(self, line: str, path: Path, number: int) -> str:
        """Return a line as the job reads it; an empty one if it is left out."""
        where = f"dependencies: {path}, line {number}"
        if line.startswith("-"):
            return self._rewritten_options(line, path, where)
        named = _NAMED.match(line)
        if named is not None:
            target, extras, rest = named[2], named[1][len(named[1].partition("[")[0]) :], named[3]
        else:
            bare = _BARE.match(line)
            assert bare is not None
            target, extras, rest = bare[1], bare[2] or "", bare[3]
        scheme = _SCHEME.match(target)
        if scheme is not None and scheme[1].lower() != "file":
            if "file:" in target.lower():
                raise ConfigurationError(f"{where}: {target} is a repository of this machine; {_BY_VALUE}")
            return line
        is_path = scheme is not None or target.startswith(".") or target.lower().endswith(_ARCHIVES)
        if not is_path and "/" not in target and "\\" not in target:
            return line
        return self._rewritten_path(target, extras, rest, path, where)

    def _rewritten_path(self, target: str, extras: str, rest: str, path: Path, where: str) -> str:
        """Return the line for an archive of this machine."""
        found = _find(target, path, where)
        if found.is_dir():
            if self._own_projects:
                return ""
            raise ConfigurationError(f"{where}: {target} is a folder of this machine; {_BY_VALUE}")
        return f"./{self.add_archive(found)}{extras}{rest}"

    def _rewritten_options(self, line: str, path: Path, where: str) -> str:
        """Return a line of options, with paths of this machine replaced by paths of the job."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ConfigurationError(f"{where}: {line!r} cannot be read ({error})") from error
        rewritten: list[str] = []
        changed = False
        while words:
            option, value = _next_option(words)
            kind = _FILE_OPTIONS.get(option)
            if kind is None or value is None:
                rewritten += [option] if value is None else [option, value]
                continue
            here = self._rewritten_value(kind, value, path, where)
            changed = changed or here != value
            if here:
                rewritten += [option if kind == "index" else kind, here]
        return " ".join(rewritten) if changed else line

    def _rewritten_value(self, kind: str, value: str, path: Path, where: str) -> str:
        """Return the value of an option as the job reads it; an empty one to leave the option out."""
        scheme = _SCHEME.match(value)
        is_local = scheme is None or scheme[1].lower() == "file"
        if kind == "-e":
            if self._own_projects and is_local:
                return ""
            raise ConfigurationError(f"{where}: {value} is an editable installation; {_BY_VALUE}")
        if not is_local:
            return value
        found = _find(value, path, where)
        if kind == "index":
            raise ConfigurationError(
                f"{where}: the index {value} is a folder of this machine; use --find-links with a folder of wheels"
            )
        if kind == "--find-links":
            return self._add_folder(found, where)
        return self._add_nested(found)

    def _add_folder(self, folder: Path, where: str) -> str:
        """Add the archives of a folder, and return its path in the job."""
        archives = (
            [each for each in sorted(folder.iterdir()) if each.name.endswith(_ARCHIVES)] if folder.is_dir() else []
        )
        if not archives:
            raise ConfigurationError(f"{where}: {folder} is not a folder with wheels")
        known = self._names.get(folder)
        if known is None:
            known = self._names[folder] = f"local/{len(self._names)}"
            self.files.update((f"{known}/{each.name}", each) for each in archives)
        return known


def _read(path: Path) -> str:
    """Return the text of a requirements file, in UTF-8 or with a mark of another encoding, as pip reads it."""
    try:
        data = path.read_bytes()
        encoding, mark = next(((name, mark) for mark, name in _MARKS if data.startswith(mark)), ("utf-8", b""))
        return data[len(mark) :].decode(encoding)
    except OSError as error:
        raise ConfigurationError(f"dependencies: {str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"dependencies: {str(path)!r} is not a text in UTF-8") from error


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, without comments, with continuations joined, and without empty lines."""
    first = 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        first = first if parts else number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            parts.append(line[:-1])
            continue
        # A comment ends a continuation, as in pip.
        parts.append("" if is_comment else line)
        joined = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if joined:
            yield first, joined
    rest = _COMMENT.sub("", "".join(parts)).strip()
    if rest:
        yield first, rest


def _next_option(words: list[str]) -> tuple[str, str | None]:
    """Take an option and its value from the words of a line. The value is None for an option without one."""
    word = words.pop(0)
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        if equals:
            return option, value
    elif len(word) > 2 and word[:2] in _FILE_OPTIONS:  # -rother.txt
        return word[:2], word[2:]
    has_value = word in _FILE_OPTIONS and bool(words)
    return word, words.pop(0) if has_value else None


def _find(target: str, path: Path, where: str) -> Path:
    """Return the file of this machine that a path or a file: URL names.

    A path is relative to the file that names it. Without such a file it is relative to the working directory, as for
    archives in pip.
    """
    text = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), target)
    if text.lower().startswith("file:"):
        text = url2pathname(urlsplit(text).path)
    candidates = [path.parent / text, Path(text).absolute()]
    found = next((each for each in candidates if os.path.exists(each)), None)  # noqa: PTH110 - False for any text
    if found is None:
        raise ConfigurationError(f"{where}: {target} does not exist (looked for {candidates[0]})")
    return found.resolve()
