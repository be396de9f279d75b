"""The outputs of a job's host: their files go to S3, or to a folder of this machine.

Outputs may overlap. Each receives every file below its LocalPath, so an upload is recorded for each output alone.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH103, PTH105, PTH108, PTH118, PTH120, PTH123

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.jobs.data import DataError, copy_body, file_path, is_file_uri, is_in_place, split_uri
from processing.local.jobs.output_files import OutputFile, regular_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from processing.local.jobs.object_source import ObjectSource
    from processing.local.jobs.output_files import FileState

_SHOWN = 100
"""The characters of a long name's beginning, and of its end, in a FailureReason."""


class Uploads:
    """The outputs of one host.

    Args:
        inputs: the inputs, each with the members of a processing job's S3Input.
        outputs: the outputs, each with the members of a processing job's S3Output.
        ml_root: the directory that the job sees as /opt/ml.
        objects: the job's S3.
    """

    def __init__(
        self,
        inputs: Sequence[Mapping[str, Any]],
        outputs: Sequence[Mapping[str, Any]],
        ml_root: str,
        objects: ObjectSource,
    ) -> None:
        self._ml_root = ml_root
        items = (*inputs, *outputs)
        self._outputs = [_Output(item, ml_root, objects) for item in outputs if not is_in_place(item, items)]

    @property
    def continuous(self) -> bool:
        """True if an output is uploaded while the job runs."""
        return any(output.continuous for output in self._outputs)

    def note_existing(self) -> None:
        """Count the present files of Continuous outputs as uploaded: they came from there."""
        for output in self._outputs:
            if output.continuous:
                output.note_existing()

    def upload_settled(self) -> None:
        """Upload the files of Continuous outputs that have not changed since the last call.

        Files and directories without access are left for `upload`: the program may rely on its modes.
        """
        for output in self._outputs:
            if output.continuous:
                output.upload_settled()

    def upload(self) -> None:
        """Upload every output. Symbolic links are left out.

        Raises:
            DataError: a file could not be uploaded. All others are uploaded.
        """
        failures = [failure for output in self._outputs for failure in output.upload()]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise DataError(f"ClientError: the output {failures[0]}{more}")


class _Output:
    """One output: its files, and the states in which they were uploaded."""

    def __init__(self, item: Mapping[str, Any], ml_root: str, objects: ObjectSource) -> None:
        self._item = item
        self._ml_root = ml_root
        self._local = contract.resolve_path(ml_root, item["LocalPath"])
        self._objects = objects
        self._uploaded: dict[str, FileState] = {}
        self._seen: dict[str, FileState] = {}
        self.continuous = item["S3UploadMode"] == "Continuous"

    def note_existing(self) -> None:
        """Count the present files as uploaded."""
        self._uploaded = {file.name: file.state for file in regular_files(self._ml_root, self._local)}

    def upload_settled(self) -> None:
        """Upload the files that have not changed since the last call."""
        for file in regular_files(self._ml_root, self._local):
            before = self._seen.get(file.name)
            self._seen[file.name] = file.state
            if before == file.state and self._uploaded.get(file.name) != file.state:
                self._upload(file)

    def upload(self) -> list[str]:
        """Upload all files that have changed since they were uploaded, and return the problems."""
        failures: list[str] = []

        def report(name: str, error: OSError) -> None:
            place = self._item["LocalPath"].rstrip("/")
            if error.errno == errno.ENAMETOOLONG:
                failures.append(f"{place} is nested too deeply to be looked through: {_shortened(name)}")
                return
            place = f"{place}/{_shortened(name)}" if name else place
            failures.append(f"{place} cannot be read: {error.strerror}")

        for file in regular_files(self._ml_root, self._local, report):
            if self._uploaded.get(file.name) != file.state:
                problem = self._upload(file)
                if problem is not None:
                    failures.append(problem)
        return failures

    def _upload(self, file: OutputFile) -> str | None:
        """Upload a file, and return the problem if it fails."""
        uri = self._item["S3Uri"]
        try:
            with file.open() as body:
                store(self._objects, uri, file.name, body)
        except ApiError as error:
            return f"{_shortened(file.name)} could not be uploaded to {uri}: {error.message}"
        except (OSError, ValueError) as error:  # unreadable, or a name that is not UTF-8
            return f"{_shortened(file.name)!r} could not be uploaded to {uri}: {error}"
        self._uploaded[file.name] = file.state
        return None


def store(objects: ObjectSource, uri: str, name: str, body: BinaryIO) -> None:
    """Store a file below a location, or at the location itself if the name is empty.

    Args:
        objects: the job's S3.
        uri: the location, `s3://` or `file://`. Every slash of its key is kept.
        name: the relative path of the file, with `/`.
        body: the content, a file of this machine.

    Raises:
        ApiError: S3 cannot store it.
        OSError: it cannot be read or written.
    """
    if is_file_uri(uri):
        _write_file(os.path.join(file_path(uri), *filter(None, name.split("/"))), body)
        return
    bucket, prefix = split_uri(uri)
    joined = f"{prefix}{name}" if not prefix or not name or prefix.endswith("/") else f"{prefix}/{name}"
    objects.put(bucket, joined, body)


def _write_file(path: str, body: BinaryIO) -> None:
    """Write a file of this machine. A reader sees the old content or the new, and never a part."""
    os.makedirs(folder := os.path.dirname(path), exist_ok=True)
    part = os.path.join(folder, f".{os.urandom(8).hex()}.part")
    try:
        with open(part, "xb") as file:
            copy_body(body.fileno(), file.fileno(), _never)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _never() -> None:
    """Let a copy go on: the end of a job waits for its outputs."""


def _shortened(name: str) -> str:
    """Return a name for a FailureReason. A name of thousands of characters would push the problem out of it."""
    return name if len(name) <= 2 * _SHOWN else f"{name[:_SHOWN]}...{name[-_SHOWN:]}"
