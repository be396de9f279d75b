"""The outputs of a job: access by position and by name, and the download of their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, overload

import attrs

from processing._utils.validation import FUNCTION, require
from processing.exceptions import ConfigurationError
from processing.models import ProcessingInput, ProcessingOutput
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri
from processing.staging.sources import file_uri_path, local_target

if TYPE_CHECKING:
    from pathlib import Path

    from processing._utils import StrPath
    from processing.session.session import Session
    from processing.staging.progress import Progress


logger = logging.getLogger(__name__)


@attrs.define(slots=False)
class JobOutput(ProcessingOutput):
    """One output of a job: a `ProcessingOutput` whose files can be downloaded.

    Jobs create their outputs themselves.

    Args:
        source: the directory in the container, under /opt/ml/processing/.
        destination: the S3 prefix of the output; None if it goes to a feature group.
        output_name: the output's name.
        s3_upload_mode: `EndOfJob` or `Continuous`.
        app_managed: True if the container itself uploads the output.
        feature_store_output: a feature group, instead of S3.
        session: the session that downloads the files.
    """

    _session: Session | None = attrs.field(default=None, eq=False, repr=False, kw_only=True)

    @classmethod
    def from_output(cls, output: ProcessingOutput, session: Session) -> JobOutput:
        """Return an output of a job that the session reaches."""
        # A subclass of ProcessingOutput may have more fields than these.
        fields = {field.name: getattr(output, field.name) for field in attrs.fields(ProcessingOutput)}
        return cls(**fields, session=session)

    def download(self, path: StrPath, *, progress: Callable[[Progress], object] | None = None) -> list[Path]:
        """Copy the output's files into a directory, and create the directory if it is missing.

        Args:
            path: the directory, a path or a `file://` URI. Files of the same names in it are replaced, others are not
                touched.
            progress: a function that gets a `Progress` after each file, and after each part of a large file. It is not
                called for files that the embedded engine has written to a directory of the user's.

        Returns:
            The files, sorted. The list is empty if the job wrote nothing.

        Raises:
            ConfigurationError: `path` is not a path, or there is a file; or the output has no destination, because it
                goes to a feature group.
            StagingError: a file could not be downloaded; no half-written file remains.
        """
        if not self.destination or self._session is None:
            raise ConfigurationError(f"outputs[{self.output_name!r}].destination: has no files to download")
        to = local_target(path)
        require("progress", progress, FUNCTION, optional=True)
        if not is_s3(self.destination):
            from processing.staging.local_copy import copy_tree

            return copy_tree(file_uri_path(self.destination), to)
        from processing.staging.transfers import download_prefix

        uri = S3Uri.parse(self.destination)
        owner = self._session.expected_owner
        files = download_prefix(self._session.api, uri, to, expected_owner=owner, progress=progress)
        if not files and not self._session.is_local:  # the engine's session has already logged it
            logger.warning("the output %s is empty: there is no object below %s", self.output_name, self.destination)
        return files

    def as_input(self, path: StrPath, input_name: str | None = None) -> ProcessingInput:
        """Return an input for another job with the files of this output, and no others.

        An output's URI alone matches the beginning of keys, so `.../test` also brings the files of
        `.../test_small`. The source of this input ends in a slash.

        Args:
            path: the directory in the other job's container, under /opt/ml/processing/.
            input_name: the input's name; by default `input-N`, with its position.

        Raises:
            ConfigurationError: the output has no destination, because it goes to a feature group.
        """
        if not self.destination:
            raise ConfigurationError(f"outputs[{self.output_name!r}].destination: has no files for an input")
        is_prefix = is_s3(self.destination) and not self.destination.endswith("/")
        return ProcessingInput(f"{self.destination}/" if is_prefix else self.destination, path, input_name)


class JobOutputs(Sequence[JobOutput]):
    """The outputs of a job in order; an output's name is an index too: `job.outputs["clean"]`.

    Args:
        outputs: the outputs.
    """

    def __init__(self, outputs: Iterable[JobOutput]) -> None:
        self._outputs = tuple(outputs)

    @overload
    def __getitem__(self, index: int | str) -> JobOutput: ...
    @overload
    def __getitem__(self, index: slice) -> JobOutputs: ...
    def __getitem__(self, index: int | str | slice) -> JobOutput | JobOutputs:
        """Return the output at a position or with a name; a KeyError lists the known names."""
        if isinstance(index, slice):
            return JobOutputs(self._outputs[index])
        if isinstance(index, int):
            return self._outputs[index]
        for output in self._outputs:
            if output.output_name == index:
                return output
        names = ", ".join(str(output.output_name) for output in self._outputs) or "none"
        raise KeyError(f"no output is named {index!r}; there are: {names}")

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        return f"JobOutputs({list(self._outputs)!r})"
