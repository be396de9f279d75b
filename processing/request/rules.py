"""Rules of SageMaker that the service model lacks, in one table, for requests in boto3's form.

The client (`processing.request.validate`) names a finding by the user's field, the embedded engine by the API's member.
A rule skips values of a wrong type: the service model reports those.
"""

from __future__ import annotations

import functools
import math
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.request.bucket_names import PLACEHOLDER, PYTHON_VALUES, bucket_problem, is_s3, split_s3_uri
from processing.request.service_model import Path, processing_model, shared_loader

ENGINE_ACCOUNT = "000000000000"
"""The account of the embedded engine. Its roles exist in every partition."""

GIB = 1 << 30
"""The bytes of one GB of `volume_size_in_gb`, as volumes of EBS count."""


@attrs.frozen
class BrokenRule:
    """A finding.

    Args:
        path: the path of the value in the request, as `Violation.path`.
        text: the problem and its remedy. `{other}` stands for the field at `other`.
        other: the path of a second field that the text names.
    """

    path: Path
    text: str
    other: Path | None = None

    def describe(self, name: Callable[[Path], str]) -> str:
        """Return the problem as `field: text`.

        Args:
            name: returns the name of a path.
        """
        text = self.text if self.other is None else self.text.replace("{other}", name(self.other))
        return f"{name(self.path)}: {text}"


def broken_rules(
    request: Mapping[str, Any], region: str | None = None, *, allow_shared_paths: bool = False
) -> list[BrokenRule]:
    """Return every finding of every rule.

    Args:
        request: the members of CreateProcessingJob.
        region: the region of the job; None to skip the comparison of regions.
        allow_shared_paths: True to allow one container path for several inputs or for several outputs. The engine can
            run such a job; a processor refuses it, as one data set could hide another on AWS.
    """
    found = [broken for rule in _RULES for broken in rule(request)]
    if not allow_shared_paths:
        found += _shared_paths(request)
    if region is not None:
        found += _other_regions(request, region)
    named: dict[Path, BrokenRule] = {}
    for broken in found:  # the first finding of a value is the most basic one
        named.setdefault(broken.path, broken)
    return list(named.values())


def general_broken_rules(request: Mapping[str, Any]) -> list[BrokenRule]:
    """Return the findings of the rules that hold for the request of any operation: for characters, numbers and tags."""
    return [broken for rule in (_impossible_characters, _infinite_numbers, _tags) for broken in rule(request)]


# --- texts and numbers


_SURROGATE = re.compile("[\ud800-\udfff]")


def _impossible_characters(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """No process, path or tag can contain a NUL, and no request half of a surrogate pair."""
    for path, text in _texts(request, ()):
        if "\0" in text:
            yield BrokenRule(path, "contains a NUL character, which no process can be given; remove it")
        elif not text.isascii() and _SURROGATE.search(text):
            yield BrokenRule(path, f"contains a character that UTF-8 does not have; remove it: {text!r:.200}")


def _infinite_numbers(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """No JSON can contain an infinite number."""
    for path, value in _values(request, ()):
        if isinstance(value, float) and not math.isfinite(value):
            yield BrokenRule(path, f"{value} is not a finite number")


_DEEPEST = 12
"""Levels that are searched for values: more than a request has, and fewer than a list that contains itself."""


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text in a value with its path. A text that is a key has the path of its entry."""
    yield from ((place, text) for place, text in _values(value, path) if isinstance(text, str))


def _values(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield every key, text and number in a value with its path."""
    if len(path) > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, member in value.items():
            at = (*path, key)
            yield at, key
            yield from _values(member, at)
    elif isinstance(value, (list, tuple)):
        for index, member in enumerate(value):
            yield from _values(member, (*path, index))
    else:
        yield path, value


def _empty_words(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """https://github.com/aws/sagemaker-python-sdk/issues/3758 quotes the service's refusal."""
    for member in ("ContainerEntrypoint", "ContainerArguments"):
        path: Path = ("AppSpecification", member)
        for index, word in enumerate(_list(request, path)):
            if word == "":
                yield BrokenRule((*path, index), "is an empty string, which AWS refuses; leave it out")


def _image(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    path: Path = ("AppSpecification", "ImageUri")
    image = _at(request, path)
    if not isinstance(image, str):
        return
    if not image.strip():
        yield BrokenRule(path, "is blank; give the URI of a container image")
    elif re.search(r"\s", image):
        yield BrokenRule(path, f"contains white space, which no image has: {image!r:.200}")
    elif image in PYTHON_VALUES:
        yield BrokenRule(path, f"{image!r} is a Python value as text; a variable is not set")
    elif "://" in image:
        yield BrokenRule(
            path, f"{image!r:.200} has a scheme, which no image has; write {image.partition('://')[2]!r:.200}"
        )
    elif re.search(PLACEHOLDER, image):
        yield BrokenRule(path, f"a placeholder in {image!r:.200} has not been replaced")


def _tags(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    keys = [tag.get("Key") if isinstance(tag, Mapping) else None for tag in _list(request, ("Tags",))]
    for index, key in enumerate(keys):
        if not isinstance(key, str):
            continue
        if key in keys[:index]:
            yield BrokenRule(("Tags", index, "Key"), f"{key!r} is also {{other}}", ("Tags", keys.index(key), "Key"))
        if key.lower().startswith("aws:"):
            yield BrokenRule(("Tags", index, "Key"), f"{key!r} begins with aws:, which only AWS may set")


# --- instances

_CLUSTER: Path = ("ProcessingResources", "ClusterConfig")
_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
_TYPE_WITHOUT_PREFIX = re.compile(r"[a-z]+[0-9][a-z0-9-]*\.[a-z0-9-]+")


def _instance_types(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    for path, kind in _given_types(request):
        if not isinstance(kind, str) or kind in LOCAL_INSTANCE_TYPES or _TYPE.fullmatch(kind):
            continue
        if not kind.strip():
            yield BrokenRule(path, 'is blank; give an instance type such as "ml.m5.xlarge"')
        else:
            yield BrokenRule(path, f"{kind!r:.200} is not an instance type of SageMaker{_similar_type(kind)}")


def _given_types(request: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    cluster = _at(request, _CLUSTER)
    if isinstance(cluster, Mapping) and cluster.get("InstanceType") is not None:
        yield (*_CLUSTER, "InstanceType"), cluster["InstanceType"]
    for index, preference in enumerate(_list(request, (*_CLUSTER, "InstancePreferences"))):
        if isinstance(preference, Mapping):
            yield (*_CLUSTER, "InstancePreferences", index, "InstanceType"), preference.get("InstanceType")


def _similar_type(kind: str) -> str:
    """Return the remedy. A rule of writing decides before similarity: `m5.xlarge` lacks `ml.`."""
    from processing._utils import did_you_mean

    written = re.sub(r"[\s_/-]*[._/\s][\s_/-]*", ".", kind.strip().lower())
    full = written if written.startswith("ml.") else f"ml.{written}"
    known = instance_types()
    dashed = full.replace("-", ".", 2)  # ml-m5-xlarge
    for candidate in (full, dashed):
        if candidate in known:
            return f"; write {candidate!r}"
    if _TYPE_WITHOUT_PREFIX.fullmatch(written):
        return f"; write {full!r}"
    return did_you_mean(full, known) or '; write one such as "ml.m5.xlarge"'


def instance_types() -> tuple[str, ...]:
    """Return the instance types that the installed botocore knows."""
    known: Any = processing_model().shape_for("ProcessingInstanceType")
    return tuple(known.enum)


# --- locations in S3


def _buckets(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    for path, uri in _given_uris(request):
        if isinstance(uri, str) and is_s3(uri):
            problem = None if uri.startswith("s3://") else f"must begin with s3:// in small letters, not {uri[:5]!r}"
            problem = problem or bucket_problem(split_s3_uri(uri)[0])
            if problem is not None:
                yield BrokenRule(path, problem)


_DEFINITIONS = ("AthenaDatasetDefinition", "RedshiftDatasetDefinition")


def _given_uris(request: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for index, _ in enumerate(_list(request, ("ProcessingInputs",))):
        at: Path = ("ProcessingInputs", index)
        yield (*at, "S3Input", "S3Uri"), _at(request, (*at, "S3Input", "S3Uri"))
        for definition in _DEFINITIONS:
            path = (*at, "DatasetDefinition", definition, "OutputS3Uri")
            yield path, _at(request, path)
    for path, _ in _given_outputs(request):
        yield (*path, "S3Output", "S3Uri"), _at(request, (*path, "S3Output", "S3Uri"))


def _given_outputs(request: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    path: Path = ("ProcessingOutputConfig", "Outputs")
    for index, output in enumerate(_list(request, path)):
        yield (*path, index), output


# --- paths in the container


def _container_paths(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """An input at the path of an output would be uploaded with the results."""
    paths = list(_local_paths(request))
    inputs = {posixpath.normpath(local): path for path, local in reversed(paths) if path[0] == "ProcessingInputs"}
    for path, local in paths:
        normal = posixpath.normpath(local)
        if path[0] != "ProcessingInputs" and normal in inputs:
            yield BrokenRule(path, f"{local!r:.200} is also {{other}}; give each its own directory", inputs[normal])
    for pipe in _pipes(request):
        # The engine of a Pipe input puts a named pipe for each pass at `<path>_<number>`.
        of_pipe = re.compile(re.escape(posixpath.normpath(_at(request, pipe))) + r"_\d+(?:/.*)?", re.DOTALL)
        for path, local in paths:
            if of_pipe.fullmatch(posixpath.normpath(local)):
                text = f"{local!r:.200} is in the way of the named pipes of {{other}}; take another directory"
                yield BrokenRule(path, text, pipe)


def _shared_paths(request: Mapping[str, Any]) -> Iterator[BrokenRule]:
    """Two inputs, or two outputs, at one path would hide each other's files."""
    seen: dict[tuple[object, str], Path] = {}
    for path, local in _local_paths(request):
        other = seen.setdefault((path[0], posixpath.normpath(local)), path)
        if other != path:
            yield BrokenRule(path, f"{local!r:.200} is also {{other}}; give each its own directory", other)


def _local_paths(request: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for index, _ in enumerate(_list(request, ("ProcessingInputs",))):
        for member in ("S3Input", "DatasetDefinition"):
            path: Path = ("ProcessingInputs", index, member, "LocalPath")
            local = _at(request, path)
            if isinstance(local, str) and local:
                yield path, local
    for at, _ in _given_outputs(request):
        path = (*at, "S3Output", "LocalPath")
        local = _at(request, path)
        if isinstance(local, str) and local:
            yield path, local


def _pipes(request: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the paths of the LocalPath of inputs in Pipe mode."""
    for path, _ in _local_paths(request):
        mode = "S3InputMode" if path[2] == "S3Input" else "InputMode"
        if path[0] == "ProcessingInputs" and _at(request, (*path[:3], mode)) == "Pipe":
            yield path


# --- regions and partitions

_ECR = re.compile(r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z]{2,}(?:-[a-z]+)+-\d+)\.[a-z0-9.-]+/")
_ARN = re.compile(r"arn:([^:\s]+):([^:\s]*):([^:\s]*):([^:\s]*):")


def _other_regions(request: Mapping[str, Any], region: str) -> Iterator[BrokenRule]:
    """SageMaker reads images, keys and access points of its own region, and assumes roles of its own partition."""
    partition = partition_of(region)
    image = _at(request, ("AppSpecification", "ImageUri"))
    registry = _ECR.match(image) if isinstance(image, str) else None
    if registry is not None and registry[1] != region:
        text = f"is an image in {registry[1]}, and the job would run in {region}; give the image of that region"
        yield BrokenRule(("AppSpecification", "ImageUri"), text)
    for path, arn in _given_arns(request):
        found = _ARN.match(arn)
        if found is None or found[4] == ENGINE_ACCOUNT:
            continue
        if partition is not None and found[1] != partition:
            text = f"is in the partition {found[1]}, and the job would run in {region}, which is in {partition}"
            yield BrokenRule(path, text)
        elif found[3] and found[3] != region:
            yield BrokenRule(path, f"is in {found[3]}, and the job would run in {region}; give one of that region")


def _given_arns(request: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    paths: list[Path] = [
        ("RoleArn",),
        (*_CLUSTER, "VolumeKmsKeyId"),
        ("ProcessingOutputConfig", "KmsKeyId"),
    ]
    for path in paths:
        value = _at(request, path)
        if isinstance(value, str):
            yield path, value
    for path, uri in _given_uris(request):
        if isinstance(uri, str) and is_s3(uri):
            yield path, split_s3_uri(uri)[0]


@functools.cache
def partition_of(region: str) -> str | None:
    """Return the partition of a region, such as `aws-cn`; None if the installed botocore does not know it."""
    from botocore.exceptions import DataNotFoundError

    try:
        partitions = shared_loader().load_data("partitions")["partitions"]
    except DataNotFoundError:
        return None
    for partition in partitions:
        if region in partition["regions"] or re.match(partition["regionRegex"], region):
            return str(partition["id"])
    return None


# --- volumes

# Instances with storage of their own use it in place of the volume, for any size in the request:
# https://docs.aws.amazon.com/sagemaker/latest/dg/host-instance-storage.html
_OWN_STORAGE = re.compile(r"ml\.(?:[a-z]+\d+[a-z]*d[a-z]*|gr?[5-9][a-z]*|p[5-9][a-z]*|trn\w+|i\d\w*)\.")


def volume_problem(request: Mapping[str, Any], sizes: Mapping[int, int]) -> BrokenRule | None:
    """Return a finding if the inputs of one host are larger than its volume.

    The comparison has no margin for the file system, the image or the outputs: a job is refused only if it cannot work.

    Args:
        request: the members of CreateProcessingJob.
        sizes: the bytes of those inputs whose size is known, by their positions.
    """
    cluster = _at(request, _CLUSTER)
    volume = _at(request, (*_CLUSTER, "VolumeSizeInGB"))
    kinds = [kind for _, kind in _given_types(request)]
    if not _is_integer(volume) or not all(isinstance(kind, str) and _has_volume(kind) for kind in kinds):
        return None
    counts = [cluster.get("InstanceCount")]
    counts += [each.get("InstanceCount") for each in _list(request, (*_CLUSTER, "InstancePreferences")) if each]
    hosts = max((count for count in counts if _is_integer(count)), default=1) or 1
    needed = 0
    for index, size in sizes.items():
        s3_input = _at(request, ("ProcessingInputs", index, "S3Input"))
        if isinstance(s3_input, Mapping) and s3_input.get("S3InputMode") != "Pipe":
            needed += size // hosts if s3_input.get("S3DataDistributionType") == "ShardedByS3Key" else size
    if needed <= volume * GIB:
        return None
    least = -(-needed // GIB)
    text = f"is {volume} GB, and the inputs of each instance have {needed / GIB:,.1f} GB; give at least {least}"
    return BrokenRule((*_CLUSTER, "VolumeSizeInGB"), text)


def _has_volume(kind: str) -> bool:
    return kind not in LOCAL_INSTANCE_TYPES and not _OWN_STORAGE.match(kind)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- helpers


def _at(value: Any, path: Path) -> Any:
    """Return the member at a path; None if there is none."""
    for part in path:
        if isinstance(part, int):
            value = value[part] if isinstance(value, (list, tuple)) and part < len(value) else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _list(request: Mapping[str, Any], path: Path) -> list[Any]:
    """Return the list at a path; an empty one for any other value."""
    found = _at(request, path)
    return list(found) if isinstance(found, (list, tuple)) else []


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[BrokenRule]], ...] = (
    _impossible_characters,
    _empty_words,
    _image,
    _instance_types,
    _buckets,
    _container_paths,
    _tags,
)
