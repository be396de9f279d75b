"""The validation of a request beyond the service model: the rules of SageMaker, and the limits of the engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from processing.container import contract
from processing.local.errors import ApiError
from processing.local.jobs.data import inputs, is_file_uri, outputs, overlap, split_uri
from processing.request.bucket_names import is_access_point
from processing.request.rules import broken_rules, volume_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.stores.objects import ObjectStore
    from processing.request.service_model import Path


def check_runnable(
    request: Mapping[str, Any],
    *,
    runs_image: bool = False,
    region: str | None = None,
    objects: ObjectStore | None = None,
) -> None:
    """Check a request against SageMaker's rules beyond the service model, and for features that the engine lacks.

    Args:
        request: the members of CreateProcessingJob, with their defaults.
        runs_image: whether the image itself runs, so that the job may use the image's entrypoint.
        region: the region that images, keys and roles have to fit; None for any.
        objects: the engine's S3, to compare the inputs with the volume; None to skip that.

    Raises:
        ApiError: `ValidationException`, the request has problems; the message has all of them.
    """
    problems = [
        *_application_problems(request, runs_image=runs_image),
        *_input_problems(request),
        *_output_problems(request),
        *(broken.describe(member_name) for broken in broken_rules(request, region, allow_shared_paths=True)),
    ]
    names = [item["InputName"] for item in request.get("ProcessingInputs", ())]
    problems += [f"The input name {name} is used more than once." for name in sorted(_repeated(names))]
    paths = [(item.get("S3Input") or {}).get("LocalPath") for item in request.get("ProcessingInputs", ())]
    shared = sorted(_repeated([path for path in paths if path]))
    problems += [f"The LocalPath {path} is used by more than one input." for path in shared]
    problems = problems or _place_problems(request) or _volume_problems(request, objects)
    if problems:
        raise ApiError("ValidationException", " ".join(problems))


def _application_problems(request: Mapping[str, Any], *, runs_image: bool) -> list[str]:
    problems = []
    if not runs_image and not request["AppSpecification"].get("ContainerEntrypoint"):
        problems.append(
            "ContainerEntrypoint is missing: the local engine does not run the image, so it has no entrypoint of "
            'its own. Give one, such as ["python3", "/opt/ml/processing/input/code/script.py"].'
        )
    cluster = request["ProcessingResources"]["ClusterConfig"]
    preferences = cluster.get("InstancePreferences")
    if preferences and cluster.get("InstanceType"):
        problems.append("InstanceType and InstancePreferences exclude each other.")
    if not preferences and not (cluster.get("InstanceType") and cluster.get("InstanceCount")):
        problems.append("InstanceType and InstanceCount are required, unless there are InstancePreferences.")
    return problems


def _input_problems(request: Mapping[str, Any]) -> list[str]:
    problems = []
    for item in request.get("ProcessingInputs", ()):
        label = f"The input {item['InputName']}"
        s3_input = item.get("S3Input")
        if item.get("DatasetDefinition"):
            problems.append(f"{label} has a DatasetDefinition: the local engine has neither Athena nor Redshift.")
        elif not s3_input:
            problems.append(f"{label} has no S3Input.")
        else:
            if s3_input.get("S3InputMode") == "Pipe" and not hasattr(os, "mkfifo"):
                problems.append(f"{label} has the S3InputMode Pipe: this system has no named pipes. Use File.")
            problems += _path_problems(label, s3_input, app_managed=bool(item.get("AppManaged")))
            if s3_input.get("S3CompressionType") == "Gzip" and s3_input.get("S3InputMode") != "Pipe":
                problems.append(f"{label}: the S3CompressionType Gzip needs the S3InputMode Pipe.")
    return problems


def _output_problems(request: Mapping[str, Any]) -> list[str]:
    problems = []
    items = (request.get("ProcessingOutputConfig") or {}).get("Outputs", ())
    for item in items:
        label = f"The output {item['OutputName']}"
        if item.get("FeatureStoreOutput"):
            problems.append(f"{label} has a FeatureStoreOutput: the local engine has no feature store.")
        elif not item.get("S3Output"):
            problems.append(f"{label} has no S3Output.")
        else:
            problems += _path_problems(label, item["S3Output"], app_managed=bool(item.get("AppManaged")))
    doubled = _repeated([item["OutputName"] for item in items])
    return problems + [f"The output name {name} is used more than once." for name in sorted(doubled)]


def _path_problems(label: str, item: Mapping[str, Any], *, app_managed: bool) -> list[str]:
    if app_managed:
        return []
    problems = []
    path = item.get("LocalPath") or ""
    if not path.startswith(f"{contract.PROCESSING}/") or ".." in path.split("/"):
        problems.append(f"{label}: the LocalPath {path!r} must begin with {contract.PROCESSING}/.")
    uri = item["S3Uri"]
    if not uri.startswith(("s3://", "file://")):
        problems.append(f"{label}: the S3Uri {uri} is neither s3:// nor file://.")
    elif uri.startswith("s3://") and is_access_point(split_uri(uri)[0]):
        problems.append(f"{label}: the S3Uri {uri} is an access point, which the local engine lacks. Give a bucket.")
    return problems


def member_name(path: Path) -> str:
    """Return a path in the API's spelling: `ProcessingInputs[0].S3Input.S3Uri`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _volume_problems(request: Mapping[str, Any], objects: ObjectStore | None) -> list[str]:
    """Return a problem if the inputs in the engine's S3 are larger than the volume. A local job has no volume."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if objects is None or cluster.get("InstanceType") in contract.LOCAL_INSTANCE_TYPES:
        return []
    sizes: dict[int, int] = {}
    for index, item in enumerate(request.get("ProcessingInputs") or ()):
        s3_input = item.get("S3Input") or {}
        if s3_input.get("S3DataType") == "S3Prefix" and s3_input["S3Uri"].startswith("s3://"):
            sizes[index] = objects.size_below(*split_uri(s3_input["S3Uri"]))
    found = volume_problem(request, sizes)
    return [] if found is None else [found.describe(member_name)]


def _place_problems(request: Mapping[str, Any]) -> list[str]:
    """Return a problem for each LocalPath that an output in place would hide: all paths inside the output's."""
    paths = [item["LocalPath"] for item in (*inputs(request), *outputs(request))]
    places = [item["LocalPath"] for item in outputs(request) if is_file_uri(item["S3Uri"])]
    return [
        f"The LocalPath {place} of an output to file:// overlaps with the LocalPath {path}, which it would hide."
        for place in places
        for path in paths
        if len(path) > len(place) and overlap(place, path)
    ]


def _repeated(values: Sequence[str | None]) -> set[str]:
    return {value for value in values if value is not None and values.count(value) > 1}
