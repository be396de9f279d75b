"""Boot program of a remote function's job: verifies every file of the call before anything uses it.

The loader in the job's entrypoint executes this file after it has compared its SHA-256 with the request. The request
also has the SHA-256 of the manifest, the first line of the call file. The manifest has the size and the SHA-256 of the
bundle and of the rest of the call file. Whoever can write to S3 but not create jobs can thus run nothing here.

The file stands alone: before the bundle is verified, nothing can be imported from it.
"""

# Messages are assembled with %, as in all of `container`; paths are plain strings from the command line.
# ruff: noqa: PTH103, PTH118, PTH120, PTH123

import hashlib
import importlib
import json
import os
import sys
import tarfile
import tempfile
from typing import Any, BinaryIO, Dict, List, NamedTuple, NoReturn

MANIFEST_DIGEST = "PROCESSING_REMOTE_MANIFEST"
"""The variable with the manifest's SHA-256 (hexadecimal)."""
LONGEST_MANIFEST = 16 * 1024 * 1024
"""The bytes that the first line of a call file may have."""
_BLOCK = 1024 * 1024


class Places(NamedTuple):
    """Paths of a call in the job, in the order of the command line.

    Attributes:
        bundle: the bundle, a `tar.gz` with this file, the package `_processing_remote` and the caller's files.
        call: the call file: the manifest in one line, then the packed function and arguments.
        result: the directory for the result.
        exception: the directory for the exception.
        message: the file for the exit message.
        resources: the file that names the hosts.
    """

    bundle: str
    call: str
    result: str
    exception: str
    message: str
    resources: str


class RefusalError(Exception):
    """A reason not to run the call."""


def main(arguments: List[str]) -> None:
    """Verify the call's files, and run the call.

    Args:
        arguments: the paths of `Places`.
    """
    places = Places(*arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        manifest = read_manifest(places.call, os.environ.get(MANIFEST_DIGEST, ""))
        _check_python(manifest)
        _verify(places, manifest)
        folder = _unpack(places.bundle)
    except RefusalError as refusal:
        _refuse(places, str(refusal))
    sys.path[0] = os.path.join(folder, "lib")
    os.environ.update(manifest["environment"])
    program = importlib.import_module("_processing_remote." + manifest["program"])
    program.main(places, manifest, folder)


def read_manifest(path: str, digest: str) -> Dict[str, Any]:
    """Return the manifest of a call file.

    Args:
        path: the call file.
        digest: the SHA-256 that the manifest must have.

    Raises:
        RefusalError: it has another one.
    """
    with open(path, "rb") as file:
        line = file.readline(LONGEST_MANIFEST)
    if hashlib.sha256(line).hexdigest() != digest:
        raise RefusalError("the manifest of the call is not the one that the request names")
    manifest: Dict[str, Any] = json.loads(line)
    manifest["start"] = len(line)
    return manifest


def _check_python(manifest: Dict[str, Any]) -> None:
    """Refuse another minor version of Python than the caller's, for a call that contains code of it."""
    python = manifest["python"]
    if python is not None and list(sys.version_info[:2]) != python:
        raise RefusalError(
            "the image has Python %d.%d, and the caller has Python %d.%d: code of one does not run on the other. "
            "Give an image_uri with Python %d.%d, or call by_reference=True with result_format='json'"
            % (*sys.version_info[:2], *python, *python)
        )


def _verify(places: Places, manifest: Dict[str, Any]) -> None:
    """Compare the bundle and the call with the manifest."""
    starts = {"bundle": 0, "call": manifest["start"]}
    for name, entry in manifest["files"].items():
        with open(getattr(places, name), "rb") as file:
            file.seek(starts[name])
            size, digest = _measure(file)
        if (size, digest) != (entry["size"], entry["sha256"]):
            raise RefusalError("the %s is not the one that the request names" % name)


def _measure(file: BinaryIO) -> "tuple[int, str]":
    """Return the number of bytes to the end of a file, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    while True:
        block = file.read(_BLOCK)
        if not block:
            return size, digest.hexdigest()
        digest.update(block)
        size += len(block)


def _unpack(bundle: str) -> str:
    """Unpack the verified bundle, and return the folder."""
    folder = tempfile.mkdtemp(prefix="remote-function-")
    with tarfile.open(bundle) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Python 3.8 without the filter; the content is verified
            archive.extractall(folder)  # noqa: S202
    return folder


def _refuse(places: Places, text: str) -> NoReturn:
    """Write the reason to the exit message and the log, and fail the job."""
    os.makedirs(os.path.dirname(places.message), exist_ok=True)
    with open(places.message, "w", encoding="ascii") as file:
        json.dump({"slot": "refused", "text": text}, file)
    sys.exit("remote function: %s" % text)


if __name__ == "__main__":
    main(sys.argv[1:])
