"""The URIs of the images that AWS publishes for frameworks, by version and region, without a call to AWS."""

from processing.images.find import ImageQuery, find_image, image_uri, versions
from processing.images.table import frameworks

__all__ = ["ImageQuery", "find_image", "frameworks", "image_uri", "versions"]
