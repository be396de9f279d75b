"""The caller's own modules in pickles: loaded by a process that does not have them."""

from __future__ import annotations

import importlib
import io
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import pytest

from processing import SerializationError
from processing.remote_function import remote
from processing.remote_function.by_value import by_value_pickler
from processing.remote_function.own_modules import is_own
from processing.remote_function.packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing import LocalSession

_JOB = """
import pickle, sys
import cloudpickle
with open(sys.argv[1], "rb") as file:
    function, args = pickle.load(file)
with open(sys.argv[1], "wb") as file:
    file.write(cloudpickle.dumps(function(*args)))
assert "processing" not in sys.modules
"""
_HELPERS = """
import dataclasses, enum, functools, threading, typing

LOCK = threading.Lock()  # cannot be pickled
FACTOR, COUNT = 3, 0
UserId = typing.NewType("UserId", int)
T, P = typing.TypeVar("T"), typing.ParamSpec("P")

def scale(x: UserId) -> int:
    return x * FACTOR

def count():
    global COUNT
    COUNT += 1
    return COUNT

@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

def keep(value: T, other: typing.Callable[P, T] = None) -> T:
    return value

@dataclasses.dataclass
class Point:
    x: int
    class Inner:
        pass
    def scaled(self):
        return Point(scale(self.x))

class Color(enum.Enum):
    RED = 1

class OwnError(Exception):
    pass

def fail():
    raise OwnError("from helpers")
"""


class Project(NamedTuple):
    """The caller's project: a folder on the import path."""

    folder: Path

    def load(self, name: str, code: str) -> Any:
        """Write a module and import it."""
        self.write(f"{name.replace('.', '/')}.py", code)
        return importlib.import_module(name)

    def write(self, file: str, code: str = "") -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    def job(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a call in a process without the project, and return its result."""
        call = self.folder.parent / "call.pkl"
        call.write_bytes(dumps((function, args)))
        done = subprocess.run([sys.executable, "-c", _JOB, call], cwd="/", check=False, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(done.stderr)
        return pickle.loads(call.read_bytes())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Project(folder)
    for name in list(sys.modules):
        if name.partition(".")[0].endswith("_of_caller"):
            del sys.modules[name]


@pytest.fixture
def helpers(project: Project) -> Any:
    return project.load("helpers_of_caller", _HELPERS)


def dumps(value: Any) -> bytes:
    file = io.BytesIO()
    by_value_pickler(cloudpickle.Pickler)(file, protocol=5).dump(value)
    return file.getvalue()


def test_a_module_is_used_as_at_home(project: Project, helpers: Any) -> None:
    """Functions of a module share its variables, and the module itself shows their changes."""

    def use(x: int) -> tuple[Any, ...]:
        return helpers.scale(x), helpers.count(), helpers.count(), helpers.COUNT, helpers.fibonacci(30)

    assert project.job(use, 2) == (6, 1, 2, 2, 832040)
    helpers.FACTOR = 5
    assert project.job(use, 2)[0] == 10
    assert project.job(helpers.keep, "typed") == "typed"
    assert helpers.COUNT == 0


def test_classes_come_back_as_the_caller_s_own(project: Project, helpers: Any) -> None:
    """Instances that return from the job are of the caller's classes, and those stay as they are."""
    method = helpers.Point.scaled

    def make() -> tuple[Any, ...]:
        point = helpers.Point(2)
        assert pickle.loads(pickle.dumps(point)) == point  # as for the workers of a pool
        return point.scaled(), helpers.Color.RED, helpers.Point.Inner()

    point, color, inner = project.job(make)
    assert point == helpers.Point(6)
    assert color is helpers.Color.RED
    assert type(inner) is helpers.Point.Inner
    assert type(project.job(lambda given: given, helpers.Point(1))) is helpers.Point
    assert helpers.Point.scaled is method
    with pytest.raises(AssertionError, match="OwnError: from helpers"):
        project.job(helpers.fail)


def test_loading_at_home_changes_nothing(helpers: Any) -> None:
    """A pickle that its own process loads leaves the modules, their classes and cloudpickle's registry alone."""
    before = dict(vars(helpers)), dict(vars(helpers.Point)), cloudpickle.list_registry_pickle_by_value()
    function, kind = pickle.loads(dumps((helpers.count, helpers.Point)))
    assert (function(), helpers.COUNT) == (1, 0)
    assert kind is helpers.Point
    assert (dict(vars(helpers)), dict(vars(helpers.Point)), cloudpickle.list_registry_pickle_by_value()) == before


def test_imports_in_functions_find_the_modules(project: Project) -> None:
    """Modules that a function imports when it runs travel, relative imports and submodules too."""
    project.write("package_of_caller/__init__.py", "import threading\nLOCK = threading.Lock()\n")
    project.write("package_of_caller/inner/__init__.py")
    project.write("package_of_caller/inner/deep.py", "VALUE = 1000\n")
    project.write("package_of_caller/late.py", "def add(x):\n    return x + 100\n")
    module = project.load(
        "package_of_caller.module",
        """
        def run(x):
            from . import late
            from .late import add
            import package_of_caller.inner.deep
            return add(late.add(x)) + package_of_caller.inner.deep.VALUE
        """,
    )
    assert project.job(module.run, 1) == 1201


def test_a_namespace_package_travels_in_part(project: Project) -> None:
    """A package without a file of its own takes only the caller's modules along."""
    module = project.load("spaced_of_caller.part.tool", "def run(x):\n    return x + 1\n")
    package = sys.modules["spaced_of_caller"]
    assert project.job(lambda: package.part.tool.run(1)) == 2
    assert project.job(module.run, 1) == 2


def test_a_name_that_is_not_mentioned_is_missed_by_name(project: Project, helpers: Any) -> None:
    """Code that builds a name at run time gets an error that says why there is no such name."""
    with pytest.raises(AssertionError, match=r"'helpers_of_caller' has no attribute 'FACTOR' in this job.*mention"):
        project.job(lambda name: getattr(helpers, name.upper()), "factor")


def test_the_part_that_cannot_travel_is_named(helpers: Any) -> None:
    """A lock in a module is an obstacle only for code that mentions it, and its path is in the error."""
    pack(lambda: helpers.scale(1), "function")
    with pytest.raises(SerializationError, match=r'function\.__closure__\["helpers"\]\.LOCK: an object of the type'):
        pack(lambda: helpers.LOCK, "function")


def test_a_module_as_an_argument_travels_whole(project: Project) -> None:
    """The content of a module that is a value itself does not depend on the code."""
    constants = project.load("constants_of_caller", "FACTOR = 7\nNAMES = ['a']\n")
    assert project.job(lambda module, name: getattr(module, name.upper()), constants, "factor") == 7


def test_a_reloaded_module_travels_as_the_function_knows_it(project: Project) -> None:
    """A function from before a reload keeps its own variables beside the new ones."""
    module = project.load("changing_of_caller", "VALUE = 'old'\ndef read():\n    return VALUE\n")
    old = module.read
    project.write("changing_of_caller.py", "VALUE = 'new one'\ndef read():\n    return VALUE + '!'\n")
    del sys.modules["changing_of_caller"]
    new = importlib.import_module("changing_of_caller").read
    assert project.job(lambda: (old(), new())) == ("old", "new one!")


def test_decorated_functions_travel_with_what_is_around_them(project: Project) -> None:
    """A remote function that another function calls runs in the same job, without this package."""
    module = project.load(
        "decorated_of_caller",
        """
        import functools
        from processing.remote_function import remote

        def twice(function):
            @functools.wraps(function)
            def call(*args):
                return 2 * function(*args)
            return call

        @remote(instance_type="local")
        @twice
        def one(x):
            return x

        def all_of(x):
            return one(x) + 1
        """,
    )
    assert project.job(module.all_of, 10) == 21
    assert project.job(module.one, 10) == 20


def test_a_compiled_module_is_warned_of(project: Project) -> None:
    """The caller hears of a compiled module of theirs before the job is started: it does not travel."""
    source = Path(importlib.import_module("_json").__file__ or "")
    name = source.name.partition(".")[0]
    package = project.folder / "compiled_of_caller"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / source.name).write_bytes(source.read_bytes())
    importlib.invalidate_caches()
    module = importlib.import_module(f"compiled_of_caller.{name}")
    with pytest.warns(UserWarning, match=rf"compiled_of_caller\.{name}: compiled modules do not travel"):
        dumps(lambda: module)


def test_own_modules_are_told_from_others(project: Project, helpers: Any) -> None:
    """Modules of the project and of a zip are own; those of Python, of its packages and of this package are not."""
    archive = project.folder / "library.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_of_caller.py", "def run():\n    return 'from a zip'\n")
    sys.path.insert(0, str(archive))
    try:
        zipped = importlib.import_module("zipped_of_caller")
    finally:
        sys.path.remove(str(archive))
    assert is_own(helpers)
    assert is_own(zipped)
    assert project.job(zipped.run) == "from a zip"
    others = ("json", "sys", "importlib._bootstrap", "pytest", "numpy", "processing", "processing.remote_function")
    assert [name for name in others if is_own(importlib.import_module(name))] == []
    assert not is_own(sys.modules["__main__"])


def test_a_function_of_a_module_runs_as_a_job(project: Project, helpers: Any, local_session: LocalSession) -> None:
    """Without a setting, a job of the engine runs a function of the caller's module and returns its class."""
    make = remote(helpers.Point(2).scaled, instance_type="local", sagemaker_session=local_session)
    assert make() == helpers.Point(6)
