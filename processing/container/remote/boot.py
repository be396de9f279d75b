"""Boot program of a remote function's job: verifies every file of the call before anything uses it.

The loader in the job's entrypoint executes this file after it has compared its SHA-256 with the request. The request
also has the SHA-256 of the manifest, the first line of the call file. The manifest has the size and the SHA-256 of the
bundle and of the rest of the call file. So a permission to write to S3, without one to create jobs, is not enough to
run code here.

The file stands alone: before the bundle is verified, nothing can be imported from it. Each job compiles the file, so it
is short, and the module `start` continues.
"""

# Messages are assembled with %, as in all of `container`; paths are plain strings from the command line.
# ruff: noqa: PTH103, PTH120, PTH123

from __future__ import annotations

import collections
import hashlib
import json
import os
import sys

TYPE_CHECKING = False  # the module `typing` would take longer to load than this file to run
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Dict, List, NoReturn, Tuple

MANIFEST_DIGEST = "PROCESSING_REMOTE_MANIFEST"
"""The variable with the manifest's SHA-256 (hexadecimal)."""
LONGEST_MANIFEST = 16 * 1024 * 1024
"""The bytes that the first line of a call file may have."""
LONGEST_MESSAGE = 1000
"""The bytes of an exit message, of which AWS keeps 1024."""
PACKAGE = "_processing_remote"
"""The package in the bundle that has the modules beside this one."""
_BLOCK = 1024 * 1024

Places = collections.namedtuple("Places", "bundle call result exception message resources")  # noqa: PYI024 - as above
"""Paths of a call in the job, in the order of the command line.

Attributes:
    bundle: the bundle, a zip file with this file, the packages to import, and the caller's files as an archive.
    call: the call file: the manifest in one line, then the packed function and arguments.
    result: the directory for the result.
    exception: the directory for the exception.
    message: the file for the exit message.
    resources: the file that names the hosts.
"""


class RefusalError(Exception):
    """A reason not to run the call."""


def main(arguments: List[str]) -> None:
    """Verify the call's files, and start the call from the verified bundle.

    Args:
        arguments: the paths of `Places`.
    """
    places = Places(*arguments)
    try:
        manifest = read_manifest(places.call, os.environ.get(MANIFEST_DIGEST, ""))
        _verify(places, manifest)
    except RefusalError as refusal:
        refuse(places, str(refusal))
    sys.path[0] = places.bundle
    __import__(PACKAGE + ".start")
    sys.modules[PACKAGE + ".start"].main(places, manifest)


def read_manifest(path: str, digest: str) -> Dict[str, Any]:
    """Return the manifest of a call file, and the position behind it as `start`.

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


def _verify(places: Places, manifest: Dict[str, Any]) -> None:
    """Compare the bundle and the call with the manifest."""
    starts = {"bundle": 0, "call": manifest["start"]}
    for name, entry in manifest["files"].items():
        with open(getattr(places, name), "rb") as file:
            file.seek(starts[name])
            size, digest = _measure(file)
        if (size, digest) != (entry["size"], entry["sha256"]):
            raise RefusalError("the %s is not the one that the request names" % name)


def _measure(file: BinaryIO) -> Tuple[int, str]:
    """Return the number of bytes to the end of a file, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    while True:
        block = file.read(_BLOCK)
        if not block:
            return size, digest.hexdigest()
        digest.update(block)
        size += len(block)


def refuse(places: Places, text: str) -> NoReturn:
    """Write the reason to the exit message and the log, and fail the job. AWS joins the messages of several hosts."""
    with open(places.resources, encoding="utf-8") as file:
        resources = json.load(file)
    if resources["current_host"] == resources["hosts"][0]:
        write_message(places.message, {"slot": "refused", "text": text})
    sys.exit("remote function: %s" % text)


def write_message(path: str, fields: Dict[str, Any]) -> None:
    """Write the exit message; a long `text` in it is cut so that the whole fits."""
    text = json.dumps(fields, separators=(",", ":"))
    while len(text) > LONGEST_MESSAGE and fields.get("text"):
        # A character has six bytes at most, as an escape.
        fields = {**fields, "text": fields["text"][: -max(1, (len(text) - LONGEST_MESSAGE) // 6)]}
        text = json.dumps(fields, separators=(",", ":"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
