"""The module `sagemaker.image_uris`."""

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
        framework: the framework's name, such as `sklearn`, `pytorch`, `spark` or `data-wrangler`.
        region: the AWS region of the registry.
        version: the framework's version, such as `1.2-1`; None for the newest.
        py_version: the Python of the image, such as `py310`.
        instance_type: the instance type that runs the image.
        accelerator_type: not supported: it is for endpoints.
        image_scope: `processing`, `training`, `inference`, ...; None for the scope that a processing job runs.
        container_version: the end of the tag, such as `v1` for Spark's images.
        distribution: not supported: it is for training jobs.
        base_framework_version: the framework that Hugging Face's image builds upon, such as `pytorch2.1.0`.
        others: not supported: parameters for models and endpoints.

    Raises:
        ConfigurationError: AWS has no such image, or a parameter is not for processing jobs.
    """
    others |= {"accelerator_type": accelerator_type, "distribution": distribution}
    others.pop("sagemaker_session", None)  # sagemaker reads the region from it, which is a parameter here
    unsupported = [name for name, value in others.items() if value]
    if unsupported:
        raise ConfigurationError(f"{unsupported[0]}: is not for the images of processing jobs; leave it out")
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
