"""Start of a verified call: the caller's files, the environment, and the program that runs the call.

The boot program executes this module from the verified bundle, where it has its bytecode beside it.
"""

# Paths are plain strings, as in the boot program.
# ruff: noqa: PTH102, PTH112, PTH118

from __future__ import annotations

import importlib
import os
import sys

from .boot import MANIFEST_DIGEST, PACKAGE, Places, RefusalError, read_manifest, refuse

TYPE_CHECKING = False  # as in the boot program
if TYPE_CHECKING:
    from typing import Any, Dict, List

FILES = "files.tar.gz"
"""The archive in the bundle that has the caller's files; missing if there are none."""
WORKSPACE = "workspace"
"""The folder in the bundle with the caller's working directory."""
_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""The beginnings of variables that only a new process takes over."""
_RESUME = (
    "import sys; sys.path[0] = sys.argv[2]; from %s import start; start.resume(sys.argv[1], sys.argv[2:])" % PACKAGE
)


def main(places: Places, manifest: Dict[str, Any]) -> None:
    """Prepare the environment of a verified call, and run it.

    Args:
        places: the paths of the call.
        manifest: the verified manifest.
    """
    spec = manifest["spec"]
    try:
        if not spec:
            _check_python(manifest)
        folder = _unpack(places.bundle) if manifest["unpack"] else _new_folder()
        os.environ.update(manifest["environment"])
        if os.path.isdir(os.path.join(folder, WORKSPACE)):
            os.chdir(os.path.join(folder, WORKSPACE))
        python = _prepare(spec, folder) if spec else sys.executable
        if python == sys.executable:
            _check_python(manifest)  # again, as the environment may have led to the same one
    except RefusalError as refusal:
        refuse(places, str(refusal))
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
        refuse(places, str(refusal))
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


def _check_python(manifest: Dict[str, Any]) -> None:
    """Refuse another minor version of Python than the caller's, for a call that contains code of it."""
    python = manifest["python"]
    if python is not None and list(sys.version_info[:2]) != python:
        raise RefusalError(
            "the image has Python %d.%d, and the caller has Python %d.%d: the code of one does not run on the other. "
            "Give an image_uri with Python %d.%d, or by_reference=True with result_format='json'"
            % (*sys.version_info[:2], *python, *python)
        )


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
