"""A Python environment for one job on top of the Python that the user shares with it.

The job installs packages into the overlay. It can import the packages of the shared Python, which stay unchanged. That
Python runs this module: `python -I overlay.py <directory>`.
"""

from __future__ import annotations

import site
import sys
import sysconfig
import venv
from pathlib import Path

_PIP = '#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n'


def make_overlay(directory: str) -> None:
    """Create the environment.

    Args:
        directory: the target, which must not exist; its `bin` gets `python`, `python3` and `pip`.
    """
    below = list(site.getsitepackages())
    if sys.prefix == sys.base_prefix:  # a virtual environment excludes the user's packages
        below.append(site.getusersitepackages())
    venv.EnvBuilder(symlinks=True, with_pip=False).create(directory)
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
    packages = sysconfig.get_path("purelib", scheme, {"base": directory, "platbase": directory})
    # `addsitedir` also processes .pth files: an editable installation is one of them.
    lines = ["import site; site.addsitedir(%r)\n" % path for path in below if Path(path).is_dir()]
    Path(packages, "_below.pth").write_text("".join(lines), encoding="utf-8")
    for name in ("pip", "pip3"):  # the programs on the PATH would install into the shared Python
        program = Path(directory, "bin", name)
        program.write_text(_PIP, encoding="utf-8")
        program.chmod(0o700)


if __name__ == "__main__":
    make_overlay(sys.argv[1])
