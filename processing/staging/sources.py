"""Sources of code and data: a file or directory of this machine, or a location in S3."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing._utils import NO_WORKING_DIRECTORY, absolute
from processing._utils.validation import PATH
from processing.exceptions import CodeNotFoundError, ConfigurationError, StagingError, listed
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing._utils import StrPath
    from processing.staging.ignore_rules import IgnoreRules

# Two letters at least: C:\data is a path, not a URI.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")

_ENGINE = ("jobs.sqlite3", "objects.sqlite3")  # files in the embedded engine's home


class LocalSource(NamedTuple):
    """A file or a directory of this machine.

    Args:
        path: the absolute path.
        is_dir: True for a directory.
    """

    path: Path
    is_dir: bool

    def files(self, rules: IgnoreRules | None = None) -> Iterator[tuple[Path, str]]:
        """Yield every file as its path and its name relative to the source, sorted by name, with forward slashes.

        Symbolic links are followed, but not into a directory that contains the link. The embedded engine's home is left
        out. So are entries without content: links that lead nowhere, such as the locks of editors, sockets, pipes and
        devices. One notice names them at the end.

        Args:
            rules: the rules that exclude files of a directory; None for no rules.

        Raises:
            StagingError: a directory cannot be listed, or a file cannot be accessed. The error is raised when the walk
                reaches it.
        """
        if not self.is_dir:
            if _obstacle(self.path) is None:
                yield self.path, self.path.name
            return
        left_out: list[str] = []
        yield from _walk(self.path, "", (), rules, left_out)
        if left_out:
            from processing.request.warnings import notify_user

            count = f"{len(left_out)} {'entries stay' if len(left_out) > 1 else 'entry stays'} behind"
            notify_user(f"{self.path}: {count}: {'; '.join(listed(left_out))}")


def _walk(
    directory: Path, prefix: str, above: tuple[tuple[int, int], ...], rules: IgnoreRules | None, left_out: list[str]
) -> Iterator[tuple[Path, str]]:
    try:
        status = directory.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(directory) as entries:
            found = sorted((_sorting_name(entry), entry.name, entry.path) for entry in entries)
    except OSError as error:
        raise StagingError("a directory could not be read", [(str(directory), error.strerror or str(error))]) from error
    for sorting_name, name, found_path in found:
        path, is_dir = Path(found_path), sorting_name.endswith("/")
        if rules is not None and rules.excludes(path, prefix + name, is_dir=is_dir):
            continue
        obstacle = None if is_dir else _obstacle(path)
        if obstacle is not None:
            left_out.append(f"{_printable(prefix + name)} ({obstacle})")
        elif not is_dir:
            yield path, prefix + name
        elif not _is_engine(path):
            inner = f"{prefix}{name}/"
            yield from _walk(path, inner, (*above, identity), rules and rules.below(path, inner), left_out)


def _is_engine(directory: Path) -> bool:
    """Return whether the directory is the embedded engine's home.

    Reading its databases would copy all jobs into the next one. It would also be dangerous. Closing a file releases all
    locks that the process holds on it (https://www.sqlite.org/howtocorrupt.html, 2.2), and this process may have the
    engine open.
    """
    return all(os.path.lexists(directory / name) for name in _ENGINE)


def _sorting_name(entry: os.DirEntry[str]) -> str:
    """Return the name, with a slash for a directory: `a.txt` then precedes `a/b`, as in a listing of S3."""
    try:
        return entry.name + "/" if entry.is_dir() else entry.name
    except OSError:  # a link to itself
        return entry.name


_LEADS_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def _obstacle(path: Path) -> str | None:
    """Return the reason why a directory's entry has no content to upload; None for a file.

    Raises:
        StagingError: there may be content, and it cannot be accessed.
    """
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "a socket, a pipe or a device"
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return "a symbolic link that leads nowhere" if path.is_symlink() else "it has vanished"
        raise StagingError("a file could not be read", [(str(path), error.strerror or str(error))]) from error


def _printable(name: str) -> str:
    """Return a name for a message, with escapes for bytes that are not UTF-8 and for control characters."""
    return name if name.isprintable() else ascii(name)[1:-1]


def resolve_source(source: Any, field: str) -> LocalSource | S3Uri:
    """Return the source that a path or URI means, after checking the file system.

    Args:
        source: a string or a `pathlib` path, also in the Windows form. A `file://` URI is percent-decoded.
        field: the parameter's name for messages, such as `inputs[0].source`.

    Raises:
        ConfigurationError: the value is not a path or a known URI, it does not exist or cannot be read, or a directory
            has no file.
    """
    text = _text(source, field)
    if is_s3(text):
        return S3Uri.checked(text, field)
    path = _local_path(text, field)
    if path is None:
        raise ConfigurationError(
            f"{field}: {text!r} url scheme {_scheme(text)} is not recognized. Please pass a file path or S3 url"
        )
    if not _exists(path, field):
        raise ConfigurationError(f"{field}: {text!r} does not exist (looked for {path})")
    local = LocalSource(path, path.is_dir())
    _check_readable(local, field)
    return local


def resolve_code(code: Any, field: str = "code") -> LocalSource | S3Uri:
    """Return the source that `code` means. A local one is an existing file. The messages are those of `sagemaker` 2.x.

    Raises:
        CodeNotFoundError: the file does not exist, or is a directory.
        ConfigurationError: the value is not a path or a known URI, or the file cannot be read.
    """
    text = _text(code, field)
    if is_s3(text):
        uri = S3Uri.checked(text, field)
        if not uri.key or uri.key.endswith("/"):
            raise CodeNotFoundError(f"{field} {text} must be a file, not a directory. Please pass a path to a file.")
        return uri
    path = _local_path(text, field)
    if path is None:
        raise ConfigurationError(
            f"{field} {text} url scheme {_scheme(text)} is not recognized. Please pass a file path or S3 url"
        )
    if not _exists(path, field):
        raise CodeNotFoundError(f"{field} {text} wasn't found. Please make sure that the file exists.")
    if not path.is_file():
        raise CodeNotFoundError(f"{field} {text} must be a file, not a directory. Please pass a path to a file.")
    local = LocalSource(path, is_dir=False)
    _check_readable(local, field)
    return local


def file_uri_path(uri: str, *, windows: bool = os.name == "nt", beginning: str = "") -> Path:
    """Return the path in a `file://` URI, as it is written: a percent sign is a letter, as in `sagemaker` 2.x.

    `file://data/x` is the relative path `data/x`, as in SageMaker's local mode. On Windows it is the share `data` with
    the path `x`, and `file://C:/x` is the drive's path.

    Args:
        uri: the URI.
        windows: True for drive letters and shares.
        beginning: the beginning of an error message, with the field.
    """
    text = uri[len("file://") :]
    host, slash, rest = (text.replace("\\", "/") if windows else text).partition("/")
    path = slash + rest
    if windows:
        if re.fullmatch(r"[A-Za-z][:|]", host):  # file://C:\data is not a URI, but users write it
            host, path = "", f"/{host}{path}"
        drive = re.match(r"/([A-Za-z])[:|](.*)", path, re.DOTALL)
        if drive is not None:
            path = f"{drive[1]}:{drive[2]}"
        elif host not in {"", "localhost"}:
            path = f"//{host}{path}"
        return Path(path)
    return _absolute(Path(path if host in {"", "localhost"} else host + path), uri, beginning)


def existing_file_uri_path(uri: str, beginning: str = "") -> Path:
    """Return the path in a `file://` URI; its percent-decoded form if only that exists, as `Path.as_uri` writes it."""
    from urllib.parse import unquote

    path = file_uri_path(uri, beginning=beginning)
    if "%" in uri and not os.path.lexists(path):
        decoded = file_uri_path(unquote(uri))
        # False, not an error, for an impossible path.
        if "\0" not in str(decoded) and os.path.exists(decoded):  # noqa: PTH110 - a path as text
            return decoded
    return path


def local_target(path: StrPath, field: str = "path") -> Path:
    """Return the directory that a user names for files to be written: a path, or a `file://` URI.

    Args:
        path: the path or the URI. The directory need not exist.
        field: the parameter's name for messages.

    Raises:
        ConfigurationError: the value is not a path, or there is a file.
    """
    text = _text(path, field)
    if is_s3(text):
        raise ConfigurationError(f"{field}: must be a directory of this machine, not {text!r}")
    beginning = f"{field}: "
    target = file_uri_path(text, beginning=beginning) if text.startswith("file://") else Path(text)
    place = _absolute(target, text, beginning)
    existing = next((each for each in (place, *place.parents) if os.path.lexists(each)), None)
    if existing is not None and not os.path.isdir(existing):  # noqa: PTH112 - False for an impossible path
        raise ConfigurationError(f"{field}: {str(existing)!r} is not a directory; give a directory for the files")
    return target


def make_directory(target: Path) -> None:
    """Create a directory for downloaded files if it does not exist.

    Raises:
        StagingError: it cannot be created.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StagingError("the directory for the files cannot be created", [(str(target), reason)]) from error


def file_uri(path: Path) -> str:
    """Return the `file://` URI that `file_uri_path` reads as this absolute path."""
    text = path.as_posix()
    if os.name == "nt":
        return f"file:{text}" if text.startswith("//") else f"file:///{text}"
    return f"file://{text}"


def _text(source: Any, field: str) -> str:
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
        if re.match(r"s3:[/\\]", source):
            raise ConfigurationError(f"{field}: a pathlib path cannot hold an S3 URI ({source!r}); give a string")
    if not isinstance(source, str):
        raise ConfigurationError(f"{field}: must be a path or a URI, not {type(source).__name__}")
    if not PATH.accepts(source):
        raise ConfigurationError(f"{field}: {source!r} is not a path")
    return source


def _exists(path: Path, field: str) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # no permission for a parent folder, or a name that is too long
        raise ConfigurationError(f"{field}: {str(path)!r} cannot be accessed: {error}") from error
    return True


def _scheme(text: str) -> str:
    match = _SCHEME.match(text)
    return match[1].lower() if match is not None else ""


def _local_path(text: str, field: str) -> Path | None:
    """Return the absolute path; None for a URI of another scheme."""
    scheme = _scheme(text)
    if scheme == "file":
        path = existing_file_uri_path(text, f"{field}: ")
        if len(text) == len("file://") or "\0" in str(path):
            raise ConfigurationError(f"{field}: {text!r} is not a path")
        return path
    return None if scheme else _path(text, field)


def _path(text: str, field: str) -> Path:
    r"""Return the absolute path. If there is no file named `data\x`, it means `data/x` in the Windows form."""
    path = _absolute(Path(text), text, f"{field}: ")
    if "\\" in text and not os.path.lexists(path):
        written = _absolute(Path(text.replace("\\", "/")), text, f"{field}: ")
        if os.path.exists(written):  # noqa: PTH110 - False instead of an error for an impossible path
            return written
    return path


def _absolute(path: Path, written: str, beginning: str = "") -> Path:
    """Return the absolute path.

    Args:
        path: the path.
        written: the path as the user wrote it.
        beginning: the beginning of the error message, with the field.

    Raises:
        ConfigurationError: the path is relative, and the working directory was removed.
    """
    found = absolute(path)
    if found is None:
        raise ConfigurationError(f"{beginning}{written!r} {NO_WORKING_DIRECTORY}")
    return found


def _check_readable(source: LocalSource, field: str) -> None:
    """Refuse a source that cannot be read, and a directory without a file."""
    try:
        first = next(source.files(), None)
    except StagingError as error:
        raise ConfigurationError(f"{field}: {error}") from error
    if first is None:
        kind = "is a directory without a file in it" if source.is_dir else "is not a regular file"
        raise ConfigurationError(f"{field}: {str(source.path)!r} {kind}")
    if not source.is_dir and not os.access(source.path, os.R_OK):
        raise ConfigurationError(f"{field}: no permission to read {str(source.path)!r}")
