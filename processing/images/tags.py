"""Facts in the name of an image."""

from __future__ import annotations

import re


def python_of_image(image: str) -> str | None:
    """Return the version of Python that an image's name or tag has, such as `3.10` for `py310`; None for none."""
    name, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    found = re.search(r"(?:^|[-_])py(\d)(\d+)(?=$|[-_])", tag)
    if found is None:
        found = re.fullmatch(r"sagemaker-base-python-(\d)(\d+)", name)
    if found is None and name == "python":
        found = re.match(r"(\d)\.(\d+)", tag)
    return None if found is None else f"{found[1]}.{found[2]}"
