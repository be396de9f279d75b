"""The working directory of the caller in a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession
from processing.remote_function import CustomFileFilter, remote
from processing.remote_function.workspace import workspace_members

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with code, data, an ignore file and what never travels."""
    folder = tmp_path / "work"
    contents = {
        "helper_in_workdir.py": "def read(name):\n    return open(name).read()\n",
        "settings/train.yaml": "rate: 1\n",
        "data/large.csv": "x" * 5000,
        ".gitignore": "data/\n",
        ".env": "SECRET=1\n",
        ".venv/pyvenv.cfg": "",
    }
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def names(custom_file_filter: Any = None) -> list[str]:
    return [member.name for member in workspace_members(custom_file_filter)]


def test_ignore_files_and_fixed_exclusions_apply(workdir: Path) -> None:
    """All files travel but those that Git ignores, credentials and virtual environments."""
    assert names() == ["workspace/.gitignore", "workspace/helper_in_workdir.py", "workspace/settings/train.yaml"]


def test_a_filter_leaves_out_more(workdir: Path) -> None:
    """Patterns match names of files and folders; a function gets each directory and the names in it."""
    seen: list[tuple[str, list[str]]] = []

    def ignore(directory: str, found: list[str]) -> Iterable[str]:
        seen.append((directory, found))
        return [name for name in found if name.endswith(".yaml")]

    assert names(CustomFileFilter(ignore_name_patterns=["set*", ".git*"])) == ["workspace/helper_in_workdir.py"]
    assert names(ignore) == ["workspace/.gitignore", "workspace/helper_in_workdir.py"]
    assert (str(workdir / "settings"), ["train.yaml"]) in seen


@pytest.mark.parametrize("answer", [None, "data", [1], 3], ids=str)
def test_a_filter_that_returns_no_names_is_refused(workdir: Path, answer: Any) -> None:
    """The error names the parameter and the directory."""
    with pytest.raises(ConfigurationError, match=r"custom_file_filter: must return the names to leave out of '.*work'"):
        names(lambda _directory, _names: answer)


def test_an_empty_workspace_is_refused(workdir: Path) -> None:
    """A filter that leaves out everything is a mistake."""
    with pytest.raises(ConfigurationError, match=r"include_local_workdir: no file of '.*work' is left"):
        names(CustomFileFilter(ignore_name_patterns=["*"]))


def test_a_workspace_above_the_limit_is_refused(workdir: Path, tmp_path: Path) -> None:
    """A workspace that is larger than `bundle_limit` is refused before the upload, with its largest folders."""
    session = LocalSession(tmp_path / "engine", bundle_limit=1000)
    function = remote(len, instance_type="local", include_local_workdir=True, sagemaker_session=session)
    assert function.plan("abc").problems == ()
    (workdir / ".gitignore").unlink()
    with pytest.raises(ConfigurationError, match=r"bundle_limit: the files of the call have .*largest: data/ \(5000"):
        function.submit("abc")


def test_a_job_runs_in_the_workspace(workdir: Path, local_session: LocalSession) -> None:
    """The function, commands before it, and programs that it starts find the files and the modules."""

    def look() -> tuple[Any, ...]:
        import subprocess
        import sys
        from pathlib import Path

        other = subprocess.run([sys.executable, "-c", "import helper_in_workdir"], check=False, cwd="/").returncode
        module = __import__("helper_in" + "_workdir")
        return Path(".gitignore").exists(), Path("data").exists(), module.read("made"), other

    function = remote(
        look,
        instance_type="local",
        include_local_workdir=True,
        pre_execution_commands=["wc -c < settings/train.yaml | tr -d ' ' > made"],
        sagemaker_session=local_session,
    )
    assert function() == (True, False, "8\n", 0)
