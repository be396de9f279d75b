"""Reader of the JSON files in the `image_uri_config` folder of `sagemaker` 2.x and 3.x.

Each file describes the releases of one framework. The format follows `image_uris.retrieve` of sagemaker 2.257.7 and
sagemaker-core 2.27.0. It has their exceptions: some tags depend on the name of the framework or the repository. AWS has
ended Elastic Inference, but the files still list its images, and so does this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing.images.releases import Release, number_of_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The tags of these repositories contain full versions, even if the user wrote an alias.
_FULL_VERSION_REPOSITORIES = frozenset(
    {"huggingface-pytorch-inference-neuron", "huggingface-pytorch-inference-neuronx"}
)
# The tags of Neuron's images contain the SDK's version before the container's. The newest SDK is used.
_SDK_REPOSITORIES = _FULL_VERSION_REPOSITORIES | {
    "pytorch-training-neuron",
    "pytorch-training-neuronx",
    "huggingface-vllm-inference-neuronx",
}
# The tags of these frameworks contain the name of a tool in the place of the processor.
_TOOLS = {"pytorch-neuron": "neuron", "huggingface-neuron": "neuron", "huggingface-neuronx": "neuronx"}
# The tags of these frameworks end with a version of the container, which the caller may choose.
_CONTAINER_VERSION_FRAMEWORKS = frozenset({"huggingface", "huggingface-training-compiler", "pytorch-smp", "spark"})
# The tags of these frameworks' images for Graviton, which have a form of their own.
_ARM_TAGS = {"xgboost": "{version}-arm64", "sklearn": "{version}-arm64-cpu-{py}"}


def read_releases(framework: str, document: Mapping[str, Any]) -> list[Release]:
    """Return the releases that a file of `sagemaker` describes.

    Args:
        framework: the file's name without `.json`.
        document: the file's content.
    """
    if framework == "sagemaker-base-python":
        return _base_python(document)
    if "scope" in document:
        return list(_releases(framework, tuple(document["scope"]), document))
    return [
        release
        for scope, part in document.items()
        if isinstance(part, dict) and "versions" in part
        for release in _releases(framework, (scope,), part)
    ]


def _base_python(document: Mapping[str, Any]) -> list[Release]:
    """Return the images of plain Python. Their repository names contain the Python, which the file does not list."""
    return [
        Release(
            scopes=("processing", "training", "inference"),
            version=version,
            repository=f"{image['repository']}-{{py}}",
            accounts=image["registries"],
            tags={"": "{version}"},
            pythons=("310", "38"),
        )
        for version, image in document["versions"].items()
    ]


def _releases(framework: str, scopes: tuple[str, ...], part: Mapping[str, Any]) -> Iterator[Release]:
    for version, described in part["versions"].items():
        for base, python, image in _images(described):
            release = Release(
                scopes=scopes,
                version=version,
                repository=str(image["repository"]),
                accounts=image["registries"],
                tags={},
                pythons=(python,) if python else tuple(image.get("py_versions") or ()),
                aliases=_names_of(version, part.get("version_aliases", {})),
                base=base,
                base_aliases=_names_of(base, described.get("version_aliases", {})),
            )
            processors = part.get("processors") or image.get("processors") or [""]
            yield attrs.evolve(release, tags={name: _tag(framework, release, image, name) for name in processors})


def _names_of(name: str | None, aliases: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, meant in aliases.items() if meant == name and alias != name))


def _images(described: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None, Mapping[str, Any]]]:
    """Yield base, Python and description of each image. A version has one image, or one for each base or Python."""
    if "repository" in described:
        yield None, None, described
        return
    for name, image in described.items():
        if name != "version_aliases":
            yield (None, name, image) if name in {"py2", "py3"} else (name, None, image)


def _tag(framework: str, release: Release, image: Mapping[str, Any], processor: str) -> str:
    """Return the pattern of the tag for a processor."""
    if framework in _ARM_TAGS and release.scopes == ("inference_graviton",):
        return _ARM_TAGS[framework]
    word = _TOOLS.get(framework, processor)
    if not image.get("processor_in_tag", True) or (framework == "sagemaker-tritonserver" and processor == "gpu"):
        word = ""
    python = "{py}" if release.pythons else ""
    parts = (_tag_start(release, image), word, python, _tag_end(framework, image, processor))
    return "-".join(part for part in parts if part)


def _tag_start(release: Release, image: Mapping[str, Any]) -> str:
    if release.base is None:
        return str(image.get("tag_prefix", "{version}"))
    if release.repository in _FULL_VERSION_REPOSITORIES:
        return f"{number_of_base(release.base)}-transformers{release.version}"
    return "{base}-transformers{version}"


def _tag_end(framework: str, image: Mapping[str, Any], processor: str) -> str:
    """Return the part of the tag that depends on the container's version."""
    container = (image.get("container_version") or {}).get(processor)
    repository = image["repository"]
    if not container:
        return "{container}" if framework in _CONTAINER_VERSION_FRAMEWORKS else ""
    if repository in {f"{framework}-inference-graviton", f"{framework}-inference-arm64"}:
        return f"{container}-sagemaker"
    return f"{max(image['sdk_versions'])}-{container}" if repository in _SDK_REPOSITORIES else str(container)
