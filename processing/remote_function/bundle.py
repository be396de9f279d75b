"""The files of a remote function's job: one bundle of code, and one file with the manifest and the packed call."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container import remote
from processing.container.remote.boot import MANIFEST_DIGEST
from processing.exceptions import ConfigurationError
from processing.staging.bundles import Member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOT_DIGEST: Final = "PROCESSING_REMOTE_BOOT"
"""The variable with the SHA-256 of the boot program (hexadecimal). It also marks a job as that of a remote function."""

BUNDLE_FILE: Final = "bundle.tar.gz"
CALL_FILE: Final = "call.bin"

# A line break is not allowed in an argument, and AWS limits an argument to 256 characters.
LOADER: Final = (
    "import os,sys,hashlib as h,tarfile as t;b=t.open(sys.argv[1]).extractfile('boot.py').read();"
    f"exec(b if h.sha256(b).hexdigest()==os.environ['{BOOT_DIGEST}']"
    "else'raise SystemExit(\"boot.py is not the one that the request names\")')"
)
"""The program in the job's entrypoint: it executes the boot program if the request has its digest."""

_PACKAGE = Path(remote.__file__).parent


@functools.cache
def boot_digest() -> str:
    """Return the SHA-256 of the boot program."""
    return hashlib.sha256((_PACKAGE / "boot.py").read_bytes()).hexdigest()


@functools.cache
def job_members() -> tuple[Member, ...]:
    """Return the files that every job needs.

    Raises:
        ConfigurationError: cloudpickle is not installed.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise ConfigurationError(
            "remote functions need cloudpickle: install it with pip install 'sm-processing[remote]'"
        ) from error
    members = [Member(_PACKAGE / "boot.py", "boot.py")]
    for name, folder in (("_processing_remote", _PACKAGE), ("cloudpickle", Path(cloudpickle.__file__).parent)):
        members += [Member(path, f"lib/{name}/{path.name}") for path in sorted(folder.glob("*.py"))]
    return tuple(members)


@attrs.frozen
class CallFile:
    """The content of a call file, and the variables of the request that vouch for it.

    Args:
        body: the manifest in one line, then the packed call.
        environment: the variables.
    """

    body: bytes = attrs.field(repr=False)
    environment: Mapping[str, str]


def call_file(packed: bytes, bundle: Mapping[str, Any], settings: Mapping[str, Any]) -> CallFile:
    """Return the call file.

    Args:
        packed: the packed function and arguments.
        bundle: the bundle's `sha256` and `size`.
        settings: further members of the manifest.
    """
    files = {"bundle": bundle, "call": {"sha256": hashlib.sha256(packed).hexdigest(), "size": len(packed)}}
    manifest = json.dumps({**settings, "files": files}, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    digests = {BOOT_DIGEST: boot_digest(), MANIFEST_DIGEST: hashlib.sha256(manifest).hexdigest()}
    return CallFile(manifest + packed, digests)


def is_marked(environment: Mapping[str, str] | None) -> bool:
    """Return whether a job's variables are those of a remote function."""
    return bool(environment) and BOOT_DIGEST in (environment or {}) and MANIFEST_DIGEST in (environment or {})


def all_members(extra: Sequence[Member]) -> list[Member]:
    """Return all files of a bundle."""
    return [*job_members(), *extra]
