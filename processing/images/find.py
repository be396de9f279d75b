"""`image_uri`: finds the URI of an image that AWS publishes, by framework, version and region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from processing._utils import did_you_mean
from processing._utils.validation import TEXT, Kind, instance_of, is_number, require
from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.exceptions import ConfigurationError
from processing.images import table
from processing.images.releases import fill_pattern, newest_first, number_of_base

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processing.images.releases import Release

# A region's registry is in the domain of its partition, as in botocore's endpoints.
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}

# The scopes to try if the caller names none: an image made for processing, else the training image.
_SCOPES = ("processing", "training")

# On the p4d family, images older than the family exist only with a newer CUDA. The table is that of sagemaker 2.x.
_P4D_TAGS = {
    ("mxnet", "1.8-gpu-py37"): "cu110-ubuntu16.04-v1",
    ("mxnet", "1.8.0-gpu-py37"): "cu110-ubuntu16.04",
    ("pytorch", "1.6-gpu-py3"): "cu110-ubuntu18.04-v3",
    ("pytorch", "1.6-gpu-py36"): "cu110-ubuntu18.04-v3",
    ("pytorch", "1.6.0-gpu-py3"): "cu110-ubuntu18.04",
    ("pytorch", "1.6.0-gpu-py36"): "cu110-ubuntu18.04",
    ("tensorflow", "1.15-gpu-py37"): "cu110-ubuntu18.04-v8",
    ("tensorflow", "1.15.4-gpu-py37"): "cu110-ubuntu18.04",
    ("tensorflow", "1.15.5-gpu-py37"): "cu110-ubuntu18.04",
    ("tensorflow", "2.3-gpu-py37"): "cu110-ubuntu18.04-v3",
    ("tensorflow", "2.3.1-gpu-py37"): "cu110-ubuntu18.04",
    ("tensorflow", "2.3.2-gpu-py37"): "cu110-ubuntu18.04",
}


# A version without quotes, such as 1.2, gets the error that lists the versions.
_VERSION = Kind("a string", lambda value: TEXT.accepts(value) or is_number(value))


@attrs.frozen(kw_only=True)
class ImageQuery:
    """A query for an image, with the parameters of `image_uri`.

    Args:
        framework: the framework's name, such as `sklearn`.
        version: the framework's version; None for the newest.
        region: the AWS region of the registry.
        py_version: the Python of the image, such as `py310`.
        instance_type: the instance type that runs the image.
        image_scope: the purpose of the image, such as `processing`.
        base_framework_version: the framework that Hugging Face's image builds upon, such as `pytorch2.1.0`.
        container_version: the end of the tag.
        field_names: the caller's names of these fields, if they differ; used in errors.
    """

    framework: str
    version: str | None
    region: str
    py_version: str | None = None
    instance_type: str | None = None
    image_scope: str | None = None
    base_framework_version: str | None = None
    container_version: str | None = None
    field_names: Mapping[str, str] = attrs.field(factory=dict)

    def error(self, field: str, text: str) -> ConfigurationError:
        """Return an error that begins with the caller's name of the field."""
        return ConfigurationError(f"{self.field_names.get(field, field)}: {text}")

    def unavailable(self, field: str, options: Iterable[str], of: str) -> ConfigurationError:
        """Return an error that lists the values that exist for a field."""
        value, options = getattr(self, field), list(options)
        problem = "missing" if value is None else f"{of} has no {value!r}{did_you_mean(str(value), options)}"
        return self.error(field, f"{problem}{'' if problem.endswith('?') else ';'} {of} has: {', '.join(options)}")


def image_uri(
    framework: str,
    version: str | None = None,
    region: str | None = None,
    *,
    py_version: str | None = None,
    instance_type: str | None = None,
    image_scope: str | None = None,
    base_framework_version: str | None = None,
    container_version: str | None = None,
) -> str:
    """Return the URI of an image that AWS publishes. No call to AWS is made.

    Args:
        framework: the framework's name, such as `sklearn`, `pytorch`, `spark` or `data-wrangler`; `frameworks()` lists
            them.
        version: the framework's version, such as `1.2-1`, or AWS's shorter name of it: `2.8` for `2.8.0`. None for the
            newest.
        region: the AWS region of the registry.
        py_version: the Python of the image, such as `py310`; `py3` is the Python 3 that the version has. Required if
            the version has several.
        instance_type: the instance type that runs the image. `ml.p*`, `ml.g*` and `local_gpu` have a GPU. Required if
            the version has several images. If it has one, the type must be `local` or one that the image supports.
        image_scope: `processing`, `training`, `inference`, ...; None for the scope that a processing job runs:
            `processing` if such an image exists, else `training`, else the only one.
        base_framework_version: the framework that Hugging Face's image builds upon, such as `pytorch2.1.0`.
        container_version: the end of the tag, such as `v1` for Spark's images.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the values that exist.
    """
    if region is None or region == "":
        raise ConfigurationError("region: missing; give the AWS region of the job, such as 'eu-west-1'")
    return find_image(
        ImageQuery(
            framework=framework,
            version=version,
            region=region,
            py_version=py_version,
            instance_type=instance_type,
            image_scope=image_scope,
            base_framework_version=base_framework_version,
            container_version=container_version,
        )
    )


def versions(framework: str, image_scope: str | None = None) -> list[str]:
    """Return the versions of a framework that have an image, the newest first.

    Args:
        framework: the framework's name; `frameworks()` lists them.
        image_scope: `processing`, `training`, `inference`, ...; None for the scope that a processing job runs.

    Raises:
        ConfigurationError: the framework or the scope is unknown.
    """
    require("framework", framework, TEXT)
    require("image_scope", image_scope, TEXT, optional=True)
    query = ImageQuery(framework=framework, version=None, region="", image_scope=image_scope)
    return newest_first(release.version for release in _releases_in_scope(query))


def find_image(query: ImageQuery) -> str:
    """Return the URI of the image that matches a query.

    Raises:
        ConfigurationError: AWS has no such image; the message lists the values that exist.
    """
    require("query", query, instance_of(ImageQuery, name="a processing.images.ImageQuery"))
    for member in attrs.fields(ImageQuery):
        if member.name != "field_names":
            name = query.field_names.get(member.name, member.name)
            kind = _VERSION if member.name == "version" else TEXT
            require(name, getattr(query, member.name), kind, optional=member.name not in ("framework", "region"))
    found = _releases_of_base(query, _releases_of_version(query, _releases_in_scope(query)))
    python = _find_python(query, found)
    if python is not None:
        found = [release for release in found if python in release.pythons]
    processor = _find_processor(query, found)
    found = [release for release in found if processor in release.tags]
    release = _release_in_region(query, found)
    values = {
        "version": query.version or release.version,
        "base": number_of_base(query.base_framework_version or ""),
        "py": python,
        "container": query.container_version,
    }
    tag = fill_pattern(release.tags[processor], values)
    if _family(query.instance_type) == "p4d" and (query.framework, tag) in _P4D_TAGS:
        tag += "-" + _P4D_TAGS[query.framework, tag]
    registry = f"{release.accounts[query.region]}.dkr.ecr.{query.region}.{_domain(query.region)}"
    return f"{registry}/{fill_pattern(release.repository, values)}" + (f":{tag}" if tag else "")


def _releases_in_scope(query: ImageQuery) -> list[Release]:
    known = table.releases(str(query.framework))
    if not known:
        raise query.unavailable("framework", table.frameworks(), "AWS")
    scopes = list(dict.fromkeys(scope for release in known for scope in release.scopes))
    scope = query.image_scope
    if scope is None:
        scope = next((usual for usual in _SCOPES if usual in scopes), scopes[0] if len(scopes) == 1 else None)
    if scope not in scopes:
        raise query.unavailable("image_scope", scopes, query.framework)
    return [release for release in known if scope in release.scopes]


def _releases_of_version(query: ImageQuery, known: Sequence[Release]) -> list[Release]:
    known_versions = newest_first(release.version for release in known)
    if query.version is None:
        return [release for release in known if release.version == known_versions[0]]
    # An alias has priority over a version of the same name, as in AWS's pytorch-smp.
    found = [release for release in known if query.version in release.aliases]
    found = found or [release for release in known if query.version == release.version]
    if not found:
        raise query.unavailable("version", known_versions, query.framework)
    return [release for release in found if release.version == found[0].version]


def _releases_of_base(query: ImageQuery, known: list[Release]) -> list[Release]:
    bases = newest_first(release.base for release in known if release.base is not None)
    if not bases:
        return known
    found = [release for release in known if query.base_framework_version in release.bases]
    if not found:
        raise query.unavailable("base_framework_version", bases, f"{query.framework} {known[0].version}")
    return found


def _find_python(query: ImageQuery, known: Sequence[Release]) -> str | None:
    """Return the Python in the tag. Return None if the tag has no Python."""
    options = list(dict.fromkeys(python for release in known for python in release.pythons))
    requested = query.py_version
    if not options or requested in options:
        return requested if options else None
    if requested is None and query.framework == "spark":
        return None  # a tag without a Python names the default image
    python_3 = [python for python in options if python.startswith("py3")]
    candidates = options if requested is None else python_3 if requested == "py3" else []
    if len(candidates) != 1:
        raise query.unavailable("py_version", options, f"{query.framework} {known[0].version}")
    return candidates[0]


def _find_processor(query: ImageQuery, known: Sequence[Release]) -> str:
    """Return the processor of the image. Return an empty string if one image serves all processors."""
    options = list(dict.fromkeys(processor for release in known for processor in release.tags))
    if options == [""]:
        return ""
    image = f"{query.framework} {known[0].version}"
    kinds = " and ".join(options)
    if len(options) == 1 and query.instance_type in {None, *LOCAL_INSTANCE_TYPES}:
        return options[0]  # on this machine, the only image is used
    if query.instance_type is None:
        raise query.error("instance_type", f"missing; {image} has different images for {kinds}")
    processor = _processor_of(query.instance_type, options)
    if processor is None:
        raise query.error("instance_type", f"must be such as 'ml.m5.xlarge' or 'local', not {query.instance_type!r}")
    if processor not in options:
        raise query.error(
            "instance_type",
            f"{query.instance_type!r} needs an image for {processor}; {image} has one for {kinds} only",
        )
    return processor


def _processor_of(instance_type: str, options: Sequence[str]) -> str | None:
    if instance_type in LOCAL_INSTANCE_TYPES:
        return "cpu" if instance_type == "local" else "gpu"
    family = _family(instance_type)
    if not family or family in options:
        return family or None
    accelerator = next((name for name in ("inf", "trn") if family.startswith(name)), None)
    return accelerator or ("gpu" if family[0] in "gp" else "cpu")


def _family(instance_type: str | None) -> str:
    match = re.match(r"ml[._]([a-z\d-]+)\.?\w*$", str(instance_type or ""))
    return match[1] if match else ""


def _release_in_region(query: ImageQuery, known: Sequence[Release]) -> Release:
    for release in known:
        if query.region in release.accounts:
            return release
    regions = sorted({region for release in known for region in release.accounts})
    raise query.unavailable("region", regions, f"{query.framework} {known[0].version}")


def _domain(region: str) -> str:
    return next((domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix)), "amazonaws.com")
