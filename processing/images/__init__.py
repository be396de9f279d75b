"""Images: the URIs of those that AWS publishes for frameworks, and patches that add the container shim to any.

The URIs are by version and region, without a call to AWS.
"""

from processing.images.archive import (
    PatchedImage,
    get_image_config,
    get_new_env_vars,
    mutate_image,
    patch_image,
    registry_commands,
)
from processing.images.find import ImageQuery, find_image, image_uri, versions
from processing.images.table import frameworks

__all__ = [
    "ImageQuery",
    "PatchedImage",
    "find_image",
    "frameworks",
    "get_image_config",
    "get_new_env_vars",
    "image_uri",
    "mutate_image",
    "patch_image",
    "registry_commands",
    "versions",
]
