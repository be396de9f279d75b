"""Where another process of the engine finds the modules of this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
"""The folder in which the package lies."""


def search_path() -> list[str]:
    """Return this process's search path, without what depends on its working directory: botocore may be anywhere."""
    return [*dict.fromkeys([*filter(os.path.isabs, sys.path), PACKAGE_ROOT])]
