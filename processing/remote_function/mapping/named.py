"""The earlier jobs of a map with a name: their results count, if the jobs themselves vouch for them.

The jobs of a map are called `<function>-<name>-1`, `-2` and so on. AWS gives a name to one job only, so two callers of
the same map cannot both start it. The second one follows the job of the first. Nothing but the jobs' own descriptions
and logs proves that a result is genuine. A file in S3 that neither names is not loaded.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import ConfigurationError, DeserializationError
from processing.remote_function.call_record import CallRecord
from processing.request.job_names import LONGEST_NAME, sanitize
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.job.job import ProcessingJob
    from processing.session.session import Session

_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_LONGEST: Final = 40
"""The characters of a map's name: the rest of a job's name is for the function and the number."""
_NUMBER_LENGTH: Final = 6


@attrs.frozen
class MapJobs:
    """The jobs of a map with a name.

    Args:
        session: the session of the jobs.
        root: the S3 prefix of the jobs' files.
        base: the beginning of the jobs' names.
    """

    session: Session
    root: str
    base: str

    @classmethod
    def of(cls, session: Session, root: str, function: str, name: str) -> MapJobs:
        """Return the jobs of a map of a function.

        Raises:
            ConfigurationError: the name cannot be part of a job's name.
        """
        if not _NAME.fullmatch(name) or len(name) > _LONGEST:
            raise ConfigurationError(
                f"name: must have letters, digits and hyphens between them, at most {_LONGEST}, not {name!r}"
            )
        room = LONGEST_NAME - len(name) - _NUMBER_LENGTH - 2
        return cls(session, root, f"{sanitize(sanitize(function)[:room])}-{name}")

    def job_name(self, number: int) -> str:
        """Return the name of job `number`, counted from 1."""
        return f"{self.base}-{number}"

    def existing(self) -> Iterator[tuple[ProcessingJob, Mapping[str, Any]]]:
        """Yield the jobs that exist, in order, with their descriptions. Each takes one call.

        Raises:
            ConfigurationError: another kind of job has such a name, or its files are elsewhere.
        """
        from processing.aws.retry import is_not_found
        from processing.job.job import ProcessingJob

        for number in itertools.count(1):
            name = self.job_name(number)
            try:
                description = self.session.describe_processing_job(name)
            except Exception as error:
                if is_not_found(error):
                    return
                raise
            job = ProcessingJob.described(self.session, name, description)
            self._check_origin(job, description)
            yield job, description

    def _check_origin(self, job: ProcessingJob, description: Mapping[str, Any]) -> None:
        """Refuse a job that is not a remote function's, or that stores its results under another root."""
        try:
            CallRecord.of(description, S3Uri.parse(self.root))
        except DeserializationError as error:
            raise ConfigurationError(
                f"name: a job {job.job_name} exists, and is no map below {self.root}; give the map another name"
            ) from error
