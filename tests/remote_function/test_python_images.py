"""Images with one version of Python and nothing else."""

from __future__ import annotations

import functools
import importlib
import operator
import sys
from typing import TYPE_CHECKING, Any

import pytest

from container_fixtures import containers  # noqa: F401 - a fixture of several folders
from processing import LocalSession, RemoteFunctionError, RuntimeEnvironmentError
from processing.remote_function import remote
from python_image import find_python, write_python_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from container_fixtures import Containers

pytestmark = pytest.mark.complete("containers start slowly")
OLDEST = "3.8"
MODULE = """
import importlib.util
import sys

def describe(x, *, factor=2):
    print("in", "%d.%d" % sys.version_info[:2])
    packages = [each for each in ("boto3", "pip", "processing", "setuptools") if importlib.util.find_spec(each)]
    return {"product": x * factor, "packages": packages}

def fail():
    raise LookupError("from the image")

def count(n):
    yield from range(n)
"""


@pytest.fixture(scope="module")
def make_image(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:  # noqa: F811 - the fixture
    """Make an image of a version of Python, once."""

    @functools.cache
    def make(version: str) -> str:
        python = find_python(version)
        if python is None:
            pytest.skip(f"Python {version} is not installed")
        archive = tmp_path_factory.mktemp("image") / "python.tar"
        write_python_image(python, archive)
        image = f"python-and-nothing-else:{version}"
        done = containers.call("import", str(archive), image)
        assert done.returncode == 0, done.stderr
        return image

    return make


@pytest.fixture
def run_in(containers: Containers, make_image: Callable[[str], str], tmp_path: Path) -> Any:  # noqa: F811 - the fixture
    """Make a function remote, in an image with a version of Python."""
    session = LocalSession(
        tmp_path / "engine",
        sandbox="container",
        container_program=containers.program,
        container_options=containers.options,
        tick=0.01,
        grace=1.0,
    )
    make = functools.partial(remote, instance_type="local", sagemaker_session=session)
    return lambda version: functools.partial(make, image_uri=make_image(version))


@pytest.fixture
def run(run_in: Any) -> Any:
    """Make a function remote, in an image with the oldest Python that a job may have."""
    return run_in(OLDEST)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module in the working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "in_the_image.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("in_the_image")
    del sys.modules["in_the_image"]


def test_a_bare_python_runs_calls(run: Any, module: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Functions of the working directory run in an image with the oldest Python, without a shell or any package."""
    options = {"by_reference": True, "result_format": "json", "include_local_workdir": True}
    assert run(module.describe, **options)(21, factor=2) == {"product": 42, "packages": []}
    assert f"in {OLDEST}" in capsys.readouterr().out
    assert list(run(module.describe, **options).map([1, 2], workers=2)) == [
        {"product": 2, "packages": []},
        {"product": 4, "packages": []},
    ]
    assert list(run(module.count, **options)(3)) == [0, 1, 2]
    with pytest.raises(RemoteFunctionError, match="LookupError: from the image"):  # no pickle is loaded
        run(module.fail, **options)()


def test_a_bare_python_runs_a_function_of_its_own(run: Any) -> None:
    """A function of the standard library needs no file of the caller's."""
    assert run(operator.add, by_reference=True, result_format="json")(1, 1) == 2


def test_code_of_another_python_is_refused_with_both_versions(run: Any) -> None:
    """A function by value does not run on another minor version, and the error names both."""
    with pytest.raises(RuntimeEnvironmentError) as caught:
        run(lambda: 1)()
    assert f"Python {OLDEST}" in str(caught.value)
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in str(caught.value)


class Point:
    """A class of the test's own module."""

    def __init__(self, x: int) -> None:
        self.x = x


def test_code_of_the_callers_python_runs_without_its_packages(run_in: Any) -> None:
    """Closures, the caller's own classes and exceptions travel into an image that has no package at all."""
    step = 2

    def move(point: Point) -> Point:
        if point.x < 0:
            raise LookupError(point.x)
        return Point(point.x + step)

    moved = run_in(f"{sys.version_info[0]}.{sys.version_info[1]}")(move)
    assert moved(Point(1)).x == 3
    with pytest.raises(LookupError, match="-1"):
        moved(Point(-1))
