"""The environment of a remote function in its job: what is captured here, and what `prepare` makes of it there.

The image is a virtual environment with one package. No index is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from processing import RuntimeEnvironmentError
from processing.container import overlay
from processing.container.remote import environment
from processing.remote_function import remote
from processing.remote_function.environment_capture import Environment, capture_environment
from wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing import LocalSession

_PREPARE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("environment", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
try:
    python = module.prepare(json.loads(sys.argv[2]), sys.argv[3])
except module.PreparationError as error:
    sys.exit(str(error))
import subprocess
sys.exit(subprocess.call([python, "-c", sys.argv[4]]))
"""
_UV = shutil.which("uv", path=str(Path(sys.executable).parent))
_needs_uv = pytest.mark.skipif(_UV is None, reason="needs uv, which is in the extra `test`")


class Job(NamedTuple):
    """The end of a job: its exit code, its output, and the error that ended it."""

    code: int
    out: str
    err: str


class Image(NamedTuple):
    """An image: its Python, and a folder for each job."""

    python: Path
    jobs: Path

    def run(self, captured: Environment, code: str, **variables: str) -> Job:
        """Prepare the environment and run code in it, in an empty working directory."""
        folder = self.jobs / "bundle"
        for name, content in captured.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        work = self.jobs / "work"
        work.mkdir()
        spec = json.dumps(captured.spec)
        temporary = self.jobs / "tmp"
        temporary.mkdir()
        done = subprocess.run(
            [self.python, "-c", _PREPARE, environment.__file__, spec, folder, code],
            cwd=work,
            env=self._variables(temporary, variables),
            capture_output=True,
            text=True,
            check=False,
        )
        return Job(done.returncode, done.stdout, done.stderr)

    @staticmethod
    def _variables(temporary: Path, variables: Mapping[str, str]) -> dict[str, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
        known["PATH"] = "/usr/bin:/bin"
        # pip compares all packages of this machine's Python with each other, for a warning: most of its time. pip's
        # word for an option that begins with "no" is "false".
        quick = {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "PIP_NO_WARN_CONFLICTS": "false"}
        return {**known, "TMPDIR": str(temporary), **quick, **variables}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two packages: `upper` needs `lower`, which the image has in version 1.0."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "upper", "1.0", ["lower"])
    make_wheel(folder, "lower", "2.0")
    return folder


@pytest.fixture(scope="module")
def image_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an image that has `lower` 1.0, and the packages of these tests, pip among them."""
    root = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-I", overlay.__file__, root / "python"], check=True)
    python = root / "python" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-warn-conflicts", str(make_wheel(root, "lower", "1.0"))], check=True)
    return python


@pytest.fixture
def image(image_python: Path, tmp_path: Path) -> Image:
    return Image(image_python, tmp_path)


@pytest.fixture
def bare_image(tmp_path: Path) -> Image:
    """An image without a package, pip included."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return Image(tmp_path / "bare" / "bin" / "python", tmp_path)


_VERSIONS = "import lower, upper; print(upper.VERSION, lower.VERSION)"


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_requirements_are_installed_beside_the_packages_of_the_image(image: Image, wheels: Path) -> None:
    """A missing package is installed, one that the image has stays, and a nested file of constraints travels."""
    written(image.jobs / "limits.txt", "upper<2")
    captured = capture_environment(
        written(image.jobs / "requirements.txt", "-c limits.txt", f"--find-links {wheels}", "upper  # the newest")
    )
    job = image.run(captured, _VERSIONS)
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 1.0"), job
    assert (
        subprocess.run([image.python, "-c", "import upper"], check=False, capture_output=True, cwd="/").returncode == 1
    )


def test_a_version_that_the_image_has_otherwise_fails_the_job_by_name(image: Image, wheels: Path) -> None:
    """A conflict with the image names the package, its version there, and the command."""
    captured = capture_environment(written(image.jobs / "requirements.txt", f"--find-links {wheels}", "lower>=2"))
    job = image.run(captured, _VERSIONS)
    assert job.code == 1
    assert job.err.startswith("dependencies: `")
    assert "ended with exit code 1; the image has lower 1.0, which the job never replaces" in job.err
    assert "ResolutionImpossible" in job.err


def test_nothing_is_left_behind_if_the_image_has_everything(image: Image) -> None:
    """With all requirements met, the function runs on the image's own Python."""
    captured = capture_environment(written(image.jobs / "requirements.txt", "lower"))
    job = image.run(captured, "import os, sys; print(sys.executable, os.environ.get('VIRTUAL_ENV'))", VIRTUAL_ENV="x")
    assert job.out.splitlines()[-1] == f"{image.python} x"
    assert list((image.jobs / "tmp").iterdir()) == []


def test_a_folder_of_wheels_needs_no_network(image: Image, wheels: Path) -> None:
    """Under network isolation a folder of wheels is installed, but no wheel of a package that the image has."""
    captured = capture_environment(f"{wheels}/", network_isolation=True)
    job = image.run(captured, _VERSIONS)
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 1.0"), job
    assert "the image's own versions stay: lower 1.0, not 2.0" in job.out


@_needs_uv
def test_uv_installs_where_pip_is_missing(bare_image: Image, wheels: Path) -> None:
    """On an image without pip, uv installs into the environment of the job."""
    captured = capture_environment(wheels)
    job = bare_image.run(captured, _VERSIONS, PATH=f"{Path(str(_UV)).parent}:/usr/bin:/bin", UV_SYSTEM_PYTHON="1")
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 2.0"), job
    assert "uv pip install" in job.out


@_needs_uv
def test_uv_keeps_the_packages_of_the_image_too(bare_image: Image, wheels: Path) -> None:
    """uv, which ignores packages below an environment, is told of them, and a conflict names the package."""
    install = [str(_UV), "pip", "install", "-q", "--offline", "--python", str(bare_image.python)]
    subprocess.run([*install, str(make_wheel(bare_image.jobs, "lower", "1.0"))], check=True)
    path = f"{Path(str(_UV)).parent}:/usr/bin:/bin"
    lines = ["--no-index", f"--find-links {wheels}", "upper"]
    captured = capture_environment(written(bare_image.jobs / "requirements.txt", *lines))
    job = bare_image.run(captured, _VERSIONS, PATH=path)
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 1.0"), job
    other = bare_image._replace(jobs=bare_image.jobs / "other")
    other.jobs.mkdir()
    job = other.run(capture_environment(written(other.jobs / "requirements.txt", *lines, "lower==2.0")), "", PATH=path)
    assert job.code == 1
    assert "the image has lower 1.0, which the job never replaces" in job.err


def test_an_image_with_neither_pip_nor_uv_gets_the_pip_of_its_library(bare_image: Image, wheels: Path) -> None:
    """Python's own copy of pip installs, where Python has one."""
    job = bare_image.run(capture_environment(wheels), _VERSIONS)
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 2.0"), job


def test_commands_run_first_with_the_python_of_the_job(image: Image, wheels: Path) -> None:
    """Commands run before the installation, in the working directory; their `pip` installs for this job alone."""
    commands = ["touch first", f"pip install -q --find-links {wheels} upper", "command -v python"]
    captured = capture_environment(written(image.jobs / "requirements.txt", "upper"), pre_execution_commands=commands)
    job = image.run(captured, _VERSIONS + "; import os; print(os.listdir())")
    assert job.code == 0, job
    assert job.out.splitlines()[-2:] == ["1.0 1.0", "['first']"]
    python = job.out.splitlines()[1]
    assert python != str(image.python)
    assert python.endswith("/bin/python")


def test_a_failing_script_fails_the_job_with_its_last_lines(image: Image) -> None:
    """The first failing command ends the preparation; the error has its exit code and its last lines."""
    script = written(image.jobs / "setup.sh", "echo before", "sh -c 'echo no such disk >&2; exit 7'", "echo after")
    job = image.run(capture_environment(pre_execution_script=script), "print('never')")
    assert job.code == 1
    assert job.err.splitlines()[0].startswith("pre_execution: `")
    assert "ended with exit code 7" in job.err
    assert job.err.splitlines()[-2:] == ["before", "no such disk"]
    assert "after" not in job.out
    assert "never" not in job.out


def test_an_unset_variable_fails_the_script(image: Image) -> None:
    """Scripts run with the options -eu, as in sagemaker-core."""
    job = image.run(capture_environment(pre_execution_commands=["echo $NOT_SET_ANYWHERE"]), "")
    assert job.code == 1
    assert "NOT_SET_ANYWHERE: unbound variable" in job.err


def test_a_background_process_does_not_delay_the_function(image: Image) -> None:
    """A script may leave a process behind that holds its output open."""
    captured = capture_environment(pre_execution_commands=["sleep 600 & echo $! > pid"])
    job = image.run(captured, "import os, signal; os.kill(int(open('pid').read()), signal.SIGKILL); print('ran')")
    assert job.out.splitlines()[-1] == "ran"


def test_passwords_of_indexes_are_masked(image: Image) -> None:
    """User names and passwords in URLs are in neither the log nor the error."""
    commands = ["echo https://user:secret@example.com/simple", "false https://token@example.com"]
    job = image.run(capture_environment(pre_execution_commands=commands), "")
    assert "https://****@example.com/simple" in job.out
    assert "secret" not in job.out + job.err
    assert environment.mask("git+ssh://git@host/x and https://a:b@c/d") == "git+ssh://****@host/x and https://****@c/d"


def test_captured_packages_are_installed_if_the_image_lacks_them(image: Image, wheels: Path) -> None:
    """Exact versions are installed but for packages that the image has: its versions stay, and the log says so."""
    lines = "upper==1.0\nlower==2.0\nelsewhere==1.0 ; sys_platform == 'win32'\n"
    spec = {"dependencies": {"kind": "captured", "path": "environment/requirements.txt"}}
    files: dict[str, Any] = {
        "environment/requirements.txt": lines.encode(),
        "environment/overlay.py": Path(overlay.__file__),
    }
    job = image.run(Environment(files, spec), _VERSIONS, PIP_FIND_LINKS=str(wheels))
    assert (job.code, job.out.splitlines()[-1]) == (0, "1.0 1.0"), job
    assert "the image's own versions stay: lower 1.0, not 2.0" in job.out


def test_the_environment_of_this_process_captured_fits_itself(image: Image) -> None:
    """Captured here and prepared on the same Python, nothing is missing, so nothing is installed."""
    job = image.run(capture_environment("auto_capture"), "import sys; print(sys.executable)")
    assert job.out.splitlines()[-1] == str(image.python), job


def test_the_calls_of_a_map_see_the_installed_packages(local_session: LocalSession, wheels: Path) -> None:
    """On the engine, each call of a map runs in the environment that its job has prepared."""

    def version(name: str) -> str:
        import importlib

        return str(importlib.import_module(name).VERSION)

    function = remote(version, instance_type="local", sagemaker_session=local_session, dependencies=wheels)
    assert list(function.map(["upper", "lower"])) == ["1.0", "2.0"]
    with pytest.raises(RuntimeEnvironmentError, match=r"pre_execution: .* ended with exit code 4(?s:.*)no disk"):
        function.options(dependencies=None, pre_execution_commands=["echo no disk; exit 4"])("upper")


def test_the_caller_s_own_environment_is_captured_for_a_job(local_session: LocalSession) -> None:
    """On the engine, a job with the captured packages needs nothing and runs on the caller's Python."""
    function = remote(
        lambda: sys.executable, instance_type="local", sagemaker_session=local_session, dependencies="auto_capture"
    )
    assert function() == sys.executable


_CONDA = """#!/bin/sh
# Stands in for conda: one environment, `mine`, and new ones that are empty virtual environments.
echo "conda $*"
case "$1 $2" in
    "run -n") shift 4; CONDA_DEFAULT_ENV=mine exec {python} "$@" ;;
    "run -p") python="$3/bin/python"; shift 4; CONDA_DEFAULT_ENV=new exec "$python" "$@" ;;
    "env create") exec {python} -m venv --without-pip "$4" ;;
    "env update") echo "pinned: $CONDA_PINNED_PACKAGES" ;;
    *) exit 9 ;;
esac
"""
_WHERE = "import os, sys; print(os.environ['CONDA_DEFAULT_ENV'], sys.prefix)"


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """The folder of a program in the place of conda, whose environment, with pip, is `environment` beside it."""
    venv.create(tmp_path / "environment", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    (packages / "pip.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (tmp_path / "environment" / "conda-meta").mkdir()
    (tmp_path / "environment" / "conda-meta" / "numpy-2.0-h1.json").touch()
    (tmp_path / "programs").mkdir()
    program = tmp_path / "programs" / "conda"
    program.write_text(_CONDA.format(python=tmp_path / "environment" / "bin" / "python"))
    program.chmod(0o700)
    return program.parent


def test_a_conda_environment_of_the_image_runs_the_function(image: Image, conda: Path, wheels: Path) -> None:
    """The function gets the variables of the environment, and packages are installed over it."""
    path = f"{conda}:/usr/bin:/bin"
    job = image.run(capture_environment(job_conda_env="mine"), _WHERE, PATH=path)
    assert job.out.splitlines()[-1] == f"mine {conda.parent / 'environment'}", job
    again = image._replace(jobs=image.jobs / "again")
    again.jobs.mkdir()
    job = again.run(capture_environment(wheels), f"{_VERSIONS}; {_WHERE}", PATH=path, SAGEMAKER_JOB_CONDA_ENV="mine")
    versions, where = job.out.splitlines()[-2:]
    assert versions == "1.0 2.0"
    assert where.startswith(f"mine {again.jobs / 'tmp'}/overlay-")


def test_a_conda_file_makes_an_environment(image: Image, conda: Path) -> None:
    """A conda file makes an environment of its own, or adds to the named one without a change of its packages."""
    file = written(image.jobs / "environment.yml", "dependencies:", "  - numpy")
    path = f"{conda}:/usr/bin:/bin"
    job = image.run(capture_environment(file), _WHERE, PATH=path)
    assert job.out.splitlines()[-1].startswith(f"new {image.jobs / 'tmp'}/conda-"), job
    again = image._replace(jobs=image.jobs / "again")
    again.jobs.mkdir()
    job = again.run(capture_environment(file, job_conda_env="mine"), _WHERE, PATH=path)
    assert "pinned: numpy=2.0" in job.out
    assert job.out.splitlines()[-1] == f"mine {conda.parent / 'environment'}"


def test_an_image_without_conda_is_named(image: Image) -> None:
    """The error names the programs that are missing, and the remedy."""
    job = image.run(capture_environment(written(image.jobs / "environment.yml", "dependencies:")), "")
    assert job.err.startswith("dependencies: the image has neither conda nor mamba nor micromamba; give an image_uri")
