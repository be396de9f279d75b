"""The data of a model: an archive or a prefix in S3, which the program sees at /opt/ml/model."""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH103, PTH110, PTH118, PTH120, PTH123

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.jobs.data import DataError, archive_errors, copy_body, file_path, is_file_uri, split_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from processing.local.jobs.object_source import ObjectSource

MODEL = "/opt/ml/model"


def fetch_model(container: Mapping[str, Any], ml_root: str, objects: ObjectSource, check: Callable[[], None]) -> None:
    """Make /opt/ml/model, and put the model's data there.

    Args:
        container: the container definition of the model.
        ml_root: the directory that stands for /opt/ml.
        objects: the S3 that has the data.
        check: called between two files; raises if the host has to end.

    Raises:
        DataError: the data does not exist, or is not an archive that can be unpacked below /opt/ml/model.
    """
    target = contract.resolve_path(ml_root, MODEL)
    os.makedirs(target, exist_ok=True)
    for source in model_inputs(container):
        if source["CompressionType"] == "Gzip":
            _unpack(source["S3Uri"], target, objects, check)
        else:
            _copy(source, target, objects, check)


def model_inputs(container: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the places of a model's data, one at most, each with the members of an S3DataSource of a model."""
    source = (container.get("ModelDataSource") or {}).get("S3DataSource")
    if source is None and container.get("ModelDataUrl"):
        source = {"S3Uri": container["ModelDataUrl"], "S3DataType": "S3Object", "CompressionType": "Gzip"}
    return [] if source is None else [source]


def missing_data(container: Mapping[str, Any], objects: ObjectSource) -> str | None:
    """Return AWS's error for a model whose data does not exist; None if it exists, or if the model has no data.

    Args:
        container: the container definition of the model.
        objects: the S3 that has the data.
    """
    for source in model_inputs(container):
        uri = source["S3Uri"]
        try:
            found = os.path.exists(file_path(uri)) if is_file_uri(uri) else _has_objects(source, objects)
        except ApiError as error:
            return f"Could not find model data at {uri}: {error.message}"
        if not found:
            return f"Could not find model data at {uri}."
    return None


def _has_objects(source: Mapping[str, Any], objects: ObjectSource) -> bool:
    bucket, key = split_uri(source["S3Uri"])
    found = next(iter(objects.iter_prefix(bucket, key)), None)
    return found is not None and (source["S3DataType"] == "S3Prefix" or found.key == key)


def _open(uri: str, objects: ObjectSource) -> BinaryIO:
    try:
        if is_file_uri(uri):
            return open(file_path(uri), "rb")
        return open(objects.open(*split_uri(uri))[1], "rb")
    except ApiError as error:
        raise DataError(f"Could not find model data at {uri}: {error.message}") from None
    except OSError as error:
        raise DataError(f"Could not find model data at {uri}: {error.strerror}") from None


def _unpack(uri: str, target: str, objects: ObjectSource, check: Callable[[], None]) -> None:
    """Unpack an archive. No member may lead out of the target, by its name or by a link."""
    import tarfile  # many models have no data

    damaged: tuple[type[Exception], ...] = (tarfile.TarError, *archive_errors())
    with _open(uri, objects) as body:
        try:
            with tarfile.open(fileobj=body, mode="r:*") as archive:
                for member in archive:
                    check()
                    _extract(archive, member, target)
        except damaged as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            raise DataError(
                f'Failed to extract model data archive from URL "{uri}". Please ensure that the object located at the '
                f"URL is a valid tar.gz archive. {_cause(error)}."
            ) from None


def _cause(error: Exception) -> str:
    """Return the cause of an archive's error in one line, without the folders of the engine."""
    member = getattr(error, "tarinfo", None)
    if member is not None:
        return f"Its member {member.name!r} leads out of /opt/ml/model, or is no file, folder or link"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.partition("\n")[0].rstrip(":")


def _extract(archive: Any, member: Any, target: str) -> None:
    import tarfile

    if member.issym():
        raise tarfile.TarError(
            f"Its member {member.name!r} is a symbolic link, and SageMaker unpacks no model with links: replace it by "
            "the file itself"
        )
    if hasattr(tarfile, "data_filter"):
        archive.extract(member, target, filter="data")
        return
    # Releases of Python before 3.10.12 have no filters: only files and folders with plain names are unpacked.
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder below the archive's root")
    archive.extract(member, target)


def _copy(source: Mapping[str, Any], target: str, objects: ObjectSource, check: Callable[[], None]) -> None:
    """Copy the objects below a prefix, or one object."""
    uri = source["S3Uri"]
    bucket, prefix = split_uri(uri)
    try:
        keys = [prefix] if source["S3DataType"] == "S3Object" else []
        keys = keys or [entry.key for entry in objects.iter_prefix(bucket, prefix)]
    except ApiError as error:
        raise DataError(f"Could not find model data at {uri}: {error.message}") from None
    if not keys:
        raise DataError(f"Could not find model data at {uri}: no object has this prefix")
    for key in keys:
        check()
        try:
            name = contract.relative_name(key, prefix)
        except ValueError as error:
            raise DataError(f"The model data at {uri} cannot be copied: {error}") from None
        if not name or name.endswith("/"):
            continue
        place = os.path.join(target, *name.split("/"))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with _open(f"s3://{bucket}/{key}", objects) as body, open(place, "wb") as file:
            copy_body(body.fileno(), file.fileno(), check)
