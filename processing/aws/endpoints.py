"""The hosts of AWS, by the partitions that the installed botocore knows."""

from __future__ import annotations

import functools
from urllib.parse import urlsplit


def is_aws(url: str) -> bool:
    """Return whether an endpoint is AWS's own, in any partition, rather than that of a stand-in.

    Args:
        url: the URL of the endpoint.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host.endswith(_suffixes())


@functools.cache
def _suffixes() -> tuple[str, ...]:
    """Return the ends of the host names of all partitions, such as `.amazonaws.com`."""
    import botocore.loaders

    partitions = botocore.loaders.create_loader().load_data("partitions")["partitions"]
    names = ("dnsSuffix", "dualStackDnsSuffix")
    return tuple({f".{each['outputs'][name]}" for each in partitions for name in names if name in each["outputs"]})
