"""The import search path for the engine's other processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
"""The folder that contains the package."""


def search_path() -> list[str]:
    """Return this process's search path, without entries relative to its working directory.

    All entries are needed, since botocore may be installed in any of them.
    """
    return [*dict.fromkeys([*filter(os.path.isabs, sys.path), PACKAGE_ROOT])]
