"""A job's outputs: what it wrote, by position and by name, and how to fetch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import attrs

from processing.exceptions import ConfigurationError
from processing.models import ProcessingOutput
from processing.request.s3_uri import S3Uri, is_s3
from processing.staging.sources import file_uri_path

if TYPE_CHECKING:
    import os

    from processing.session.session import Session
    from processing.staging.progress import Progress


@attrs.define(slots=False)
class JobOutput(ProcessingOutput):
    """One output of a job: a `ProcessingOutput` whose data can be fetched."""

    _session: Session | None = attrs.field(default=None, eq=False, repr=False, kw_only=True)

    def download(
        self, path: str | os.PathLike[str], *, progress: Callable[[Progress], object] | None = None
    ) -> list[Path]:
        """Copy the output's files into a directory, which is made if it is missing.

        Args:
            path: the directory; files of the same names in it are replaced, others are left alone.
            progress: takes a `Progress` whenever a file, or a part of a large one, has arrived. Files that the embedded
                engine keeps in a place of the user's are copied without.

        Returns:
            The files, sorted. Empty where the job wrote nothing.

        Raises:
            ConfigurationError: the output has no destination (a feature group).
            StagingError: a file could not be fetched; no half-written file is left.
        """
        if not self.destination or self._session is None:
            raise ConfigurationError(f"outputs[{self.output_name!r}].destination: has no files to download")
        to = Path(path)
        if not is_s3(self.destination):
            from processing.staging.local_copy import copy_tree

            return copy_tree(file_uri_path(self.destination), to)
        from processing.staging.transfers import download_prefix

        uri = S3Uri.parse(self.destination)
        owner = self._session.expected_owner
        return download_prefix(self._session.api, uri, to, expected_owner=owner, progress=progress)


class JobOutputs(Sequence[JobOutput]):
    """A job's outputs in order; an output's name works as an index too: `job.outputs["clean"]`."""

    def __init__(self, outputs: Iterable[JobOutput]) -> None:
        self._outputs = tuple(outputs)

    @overload
    def __getitem__(self, index: int | str) -> JobOutput: ...
    @overload
    def __getitem__(self, index: slice) -> JobOutputs: ...
    def __getitem__(self, index: int | str | slice) -> JobOutput | JobOutputs:
        """Return the output at a position or of a name; a KeyError lists the names there are."""
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
