"""The Python environment of a job's own, over the user's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processing.container import overlay
from wheels import make_wheel


@pytest.fixture(scope="module")
def user_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's environment, with the first version of a package."""
    folder = tmp_path_factory.mktemp("user")
    install(over(Path(sys.executable), folder / "below"), wheel(folder, "1.0"))
    return folder / "below"


@pytest.fixture
def below(user_environment: Path, tmp_path: Path) -> Path:
    """A copy of the user's environment, which a test may change; returns its interpreter."""
    shutil.copytree(user_environment, tmp_path / "below", symlinks=True)
    return tmp_path / "below" / "bin" / "python"


def over(python: Path, folder: Path) -> Path:
    """Make the environment, and return its interpreter."""
    subprocess.run([str(python), "-I", overlay.__file__, str(folder)], check=True)
    return folder / "bin" / "python"


def wheel(folder: Path, version: str) -> Path:
    """A package, its version in its file."""
    return make_wheel(folder, "versioned", version)


def install(python: Path, *what: Path | str) -> str:
    options = ["--no-index", "--disable-pip-version-check", "--no-warn-conflicts"]
    command = [str(python), "-m", "pip", "install", *options, *map(str, what)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ask(python: Path, code: str) -> str:
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, cwd="/")
    return done.stdout.strip()


def test_the_shared_python_is_visible_and_unchanged(below: Path, tmp_path: Path) -> None:
    """Shared packages count as installed, other versions go into the overlay, and the shared Python stays unchanged."""
    above = over(below, tmp_path / "above")
    assert ask(above, "import versioned; print(versioned.VERSION)") == "1.0"
    assert "already satisfied" in install(above, "versioned")
    install(above, wheel(tmp_path, "2.0"))
    assert ask(above, "import versioned; print(versioned.VERSION)") == "2.0"
    assert ask(below, "import versioned; print(versioned.VERSION)") == "1.0"


def test_every_name_of_python_and_pip_is_the_jobs(tmp_path: Path) -> None:
    """`python`, `python3` and `pip`: none of them reaches what is below."""
    programs = over(Path(sys.executable), tmp_path / "above").parent
    for name in ("python", "python3"):
        assert ask(programs / name, "import sys; print(sys.prefix)") == str(programs.parent)
    for name in ("pip", "pip3"):
        done = subprocess.run([programs / name, "--version"], check=True, capture_output=True, text=True)
        assert done.stdout.startswith("pip ")
        assert 'exec "${0%/*}/python" -m pip' in (programs / name).read_text()


def test_a_path_file_below_is_followed(below: Path, tmp_path: Path) -> None:
    """An editable installation is a `.pth` file, which counts here too."""
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "in_place.py").touch()
    packages = Path(ask(below, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    (packages / "edited.pth").write_text(f"{tmp_path / 'edited'}\n")
    assert ask(over(below, tmp_path / "above"), "import in_place; print(in_place.__file__)").endswith(
        "edited/in_place.py"
    )
