"""The image of a remote function without `image_uri`: one of AWS's with the caller's Python."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from processing import images
from processing.exceptions import ConfigurationError
from processing.images import table
from processing.images.tags import python_of_image

if TYPE_CHECKING:
    from processing.remote_function.settings import RemoteSettings
    from processing.session.session import Session

STUDIO_VARIABLE: Final = "SAGEMAKER_INTERNAL_IMAGE_URI"
"""The variable in which SageMaker Studio names the image of the notebook."""

# Images of public registries that have no Python, by the last part of their name.
_WITHOUT_PYTHON: Final = frozenset(
    {"alpine", "amazonlinux", "bash", "busybox", "debian", "golang", "nginx", "node", "openjdk", "postgres", "redis"}
    | {"rust", "scratch", "ubuntu"}
)


def default_image(session: Session, settings: RemoteSettings, python: tuple[int, int]) -> str:
    """Return an image with a version of Python. No call to AWS is made.

    Args:
        session: the session of the job.
        settings: the settings of the remote function.
        python: the major and minor version of Python.

    Raises:
        ConfigurationError: AWS has no such image for the region and instance type; the message lists the choices.
    """
    studio = os.environ.get(STUDIO_VARIABLE)
    if studio:
        return studio
    version = f"{python[0]}{python[1]}"
    region, instance_type = session.boto_region_name, settings.instance_type
    if version in _pythons("sagemaker-base-python") and not _has_gpu(instance_type):
        return images.image_uri("sagemaker-base-python", region=region, py_version=version)
    for number in images.versions("pytorch", "training"):
        try:
            return images.image_uri(
                "pytorch",
                number,
                region,
                py_version=f"py{version}",
                instance_type=instance_type or "ml.m5.xlarge",
                image_scope="training",
            )
        except ConfigurationError:  # noqa: PERF203 - a dozen versions
            continue
    raise ConfigurationError(
        f"image_uri: missing; this is Python {python[0]}.{python[1]}, and AWS has no image with it for {instance_type} "
        f"in {region}. Give the URI of an image with this Python. AWS has images with {', '.join(_choices())}"
    )


def check_image(image_uri: str, python: tuple[int, int] | None) -> None:
    """Refuse an image that is known to lack the Python of a call.

    Args:
        image_uri: the image.
        python: the major and minor version of Python that the call needs; None for any.

    Raises:
        ConfigurationError: the image has no Python, or another version of it.
    """
    name = image_uri.rpartition("/")[2].partition("@")[0].partition(":")[0]
    if name in _WITHOUT_PYTHON:
        raise ConfigurationError(f"image_uri: {image_uri} has no Python; give an image with Python 3.8 or later")
    found = python_of_image(image_uri)
    if found is None:
        return
    numbers = tuple(int(number) for number in found.split("."))
    if numbers < (3, 8):
        raise ConfigurationError(f"image_uri: {image_uri} has Python {found}; a remote function needs 3.8 or later")
    if python is not None and numbers != python:
        raise ConfigurationError(
            f"image_uri: {image_uri} has Python {found}, and this is Python {python[0]}.{python[1]}: the code of one "
            "does not run on the other. Give an image with this Python, or by_reference=True with result_format='json'"
        )


def _pythons(framework: str) -> set[str]:
    return {python for release in table.releases(framework) for python in release.pythons}


def _has_gpu(instance_type: str | None) -> bool:
    return re.match(r"ml\.[gp]", instance_type or "") is not None


def _choices() -> list[str]:
    """Return the versions of Python with an image: `3.10`, `3.11`, ..."""
    found = _pythons("sagemaker-base-python") | {
        python[2:]
        for release in table.releases("pytorch")
        if "training" in release.scopes
        for python in release.pythons
    }
    numbers = sorted({(int(each[0]), int(each[1:])) for each in found if len(each) > 1})
    return [f"Python {major}.{minor}" for major, minor in numbers if (major, minor) >= (3, 8)]
