"""`sagemaker.image_uris`."""

from __future__ import annotations

from typing import Any

from processing.exceptions import ConfigurationError
from processing.images import image_uri


def retrieve(
    framework: str,
    region: str,
    version: str | None = None,
    py_version: str | None = None,
    instance_type: str | None = None,
    accelerator_type: str | None = None,
    image_scope: str | None = None,
    container_version: str | None = None,
    distribution: Any = None,
    base_framework_version: str | None = None,
    **others: Any,
) -> str:
    """Return the URI of an image that AWS publishes; see `processing.images.image_uri`.

    Args:
        framework: see there.
        region: see there.
        version: see there.
        py_version: see there.
        instance_type: see there.
        accelerator_type: of endpoints; not here.
        image_scope: see there.
        container_version: see there.
        distribution: of training jobs; not here.
        base_framework_version: see there.
        others: of models and endpoints; not here.

    Raises:
        ConfigurationError: there is no such image, or something is given that is not for processing jobs.
    """
    others |= {"accelerator_type": accelerator_type, "distribution": distribution}
    others.pop("sagemaker_session", None)  # asked for a region, which is given
    given = [name for name, value in others.items() if value]
    if given:
        raise ConfigurationError(f"{given[0]}: is not for the images of processing jobs; leave it out")
    return image_uri(
        framework,
        version,
        region,
        py_version=py_version,
        instance_type=instance_type,
        image_scope=image_scope,
        base_framework_version=base_framework_version,
        container_version=container_version,
    )
