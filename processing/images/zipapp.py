"""The container shim as one executable zip file, with the parts of botocore that it needs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import processing.container
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OLDEST = (3, 8)
"""The oldest Python that runs the shim."""
_PACKAGES = ("botocore", "jmespath", "dateutil", "six", "urllib3")
_DISTRIBUTIONS = ("botocore", "jmespath", "python-dateutil", "six", "urllib3")
_DATA = re.compile(
    r"botocore/(cacert\.pem|data/(s3/[^/]+|sts/[^/]+)/(service|endpoint|paginators|waiters)[^/]*"
    r"|data/(_retry|endpoints|partitions|sdk-default-configuration)\.json(\.gz)?)"
)
"""The files of botocore for S3 and STS, beside its modules."""
_LEFT_OUT = re.compile(r"(^|/)(__pycache__|tests?|dateutil/zoneinfo|urllib3/contrib/emscripten)/")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time of a zip file: the same content makes the same file."""


def build_zipapp(interpreter: str = "/usr/bin/env python3", carried: Mapping[str, bytes] | None = None) -> bytes:
    """Return the shim as an executable zip file.

    Args:
        interpreter: the program in the first line, with at most one argument.
        carried: the files of botocore for images without one; None to carry nothing.
    """
    members = {f"shim/{name}": data for name, data in _shim_files().items()}
    members.update((f"botocore/{name}", data) for name, data in (carried or {}).items())
    members["__main__.py"] = (_container_folder() / "shim/zip_main.py").read_bytes()
    digest = hashlib.sha256()
    for name, data in sorted(members.items()):
        digest.update(b"%d %d " % (len(name), len(data)) + name.encode() + data)
    members["digest"] = digest.hexdigest().encode()
    packed = io.BytesIO()
    packed.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(members.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return packed.getvalue()


def botocore_for(version: tuple[int, int]) -> dict[str, bytes]:
    """Return the files of a botocore for a version of Python, trimmed to S3 and STS.

    It is the installed one if that supports the version. Otherwise pip fetches the last one that does.

    Raises:
        ConfigurationError: no botocore supports the version, or pip cannot fetch it.
    """
    found = importlib.metadata.metadata("botocore")["Requires-Python"]
    oldest = re.search(r">=\s*(\d+)\.(\d+)", str(found))
    if oldest is not None and version >= (int(oldest[1]), int(oldest[2])):
        files = _installed_files()
    else:
        files = _fetched_files(version)
    return {name: data for name, data in files if _is_needed(name)}


def _container_folder() -> Path:
    return Path(str(processing.container.__file__)).parent


def _shim_files() -> dict[str, bytes]:
    """Return the modules of the shim and of the package around it, which has nothing else."""
    folder = _container_folder()
    files = {"processing/__init__.py": b""}
    for path in [*folder.glob("*.py"), *folder.glob("shim/*.py")]:
        files[f"processing/container/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return files


def _installed_files() -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        origin = Path(str(spec.origin if spec is not None else None))
        if origin.name != "__init__.py":
            yield origin.name, origin.read_bytes()
            continue
        for path in origin.parent.rglob("*"):
            if path.is_file():
                yield f"{package}/{path.relative_to(origin.parent).as_posix()}", path.read_bytes()
    for name in _DISTRIBUTIONS:
        for file in importlib.metadata.files(name) or []:
            if _is_license(str(file)):
                yield str(file), Path(str(file.locate())).read_bytes()


def _fetched_files(version: tuple[int, int]) -> Iterator[tuple[str, bytes]]:
    # The limits of botocore's own requirements. pip reads those for the Python that runs it, not for another one.
    urllib3 = "urllib3<1.27" if version < (3, 10) else "urllib3<3,!=2.2.0"
    needed = ["botocore", "jmespath<2", "python-dateutil<3", "six", urllib3]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += [
            "--disable-pip-version-check",
            "--python-version",
            "{}.{}".format(*version),
            "--dest",
            folder,
            *needed,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if done.returncode:
            last = next(reversed(done.stderr.strip().splitlines()), "")
            raise ConfigurationError(
                "python_version: pip cannot fetch botocore for Python {}.{} ({}); ".format(*version, last)
                + "install boto3 in the image, or use the static shim"
            )
        for wheel in sorted(Path(folder).iterdir()):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    yield name, archive.read(name)


def _is_needed(name: str) -> bool:
    if _LEFT_OUT.search(name):
        return False
    return _is_license(name) or _DATA.fullmatch(name) is not None or (name.endswith(".py") and ".data/" not in name)


def _is_license(name: str) -> bool:
    return ".dist-info/" in name and PurePosixPath(name).name.split(".")[0].upper() in {"LICENSE", "NOTICE", "COPYING"}
