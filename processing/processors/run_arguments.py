"""Frozen values for the arguments of one run, from the public method to the first hook.

They are named tuples: `import processing` makes these classes, and a class of attrs takes ten times as long to make.
"""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from processing._utils import is_empty
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processing._utils import StrPath
    from processing.models import ProcessingInput, ProcessingOutput

Item = TypeVar("Item")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class CodeOptions(NamedTuple):
    """The parameters of `run` that describe the files beside the script.

    Paths are local. Only `source_dir` may also be an S3 URI.

    Args:
        source_dir: a directory whose files travel with the script.
        dependencies: further directories and files; each is at the bundle's root under its own name.
        requirements: a requirements file: its name in `source_dir`, or the path of any other file.
        entry_point: the script in `code` if that is a directory; else a shell script that runs before `code`.
        codeartifact_repo_arn: the CodeArtifact repository that pip installs from.
        git_config: the Git repository that the paths are in.
    """

    source_dir: StrPath | None = None
    dependencies: Sequence[StrPath] | None = None
    requirements: StrPath | dict[str, str] | None = None
    entry_point: StrPath | None = None
    codeartifact_repo_arn: str | None = None
    git_config: dict[str, str] | None = None

    @property
    def used(self) -> list[str]:
        """The names of the options that the user has set to a value that is not empty."""
        return [name for name, value in zip(self._fields, self, strict=True) if not is_empty(value)]


class RunArguments(NamedTuple):
    """The arguments of one call of `run`, `request` or `plan`, as the user wrote them.

    Args:
        inputs: the data that the job reads.
        outputs: the data that the job writes; a string is a container path.
        arguments: the program's arguments.
        kms_key: the KMS key that encrypts uploads.
        job_name: the job's name; None for a generated one.
        experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
        extra: settings of CreateProcessingJob that no parameter has, in the service's spelling.
        code: the script; not used by a processor whose image has its own code.
        options: the files beside the script.
        further: the values of parameters that only one class of processors has, by name.
    """

    inputs: Sequence[ProcessingInput] | None = None
    outputs: Sequence[ProcessingOutput | str] | None = None
    arguments: Sequence[str] | None = None
    kms_key: str | None = None
    job_name: str | None = None
    experiment_config: dict[str, str] | None = None
    extra: Mapping[str, Any] | None = None
    code: StrPath | None = None
    options: CodeOptions = CodeOptions()
    further: Mapping[str, Any] = _NOTHING

    def hook_arguments(self) -> HookArguments:
        """Return the arguments for the hooks, with copies of the inputs and outputs.

        A hook may append to a list and assign to its elements. The user's own values stay unchanged.

        Raises:
            ConfigurationError: the inputs or the outputs are not a list or a tuple.
        """
        arguments = self.arguments
        return HookArguments(
            job_name=self.job_name,
            # The hooks declare a list, as in sagemaker 2.x. Any other type is refused later, with all findings.
            arguments=list(arguments) if isinstance(arguments, tuple) else arguments,  # type: ignore[arg-type]
            inputs=_copy_elements(self.inputs, "inputs"),
            outputs=_copy_elements(self.outputs, "outputs"),
            code=self.code,
            kms_key=self.kms_key,
            further=self.further,
        )


class HookArguments(NamedTuple):
    """The arguments of the hook `_normalize_args`, under the names of its parameters.

    `further` has those of `_extend_processing_args` that only one class of processors has.
    """

    job_name: str | None
    arguments: list[str] | None
    inputs: list[ProcessingInput] | None
    outputs: list[ProcessingOutput | str] | None
    code: StrPath | None
    kms_key: str | None
    further: Mapping[str, Any] = _NOTHING


class PrepareContext(NamedTuple):
    """The conditions under which the hooks of one preparation run.

    Args:
        offline: True if the hooks must not call AWS, as for `request` and `plan`.
        assumed_role: an ARN that stands in for the role, if only the role's name is known and AWS cannot be asked.
    """

    offline: bool = False
    assumed_role: str | None = None


ONLINE = PrepareContext()
"""The context of `run`: hooks may call AWS."""


def _copy_elements(values: Iterable[Item] | None, field: str) -> list[Item] | None:
    """Return a new list with a shallow copy of each element."""
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise ConfigurationError(f"{field}: must be a list, not {type(values).__name__}")
    return [copy.copy(value) for value in values]
