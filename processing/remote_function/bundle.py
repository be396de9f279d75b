"""The files of a remote function's job: one bundle of code, and one file with the manifest and the packed call."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import marshal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from processing.container import remote
from processing.container.remote.boot import MANIFEST_DIGEST, PACKAGE
from processing.container.remote.start import FILES
from processing.remote_function.packing import require_cloudpickle
from processing.staging.bundles import Bundle, Member, keep_chunks, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BOOT_DIGEST: Final = "PROCESSING_REMOTE_BOOT"
"""The variable with the SHA-256 of the boot program (hexadecimal). It also marks a job as that of a remote function."""

FORMAT_VARIABLE: Final = "PROCESSING_REMOTE_FORMAT"
"""The variable with the form of the result. A form other than pickle is never unpickled."""

ITEMS_FORMAT: Final = "items-"
"""The beginning of that variable's value for a generator function, whose items are in segments."""

CALLS_FORMAT: Final = "calls-"
"""The beginning of that variable's value for a map, whose results are in segments."""

FUNCTION_DIGEST: Final = "PROCESSING_REMOTE_FUNCTION"
"""The variable with the digest of a map's function, which shows to a later map that it has changed."""

POOL_FORMAT: Final = "pool"
"""The value of that variable for a pool, whose results went to its owner."""

BUNDLE_FILE: Final = "bundle.zip"
CALL_FILE: Final = "call.bin"

# A line break is not allowed in an argument, and AWS limits an argument to 256 characters.
LOADER: Final = (
    "import os,sys,hashlib as h,zipimport as z;b=z.zipimporter(sys.argv[1]).get_data('boot.py');"
    f"exec(b if h.sha256(b).hexdigest()==os.environ['{BOOT_DIGEST}']"
    "else'raise SystemExit(\"boot.py is not the one that the request names\")')"
)
"""The program in the job's entrypoint: it executes the boot program if the request has its digest."""

_UNCHECKED: Final = (1).to_bytes(4, "little")
"""The flags of bytecode that belongs to its source by hash and is not compared with it, PEP 552."""
_PACKAGE = Path(remote.__file__).parent


@functools.cache
def boot_digest() -> str:
    """Return the SHA-256 of the boot program."""
    return hashlib.sha256((_PACKAGE / "boot.py").read_bytes()).hexdigest()


def job_bundle(members: Sequence[Member], field: str) -> Bundle:
    """Return the bundle of a job: a zip file from which Python imports, with the caller's files as an archive in it.

    Args:
        members: the caller's files.
        field: the parameter that they belong to, for messages.

    Raises:
        ConfigurationError: cloudpickle is not installed, or files have the same name.
        StagingError: files cannot be read or change meanwhile, each named; or the disk is full.
    """
    files = make_bundle(members, field=field) if members else None
    return _plain_bundle() if files is None else _zipped(files)


@functools.cache
def _plain_bundle() -> Bundle:
    return _zipped(None)


def _zipped(files: Bundle | None) -> Bundle:
    import io
    import tempfile
    import zipfile

    with io.BytesIO() if files is None or files.path is None else tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in _modules():
                archive.writestr(zipfile.ZipInfo(name), content)
            if files is not None:
                entry = zipfile.ZipInfo(FILES)
                entry.file_size = files.size
                with archive.open(entry, "w") as target, files.view() as view:
                    target.write(view)
        size = file.tell()
        file.seek(0)
        return keep_chunks(iter(lambda: file.read(1 << 20), b""), size)


def _modules() -> Iterator[tuple[str, bytes]]:
    """Yield the files that every job needs: the boot program, and the modules of two packages with their bytecode.

    A job with the caller's version of Python need not compile them; another one ignores the bytecode. Its form without
    references is the same in every process, so the bundle's key is too.
    """
    require_cloudpickle()
    import cloudpickle

    yield "boot.py", (_PACKAGE / "boot.py").read_bytes()
    for name, folder in ((PACKAGE, _PACKAGE), ("cloudpickle", Path(cloudpickle.__file__).parent)):
        for path in sorted(folder.glob("*.py")):
            source = path.read_bytes()
            code = marshal.dumps(compile(source, f"{name}/{path.name}", "exec", dont_inherit=True), 2)
            head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
            yield f"{name}/{path.name}", source
            yield f"{name}/{path.name}c", head + code


@attrs.frozen
class CallContent:
    """The content of a call that does not depend on the name of its job.

    Args:
        packed: the packed function and arguments.
        manifest: the members of the manifest beside the digests and the variables.
        members: the caller's files in the bundle.
        checkpoints: the S3 prefix of the function's checkpoints; None if it has none.
        spark_events: the S3 prefix for Spark's events; None without Spark or without their upload.
        function_digest: the digest of a map's function; None for other calls.
    """

    packed: Bundle
    manifest: Mapping[str, Any]
    members: tuple[Member, ...] = ()
    checkpoints: str | None = None
    spark_events: str | None = None
    function_digest: str | None = None


def members_of(files: Mapping[str, Path | bytes]) -> tuple[Member, ...]:
    """Return files by their name in the bundle as its members."""
    return tuple(
        Member(Path(name), name, content) if isinstance(content, bytes) else Member(content, name)
        for name, content in files.items()
    )


class Measured(Protocol):
    """Content with its size and hash."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 (hexadecimal)."""

    @property
    def size(self) -> int | None:
        """The number of bytes."""


def make_manifest(files: Mapping[str, Measured], settings: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return the manifest, one line, and the variables of the request that vouch for it and for the boot program.

    Args:
        files: the files of a call by their names among the `Places`.
        settings: further members.
    """
    entries = {name: {"sha256": file.sha256, "size": file.size} for name, file in files.items()}
    line = json.dumps({**settings, "files": entries}, separators=(",", ":"), sort_keys=True).encode() + b"\n"
    return line, {BOOT_DIGEST: boot_digest(), MANIFEST_DIGEST: hashlib.sha256(line).hexdigest()}
