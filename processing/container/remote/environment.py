"""Environment of a function in its job: commands that run before it, and the dependencies that are installed for it.

Packages are installed into an overlay, a virtual environment that sees the packages of the image. The other ways have
faults: `pip install` into the image needs permission and replaces its files, `pip install --target` installs a second
copy of the image's packages, and a plain virtual environment hides it. The versions that the image has are constraints
of each installation, so none of them is replaced.

The caller's commands run first, as in sagemaker-core's remote functions, in the working directory. `python` and `pip`
are the overlay's for them. Their output, like pip's, goes to this process's output, and so to the job's log. User names
and passwords in URLs are masked in it.
"""

# Messages are assembled with %, and paths are plain strings, as in the boot program.
# ruff: noqa: PTH110, PTH118, PTH119, PTH120, PTH123, PTH207, PTH208

from __future__ import annotations

import collections
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from typing import Any, Deque, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, TextIO

FOLDER = "environment"
"""The folder of the files of this module in the bundle."""
OVERLAY = FOLDER + "/overlay.py"
"""The module that makes overlays, in the bundle."""
CONDA_VARIABLE = "SAGEMAKER_JOB_CONDA_ENV"
"""The variable in which an image may name the conda environment of its functions, as sagemaker-core reads it."""

_LAST_LINES = 20  # of a failed command: pip describes a conflict in about ten
_LAST_OUTPUT = 2.0  # seconds for the last lines of a command whose background processes hold its output open
_CONDA_PROGRAMS = ("mamba", "conda", "micromamba")  # the first that is found runs
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@", re.IGNORECASE)
_VERSION = re.compile(r"(?:\d+!)?\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?(?:\+[a-z0-9.]+)?")
"""A version of PEP 440 in its normal form: pip refuses a whole list for another form."""
_PIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([^\s;,'\"]+)")
_PROBE = """
import importlib.util, json, sys
from importlib.metadata import distributions
versions = {}
for each in distributions():
    if each.metadata["Name"]:
        versions.setdefault(each.metadata["Name"], each.version)
facts = {name: importlib.util.find_spec(name) is not None for name in ("pip", "ensurepip")}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"versions": versions, **facts}, file)
"""
_ACTIVATED = """
import json, os, sys
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"executable": sys.executable, "variables": dict(os.environ)}, file)
"""
_SETTINGS: Dict[str, Optional[str]] = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "CONDA_ALWAYS_YES": "true",
    "MAMBA_ALWAYS_YES": "true",
    # An image may set these, and packages would not get into the overlay.
    "PIP_USER": "0",
    "PIP_PREFIX": None,
    "PIP_REQUIRE_VIRTUALENV": None,
    "PIP_ROOT": None,
    "PIP_TARGET": None,
    "UV_SYSTEM_PYTHON": None,
    "UV_PYTHON": None,
}
"""Variables of programs that install; None removes one."""


class PreparationError(Exception):
    """The environment cannot be prepared.

    Args:
        step: the step that failed, as the caller's parameter: `dependencies`, `pre_execution` or `job_conda_env`.
        problem: a sentence without the final period.
        lines: the last lines of the command that failed.
        code: its exit code; None if no command failed.
    """

    def __init__(self, step: str, problem: str, lines: Iterable[str] = (), code: Optional[int] = None) -> None:
        self.step = step
        self.problem = mask(problem)
        self.lines = [mask(line) for line in lines]
        self.code = code
        super().__init__("\n".join(["%s: %s" % (step, self.problem), *self.lines]))


class _Image(NamedTuple):
    """The Python of the image.

    Attributes:
        python: its executable.
        versions: the version of each of its packages, by normalized name.
        has_pip: True if it has pip.
        has_ensurepip: True if its library can install pip.
    """

    python: str
    versions: Dict[str, str]
    has_pip: bool
    has_ensurepip: bool


def prepare(spec: Mapping[str, Any], folder: str) -> str:
    """Run the caller's commands, install the dependencies, and return the Python that runs the function.

    The environment variables of this process become those of the function: PATH and VIRTUAL_ENV of the overlay, or the
    variables of the conda environment.

    Args:
        spec: the `spec` of an `Environment` of `processing.remote_function.environment_capture`.
        folder: the folder with the `files` of the same value.

    Raises:
        PreparationError: a step failed. The text names the command and has the last lines of its output.
    """
    conda_env = spec.get("conda_env") or os.environ.get(CONDA_VARIABLE)
    dependencies, script = spec.get("dependencies"), spec.get("pre_execution")
    with tempfile.TemporaryDirectory(prefix="environment-") as scratch:
        python = _activate_conda(["-n", conda_env], scratch) if conda_env else sys.executable
        if dependencies is None and script is None:
            return python
        preparation = _Preparation(python, folder, scratch)
        if script is not None:
            preparation.run_script(script)
        if dependencies is not None:
            preparation.install(dependencies, conda_env)
        return preparation.finish()


def mask(text: str) -> str:
    """Return the text with the user name and password of each URL replaced by asterisks."""
    return _CREDENTIALS.sub(r"\1****@", text)


class _Preparation:
    """The preparation of one environment.

    Args:
        python: the image's Python.
        folder: the folder of the bundle.
        scratch: a folder for temporary files.
    """

    def __init__(self, python: str, folder: str, scratch: str) -> None:
        self._folder = folder
        self._scratch = scratch
        self._image = _probe(python, scratch)
        self._conda_python: Optional[str] = None
        self._overlay = os.path.join(tempfile.mkdtemp(prefix="overlay-"), "python")
        _run("environment", [python, "-I", os.path.join(folder, OVERLAY), self._overlay])
        self._python = os.path.join(self._overlay, "bin", "python")
        self._before = {name: os.environ.get(name) for name in ("PATH", "VIRTUAL_ENV")}
        search_path = os.pathsep.join([os.path.dirname(self._python), os.environ.get("PATH") or os.defpath])
        _set_variables({"PATH": search_path, "VIRTUAL_ENV": self._overlay})

    def run_script(self, script: str) -> None:
        """Run the caller's commands."""
        shell = next((each for each in ("/bin/bash", "/usr/bin/bash") if os.path.exists(each)), "/bin/sh")
        _run("pre_execution", [shell, "-eu", os.path.join(self._folder, script)], announce=True)

    def install(self, dependencies: Mapping[str, Any], conda_env: Optional[str]) -> None:
        """Install the dependencies.

        Args:
            dependencies: the `dependencies` of the spec.
            conda_env: the name of the conda environment that a conda file updates; None for a new one.
        """
        file = os.path.join(self._folder, dependencies["path"])
        kind = dependencies["kind"]
        if kind == "requirements":
            self._install_packages(["-r", os.path.basename(file)], os.path.dirname(file))
        elif kind == "wheels":
            self._install_wheels(file)
        elif kind == "captured":
            self._install_captured(file, dependencies.get("conda"))
        elif conda_env is None:
            self._create_conda(file)
        else:
            _update_conda(conda_env, self._image.python, file)

    def finish(self) -> str:
        """Return the Python for the function. Remove the overlay if nothing is in it."""
        if self._conda_python is None and self._has_packages():
            return self._python
        shutil.rmtree(os.path.dirname(self._overlay), ignore_errors=True)
        if self._conda_python is not None:
            return self._conda_python  # its activation has set the variables
        _set_variables(self._before)
        return self._image.python

    def _has_packages(self) -> bool:
        """Return whether a package is in the overlay, other than pip."""
        found = glob.glob(os.path.join(glob.escape(self._overlay), "lib*", "python*", "site-packages", "*"))
        names = {os.path.basename(path) for path in found} - {"_below.pth", "__pycache__"}
        return any(not re.match(r"pip(-|$)", name) for name in names)

    def _install_packages(self, wanted: Sequence[str], folder: str) -> None:
        """Install packages with pip, or with uv where pip is missing.

        Args:
            wanted: the requirements, as arguments of `pip install` and `uv pip install`.
            folder: the folder to which their paths are relative.
        """
        constraints = self._write("constraints.txt", _pins(self._image.versions))
        uv = shutil.which("uv")
        try:
            if self._image.has_pip or (uv is None and self._image.has_ensurepip):
                self._install_with_pip(constraints, wanted, folder)
            else:
                self._install_with_uv(uv, constraints, wanted, folder)
        except PreparationError as error:
            raise self._explained(error) from None

    def _install_with_pip(self, constraints: str, wanted: Sequence[str], folder: str) -> None:
        if not self._image.has_pip:
            _run("dependencies", [self._python, "-m", "ensurepip"])
        command = [self._python, "-m", "pip", "install", "-c", constraints, *wanted]
        _run("dependencies", command, folder=folder, announce=True)

    def _install_with_uv(self, uv: Optional[str], constraints: str, wanted: Sequence[str], folder: str) -> None:
        """Install with uv, which does not see the packages below an overlay.

        So it first solves for the image's Python, where the image's versions count, and installs nothing. Then it
        installs into the overlay all but the packages that the image has.
        """
        if uv is None:
            raise PreparationError("dependencies", "the image has neither pip nor uv; give an image_uri with one")
        common = [uv, "pip", "install", "--no-progress"]
        trial = ["--dry-run", "--break-system-packages", "--python", self._image.python, "-c", constraints]
        _run("dependencies", [*common, *trial, *wanted], folder=folder)
        never = [name + " ; python_version < '0'" for name in sorted(self._image.versions)]
        overrides = self._write("overrides.txt", never)
        command = [*common, "--python", self._python, "--override", overrides, *wanted]
        _run("dependencies", command, folder=folder, announce=True)

    def _install_wheels(self, folder: str) -> None:
        """Install the wheels of a folder, except those of packages that the image has."""
        wheels = sorted(name for name in os.listdir(folder) if name.endswith(".whl"))
        versions = {name: version for name, version, *_ in (wheel.split("-") for wheel in wheels)}
        missing = self._missing(versions)
        if missing:
            self._install_packages(["--no-index", "--find-links", ".", *missing], folder)

    def _install_captured(self, file: str, conda_file: Optional[str]) -> None:
        """Install the packages of the caller's environment, except those that the image has.

        An image with conda gets the whole conda environment, if the caller's is one.
        """
        with open(file, encoding="utf-8") as text:
            lines = {_required_name(line): line.strip() for line in text if line.strip()}
        pins = (_PIN.match(line) for line in lines.values())
        versions = dict.fromkeys(lines, "")
        versions.update((match[1], match[2]) for match in pins if match is not None)
        missing = {_normalized(name) for name in self._missing(versions)}
        if missing and conda_file is not None and _find_conda() is not None:
            self._create_conda(os.path.join(self._folder, conda_file))
        elif missing:
            wanted = [line for name, line in lines.items() if _normalized(name) in missing]
            wheels = [line for line in wanted if _is_wheel(line)]
            others = [line for line in wanted if not _is_wheel(line)]
            self._install_packages(["-r", self._write("missing.txt", others), *wheels], os.path.dirname(file))

    def _missing(self, versions: Mapping[str, str]) -> List[str]:
        """Return the names of the packages that the image does not have. Report those that it has otherwise."""
        missing, other = [], []
        for name, version in versions.items():
            there = self._image.versions.get(_normalized(name))
            if there is None:
                missing.append(name)
            elif version and _public(version) != _public(there):
                other.append("%s %s, not %s" % (name, there, version))
        if other:
            _say("dependencies: the image's own versions stay: " + "; ".join(other))
        return missing

    def _explained(self, error: PreparationError) -> PreparationError:
        """Return the error, with the packages of the image that are part of a conflict."""
        named = {(_normalized(name), version) for line in error.lines for name, version in _PIN.findall(line)}
        part = sorted("%s %s" % pin for pin in named if self._image.versions.get(pin[0]) == pin[1])
        if not part:
            return error
        hint = "; the image has %s, which the job never replaces: allow that version, or give another image_uri"
        return PreparationError(error.step, error.problem + hint % ", ".join(part), error.lines, error.code)

    def _create_conda(self, file: str) -> None:
        """Create a conda environment for the function."""
        place = os.path.join(tempfile.mkdtemp(prefix="conda-"), "environment")
        _run("dependencies", [_conda(), "env", "create", "-p", place, "--file", file], announce=True)
        self._conda_python = _activate_conda(["-p", place], self._scratch)

    def _write(self, name: str, lines: Iterable[str]) -> str:
        path = os.path.join(self._scratch, name)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        return path


def _probe(python: str, scratch: str) -> _Image:
    """Return the packages of a Python."""
    report = os.path.join(scratch, "packages.json")
    _run("environment", [python, "-c", _PROBE, report])
    with open(report, encoding="utf-8") as file:
        facts = json.load(file)
    versions = {_normalized(name): str(version) for name, version in facts["versions"].items()}
    return _Image(python, versions, facts["pip"], facts["ensurepip"])


def _pins(versions: Mapping[str, str]) -> List[str]:
    """Return a line for each package with its version. Packages whose version pip refuses to read have none."""
    return ["%s==%s" % pin for pin in sorted(versions.items()) if _VERSION.fullmatch(pin[1])]


def _normalized(name: str) -> str:
    """Return the form in which two names of one package are equal, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _public(version: str) -> str:
    """Return a version without the label of a build, such as `2.1.0` for `2.1.0+cu121`."""
    return version.partition("+")[0]


def _required_name(line: str) -> str:
    """Return the package of a captured requirement: a pin, a URL with a name, or the path of a wheel."""
    line = line.strip()
    if _is_wheel(line):
        return os.path.basename(line).split("-")[0]
    return re.split(r"[\s=@;\[]", line, maxsplit=1)[0]


def _is_wheel(line: str) -> bool:
    """Return whether a captured requirement is the path of a wheel."""
    return line.endswith(".whl") and " @ " not in line


def _find_conda() -> Optional[str]:
    """Return the path of conda, or of a program with the same commands; None if there is none."""
    paths = [shutil.which(name) for name in _CONDA_PROGRAMS]
    paths += [os.environ.get("CONDA_EXE"), os.environ.get("MAMBA_EXE")]
    return next((path for path in paths if path), None)


def _conda() -> str:
    """Return the path of conda, or raise the error for its absence."""
    path = _find_conda()
    if path is None:
        raise PreparationError(
            "dependencies",
            "the image has neither conda nor mamba nor micromamba; give an image_uri with one, or a requirements.txt",
        )
    return path


def _activate_conda(environment: Sequence[str], scratch: str) -> str:
    """Take over the variables of a conda environment, and return its Python.

    Args:
        environment: the options that name it.
        scratch: a folder for temporary files.
    """
    report = os.path.join(scratch, "activated.json")
    _run("job_conda_env", [_conda(), "run", *environment, "python", "-c", _ACTIVATED, report])
    with open(report, encoding="utf-8") as file:
        facts = json.load(file)
    variables = facts["variables"]
    _set_variables({name: variables.get(name) for name in {*variables, *os.environ}})
    return str(facts["executable"])


def _update_conda(name: str, python: str, file: str) -> None:
    """Add the packages of a file to a conda environment, with the packages in it pinned to their versions."""
    prefix = os.path.dirname(os.path.dirname(python))
    records = glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*-*-*.json"))
    pins = ["%s=%s" % tuple(os.path.basename(path).rsplit("-", 2)[:2]) for path in sorted(records)]
    command = [_conda(), "env", "update", "-n", name, "--file", file]
    _run("dependencies", command, variables={"CONDA_PINNED_PACKAGES": "&".join(pins)}, announce=True)


def _set_variables(variables: Mapping[str, Optional[str]]) -> None:
    """Set variables of this process; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _run(
    step: str,
    command: Sequence[str],
    *,
    folder: Optional[str] = None,
    variables: Optional[Mapping[str, str]] = None,
    announce: bool = False,
) -> None:
    """Run a command to its end. Its output goes to this process's output line by line.

    Args:
        step: the caller's parameter, for the error.
        command: the program and its arguments.
        folder: its working directory; None for this process's.
        variables: further environment variables.
        announce: True to show the command first.

    Raises:
        PreparationError: it cannot be started, or its exit code is not 0.
    """
    settings = {**os.environ, **(variables or {}), **_SETTINGS}
    line = " ".join(map(shlex.quote, command))
    if announce:
        _say("%s: %s" % (step, line))
    try:
        process = subprocess.Popen(  # noqa: S603 - the caller's commands, and programs of the image
            command,
            cwd=folder,
            env={name: value for name, value in settings.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise PreparationError(step, "%s cannot be started (%s)" % (command[0], error.strerror or error)) from None
    last: Deque[str] = collections.deque(maxlen=_LAST_LINES)
    reader = threading.Thread(target=_copy_output, args=(process.stdout, last), daemon=True)
    reader.start()
    code = process.wait()
    # A background process that the command leaves behind keeps its output open, and the thread goes on copying it.
    reader.join(_LAST_OUTPUT)
    if code != 0:
        end = "ended with exit code %d" % code if code > 0 else "was ended by signal %d" % -code
        raise PreparationError(step, "`%s` %s" % (_short(line), end), list(last), code)


def _copy_output(source: TextIO, last: Deque[str]) -> None:
    """Copy lines to this process's output, and keep the last ones that are not empty."""
    with source:
        for text in source:
            line = text.rstrip("\n")
            _say(line)
            if line.strip():
                last.append(_short(line))


def _say(text: str) -> None:
    """Write a line to the log."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(mask(text).encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def _short(text: str) -> str:
    """Return a text for an error, cut if it is long: a probe's source is in its command line."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."
