"""Container images that have one version of Python, the libraries that it needs, and nothing else."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

_UNUSED = {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tkinter", "turtledemo"}
_GRAPHICS = "_tkinter"
_UNUSED_BEGINNINGS = ("config-", _GRAPHICS)


def find_python(version: str) -> Path | None:
    """Return the program of a version of Python on this machine, such as `3.8`; None if there is none.

    It is on the PATH, or one that pyenv has installed.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    on_path = shutil.which(f"python{version}")
    candidates = [*root.glob(f"versions/{version}.*/bin/python{version}"), *([Path(on_path)] if on_path else [])]
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", "import sys; print(sys.version)"], capture_output=True, check=False)
        if done.stdout.decode().startswith(f"{version}."):
            return candidate
    return None


def write_python_image(python: Path, archive: Path) -> None:
    """Write the root file system of an image with a Python, as a tar archive: no shell, and no packages.

    The program is in /usr/local, which is where Python looks for its modules then.
    """
    question = "import sys, sysconfig; print(sysconfig.get_path('stdlib')); print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", question], capture_output=True, check=True, text=True)
    modules, version = answer.stdout.split()
    with tarfile.open(archive, "w") as tar:
        tar.add(python.resolve(), f"usr/local/bin/python{version}")
        tar.add(modules, f"usr/local/lib/python{version}", filter=_used)
        extensions = [path for path in Path(modules, "lib-dynload").glob("*.so") if _GRAPHICS not in path.name]
        for library in _libraries([python.resolve(), *extensions]):
            place = f"lib64/{library.name}" if library.name.startswith("ld-") else f"lib/{library.name}"
            tar.add(library.resolve(), place)
        link = tarfile.TarInfo("usr/local/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
        tar.addfile(link)
        for name, mode in (("tmp", 0o1777), ("etc", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory, io.BytesIO())


def _used(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = member.name.split("/")[4:]
    unused = any(part in _UNUSED or part.startswith(_UNUSED_BEGINNINGS) for part in parts)
    return None if unused else member


def _libraries(programs: list[Path]) -> set[Path]:
    """Return the shared libraries of programs, with the one that the C library loads when a thread ends."""
    found: set[Path] = set()
    for program in programs:
        done = subprocess.run(["ldd", program], capture_output=True, check=False, text=True)
        found |= {Path(path) for path in re.findall(r"(/\S+) \(0x", done.stdout)}
    beside = {library.with_name("libgcc_s.so.1") for library in found if library.name.startswith("libc.so")}
    return found | {library for library in beside if library.exists()}
