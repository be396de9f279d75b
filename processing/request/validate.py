"""Validation of a request before submission. Messages name each field as the user wrote it.

Limits, enums and patterns come from the installed service model (`processing.request.service_model`). The rules that it
lacks are in the table beside it (`processing.request.rules`). The rest is the meaning of this package's own parameters.
One error contains all findings, one per line.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils import did_you_mean, is_empty
from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.exceptions import ConfigurationError
from processing.request import extra as extras
from processing.request.bucket_names import is_s3
from processing.request.rules import broken_rules, volume_problem
from processing.request.service_model import processing_model, violations
from processing.request.warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from processing.models import ProcessingInput, ProcessingOutput
    from processing.request.build import ProcessingRequest
    from processing.request.service_model import Path, Violation

CONTAINER_ROOT = "/opt/ml/processing/"
"""The required beginning of the path of an input or output, https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingS3Input.html."""

_GENERATED_INPUTS = ("code", "entrypoint", "processing-command")  # a processor appends these to the user's inputs
_SHOWN_CHARACTERS = 80  # of a value in a message: enough to recognize it on one line

# The user's name of each path of the service. The longest entry that matches a path applies. `#` stands for a position.
_FIELDS = {
    "ProcessingJobName": "job_name",
    "RoleArn": "role",
    "AppSpecification.ImageUri": "image_uri",
    "AppSpecification.ContainerEntrypoint": "entrypoint",
    "AppSpecification.ContainerArguments": "arguments",
    "Environment": "env",
    "ProcessingInputs.#.S3Input.S3Uri": "inputs[#].source",
    "ProcessingInputs.#.S3Input.LocalPath": "inputs[#].destination",
    "ProcessingInputs.#.S3Input": "inputs[#]",
    "ProcessingInputs": "inputs",
    "ProcessingOutputConfig.KmsKeyId": "output_kms_key",
    "ProcessingOutputConfig.Outputs.#.S3Output.S3Uri": "outputs[#].destination",
    "ProcessingOutputConfig.Outputs.#.S3Output.LocalPath": "outputs[#].source",
    "ProcessingOutputConfig.Outputs.#.S3Output": "outputs[#]",
    "ProcessingOutputConfig.Outputs": "outputs",
    "ProcessingResources.ClusterConfig.VolumeSizeInGB": "volume_size_in_gb",
    "ProcessingResources.ClusterConfig.VolumeKmsKeyId": "volume_kms_key",
    "ProcessingResources.ClusterConfig.InstancePreferences.#.InstanceType": "instance_preferences[#]",
    "ProcessingResources.ClusterConfig": "",
    "StoppingCondition": "",
    "NetworkConfig.VpcConfig": "network_config",
    "NetworkConfig.EnableInterContainerTrafficEncryption": "network_config.encrypt_inter_container_traffic",
    "NetworkConfig": "network_config",
    "Tags": "tags",
    "ExperimentConfig": "experiment_config",
}


def check_request(
    request: ProcessingRequest,
    *,
    file_uris: bool = False,
    region: str | None = None,
    sizes: Mapping[int, int] | None = None,
    service_model: Any = None,
) -> None:
    """Refuse a request that cannot work. An instance type that botocore does not know yet is only a warning.

    Args:
        request: the request.
        file_uris: True for the embedded engine, which supports `file://` sources and destinations and the instance
            types `local` and `local_gpu`.
        region: the region that the job runs in; None if it is not known.
        sizes: the bytes of the inputs that are uploaded, by their positions.
        service_model: botocore's model of SageMaker; by default the installed one.

    Raises:
        ConfigurationError: the request is invalid. The message has one line per finding, with the field as the user
            wrote it.
    """
    problems = find_problems(request, file_uris=file_uris, region=region, sizes=sizes, service_model=service_model)
    if problems:
        raise ConfigurationError(*problems)


def find_problems(
    request: ProcessingRequest,
    *,
    file_uris: bool = False,
    region: str | None = None,
    sizes: Mapping[int, int] | None = None,
    service_model: Any = None,
) -> tuple[str, ...]:
    """Return the findings that `check_request` raises; empty if there are none."""
    problems = [
        *_instances(request, local=file_uris),
        *_inputs(request.inputs, file_uris=file_uris),
        *_outputs(request.outputs, file_uris=file_uris),
    ]
    of_extra = list(_extra(request))
    checked = attrs.evolve(request, extra=None) if of_extra else request
    named = {problem.partition(": ")[0] for problem in problems}
    sent = checked.to_boto()
    for field, text in _rule_findings(checked, sent, region, sizes or {}):
        if field not in named:
            problems.append(text)
            named.add(field)
    for field, text in _model_findings(checked, sent, service_model, named, file_uris=file_uris):
        problems.append(f"{field}: {text}")
    return tuple(dict.fromkeys([*problems, *of_extra]))


def _extra(request: ProcessingRequest) -> Iterator[str]:
    if not request.extra:
        return
    for place, target, text in extras.find_problems(request.extra, request.without_extra()):
        of_parameter = f"is set by the parameter {field_name(target)}; give it there"
        yield f"{_extra_name(place)}: {of_parameter if text == extras.SET_BY_PARAMETER else text}"


def _extra_name(place: Path) -> str:
    """Return a path in `extra` in the service's spelling: `extra.ProcessingInputs[0].S3Input`."""
    return "extra" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)


def _rule_findings(
    request: ProcessingRequest, sent: Mapping[str, Any], region: str | None, sizes: Mapping[int, int]
) -> Iterator[tuple[str, str]]:
    """Yield the field and the text of each broken rule."""
    extra = request.extra or {}

    def name(path: Path) -> str:
        place = extras.place_in_extra(path, extra, sent)
        return field_name(path) if place is None else _extra_name(place)

    found = broken_rules(sent, region)
    too_small = volume_problem(sent, sizes)
    for broken in found if too_small is None else [*found, too_small]:
        yield name(broken.path), broken.describe(name)


def _model_findings(
    request: ProcessingRequest, sent: Mapping[str, Any], service_model: Any, named: set[str], *, file_uris: bool
) -> Iterator[tuple[str, str]]:
    """Yield the field and the text of each finding for fields that have none yet: the others have better words."""
    model = service_model or processing_model()
    shape: Any = model.operation_model("CreateProcessingJob").input_shape
    extra = request.extra or {}
    found = violations(shape, sent)
    sized = {violation.path for violation in found if violation.kind in {"longest", "shortest"}}
    for violation in found:
        if violation.kind == "pattern" and violation.path in sized:
            continue  # the pattern also limits the length: report it once
        place = extras.place_in_extra(violation.path, extra, sent)
        field = field_name(violation.path) if place is None else _extra_name(place)
        if field in named:
            continue
        if violation.path[-1] == "InstanceType" and violation.kind == "enum":
            _warn_of_unknown_type(field, violation)
        elif not (file_uris and violation.kind == "pattern" and str(violation.value).startswith("file://")):
            yield field, describe_violation(violation)


def field_name(path: Path) -> str:
    """Return the user's name of a path in a request: `inputs[2].s3_input_mode`, `env["X"]`, `instance_count`."""
    for length in range(len(path), 0, -1):
        head = path[:length]
        known = _FIELDS.get(".".join("#" if isinstance(part, int) else str(part) for part in head))
        if known is None:
            continue
        for position in (part for part in head if isinstance(part, int)):
            known = known.replace("#", str(position), 1)
        return _append_path(known, path[length:])
    return _append_path("", path)


def _append_path(field: str, rest: Path) -> str:
    """Return the field followed by the rest of its path: positions, the user's keys, or attributes."""
    keyed = field in {"env", "experiment_config"}
    for part in rest:
        if isinstance(part, int):
            field += f"[{part}]"
        elif keyed:
            field += f'["{part}"]'
        elif field.startswith("tags["):
            field += f".{part}"
        else:
            field += ("." if field else "") + _snake(part)
    return field


def _snake(name: str) -> str:
    """Return an API name as an attribute: `S3DataType` is `s3_data_type`, `VolumeSizeInGB` is `volume_size_in_gb`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def describe_violation(violation: Violation) -> str:
    """Return the text of a finding, which follows the name of its field."""
    value, limit = violation.value, violation.limit
    hidden = violation.path[0] == "Environment" and violation.place == "entry"  # it may be a secret
    instead = "" if hidden else f", not {_shorten(value)}"
    if violation.kind in {"longest", "shortest"}:
        unit = "characters" if isinstance(value, str) else "entries"
        bound = "at most" if violation.kind == "longest" else "at least"
        return f"has {len(value)} {unit}, {bound} {limit}"
    if violation.kind == "pattern" and "\n" in value and "." in limit:
        return "holds a line break, which AWS does not allow"
    if violation.kind == "type":
        return f"must be {limit}{instead}" + ("" if hidden else f" ({type(value).__name__})")
    if violation.kind == "enum":
        return f"must be {_alternatives(limit)}{instead}{did_you_mean(value, limit)}"
    if violation.kind == "unknown":
        return f"is not known to the installed botocore{did_you_mean(str(violation.path[-1]), limit)}"
    return {
        "required": "missing",
        "union": "must have exactly one member set",
        "greatest": f"must be at most {limit}{instead}",
        "least": f"must be at least {limit}{instead}",
        "pattern": f"must match {limit}{instead}",
    }[violation.kind]


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _alternatives(values: Iterable[str]) -> str:
    return " or ".join(repr(value) for value in values)


def _warn_of_unknown_type(field: str, violation: Violation) -> None:
    """Warn of an instance type that is not in the model: AWS offers new types before botocore knows them."""
    if violation.value in LOCAL_INSTANCE_TYPES:  # these have a finding of their own if they are not supported
        return
    hint = did_you_mean(violation.value, violation.limit)
    warn_user(f"{field}: {violation.value!r} is not known to the installed botocore{hint}")


def missing_instances(instance_type: Any, instance_count: Any, instance_preferences: Any) -> Iterator[str]:
    """Yield a finding for the type and the count of the instances, if the processor's attributes lack them."""
    if instance_type is None and instance_preferences is None:
        yield 'instance_type: missing; give an instance type such as "ml.m5.xlarge", or "local" for this machine'
    if instance_count is None and instance_preferences is None:
        yield "instance_count: missing; give the number of instances"


def _instances(request: ProcessingRequest, *, local: bool) -> Iterator[str]:
    preferences = request.instance_preferences
    if request.instance_type is None and preferences is None:
        yield from missing_instances(None, 1, None)
    if request.instance_type is not None and preferences is not None:
        yield "instance_preferences: excludes instance_type; give one of the two"
    if isinstance(request.instance_type, str) and request.instance_type in LOCAL_INSTANCE_TYPES and not local:
        yield f"instance_type: {request.instance_type!r} is only for the embedded engine; this session reaches AWS"
    counted = [preference.instance_count is not None for preference in preferences or ()]
    if any(counted) and not all(counted):
        yield "instance_preferences: give InstanceCount in each of them, or in none"
    if any(counted) and request.instance_count is not None:
        yield "instance_count: excludes counts in instance_preferences; give one of the two"
    if not any(counted) and request.instance_count is None:
        yield from missing_instances("", None, None)
    types = [preference.instance_type for preference in preferences or ()]
    for index, name in enumerate(types):
        if name in types[:index]:
            yield f"instance_preferences[{index}]: {name!r} is also instance_preferences[{types.index(name)}]"


def _inputs(inputs: tuple[ProcessingInput, ...], *, file_uris: bool) -> Iterator[str]:
    for index, entry in enumerate(inputs):
        field = f"inputs[{index}]"
        dataset = entry.dataset_definition
        path = entry.destination if entry.source is not None or dataset is None else dataset.local_path
        path_field = "destination" if entry.source is not None or dataset is None else "dataset_definition.local_path"
        if entry.source is None and dataset is None and not entry.app_managed:
            yield f"{field}.source: missing; give a path or an S3 URI"
        if entry.source is not None and dataset is not None:
            yield f"{field}.dataset_definition: excludes source; give one of the two"
        if entry.source is not None and not _is_supported_uri(entry.source, file_uris=file_uris):
            yield f"{field}.source: must be an S3 URI, not {_shorten(entry.source)}"
        if dataset is not None and (dataset.athena_dataset_definition is None) == (
            dataset.redshift_dataset_definition is None
        ):
            yield f"{field}.dataset_definition: exactly one of athena_dataset_definition, redshift_dataset_definition"
        if path is not None or not entry.app_managed:
            yield from _container_path(path, f"{field}.{path_field}")
        if entry.s3_compression_type == "Gzip" and entry.s3_input_mode != "Pipe":
            yield f"{field}.s3_compression_type: Data can only be gzipped when the input mode is Pipe."
    names = [entry.input_name for entry in inputs]
    yield from _input_names(names)


def _input_names(names: list[str | None]) -> Iterator[str]:
    for index, name in enumerate(names):
        if is_empty(name):
            yield f"inputs[{index}].input_name: missing"
        elif name in names[:index]:
            first = names.index(name)
            if name in _GENERATED_INPUTS and index >= len(names) - len(_GENERATED_INPUTS):
                yield f"inputs[{first}].input_name: {name!r} is the name of the script's own input; take another"
            else:
                yield f"inputs[{index}].input_name: {name!r} is also inputs[{first}].input_name"


def _outputs(outputs: tuple[ProcessingOutput, ...], *, file_uris: bool) -> Iterator[str]:
    for index, entry in enumerate(outputs):
        field = f"outputs[{index}]"
        if entry.source is not None or not (entry.app_managed or entry.feature_store_output is not None):
            yield from _container_path(entry.source, f"{field}.source")
        if entry.source is not None and not _is_supported_uri(entry.destination, file_uris=file_uris):
            found = "missing" if entry.destination is None else f"must be an S3 URI, not {_shorten(entry.destination)}"
            yield f"{field}.destination: {found}"
    names = [entry.output_name for entry in outputs]
    for index, name in enumerate(names):
        if is_empty(name):
            yield f"outputs[{index}].output_name: missing"
        elif name in names[:index]:
            yield f"outputs[{index}].output_name: {name!r} is also outputs[{names.index(name)}].output_name"


def _is_supported_uri(uri: Any, *, file_uris: bool) -> bool:
    return is_s3(uri) or (file_uris and isinstance(uri, str) and uri.startswith("file://"))


def _container_path(path: Any, field: str) -> Iterator[str]:
    if path is None:
        yield f"{field}: missing; give a directory in the container, such as {CONTAINER_ROOT}data"
    elif isinstance(path, str) and not posixpath.normpath(path).startswith(CONTAINER_ROOT):
        yield f"{field}: must begin with {CONTAINER_ROOT}, and name a directory below it, not {_shorten(path)}"
