"""The image of a framework processor: of its framework, its version, its region and its instance type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from processing import images
from processing.exceptions import ConfigurationError
from processing.request.build import preferences_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.images import ImageQuery
    from processing.processors.base import Preferences
    from processing.session.session import Session


def wanted_image(
    session: Session,
    framework: str,
    version: str | None,
    *,
    py_version: str | None = None,
    base: str | None = None,
    called: Mapping[str, str],
) -> ImageQuery:
    """Return what a processor wants of `processing.images`, for the session's region.

    Args:
        session: where the job will run.
        framework: the name in `processing.images`.
        version: the framework's version, which has to be given: a new release must not change what a job runs.
        py_version: such as `py310`.
        base: what the framework builds upon, such as `pytorch2.1.0`.
        called: the processor's names for the fields, for errors.

    Raises:
        ConfigurationError: there is no version, or no region.
    """
    wanted = images.ImageQuery(
        framework=framework,
        version=version,
        region=session.boto_region_name,
        py_version=py_version,
        base_framework_version=base,
        called=called,
    )
    if version is None:
        raise wanted.refusal("version", images.versions(framework), framework)
    return wanted


def image_for(wanted: ImageQuery, instance_type: str | None, instance_preferences: Preferences | None) -> str:
    """Return the image's URI for the instance type, or for the preferred types: they need the same image.

    Raises:
        ConfigurationError: there is no such image.
    """
    if instance_type is not None or not instance_preferences:
        return images.find_image(attrs.evolve(wanted, instance_type=instance_type))
    kinds = [preference.instance_type for preference in preferences_of(instance_preferences) or ()]
    uris = {kind: images.find_image(attrs.evolve(wanted, instance_type=kind)) for kind in kinds}
    if len(set(uris.values())) > 1:
        listed = ", ".join(f"{kind}: {uri.rpartition('/')[2]}" for kind, uri in uris.items())
        raise ConfigurationError(
            f"instance_preferences: their images differ ({listed}); prefer types with a GPU or types without one, "
            "or give an image_uri that runs on all"
        )
    return next(iter(uris.values()))
