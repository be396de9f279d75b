"""The files of `submit_py_files`, `submit_jars` and `submit_files`: S3 URIs, and local files for an input."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from processing._utils.validation import shown
from processing.exceptions import ConfigurationError, StagingError
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri
from processing.staging.bundles import Member
from processing.staging.code_files import code_members
from processing.staging.ignore_rules import GIT_IGNORE, PROCESSING_IGNORE
from processing.staging.sources import LocalSource, resolve_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

BUNDLE_MODULES = "source_dir_modules.zip"
"""The archive of the modules of a bundle."""
_HADOOP_SCHEME = "s3a://"
_PYTHON_FILES = (".py", ".zip", ".egg")
# The container joins all words of spark-submit with spaces, for a shell, and their files with commas.
_UNSAFE = re.compile(r"""[\s,'"`$&|;<>()\\]""")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest of the format, so that equal files make equal archives


class SubmitFiles(NamedTuple):
    """The files of one option of spark-submit.

    Attributes:
        uris: the objects that Spark itself reads from S3.
        members: the local files, with a body for an archive of a package; each name is a file name without a folder.
    """

    uris: tuple[str, ...]
    members: tuple[Member, ...]


def collect_files(parameter: str, values: Any, *, packages: bool) -> SubmitFiles:
    """Return the files that a parameter names.

    Args:
        parameter: the parameter's name, such as `submit_jars`.
        values: local files and directories, and `s3://` or `s3a://` URIs.
        packages: True if a directory holds Python modules, which travel as archives.

    Raises:
        ConfigurationError: a value is not a file, a directory or a URI; a name is impossible; two files have one name.
        StagingError: a file cannot be read.
    """
    if not isinstance(values, (list, tuple)):
        raise ConfigurationError(f"{parameter}: must be a list of paths and S3 URIs, not {shown(values)}")
    uris: list[str] = []
    members: list[Member] = []
    origins: dict[str, str] = {}
    for index, value in enumerate(values):
        field = f"{parameter}[{index}]"
        uri = _uri_of(value, field)
        if uri is not None:
            if _is_first(uri.rpartition("/")[2], uri, origins, field):
                uris.append(uri)
            continue
        source = resolve_source(value, field)
        assert isinstance(source, LocalSource)
        for member in _members_of(source, field, packages=packages):
            check_name(member.name, field)
            if _is_first(member.name, str(member.path), origins, field):
                members.append(member)
    return SubmitFiles(tuple(uris), tuple(members))


def _is_first(name: str, origin: str, origins: dict[str, str], field: str) -> bool:
    """Return whether a file is new, and remember its origin. A pattern such as `*.jar` is always new.

    Raises:
        ConfigurationError: another file has the name.
    """
    if any(wildcard in name for wildcard in "*?["):
        return True
    if name not in origins:
        origins[name] = origin
        return True
    if origins[name] == origin:
        return False
    raise ConfigurationError(
        f"{field}: {origin} and {origins[name]} are both {name} for Spark, which has no folders; rename one"
    )


def _uri_of(value: Any, field: str) -> str | None:
    """Return the URI that Spark reads; None for a local path."""
    if is_s3(value):
        scheme, location = "s3://", S3Uri.checked(value, field)
    elif isinstance(value, str) and value[: len(_HADOOP_SCHEME)].lower() == _HADOOP_SCHEME:
        scheme, location = _HADOOP_SCHEME, S3Uri.checked(f"s3://{value[len(_HADOOP_SCHEME) :]}", field)
    else:
        return None
    if not location.key or location.key.endswith("/"):
        raise ConfigurationError(
            f"{field}: {value!r} names no object, and Spark expands no prefix; name each object, or a pattern such as "
            "'*.jar'"
        )
    uri = f"{scheme}{location.bucket}/{location.key}"
    check_name(uri, field)
    return uri


def check_name(name: str, field: str) -> None:
    """Refuse a file name or a URI that the container cannot pass on.

    Raises:
        ConfigurationError: a shell or a list with commas would split it.
    """
    found = _UNSAFE.search(name)
    if found is not None:
        raise ConfigurationError(
            f"{field}: {name!r} contains {found[0]!r}, which the container does not pass on to spark-submit; rename it"
        )


def _members_of(source: LocalSource, field: str, *, packages: bool) -> Sequence[Member]:
    path = Path(os.path.abspath(source.path))  # noqa: PTH100 - links keep their names
    if not source.is_dir:
        return [Member(path, path.name)]
    members = code_members(path, (), field)
    if not packages:
        # Without folders, the ignore files of two directories would have one name; and Spark would take one for a jar.
        files = [attrs.evolve(member, name=member.path.name) for member in members]
        found = [member for member in files if member.name not in {PROCESSING_IGNORE, GIT_IGNORE}]
        if not found:
            raise ConfigurationError(f"{field}: no file of {str(path)!r} is left but the ignore file")
        return found
    if (path / "__init__.py").exists():
        return [_archive(path, members)]
    found = list(_modules(path, members))
    if not found:
        raise ConfigurationError(f"{field}: {str(path)!r} has no package and no .py, .zip or .egg file")
    return found


def _modules(directory: Path, members: Sequence[Member]) -> Iterator[Member]:
    """Yield the modules at the root of a directory, and an archive for each of its packages."""
    packages: dict[str, list[Member]] = {}
    for member in members:
        top, slash, inner = member.name.partition("/")
        if slash:
            packages.setdefault(top, []).append(attrs.evolve(member, name=inner))
        elif top.endswith(_PYTHON_FILES):
            yield member
    for name, inside in packages.items():
        if any(member.name.endswith(".py") for member in inside):
            yield _archive(directory / name, inside)


def bundle_modules(members: Iterable[Member], script: str) -> Member | None:
    """Return an archive of the modules beside a script, for executors; None if it has none.

    The bundle itself is on the path of the driver alone.

    Args:
        members: the files of the bundle.
        script: the script's name in the bundle.
    """
    modules = [member for member in members if member.name.endswith(".py") and member.name != script]
    if not modules:
        return None
    return Member(modules[0].path, BUNDLE_MODULES, _zip((member.name, member) for member in modules))


def _archive(package: Path, members: Sequence[Member]) -> Member:
    """Return an archive of a package."""
    body = _zip((f"{package.name}/{member.name}", member) for member in members)
    return Member(package, f"{package.name}.zip", body)


def _zip(files: Iterable[tuple[str, Member]]) -> bytes:
    """Return an archive of files under other names; the same files make the same bytes."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in sorted(files, key=lambda each: each[0]):
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            try:
                archive.writestr(entry, member.path.read_bytes())
            except OSError as error:
                reason = error.strerror or str(error)
                raise StagingError("a package could not be read", [(str(member.path), reason)]) from error
    return body.getvalue()
