"""`image_uri`: the URI of an image that AWS publishes, for a framework, a version and a region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from processing._utils import did_you_mean
from processing.container.contract import LOCAL_INSTANCE_TYPES
from processing.exceptions import ConfigurationError
from processing.images import table
from processing.images.releases import filled, newest_first, number_of_base

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processing.images.releases import Release

# A region's registry is in the domain of its partition (botocore's endpoints say the same).
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}

# The scope that a job without one means: these have images made for processing, or the training image is what runs.
_SCOPES = ("processing", "training")

# On this family the images that came before it exist with a newer CUDA only (as sagemaker 2.x knows).
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


@attrs.frozen(kw_only=True)
class ImageQuery:
    """What an image is wanted for; see `image_uri`.

    Attributes:
        called: what the caller calls these fields, where it is something else: for errors.
    """

    framework: str
    version: str | None
    region: str
    py_version: str | None = None
    instance_type: str | None = None
    image_scope: str | None = None
    base_framework_version: str | None = None
    container_version: str | None = None
    called: Mapping[str, str] = attrs.field(factory=dict)

    def error(self, field: str, text: str) -> ConfigurationError:
        """Return an error that begins with the field, as the caller calls it."""
        return ConfigurationError(f"{self.called.get(field, field)}: {text}")

    def refusal(self, field: str, options: Iterable[str], of: str) -> ConfigurationError:
        """Return an error that says what there is instead of what was given."""
        given, options = getattr(self, field), list(options)
        said = "missing" if given is None else f"{of} has no {given!r}{did_you_mean(str(given), options)}"
        return self.error(field, f"{said}{'' if said.endswith('?') else ';'} {of} has: {', '.join(options)}")


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
        framework: such as `sklearn`, `pytorch`, `spark` or `data-wrangler`; `frameworks()` lists them.
        version: the framework's version, such as `1.2-1`, or a shorter name of it that AWS gives: `2.8` for `2.8.0`.
            None means the newest.
        region: the AWS region whose registry it is.
        py_version: such as `py310`. Needed where the version comes with several; `py3` is the Python 3 that it has.
        instance_type: what it will run on: `ml.p*` and `ml.g*` have a GPU, `local_gpu` too. Needed where there are
            several images; where there is one, it has to be one that this image runs on, or `local`.
        image_scope: `processing`, `training`, `inference`, ...; None means the one that a processing job runs:
            `processing` where there is such an image, else `training`, else the only one.
        base_framework_version: what Hugging Face's image builds upon, such as `pytorch2.1.0`.
        container_version: the end of the tag, of Spark's images for instance: `v1`.

    Raises:
        ConfigurationError: there is no such image; the text lists what there is.
    """
    if not isinstance(region, str) or not region:
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
        framework: see `image_uri`.
        image_scope: see `image_uri`.

    Raises:
        ConfigurationError: there is no such framework, or no such scope.
    """
    wanted = ImageQuery(framework=framework, version=None, region="", image_scope=image_scope)
    return newest_first(release.version for release in _in_scope(wanted))


def find_image(wanted: ImageQuery) -> str:
    """Return the URI of the image that is wanted.

    Raises:
        ConfigurationError: there is no such image; the text lists what there is.
    """
    found = _of_base(wanted, _of_version(wanted, _in_scope(wanted)))
    python = _python(wanted, found)
    if python is not None:
        found = [release for release in found if python in release.pythons]
    processor = _processor(wanted, found)
    found = [release for release in found if processor in release.tags]
    release = _in_region(wanted, found)
    values = {
        "version": wanted.version or release.version,
        "base": number_of_base(wanted.base_framework_version or ""),
        "py": python,
        "container": wanted.container_version,
    }
    tag = filled(release.tags[processor], values)
    if _family(wanted.instance_type) == "p4d" and (wanted.framework, tag) in _P4D_TAGS:
        tag += "-" + _P4D_TAGS[wanted.framework, tag]
    registry = f"{release.accounts[wanted.region]}.dkr.ecr.{wanted.region}.{_domain(wanted.region)}"
    return f"{registry}/{filled(release.repository, values)}" + (f":{tag}" if tag else "")


def _in_scope(wanted: ImageQuery) -> list[Release]:
    known = table.releases(str(wanted.framework))
    if not known:
        raise wanted.refusal("framework", table.frameworks(), "AWS")
    scopes = list(dict.fromkeys(scope for release in known for scope in release.scopes))
    scope = wanted.image_scope
    if scope is None:
        scope = next((usual for usual in _SCOPES if usual in scopes), scopes[0] if len(scopes) == 1 else None)
    if scope not in scopes:
        raise wanted.refusal("image_scope", scopes, wanted.framework)
    return [release for release in known if scope in release.scopes]


def _of_version(wanted: ImageQuery, known: Sequence[Release]) -> list[Release]:
    there_are = newest_first(release.version for release in known)
    if wanted.version is None:
        return [release for release in known if release.version == there_are[0]]
    # An alias goes before a version of the same name: so it is with AWS's pytorch-smp.
    found = [release for release in known if wanted.version in release.aliases]
    found = found or [release for release in known if wanted.version == release.version]
    if not found:
        raise wanted.refusal("version", there_are, wanted.framework)
    return [release for release in found if release.version == found[0].version]


def _of_base(wanted: ImageQuery, known: list[Release]) -> list[Release]:
    bases = newest_first(release.base for release in known if release.base is not None)
    if not bases:
        return known
    found = [release for release in known if wanted.base_framework_version in release.bases]
    if not found:
        raise wanted.refusal("base_framework_version", bases, f"{wanted.framework} {known[0].version}")
    return found


def _python(wanted: ImageQuery, known: Sequence[Release]) -> str | None:
    """Return the Python that stands in the tag, or None where none does."""
    options = list(dict.fromkeys(python for release in known for python in release.pythons))
    given = wanted.py_version
    if not options or given in options:
        return given if options else None
    if given is None and wanted.framework == "spark":
        return None  # the tags without a Python name the usual image
    third = [python for python in options if python.startswith("py3")]
    candidates = options if given is None else third if given == "py3" else []
    if len(candidates) != 1:
        raise wanted.refusal("py_version", options, f"{wanted.framework} {known[0].version}")
    return candidates[0]


def _processor(wanted: ImageQuery, known: Sequence[Release]) -> str:
    """Return the processor that the image is for; an empty string where one image serves all."""
    options = list(dict.fromkeys(processor for release in known for processor in release.tags))
    if options == [""]:
        return ""
    image = f"{wanted.framework} {known[0].version}"
    kinds = " and ".join(options)
    if len(options) == 1 and wanted.instance_type in {None, *LOCAL_INSTANCE_TYPES}:
        return options[0]  # on this machine, the only image there is has to do
    if wanted.instance_type is None:
        raise wanted.error("instance_type", f"missing; {image} has different images for {kinds}")
    processor = _processor_of(wanted.instance_type, options)
    if processor is None:
        raise wanted.error("instance_type", f"must be such as 'ml.m5.xlarge' or 'local', not {wanted.instance_type!r}")
    if processor not in options:
        raise wanted.error(
            "instance_type",
            f"{wanted.instance_type!r} needs an image for {processor}; {image} has one for {kinds} only",
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


def _in_region(wanted: ImageQuery, known: Sequence[Release]) -> Release:
    for release in known:
        if wanted.region in release.accounts:
            return release
    regions = sorted({region for release in known for region in release.accounts})
    raise wanted.refusal("region", regions, f"{wanted.framework} {known[0].version}")


def _domain(region: str) -> str:
    return next((domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix)), "amazonaws.com")
