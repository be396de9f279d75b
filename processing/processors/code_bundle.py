"""The bundle of a user's code: its files, and the settings of the bootstrap that unpacks it in the container."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.container.bootstrap import ARCHIVE, CodeArtifact, Payload, is_archive, is_other_archive
from processing.exceptions import CodeNotFoundError, ConfigurationError
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri, check_one_line
from processing.staging.code_files import code_members
from processing.staging.sources import LocalSource, resolve_code, resolve_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.processors.run_arguments import CodeOptions
    from processing.staging.bundles import Member


@attrs.frozen
class PackedCode:
    """Code that is ready for upload.

    Args:
        payload: the settings of the bootstrap.
        members: the bundle's files; empty if the code is already in S3.
        uri: the S3 URI of code that is already in S3.
    """

    payload: Payload
    members: tuple[Member, ...] = ()
    uri: S3Uri | None = None


def pack_code(code: Any, options: CodeOptions, root: Path | None = None) -> PackedCode:
    """Return the files of the bundle, and the role of each named file in it.

    Args:
        code: the script: its path, or its name in `source_dir`; or a directory, with `entry_point` in it.
        options: the files beside the script.
        root: the directory that paths are relative to; None for the working directory.

    Raises:
        CodeNotFoundError: the script, or another named file, does not exist.
        ConfigurationError: two options exclude each other, or an option has an invalid value.
        StagingError: a directory cannot be read.
    """
    arn = options.codeartifact_repo_arn
    artifact = None if arn is None else codeartifact(arn)
    if is_s3(options.source_dir):
        return _in_s3(code, options, artifact)
    script, entry_point, field = code, options.entry_point, "code"
    directory = None
    if options.source_dir is not None:
        directory = _directory(_below(root, options.source_dir), "source_dir")
    elif is_directory(_below(root, code)):
        if entry_point is None:
            raise CodeNotFoundError(
                f"code {code} must be a file, not a directory. Please pass a path to a file, "
                "or the name of the script in it as entry_point."
            )
        directory = _directory(_below(root, code), "code")
        script, entry_point, field = entry_point, None, "entry_point"
    files = _BundleFiles(directory, root)
    payload = Payload(
        files.add_script(script, field),
        ARCHIVE,
        None if options.requirements is None else files.add(options.requirements, "requirements"),
        None if entry_point is None else files.add(entry_point, "entry_point"),
        artifact,
    )
    return PackedCode(payload, tuple(files.members(_dependencies(options.dependencies, root))))


def is_directory(code: object) -> bool:
    """Return True if `code` is a local directory."""
    if not isinstance(code, (str, os.PathLike)) or is_s3(code):
        return False
    try:
        source = resolve_source(code, "code")
    except ConfigurationError:
        # The use of the code raises the error.
        return False
    return isinstance(source, LocalSource) and source.is_dir


class _BundleFiles:
    """Collects the files of a bundle: a directory, and files that parameters name.

    Args:
        directory: the directory that travels; None if only named files travel.
        root: the directory that paths are relative to; None for the working directory.
    """

    def __init__(self, directory: Path | None, root: Path | None) -> None:
        self._directory = directory
        self._root = root
        self._named: dict[str, Path] = {}

    def add_script(self, value: Any, field: str) -> str:
        """Add the script and return its name in the bundle. If there is a directory, the script must be in it."""
        name = self.add(value, field)
        if self._directory is not None and not self._named[name].is_relative_to(self._directory):
            raise CodeNotFoundError(
                f"{field} {value} wasn't found in {self._directory}. Please make sure that the script is in it."
            )
        return name

    def add(self, value: Any, field: str) -> str:
        """Add a file and return its name in the bundle: its path in the directory, or its own name at the root."""
        path = self._find(value, field)
        name = path.name
        if self._directory is not None and path.is_relative_to(self._directory):
            name = path.relative_to(self._directory).as_posix()
        present = self._named.get(name) or (self._directory or path.parent) / name
        if present.exists() and not present.samefile(path):
            raise ConfigurationError(
                f"{field}: the bundle has another {name}, {present}; give one of them another name"
            )
        self._named[name] = path
        return name

    def members(self, dependencies: Sequence[Path]) -> list[Member]:
        """Return all files of the bundle. A named file travels even if an ignore file excludes it."""
        if self._directory is None:
            source, *others = self._named.values()
            return code_members(source, [*others, *dependencies], "code")
        members = {member.name: member for member in code_members(self._directory, dependencies)}
        for name, path in self._named.items():
            # code_members leaves out files that may be secrets.
            (named,) = code_members(path, (), "source_dir")
            members[name] = attrs.evolve(named, name=name)
        return list(members.values())

    def _find(self, value: Any, field: str) -> Path:
        if self._directory is not None and isinstance(value, (str, os.PathLike)):
            name = os.fspath(value)
            for written in (name, name.replace("\\", "/")):  # the second as on Windows
                inside = Path(os.path.abspath(self._directory / written))  # noqa: PTH100 - links keep their names
                if os.path.isfile(inside):  # noqa: PTH113 - returns False for text that cannot be a path
                    return inside
        source = resolve_code(_below(self._root, value), field)
        if not isinstance(source, LocalSource):
            raise ConfigurationError(f"{field}: {value!r} must be a local file, as `source_dir` is not in S3")
        return Path(os.path.abspath(source.path))  # noqa: PTH100 - the same


def _in_s3(code: Any, options: CodeOptions, artifact: CodeArtifact | None) -> PackedCode:
    """Return the code of a `source_dir` in S3: an archive, or a prefix with the files."""
    uri = resolve_source(options.source_dir, "source_dir")
    assert isinstance(uri, S3Uri)
    check_one_line(uri, "source_dir")
    if options.dependencies:
        raise ConfigurationError(
            "dependencies: cannot be added to a source_dir in S3; put them there, or give it locally"
        )
    archive = posixpath.basename(uri.key) if is_archive(uri.key) else None
    if archive is None and is_other_archive(uri.key):
        raise ConfigurationError(
            f"source_dir: {posixpath.basename(uri.key)!r} is an archive that cannot be unpacked everywhere; "
            "pack it as .tar.gz, .tar or .zip"
        )
    payload = Payload(
        _name_in_s3(code, "code"),
        archive,
        None if options.requirements is None else _name_in_s3(options.requirements, "requirements"),
        None if options.entry_point is None else _name_in_s3(options.entry_point, "entry_point"),
        artifact,
    )
    # The slash keeps other keys out: without it, a prefix also matches the beginning of longer names.
    return PackedCode(payload, uri=uri if archive is not None else S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/"))


def _name_in_s3(value: Any, field: str) -> str:
    """Return the name of a file below a `source_dir` in S3. The file itself is not looked up."""
    text = os.fspath(value).replace("\\", "/") if isinstance(value, (str, os.PathLike)) else ""
    name = posixpath.normpath(text) if text else ""
    if not name or name == "." or name.startswith(("/", "../")) or "://" in text:
        raise ConfigurationError(f"{field}: must be the name of a file in source_dir, as that is in S3, not {value!r}")
    return name


def codeartifact(arn: str) -> CodeArtifact:
    """Return the CodeArtifact repository of an ARN.

    Raises:
        ConfigurationError: the value is not the ARN of a CodeArtifact repository.
    """
    try:
        return CodeArtifact.parse(arn)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"codeartifact_repo_arn: {arn!r} is not the ARN of a CodeArtifact repository, "
            "arn:aws:codeartifact:<region>:<account>:repository/<domain>/<repository>"
        ) from None


def _directory(value: Any, field: str) -> Path:
    source = resolve_source(value, field)
    if (
        isinstance(source, LocalSource)
        and not source.is_dir
        and (is_archive(source.path.name) or is_other_archive(source.path.name))
    ):
        raise ConfigurationError(
            f"{field}: {str(value)!r} is an archive; give the directory with its files, or the S3 URI of the archive"
        )
    if not isinstance(source, LocalSource) or not source.is_dir:
        raise ConfigurationError(f"{field}: {str(value)!r} is not a directory")
    return Path(os.path.abspath(source.path))  # noqa: PTH100 - links keep their names


def _dependencies(value: Any, root: Path | None) -> list[Path]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise ConfigurationError(f"dependencies: must be a list of paths, not {type(value).__name__}")
    paths = []
    for index, dependency in enumerate(value):
        source = resolve_source(_below(root, dependency), f"dependencies[{index}]")
        if not isinstance(source, LocalSource):
            raise ConfigurationError(f"dependencies[{index}]: {dependency!r} must be a local directory or file")
        paths.append(Path(os.path.abspath(source.path)))  # noqa: PTH100 - the same
    return paths


def _below(root: Path | None, value: Any) -> Any:
    """Return a user's path below the root directory. Return any other value, and any path without a root, unchanged."""
    is_path = isinstance(value, (str, os.PathLike)) and "://" not in os.fspath(value)
    return root / value if root is not None and is_path else value
