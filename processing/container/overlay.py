"""A Python environment of a job's own, over the one that it would share with the user: what it installs goes there.

Run by the Python that it is made over: `python -I overlay.py <directory>`. What is installed below is seen, and stays
as it is.
"""

from __future__ import annotations

import site
import sys
import sysconfig
import venv
from pathlib import Path

_PIP = '#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n'


def make_overlay(directory: str) -> None:
    """Make the environment in a directory that is not there yet.

    Args:
        directory: where to; its `bin` has `python`, `python3` and `pip`.
    """
    below = list(site.getsitepackages())
    if sys.prefix == sys.base_prefix:  # a virtual environment does not see what the user has
        below.append(site.getusersitepackages())
    venv.EnvBuilder(symlinks=True, with_pip=False).create(directory)
    scheme = "venv" if "venv" in sysconfig.get_scheme_names() else "posix_prefix"
    packages = sysconfig.get_path("purelib", scheme, {"base": directory, "platbase": directory})
    # Not the paths alone: an editable installation is a .pth file in one of them.
    lines = ["import site; site.addsitedir(%r)\n" % path for path in below if Path(path).is_dir()]
    Path(packages, "_below.pth").write_text("".join(lines), encoding="utf-8")
    for name in ("pip", "pip3"):  # those on the PATH would install below
        program = Path(directory, "bin", name)
        program.write_text(_PIP, encoding="utf-8")
        program.chmod(0o700)


if __name__ == "__main__":
    make_overlay(sys.argv[1])
