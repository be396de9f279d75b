"""Start of the shim as a static binary, which PyInstaller makes from this module."""

from __future__ import annotations

import os
import sys
from typing import MutableMapping

from processing.container.shim.commands import main

ORIGINAL_TMPDIR = "PROCESSING_SHIM_ORIGINAL_TMPDIR"
"""The variable with the TMPDIR of the image, which the launcher changes while the binary unpacks itself."""
_OF_THE_BINARY = ("STATICX_", "_PYI_")


def restore(environment: MutableMapping[str, str]) -> None:
    """Give the environment its state before the binary unpacked itself; a program may be such a binary, too."""
    for name in [each for each in environment if each.startswith(_OF_THE_BINARY)]:
        del environment[name]
    originals = {
        "TMPDIR": environment.pop(ORIGINAL_TMPDIR, environment.get("TMPDIR")),
        "LD_LIBRARY_PATH": environment.pop("LD_LIBRARY_PATH_ORIG", None),
    }
    for name, value in originals.items():
        environment.pop(name, None)
        if value:
            environment[name] = value


if __name__ == "__main__":
    restore(os.environ)
    sys.exit(main())
