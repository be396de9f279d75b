"""Dependencies and pre-execution scripts as files of a job, and the refusals before anything is uploaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processing import ConfigurationError, LocalSession, NetworkConfig
from processing.container import overlay
from processing.remote_function import remote
from processing.remote_function.dependencies.conda import current_environment
from processing.remote_function.environment_capture import Environment, capture_environment
from wheels import make_wheel

_UV = shutil.which("uv", path=str(Path(sys.executable).parent))


def text(captured: Environment, name: str = "requirements.txt") -> str:
    content = captured.files[f"environment/{name}"]
    assert isinstance(content, bytes)
    return content.decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a wheel and a project."""
    monkeypatch.chdir(tmp_path)
    make_wheel(tmp_path / "wheels", "upper", "1.0")
    (tmp_path / "project").mkdir()
    return tmp_path


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_nothing_is_captured_for_nothing() -> None:
    """Without dependencies and commands there is neither a file nor a step."""
    assert capture_environment() == Environment({}, {})
    assert capture_environment(job_conda_env="base").spec == {"conda_env": "base"}
    assert capture_environment(pre_execution_commands=[]).spec == {}


def test_files_that_requirements_name_travel(folder: Path) -> None:
    """Nested files, wheels and folders of wheels get a path in the bundle; all else stays as it is written."""
    (folder / "nested").mkdir()
    written(folder / "nested" / "limits.txt", "numpy<3", "-r ../requirements.txt")
    captured = capture_environment(
        written(
            folder / "requirements.txt",
            "# a comment",
            "--index-url https://example.com/simple --pre",
            "-r nested/limits.txt",
            "--find-links=wheels",
            "pandas [performance] >= 2 ; python_version >= '3.8'  # the newest",
            "numpy == 2.0 \\",
            "    --hash=sha256:00",
            "./wheels/upper-1.0-py3-none-any.whl[extra] ; sys_platform == 'linux'",
            f"upper @ {(folder / 'wheels' / 'upper-1.0-py3-none-any.whl').as_uri()}",
            "other @ git+https://example.com/other@1234#egg=other",
        )
    )
    wheel = folder / "wheels" / "upper-1.0-py3-none-any.whl"
    assert text(captured).splitlines() == [
        "--index-url https://example.com/simple --pre",
        "-r requirements-1.txt",
        "--find-links local/2",
        "pandas [performance] >= 2 ; python_version >= '3.8'",
        "numpy == 2.0     --hash=sha256:00",
        "./local/3/upper-1.0-py3-none-any.whl[extra] ; sys_platform == 'linux'",
        "./local/3/upper-1.0-py3-none-any.whl",
        "other @ git+https://example.com/other@1234#egg=other",
    ]
    assert text(captured, "requirements-1.txt").splitlines() == ["numpy<3", "-r requirements.txt"]
    assert captured.files["environment/local/2/upper-1.0-py3-none-any.whl"] == wheel
    assert captured.files["environment/local/3/upper-1.0-py3-none-any.whl"] == wheel


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_requirements_of_other_editors_are_read(folder: Path, encoding: str) -> None:
    """A mark at the beginning names the encoding, as PowerShell and Notepad write it."""
    (folder / "requirements.txt").write_text("numpy\r\n", encoding=encoding)
    assert text(capture_environment("requirements.txt")) == "numpy\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-r missing.txt", "line 2: missing.txt does not exist"),
        ("-e project", "line 2: project is an editable installation; the caller's own modules travel"),
        ("./project", "line 2: ./project is a folder of this machine; the caller's own modules travel"),
        ("own @ git+file:///srv/own", "line 2: .*is a repository of this machine"),
        ("./missing-1.0-py3-none-any.whl", "line 2: ./missing-1.0-py3-none-any.whl does not exist"),
        ("--find-links project", "line 2: .*project is not a folder with wheels"),
        ("--extra-index-url file:///not/there", "line 2: file:///not/there does not exist"),
        ("--extra-index-url project", "line 2: the index project is a folder of this machine; use --find-links"),
        ("-r 'nested", "line 2: .*cannot be read"),
    ],
    ids=str,
)
def test_lines_that_cannot_travel_are_refused(folder: Path, line: str, message: str) -> None:
    """The error has the file, the line and the remedy."""
    written(folder / "requirements.txt", "numpy", line)
    with pytest.raises(ConfigurationError, match=f"dependencies: .*requirements.txt, {message}"):
        capture_environment("requirements.txt")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dependencies": "missing.txt"}, "dependencies: 'missing.txt' does not exist"),
        ({"dependencies": "setup.cfg"}, "dependencies: 'setup.cfg' must be a requirements.txt, a pyproject.toml"),
        ({"dependencies": "other.toml"}, "dependencies: 'other.toml' must be a requirements.txt, a pyproject.toml"),
        ({"dependencies": 3}, "dependencies: must be the path of a requirements.txt"),
        ({"dependencies": "project"}, r"dependencies: the folder '.*project' has no wheel in it.*pip wheel -r"),
        ({"pre_execution_script": "missing.sh"}, "pre_execution_script: 'missing.sh' does not exist"),
        ({"pre_execution_script": "project"}, "pre_execution_script: 'project' is not a file"),
        ({"pre_execution_commands": "ls"}, "pre_execution_commands: must be an iterable, not a string"),
        ({"pre_execution_commands": ["ls", 3]}, r"pre_execution_commands\[1\]: must be a string"),
        ({"pre_execution_commands": ["ls"], "pre_execution_script": "x"}, "pre_execution_commands: only one of"),
        ({"job_conda_env": "a b"}, "job_conda_env: 'a b' is not the name of a conda environment"),
        ({"job_conda_env": "-p"}, "job_conda_env: '-p' is not the name of a conda environment"),
    ],
    ids=str,
)
def test_parameters_that_cannot_work_are_refused(folder: Path, given: dict[str, Any], message: str) -> None:
    """The error begins with the parameter and names the remedy."""
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        capture_environment(**given)


@pytest.mark.parametrize("dependencies", ["requirements.txt", "environment.yml", "pyproject.toml", "auto_capture"])
def test_nothing_can_be_installed_under_network_isolation(folder: Path, dependencies: str) -> None:
    """Under network isolation a folder of wheels is accepted alone, before anything is uploaded."""
    for name in ("requirements.txt", "environment.yml", "pyproject.toml"):
        written(folder / name, "")
    network = NetworkConfig(enable_network_isolation=True)
    session = LocalSession(folder / "engine")
    function = remote(len, instance_type="local", sagemaker_session=session, network_config=network)
    with pytest.raises(ConfigurationError, match=r"dependencies: .*under network isolation; give a folder of wheels"):
        function.options(dependencies=dependencies).submit("abc")
    assert capture_environment("wheels/", network_isolation=True).spec["dependencies"]["kind"] == "wheels"


def test_a_project_s_dependencies_are_listed(folder: Path) -> None:
    """The [project] table of a pyproject.toml is a list of requirements."""
    written(
        folder / "pyproject.toml",
        "[project]",
        'name = "own"',
        'dependencies = ["numpy>=2", "./wheels/upper-1.0-py3-none-any.whl"]',
    )
    assert text(capture_environment("pyproject.toml")) == "numpy>=2\n./local/0/upper-1.0-py3-none-any.whl\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["[tool.poetry]"], r"has no \[project\] table; give a requirements.txt"),
        (["[project]", 'dynamic = ["dependencies"]'], "computes its dependencies"),
        (["[project]", "dependencies = 3"], "project.dependencies must be a list of strings"),
        (["[project]", "[tool.uv.sources]", 'a = {path = "a"}'], "run `uv lock` beside it"),
        (["["], "cannot be read"),
    ],
    ids=str,
)
def test_projects_without_a_list_are_refused(folder: Path, lines: list[str], message: str) -> None:
    """The error names the file and the remedy."""
    written(folder / "pyproject.toml", *lines)
    with pytest.raises(ConfigurationError, match=f"dependencies: '.*pyproject.toml'.*{message}"):
        capture_environment("pyproject.toml")


@pytest.mark.skipif(_UV is None, reason="needs uv, which is in the extra `test`")
def test_a_lock_file_has_the_exact_versions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a uv.lock beside the project, its versions are installed: of packages, not of the project itself."""
    monkeypatch.setenv("PATH", f"{Path(str(_UV)).parent}:/usr/bin:/bin")
    written(
        folder / "pyproject.toml",
        *("[project]", 'name = "own"', 'version = "1"', 'requires-python = ">=3.8"', 'dependencies = ["upper"]'),
        *("[dependency-groups]", 'dev = ["lower"]'),
    )
    make_wheel(folder / "wheels", "lower", "1.0")
    lock = ["uv", "lock", "-q", "--offline", "--no-index", "--find-links", "wheels"]
    subprocess.run(
        [*lock, "--python", sys.executable], check=True, env={"PATH": f"{Path(str(_UV)).parent}", "HOME": str(folder)}
    )
    lines = text(capture_environment("pyproject.toml")).splitlines()
    assert any(line.startswith("upper==1.0") for line in lines)
    assert not [line for line in lines if line.startswith(("lower", "own", "-e"))]


def test_an_environment_file_loses_the_place_on_this_machine(folder: Path) -> None:
    """A conda environment's name and prefix stay at home, and files of this machine are refused."""
    lines = ["name: mine", "channels: [conda-forge]", "dependencies:", "  - numpy=2", "prefix: /home/me/envs/mine"]
    captured = capture_environment(written(folder / "environment.yml", *lines))
    assert text(captured, "environment.yml").splitlines() == lines[1:4]
    written(folder / "environment.yaml", "dependencies:", "  - pip:", "    - -r requirements.txt")
    with pytest.raises(ConfigurationError, match=r"environment.yaml, line 3: '- -r requirements.txt' names a file"):
        capture_environment("environment.yaml")


_CAPTURE = """
import json, sys
from processing.remote_function.environment_capture import capture_environment
captured = capture_environment("auto_capture")
files = {name: each.decode() if isinstance(each, bytes) else str(each) for name, each in captured.files.items()}
from processing.remote_function.own_modules import is_own
import copied, in_place
print(json.dumps([files, captured.spec, is_own(copied), is_own(in_place)]))
"""


def test_installed_packages_are_captured_with_exact_versions(folder: Path) -> None:
    """Packages of an index are pinned; own ones travel by value; archives, repositories and conditions are kept."""
    subprocess.run([sys.executable, "-I", overlay.__file__, folder / "python"], check=True)
    python = folder / "python" / "bin" / "python"
    kept = make_wheel(folder / "kept", "kept", "1.0")
    gone = make_wheel(folder / "gone", "gone", "1.0")
    plain = [
        make_wheel(folder / "wheels", "pinned", "2.0+cpu", ["elsewhere ; sys_platform == 'win32'", "pinned_too"]),
        make_wheel(folder / "wheels", "elsewhere", "3.0"),
        make_wheel(folder / "wheels", "cloned", "1.0"),
        make_wheel(folder / "wheels", "copied", "1.0"),
        make_wheel(folder / "wheels", "in_place", "1.0"),
    ]
    install = [str(python), "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*install, *map(str, [kept, gone, *plain])], check=True)
    gone.unlink()
    packages = next((folder / "python" / "lib").glob("python*/site-packages"))
    origins: dict[str, dict[str, Any] | None] = {
        "pinned-2.0+cpu": None,
        "elsewhere-3.0": None,
        "cloned-1.0": {
            "url": "https://host/x.git",
            "vcs_info": {"vcs": "git", "commit_id": "12ab"},
            "subdirectory": "s",
        },
        "copied-1.0": {"url": "file:///home/me/copied", "dir_info": {}},
        "in_place-1.0": {"url": "file:///home/me/in_place", "dir_info": {"editable": True}},
    }
    for name, origin in origins.items():
        about = packages / f"{name}.dist-info"
        (about / "direct_url.json").unlink()
        (about / "REQUESTED").unlink()
        if origin is not None:
            (about / "direct_url.json").write_text(json.dumps(origin))
    done = subprocess.run([python, "-c", _CAPTURE], check=True, capture_output=True, text=True)
    files, spec, *own = json.loads(done.stdout)
    lines = files["environment/requirements.txt"].splitlines()
    names = ("pinned", "elsewhere", "cloned", "copied", "in-place", "kept", "gone", "pip", "sm-processing", "./")
    assert [line for line in lines if line.startswith(names)] == [
        "cloned @ git+https://host/x.git@12ab#subdirectory=s",
        "elsewhere==3.0 ; (sys_platform == 'win32')",
        "gone==1.0",
        "./local/0/kept-1.0-py3-none-any.whl",
        "pinned==2.0",
    ]
    assert files["environment/local/0/kept-1.0-py3-none-any.whl"] == str(kept)
    assert spec == {"dependencies": {"kind": "captured", "path": "environment/requirements.txt"}}
    assert own == [True, True]
    assert any(line.startswith("boto3==") for line in lines)


def test_a_conda_environment_is_captured_from_its_records(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of conda become an environment file, without tokens, builds and local channels."""
    monkeypatch.setattr(sys, "prefix", str(folder))
    assert current_environment([]) is None
    (folder / "conda-meta").mkdir()
    for name, channel in (("numpy", "https://host/t/token/conda-forge/linux-64"), ("own", "file:///home/me/linux-64")):
        record = {"name": name, "version": "2.0", "build": "h1", "channel": channel, "requested_spec": name}
        (folder / "conda-meta" / f"{name}-2.0-h1.json").write_text(json.dumps(record))
    found = json.loads(current_environment(["boto3==1.40"]) or b"")
    assert found["channels"] == ["https://host/conda-forge"]
    assert found["dependencies"] == ["numpy=2.0", "own=2.0", "pip", {"pip": ["boto3==1.40"]}]
