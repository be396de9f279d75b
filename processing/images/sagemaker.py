"""The releases that a file of `sagemaker` says there are: the JSON in its `image_uri_config`, of 2.x and of 3.x.

Such a file describes one framework. Its names and what they mean are read off sagemaker 2.257.7 and sagemaker-core
2.27.0, whose `image_uris.retrieve` is followed, exceptions included: some tags depend on the framework's or the
repository's name. Elastic Inference is gone from AWS, but its images are listed like the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing.images.releases import Release, number_of_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# These have tags with the whole names of versions, whatever aliases were given.
_WITH_FULL_NAMES = frozenset({"huggingface-pytorch-inference-neuron", "huggingface-pytorch-inference-neuronx"})
# Neuron's images have the SDK's version before that of the container: here the newest.
_WITH_SDK = _WITH_FULL_NAMES | {
    "pytorch-training-neuron",
    "pytorch-training-neuronx",
    "huggingface-vllm-inference-neuronx",
}
# In these tags the name of the tool stands where that of the processor would.
_TOOLS = {"pytorch-neuron": "neuron", "huggingface-neuron": "neuron", "huggingface-neuronx": "neuronx"}
# These have tags that end with a version of the container which the caller may give.
_WITH_CONTAINER = frozenset({"huggingface", "huggingface-training-compiler", "pytorch-smp", "spark"})
# The two frameworks whose images for Graviton have tags of their own.
_ARM_TAGS = {"xgboost": "{version}-arm64", "sklearn": "{version}-arm64-cpu-{py}"}


def read_releases(framework: str, document: Mapping[str, Any]) -> list[Release]:
    """Return what a file of `sagemaker` describes.

    Args:
        framework: the file's name without `.json`.
        document: what it holds.
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
    """Return the images of plain Python: the Python is in the repository's name, and their file does not say which."""
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
    """Yield base, Python and description of each image: a version has one, or one for each base or Python."""
    if "repository" in described:
        yield None, None, described
        return
    for name, image in described.items():
        if name != "version_aliases":
            yield (None, name, image) if name in {"py2", "py3"} else (name, None, image)


def _tag(framework: str, release: Release, image: Mapping[str, Any], processor: str) -> str:
    """Return the pattern of the tags for a processor."""
    if framework in _ARM_TAGS and release.scopes == ("inference_graviton",):
        return _ARM_TAGS[framework]
    word = _TOOLS.get(framework, processor)
    if not image.get("processor_in_tag", True) or (framework == "sagemaker-tritonserver" and processor == "gpu"):
        word = ""
    python = "{py}" if release.pythons else ""
    parts = (_beginning(release, image), word, python, _end(framework, image, processor))
    return "-".join(part for part in parts if part)


def _beginning(release: Release, image: Mapping[str, Any]) -> str:
    if release.base is None:
        return str(image.get("tag_prefix", "{version}"))
    if release.repository in _WITH_FULL_NAMES:
        return f"{number_of_base(release.base)}-transformers{release.version}"
    return "{base}-transformers{version}"


def _end(framework: str, image: Mapping[str, Any], processor: str) -> str:
    """Return what the container's version adds to the tag."""
    container = (image.get("container_version") or {}).get(processor)
    repository = image["repository"]
    if not container:
        return "{container}" if framework in _WITH_CONTAINER else ""
    if repository in {f"{framework}-inference-graviton", f"{framework}-inference-arm64"}:
        return f"{container}-sagemaker"
    return f"{max(image['sdk_versions'])}-{container}" if repository in _WITH_SDK else str(container)
