"""What a user gave as code: which files travel as one bundle, and what the bootstrap finds in the container."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.container.bootstrap import ARCHIVE, CodeArtifact, Payload
from processing.exceptions import CodeNotFoundError, ConfigurationError
from processing.request.s3_uri import S3Uri, is_s3
from processing.staging.code_files import code_members
from processing.staging.sources import LocalSource, resolve_code, resolve_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.processors.run_arguments import CodeOptions
    from processing.staging.bundles import Member

_ARCHIVES = (".tar.gz", ".tgz")


@attrs.frozen
class PackedCode:
    """Code ready to travel.

    Args:
        payload: what the bootstrap finds in the container.
        members: the bundle's files; none where the code is in S3.
        uri: where in S3 the code is already.
    """

    payload: Payload
    members: tuple[Member, ...] = ()
    uri: S3Uri | None = None


def pack_code(code: Any, options: CodeOptions, root: Path | None = None) -> PackedCode:
    """Return the files that travel, and what is what among them.

    Args:
        code: the script: its path, or its name in `source_dir`; or a directory, with `entry_point` in it.
        options: what else was given.
        root: the directory that paths are relative to; None for the working directory.

    Raises:
        CodeNotFoundError: the script, or another file that was named, is not there.
        ConfigurationError: the settings exclude each other, or one of them cannot be what it is.
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
        files.name_of_script(script, field),
        ARCHIVE,
        None if options.requirements is None else files.name_of(options.requirements, "requirements"),
        None if entry_point is None else files.name_of(entry_point, "entry_point"),
        artifact,
    )
    return PackedCode(payload, tuple(files.members(_dependencies(options.dependencies, root))))


def is_directory(code: object) -> bool:
    """Say whether `code` is a directory of this machine."""
    if not isinstance(code, (str, os.PathLike)) or is_s3(code):
        return False
    try:
        source = resolve_source(code, "code")
    except ConfigurationError:  # said where it is used
        return False
    return isinstance(source, LocalSource) and source.is_dir


class _BundleFiles:
    """The files of a bundle, some of them by name.

    Args:
        directory: the directory that travels; None where only files do that are named.
        root: the directory that paths are relative to; None for the working directory.
    """

    def __init__(self, directory: Path | None, root: Path | None) -> None:
        self._directory = directory
        self._root = root
        self._named: dict[str, Path] = {}

    def name_of_script(self, given: Any, field: str) -> str:
        """Return the script's name in the bundle; where there is a directory, the script has to be in it."""
        name = self.name_of(given, field)
        if self._directory is not None and not self._named[name].is_relative_to(self._directory):
            raise CodeNotFoundError(
                f"{field} {given} wasn't found in {self._directory}. Please make sure that the script is in it."
            )
        return name

    def name_of(self, given: Any, field: str) -> str:
        """Return the name in the bundle of a file: where it is in the directory, else its own name at the root."""
        path = self._find(given, field)
        name = path.name
        if self._directory is not None and path.is_relative_to(self._directory):
            name = path.relative_to(self._directory).as_posix()
        there = self._named.get(name) or (self._directory or path.parent) / name
        if there.exists() and not there.samefile(path):
            raise ConfigurationError(f"{field}: the bundle has another {name}, {there}; give one of them another name")
        self._named[name] = path
        return name

    def members(self, dependencies: Sequence[Path]) -> list[Member]:
        """Return all files: a file that was named travels whatever the ignore files say."""
        if self._directory is None:
            source, *others = self._named.values()
            return code_members(source, [*others, *dependencies], "code")
        members = {member.name: member for member in code_members(self._directory, dependencies)}
        for name, path in self._named.items():
            (named,) = code_members(path, (), "source_dir")  # which holds back what may be a secret
            members[name] = attrs.evolve(named, name=name)
        return list(members.values())

    def _find(self, given: Any, field: str) -> Path:
        if self._directory is not None and isinstance(given, (str, os.PathLike)):
            name = os.fspath(given)
            for written in (name, name.replace("\\", "/")):  # as on Windows
                inside = Path(os.path.abspath(self._directory / written))  # noqa: PTH100 - links keep their names
                if os.path.isfile(inside):  # noqa: PTH113 - False, not an error, of what no path can be
                    return inside
        source = resolve_code(_below(self._root, given), field)
        if not isinstance(source, LocalSource):
            raise ConfigurationError(f"{field}: {given!r} must be a local file, as `source_dir` is not in S3")
        return Path(os.path.abspath(source.path))  # noqa: PTH100 - the same


def _in_s3(code: Any, options: CodeOptions, artifact: CodeArtifact | None) -> PackedCode:
    """Return what there is to say of code that lies in S3: an archive, or a prefix with the files."""
    uri = resolve_source(options.source_dir, "source_dir")
    assert isinstance(uri, S3Uri)
    if options.dependencies:
        raise ConfigurationError(
            "dependencies: cannot be added to a source_dir in S3; put them there, or give it locally"
        )
    archive = posixpath.basename(uri.key) if uri.key.endswith(_ARCHIVES) else None
    payload = Payload(
        _name_in_s3(code, "code"),
        archive,
        None if options.requirements is None else _name_in_s3(options.requirements, "requirements"),
        None if options.entry_point is None else _name_in_s3(options.entry_point, "entry_point"),
        artifact,
    )
    # With the slash: a prefix without one also means the beginning of other names.
    return PackedCode(payload, uri=uri if archive is not None else S3Uri(uri.bucket, f"{uri.key.rstrip('/')}/"))


def _name_in_s3(given: Any, field: str) -> str:
    """Return the name of a file below a source_dir in S3, which nobody can look into from here."""
    text = os.fspath(given).replace("\\", "/") if isinstance(given, (str, os.PathLike)) else ""
    name = posixpath.normpath(text) if text else ""
    if not name or name == "." or name.startswith(("/", "../")) or "://" in text:
        raise ConfigurationError(f"{field}: must be the name of a file in source_dir, as that is in S3, not {given!r}")
    return name


def codeartifact(arn: str) -> CodeArtifact:
    """Return the repository of an ARN.

    Raises:
        ConfigurationError: it is not the ARN of a CodeArtifact repository.
    """
    try:
        return CodeArtifact.parse(arn)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"codeartifact_repo_arn: {arn!r} is not the ARN of a CodeArtifact repository, "
            "arn:aws:codeartifact:<region>:<account>:repository/<domain>/<repository>"
        ) from None


def _directory(given: Any, field: str) -> Path:
    source = resolve_source(given, field)
    if not isinstance(source, LocalSource) or not source.is_dir:
        raise ConfigurationError(f"{field}: {str(given)!r} is not a directory")
    return Path(os.path.abspath(source.path))  # noqa: PTH100 - links keep their names


def _dependencies(given: Any, root: Path | None) -> list[Path]:
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise ConfigurationError(f"dependencies: must be a list of paths, not {type(given).__name__}")
    paths = []
    for index, dependency in enumerate(given):
        source = resolve_source(_below(root, dependency), f"dependencies[{index}]")
        if not isinstance(source, LocalSource):
            raise ConfigurationError(
                f"dependencies[{index}]: {dependency!r} must be a directory or file of this machine"
            )
        paths.append(Path(os.path.abspath(source.path)))  # noqa: PTH100 - the same
    return paths


def _below(root: Path | None, given: Any) -> Any:
    """Return a path of the user's, as one from the working directory."""
    is_path = isinstance(given, (str, os.PathLike)) and "://" not in os.fspath(given)
    return root / given if root is not None and is_path else given
