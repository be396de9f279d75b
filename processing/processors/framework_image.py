"""The image of a framework processor, found by framework, version, region and instance type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from processing import images
from processing.exceptions import ConfigurationError
from processing.request.build import parse_preferences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.images import ImageQuery
    from processing.processors.base import Preferences
    from processing.session.session import Session


def image_query(
    session: Session,
    framework: str,
    version: str | None,
    *,
    py_version: str | None = None,
    base: str | None = None,
    field_names: Mapping[str, str],
) -> ImageQuery:
    """Return the query of a processor for its image, in the session's region.

    Args:
        session: the session of the job.
        framework: the framework's name in `processing.images`.
        version: the framework's version. It is required, so that a new release never changes the image of a job.
        py_version: the Python of the image, such as `py310`.
        base: the framework that this one builds upon, such as `pytorch2.1.0`.
        field_names: the processor's names for the fields, used in errors.

    Raises:
        ConfigurationError: the version or the region is missing.
    """
    query = images.ImageQuery(
        framework=framework,
        version=version,
        region=session.boto_region_name,
        py_version=py_version,
        base_framework_version=base,
        field_names=field_names,
    )
    if version is None:
        raise query.unavailable("version", images.versions(framework), framework)
    return query


def find_image_for(query: ImageQuery, instance_type: str | None, instance_preferences: Preferences | None) -> str:
    """Return the image's URI for the instance type, or for the preferred types, which must have the same image.

    Raises:
        ConfigurationError: AWS has no such image, or the preferred types have different images.
    """
    if instance_type is not None or not instance_preferences:
        return images.find_image(attrs.evolve(query, instance_type=instance_type))
    kinds = [preference.instance_type for preference in parse_preferences(instance_preferences) or ()]
    names = {**query.field_names, "instance_type": "instance_preferences"}
    query = attrs.evolve(query, field_names=names)
    uris = {kind: images.find_image(attrs.evolve(query, instance_type=kind)) for kind in kinds}
    if len(set(uris.values())) > 1:
        listed = ", ".join(f"{kind}: {uri.rpartition('/')[2]}" for kind, uri in uris.items())
        raise ConfigurationError(
            f"instance_preferences: their images differ ({listed}); prefer types with a GPU or types without one, "
            "or give an image_uri that runs on all of them"
        )
    return next(iter(uris.values()))
