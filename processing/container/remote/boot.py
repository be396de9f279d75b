"""Boot program of a remote function's job: verifies every file of the call before anything uses it.

The loader in the job's entrypoint executes this file after it has compared its SHA-256 with the request. The request
also has the SHA-256 of the manifest, the first line of the call file. The manifest has the size and the SHA-256 of the
bundle and of the rest of the call file. So a permission to write to S3, without one to create jobs, is not enough to
run code here.

The file stands alone: before the bundle is verified, nothing can be imported from it.
"""

# Messages are assembled with %, as in all of `container`; paths are plain strings from the command line.
# ruff: noqa: PTH102, PTH103, PTH112, PTH118, PTH120, PTH123

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from typing import Any, BinaryIO, Dict, List, NamedTuple, NoReturn, Tuple

MANIFEST_DIGEST = "PROCESSING_REMOTE_MANIFEST"
"""The variable with the manifest's SHA-256 (hexadecimal)."""
LONGEST_MANIFEST = 16 * 1024 * 1024
"""The bytes that the first line of a call file may have."""
LONGEST_MESSAGE = 1000
"""The bytes of an exit message, of which AWS keeps 1024."""
PACKAGE = "_processing_remote"
"""The package in the bundle that has the modules beside this one."""
FILES = "files.tar.gz"
"""The archive in the bundle that has the caller's files; missing if there are none."""
_BLOCK = 1024 * 1024
WORKSPACE = "workspace"
"""The folder in the bundle with the caller's working directory."""
_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""The beginnings of variables that only a new process takes over."""
_RESUME = "import sys; sys.path[0] = sys.argv[2]; from %s import boot; boot.resume(sys.argv[1], sys.argv[2:])" % PACKAGE


class Places(NamedTuple):
    """Paths of a call in the job, in the order of the command line.

    Attributes:
        bundle: the bundle, a zip file with this file, the packages to import, and the caller's files as an archive.
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
    """Verify the call's files, prepare its environment, and run it.

    Args:
        arguments: the paths of `Places`.
    """
    places = Places(*arguments)
    try:
        manifest = read_manifest(places.call, os.environ.get(MANIFEST_DIGEST, ""))
        spec = manifest["spec"]
        if not spec:
            _check_python(manifest)
        _verify(places, manifest)
        sys.path[0] = places.bundle
        folder = _unpack(places.bundle) if manifest["unpack"] else _new_folder()
        os.environ.update(manifest["environment"])
        if os.path.isdir(os.path.join(folder, WORKSPACE)):
            os.chdir(os.path.join(folder, WORKSPACE))
        python = _prepare(spec, folder) if spec else sys.executable
        if python == sys.executable:
            _check_python(manifest)  # again, as the environment may have led to the same one
    except RefusalError as refusal:
        _refuse(places, str(refusal))
    if python != sys.executable or any(name.startswith(_AT_START) for name in manifest["environment"]):
        sys.stdout.flush()
        os.execv(python, [python, "-c", _RESUME, folder, *places])  # noqa: S606 - the image's or the overlay's Python
    _run(places, manifest, folder)


def resume(folder: str, arguments: List[str]) -> None:
    """Run a verified call in the Python that its environment has.

    Args:
        folder: the folder of the unpacked bundle.
        arguments: the paths of `Places`.
    """
    places = Places(*arguments)
    try:
        manifest = read_manifest(places.call, os.environ[MANIFEST_DIGEST])
        _check_python(manifest)
    except RefusalError as refusal:
        _refuse(places, str(refusal))
    _run(places, manifest, folder)


def _run(places: Places, manifest: Dict[str, Any], folder: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _import_from(os.path.join(folder, WORKSPACE))
    sys.argv = [""]
    importlib.import_module("%s.%s" % (PACKAGE, manifest["program"])).main(places, manifest, folder)


def _import_from(workspace: str) -> None:
    """Let this process and those that it starts import from the caller's working directory, if it travelled."""
    if os.path.isdir(workspace):
        sys.path.insert(1, workspace)
        known = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([workspace, known] if known else [workspace])


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


def _check_python(manifest: Dict[str, Any]) -> None:
    """Refuse another minor version of Python than the caller's, for a call that contains code of it."""
    python = manifest["python"]
    if python is not None and list(sys.version_info[:2]) != python:
        raise RefusalError(
            "the image has Python %d.%d, and the caller has Python %d.%d: the code of one does not run on the other. "
            "Give an image_uri with Python %d.%d, or by_reference=True with result_format='json'"
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


def _measure(file: BinaryIO) -> Tuple[int, str]:
    """Return the number of bytes to the end of a file, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    while True:
        block = file.read(_BLOCK)
        if not block:
            return size, digest.hexdigest()
        digest.update(block)
        size += len(block)


def _unpack(bundle: str) -> str:
    """Unpack the caller's files in the verified bundle, and return the folder."""
    import tarfile  # with zipfile a third of the time until the function runs
    import zipfile

    folder = _new_folder()
    with zipfile.ZipFile(bundle) as outer, outer.open(FILES) as files:  # noqa: SIM117 - one line would be too long
        with tarfile.open(fileobj=files, mode="r|gz") as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, filter="data")
            else:  # Python 3.8 without the filter; the content is verified
                archive.extractall(folder)  # noqa: S202 - the content is verified
    return folder


def _new_folder() -> str:
    """Return a new folder for this job alone. The module `tempfile` would take as long to load as the bundle."""
    name = "remote-function-" + os.urandom(8).hex()
    places = [place for place in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", os.getcwd()) if place]  # noqa: PTH109, S108 - the folder is new and private
    for place in places:
        try:
            os.mkdir(os.path.join(place, name), 0o700)
        except OSError:
            continue
        return os.path.join(place, name)
    raise RefusalError("no folder of the image can be written to: " + ", ".join(places))


def _prepare(spec: Dict[str, Any], folder: str) -> str:
    """Prepare the environment of the call, and return the Python that runs it."""
    environment = importlib.import_module(PACKAGE + ".environment")
    try:
        python: str = environment.prepare(spec, folder)
    except environment.PreparationError as error:
        raise RefusalError(str(error)) from error
    return python


def _refuse(places: Places, text: str) -> NoReturn:
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
