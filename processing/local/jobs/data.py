"""The data of a job's host: fetches inputs into its /opt/ml/processing, and makes the directories of outputs.

Files of this machine (`file://`) are used in place if possible. Objects of the engine's S3 are copied, so that a job
can change its files without changing the objects.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH103, PTH110, PTH112, PTH113, PTH116, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import errno
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.sandboxes.base import Bind
from processing.request.bucket_names import split_s3_uri

if TYPE_CHECKING:
    from processing.local.jobs.object_source import ObjectSource

Check = Callable[[], None]
"""Called between two files, and within large ones; raises if the host has to end."""
_COPY_BYTES = 1 << 28
"""The bytes that the kernel copies between two checks: 256 MiB take a fraction of a second."""


class DataError(Exception):
    """An input that cannot be fetched, or an output that cannot be stored. The message is the FailureReason."""


class InputFile(NamedTuple):
    """One file of an input.

    Attributes:
        name: its path in the job, relative to the input's LocalPath, with `/`; an empty folder's ends in `/`.
        bucket: the object's bucket; None for a file of this machine.
        place: the object's key, or the file's path.
    """

    name: str
    bucket: str | None
    place: str


class PipeInput(NamedTuple):
    """An input in Pipe mode.

    Attributes:
        path: the path of its pipes on this machine, without the number of the pass.
        sources: the files that each pipe carries, in this order.
        inflate: whether each file is in gzip format and is inflated on the way.
    """

    path: str
    sources: list[InputFile]
    inflate: bool


def is_file_uri(uri: str) -> bool:
    """Return whether a URI names a place in this machine's file system."""
    return uri.startswith("file://")


def file_path(uri: str) -> str:
    """Return the absolute path of a `file://` URI, as it is written: a percent sign is a letter."""
    path = uri[len("file://") :]
    return path[len("localhost") :] if path.startswith("localhost/") else path


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an `s3://` URI."""
    return split_s3_uri(uri)


def inputs(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the S3Input of each input that the engine provides."""
    for item in request.get("ProcessingInputs") or ():
        if item.get("S3Input") and not item.get("AppManaged"):
            yield item["S3Input"]


def outputs(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the S3Output of each output that the engine uploads."""
    for item in (request.get("ProcessingOutputConfig") or {}).get("Outputs") or ():
        if item.get("S3Output") and not item.get("AppManaged"):
            yield item["S3Output"]


def overlap(path: str, other: str) -> bool:
    """Return whether two LocalPaths are the same, or one lies in the other."""
    first, second = (f"{posixpath.normpath(each)}/" for each in (path, other))
    return first.startswith(second) or second.startswith(first)


def shares_place(item: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the LocalPath of an input or output overlaps with another one: one mount would hide the other.

    Args:
        item: the input or output.
        items: all inputs and outputs of the host.
    """
    return any(overlap(item["LocalPath"], other["LocalPath"]) for other in items if other is not item)


def is_in_place(item: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the job writes an output directly to its folder on this machine: see `shares_place`."""
    return is_file_uri(item["S3Uri"]) and not shares_place(item, items)


class HostData:
    """The inputs of one host, and the directories of its outputs.

    Args:
        inputs: the inputs, each with the members of a processing job's S3Input. With a true member `MayBeEmpty`, an
            input without objects is not an error.
        outputs: the outputs, each with the members of a processing job's S3Output.
        ml_root: the directory that the job sees as /opt/ml.
        number: the host's number, from 1.
        count: the number of the job's hosts.
        objects: the job's S3.
        check: called between two files, and within large ones.

    Attributes:
        streams: the inputs in Pipe mode, known after `fetch`.
    """

    def __init__(
        self,
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        ml_root: str,
        number: int,
        count: int,
        objects: ObjectSource,
        check: Check,
    ) -> None:
        self._inputs = inputs
        self._outputs = outputs
        self._ml_root = ml_root
        self._number = number
        self._count = count
        self._objects = objects
        self._check = check
        self.streams: list[PipeInput] = []

    # Inputs

    def fetch(self) -> list[Bind]:
        """Make the directories of all inputs and outputs, and copy the inputs that cannot be used in place.

        Returns:
            the files and directories that the job uses in place.

        Raises:
            DataError: an input cannot be fetched.
        """
        binds: list[Bind] = []
        for item in self._inputs:
            if item.get("S3InputMode") == "Pipe":
                self.streams.append(self._stream(item))
            else:
                binds.extend(self._fetch_input(item))
        for item in self._outputs:
            self._make_directory(item["LocalPath"])
            if is_file_uri(item["S3Uri"]):
                path = _make_output_directory(file_path(item["S3Uri"]))
                if is_in_place(item, (*self._inputs, *self._outputs)):
                    binds.append(Bind(path, item["LocalPath"], read_only=False))
        return binds

    def _make_directory(self, local_path: str) -> str:
        place = contract.resolve_path(self._ml_root, local_path)
        os.makedirs(place, exist_ok=True)
        return place

    def _fetch_input(self, item: Mapping[str, Any]) -> list[Bind]:
        local = self._make_directory(item["LocalPath"])
        whole = item["S3DataType"] == "S3Prefix" and is_file_uri(item["S3Uri"]) and not self._sharded(item)
        if whole:
            bind = _bind_input(file_path(item["S3Uri"]), item["LocalPath"])
            if not shares_place(item, (*self._inputs, *self._outputs)):
                return [bind]
        for source in self.sources(item, may_be_empty=whole or bool(item.get("MayBeEmpty"))):
            self._check()
            self._copy(source, local)
        return []

    def _stream(self, item: Mapping[str, Any]) -> PipeInput:
        sources = [source for source in self.sources(item) if source.name and not source.name.endswith("/")]
        if item["S3DataType"] == "S3Prefix":
            sources.sort(key=lambda source: source.place.encode("utf-8", "surrogateescape"))
        path = contract.resolve_path(self._ml_root, item["LocalPath"])
        return PipeInput(path, sources, item.get("S3CompressionType") == "Gzip")

    def _sharded(self, item: Mapping[str, Any]) -> bool:
        return item.get("S3DataDistributionType") == "ShardedByS3Key" and self._count > 1

    def sources(self, item: Mapping[str, Any], *, may_be_empty: bool = False) -> list[InputFile]:
        """Return this host's share of an input."""
        uri = item["S3Uri"]
        if item["S3DataType"] == "ManifestFile":
            sources = self._manifest(uri)
        else:
            sources = _local_tree(file_path(uri)) if is_file_uri(uri) else self._prefix(uri)
        if not sources and not may_be_empty:
            raise DataError(_nothing_found(uri))
        if self._sharded(item):
            by_place = {source.place: source for source in sources}
            sources = [by_place[place] for place in contract.shard(list(by_place), self._number, self._count)]
        return sources

    def _prefix(self, uri: str) -> list[InputFile]:
        bucket, prefix = split_uri(uri)
        try:
            keys = [record.key for record in self._objects.iter_prefix(bucket, prefix)]
            return [InputFile(contract.relative_name(key, prefix), bucket, key) for key in keys]
        except ApiError as error:
            raise DataError(f"ClientError: {error.message} ({uri})") from None
        except ValueError as error:
            raise DataError(f"ClientError: {error}") from None

    def _manifest(self, uri: str) -> list[InputFile]:
        """Return the files of a manifest: a JSON list of one `{"prefix": "s3://..."}` and names to append to it."""
        try:
            if is_file_uri(uri):
                text = Path(file_path(uri)).read_text(encoding="utf-8")
            else:
                _, fd = self._objects.open(*split_uri(uri))
                with open(fd, encoding="utf-8") as file:
                    text = file.read()
            head, *names = json.loads(text)
            prefix = head["prefix"]
            return [_manifest_source(prefix, name) for name in names]
        except ApiError as error:
            raise DataError(f"ClientError: {error.message} ({uri})") from None
        except OSError as error:
            raise DataError(f"ClientError: the manifest {uri} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'ClientError: the manifest {uri} is not a list of {{"prefix": "s3://..."}} and names: {error}'
            ) from None

    def _copy(self, source: InputFile, local: str) -> None:
        target = os.path.join(local, *source.name.split("/"))
        try:
            if source.name.endswith("/") or not source.name:
                os.makedirs(target, exist_ok=True)
                return
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open_source(source, self._objects) as body, open(target, "wb") as file:
                copy_body(body.fileno(), file.fileno(), self._check)
        except OSError as error:
            raise DataError(f"ClientError: {source.place} cannot be put at {source.name}: {error.strerror}") from None


def _bind_input(path: str, local_path: str) -> Bind:
    """Return the bind of a file or directory of this machine. A file is bound below LocalPath by its own name."""
    if not os.path.exists(path):
        raise DataError(f"ClientError: there is no file or directory {path} on this machine")
    real = os.path.realpath(path)
    if os.path.isdir(real):
        return Bind(real, local_path, read_only=True)
    return Bind(real, f"{local_path.rstrip('/')}/{os.path.basename(path)}", read_only=True)


def _make_output_directory(path: str) -> str:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise DataError(f"ClientError: the output directory {path} cannot be made: {error.strerror}") from None
    return path


def _local_tree(path: str) -> list[InputFile]:
    """Return every file of a directory of this machine, links to files included, or the one file at `path`.

    Raises:
        DataError: a directory or a file cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"ClientError: {error.filename} cannot be read: {error.strerror}") from None

    if os.path.isfile(path):
        return [InputFile(os.path.basename(path), None, path)]
    found = []
    for folder, _, names in os.walk(path, onerror=fail):
        for name in names:
            file = os.path.join(folder, name)
            try:
                regular = stat.S_ISREG(os.stat(file).st_mode)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:  # a link that leads nowhere
                    continue
                fail(error)
            if regular:
                found.append(InputFile(os.path.relpath(file, path).replace(os.sep, "/"), None, file))
    return found


def _manifest_source(prefix: object, name: object) -> InputFile:
    if not isinstance(prefix, str) or not isinstance(name, str):
        raise TypeError(f"prefix and names must be strings, not {prefix!r} and {name!r}")
    (prefix + name).encode()  # raises ValueError for half of a surrogate pair, which no name can contain
    relative = contract.relative_name(name.lstrip("/"), "")
    if is_file_uri(prefix):
        return InputFile(relative, None, file_path(prefix) + name)
    if not prefix.startswith("s3://"):
        raise ValueError(f"the prefix {prefix!r} is not an S3 URI")
    bucket, key = split_uri(prefix + name)
    return InputFile(relative, bucket, key)


def _nothing_found(uri: str) -> str:
    if is_file_uri(uri):
        return f"ClientError: there is no file below {file_path(uri)} on this machine"
    bucket = split_uri(uri)[0]
    return (
        f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
        f"bucket exists in the selected region, that objects exist under that S3 prefix, and that the role has "
        f'"s3:ListBucket" permissions on bucket "{bucket}".'
    )


def open_source(source: InputFile, objects: ObjectSource) -> BinaryIO:
    """Open one file of an input, an object or a file of this machine.

    Raises:
        DataError: it does not exist or cannot be read.
    """
    try:
        if source.bucket is None:
            return open(source.place, "rb")
        return open(objects.open(source.bucket, source.place)[1], "rb")
    except ApiError as error:
        raise DataError(f"ClientError: {error.message} ({source.bucket}/{source.place})") from None
    except OSError as error:
        raise DataError(f"ClientError: {source.place} cannot be read: {error.strerror}") from None


def archive_errors() -> tuple[type[Exception], ...]:
    """Return the errors that the content of a damaged archive causes, beside those of tarfile and zipfile."""
    import zlib

    errors: tuple[type[Exception], ...] = (zlib.error, OSError, EOFError, ValueError)
    try:
        from lzma import LZMAError
    except ImportError:  # a Python that was built without it
        return errors
    return (*errors, LZMAError)


def copy_body(source: int, target: int, check: Check) -> None:
    """Copy a file within the kernel if it can do that. On some file systems the copy shares the blocks."""
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(source, target, _COPY_BYTES):
                check()
        except OSError:
            if os.lseek(target, 0, os.SEEK_CUR):
                raise
            # Nothing was copied: the kernel cannot copy between these file systems. Read and write instead.
        else:
            return
    with open(source, "rb", closefd=False) as body, open(target, "wb", closefd=False) as file:
        while chunk := body.read(1 << 20):
            file.write(chunk)
            check()
