"""The runs of a fleet: a key, a job name and the arguments of `run` for each job, checked before the submission."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Final, TypedDict

import attrs

from processing._utils import StrPath, type_name
from processing.exceptions import ConfigurationError
from processing.request.job_names import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.models import ProcessingInput, ProcessingOutput
    from processing.staging.progress import Progress

SET_BY_FLEET: Final[Mapping[str, Any]] = {"wait": False, "logs": False}
"""Arguments of `run` that `submit_all` sets for every job, besides `job_name`."""

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_RESERVED = frozenset({*SET_BY_FLEET, "job_name", "if_exists"})


class RunSpec(TypedDict, total=False):
    """The arguments of one run of `submit_all`: those of the processor's `run`.

    Every key is optional unless `run` requires the argument. `submit_all` sets `job_name`, `wait`, `logs` and
    `if_exists` itself. A subclass whose `run` has parameters of its own takes any mapping.

    Keys:
        code: the script, for a `ScriptProcessor` or a `FrameworkProcessor`.
        inputs: the job's inputs.
        outputs: the job's outputs; a string is the path of an output in the container.
        arguments: the command-line arguments.
        experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
        kms_key: the KMS key that encrypts the uploads.
        source_dir: the directory of the code, from which the script starts.
        dependencies: directories and files beside the code.
        requirements: a requirements file that pip installs from before the script starts.
        entry_point: the script to start, if `code` is a directory.
        codeartifact_repo_arn: the CodeArtifact repository that pip installs from.
        git_config: the Git repository that the paths are in, for a `FrameworkProcessor`.
        extra: settings of CreateProcessingJob in the service's spelling.
        progress: a function that gets a `Progress` for each upload.
    """

    code: StrPath
    inputs: list[ProcessingInput] | None
    outputs: Sequence[ProcessingOutput | str] | None
    arguments: list[str] | None
    experiment_config: dict[str, str] | None
    kms_key: str | None
    source_dir: StrPath | None
    dependencies: Sequence[StrPath] | None
    requirements: StrPath | None
    entry_point: StrPath | None
    codeartifact_repo_arn: str | None
    git_config: dict[str, str] | None
    extra: Mapping[str, Any] | None
    progress: Callable[[Progress], object] | None


@attrs.frozen
class Run:
    """One run of a fleet, which makes one job.

    Args:
        position: the run's place in the order of the runs, from 0.
        key: the run's key, unique in the fleet.
        job_name: `<name of the fleet>-<key>`.
        arguments: the arguments of the processor's `run`.
    """

    position: int
    key: str
    job_name: str
    arguments: Mapping[str, Any]


class Runs(Iterable[Run]):
    """The runs of a fleet, in order.

    Runs of unknown number, such as a generator's, are checked one by one during iteration. All others are checked at
    once by the constructor.

    Args:
        name: the fleet's name.
        runs: an iterable of mappings of `run`'s arguments, whose positions are the keys, or a mapping of keys to them.
        function: the `run` that gets the arguments.

    Attributes:
        total: the number of runs; None if it is not known before the end of the iteration.

    Raises:
        ConfigurationError: the name, a key or the arguments of a run are not valid.
    """

    def __init__(self, name: str, runs: Any, function: Callable[..., Any]) -> None:
        self._name = check_fleet_name(name)
        self._signature = inspect.signature(function)
        self._keyed = isinstance(runs, Mapping)
        self._runs = runs
        if isinstance(runs, (str, bytes)) or not isinstance(runs, Iterable):
            raise ConfigurationError(
                f"runs: must be mappings of run()'s arguments, or a mapping of keys to them, not {type_name(runs)}"
            )
        self.total = len(runs) if isinstance(runs, Sized) else None
        if self.total is not None:
            self._check_all()

    def __iter__(self) -> Iterator[Run]:
        pairs = self._runs.items() if self._keyed else enumerate(self._runs)
        for position, (key, arguments) in enumerate(pairs):
            yield self._run(position, key, arguments)

    def _check_all(self) -> None:
        seen: dict[str, str] = {}
        for run in self:
            # An ARN has the name in lower case, so two names that differ in case alone are one name for AWS.
            other = seen.setdefault(run.key.lower(), run.key)
            if other != run.key or len(seen) <= run.position:
                raise ConfigurationError(f"runs: the keys {other!r} and {run.key!r} make the same job name")

    def _run(self, position: int, key: object, arguments: object) -> Run:
        field = f"runs[{key!r}]"
        if not isinstance(key, (str, int)) or isinstance(key, bool) or not _NAME.fullmatch(str(key)):
            raise ConfigurationError(
                f"{field}: the key is part of the job's name: a string of letters, digits and hyphens, none of these "
                "at an end, or a number from 0"
            )
        job_name = f"{self._name}-{key}"
        if len(job_name) > LONGEST_NAME:
            raise ConfigurationError(
                f"{field}: the job's name would be {job_name!r}, of {len(job_name)} characters; it may have "
                f"{LONGEST_NAME}: give a shorter name or key"
            )
        if not isinstance(arguments, Mapping):
            raise ConfigurationError(f"{field}: must be a mapping of run()'s arguments, not {type_name(arguments)}")
        reserved = sorted(_RESERVED & set(arguments))
        if reserved:
            raise ConfigurationError(f"{field}.{reserved[0]}: is set by submit_all; leave it out")
        try:
            self._signature.bind(**arguments, job_name=job_name, **SET_BY_FLEET)
        except TypeError as error:
            raise ConfigurationError(f"{field}: run() cannot be called so: {error}") from None
        return Run(position, str(key), job_name, arguments)


def check_fleet_name(name: object) -> str:
    """Return the name of a fleet unchanged.

    Raises:
        ConfigurationError: the name cannot be the beginning of job names.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"name: must be a string, not {type_name(name)}")
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME - 2:
        raise ConfigurationError(
            f"name: {name!r} cannot begin job names: 1 to {LONGEST_NAME - 2} letters, digits and hyphens, none of "
            "these at an end"
        )
    return name
