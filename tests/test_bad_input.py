"""Values of every kind in the place of every parameter: an error that names it, before any call, and nothing else."""

from __future__ import annotations

import datetime as dt
import decimal
import inspect
import math
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    DatasetDefinition,
    FrameworkProcessor,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.testing.wire import Transport

ROLE = "arn:aws:iam::123456789012:role/etl"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/etl:1"
ROOT = "/opt/ml/processing/"


class Odd:
    """A value that no parameter takes."""

    __hash__ = None  # type: ignore[assignment]


class Array:
    """A sequence without a truth value, such as an array of numpy or a series of pandas."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> str:
        return ("a", "b")[index]

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array with more than one element is ambiguous.")


ODD: list[Any] = [
    *(
        None,
        0,
        -1,
        1,
        1.5,
        True,
        math.nan,
        math.inf,
        10**20,
        10**400,
        decimal.Decimal(1),
        dt.datetime.now(dt.timezone.utc),
    ),
    *("", " ", "x", "a\nb", "\0", "é", "\ud800", "x" * 5000, "s3://", "s3://b", "s3:///k", "ftp://h/x", "file:///no"),
    *(b"x", [b"x"], [], [1], ["x"], [None], [["x"]], [{}], (), ("x",), {"x"}, range(2), iter(["x"])),
    *(Array(), (each for each in "ab"), {"a": "b"}.keys(), {"a": "b"}.values()),
    *({}, {"a": 1}, {1: "a"}, {"a": "b"}, {"": ""}, [{"Key": "a"}], [{"Key": 1, "Value": 2}]),
    *(Odd(), Odd, len, pathlib.Path("clean.py"), pathlib.Path("data"), pathlib.Path("no"), [pathlib.Path("clean.py")]),
    *(ProcessingInput("s3://b/k", ROOT + "i"), [ProcessingInput("s3://b/k", ROOT + "i")], NetworkConfig()),
    *([ProcessingOutput(ROOT + "o")], DatasetDefinition()),
]

# What an error may name in place of the parameter: what is made of its value, or what was meant by it.
ALSO = {
    "source_dir": "code",
    "requirements": "git_config",
    "sagemaker_session": "region_name",
    "input_name": "inputs[0].source",
    "output_name": "outputs[0].destination",
}


@pytest.fixture(autouse=True)
def _files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script, a source directory and data; no region, and nowhere to call."""
    monkeypatch.chdir(tmp_path)
    for name in ("clean.py", "src/clean.py", "data/rows.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")


def parameters(function: Any, *, leaving: tuple[str, ...] = ()) -> list[str]:
    """The names of a function's parameters."""
    return [name for name in inspect.signature(function).parameters if name not in ("self", *leaving)]


def every_way(field: str, made: Callable[[Any], Processor], given: Callable[[Any], dict[str, Any]]) -> list[str]:
    """Return the faults in the refusals of the odd values. `plan` has to list the problems that `run` raises."""
    wrong = []
    for value in ODD:
        try:
            plan = made(value).plan(**given(value))
        except ConfigurationError as error:  # of a constructor
            problems: tuple[str, ...] = error.problems
        else:
            problems = plan.problems
            assert str(plan)
        names = (field, ALSO.get(field, field), "its key would have", "is not UTF-8")
        if problems and not any(name in text for name in names for text in problems):
            wrong.append(f"{value!r:.40}: {problems}")
    return wrong


def processor(kind: type[ScriptProcessor] = ScriptProcessor, **changes: Any) -> ScriptProcessor:
    """A processor for AWS with these changes."""
    given = {
        "role": ROLE,
        "image_uri": IMAGE,
        "command": ["python3"],
        "instance_count": 1,
        "instance_type": "ml.m5.xlarge",
        "sagemaker_session": Session(region_name="us-east-1"),
    }
    return kind(**{**given, **changes})


@pytest.mark.filterwarnings("ignore::UserWarning")  # of instance types that are not known
@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, name) for kind in (ScriptProcessor, FrameworkProcessor) for name in parameters(kind.__init__)],
)
def test_a_constructor(kind: type[ScriptProcessor], field: str) -> None:
    """Whatever a parameter of a processor is, it is taken, or refused by name; a plan is made of it or says so."""
    assert every_way(field, lambda value: processor(kind, **{field: value}), lambda _: {"code": "clean.py"}) == []


@pytest.mark.parametrize("source_dir", [None, "src"])
@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, name) for kind in (ScriptProcessor, FrameworkProcessor) for name in parameters(kind.plan)],
)
def test_a_run(kind: type[ScriptProcessor], field: str, source_dir: str | None) -> None:
    """The same of what `run` takes, with and without a source directory."""

    def given(value: Any) -> dict[str, Any]:
        return {"code": "clean.py", "source_dir": source_dir, field: value}

    assert every_way(field, lambda _: processor(kind), given) == []


@pytest.mark.parametrize("field", parameters(ProcessingInput))
def test_an_input(field: str) -> None:
    """The same of an input's fields."""

    def given(value: Any) -> dict[str, Any]:
        entry = {"source": "data", "destination": ROOT + "i", field: value}
        return {"code": "clean.py", "inputs": [ProcessingInput(**entry)]}

    assert every_way(field, lambda _: processor(), given) == []


@pytest.mark.parametrize("field", parameters(ProcessingOutput))
def test_an_output(field: str) -> None:
    """The same of an output's fields."""

    def given(value: Any) -> dict[str, Any]:
        entry: dict[str, Any] = {"source": ROOT + "o", field: value}
        return {"code": "clean.py", "outputs": [ProcessingOutput(**entry)]}

    assert every_way(field, lambda _: processor(), given) == []


@pytest.mark.parametrize("field", parameters(NetworkConfig))
def test_a_network(field: str) -> None:
    """The same of a network's fields."""

    def made(value: Any) -> Processor:
        network: Any = {field: value}
        return processor(network_config=NetworkConfig(**network))

    assert every_way("network_config", made, lambda _: {"code": "clean.py"}) == []


@pytest.mark.parametrize(
    "field", ["boto_session", "sagemaker_client", "sagemaker_config", "default_bucket", "default_bucket_prefix"]
)
@pytest.mark.parametrize("value", [5, b"x", [1], Odd()])
def test_a_session(field: str, value: Any) -> None:
    """A value of a wrong type is refused by the constructor, for each of its parameters."""
    with pytest.raises(ConfigurationError, match=f"^{field}: must be .*, not "):
        Session(**{field: value})


class Counting:
    """The way to the engine, which counts what goes there."""

    def __init__(self) -> None:
        self.requests = 0
        self._inner: Any = None

    def wrap(self, inner: Transport) -> Counting:
        self._inner = inner
        return self

    def send(self, request: Any) -> Any:
        self.requests += 1
        return self._inner.send(request)


LATE: dict[str, list[Any]] = {
    "if_exists": ["replace", ["fail"], {}, None],
    "progress": [5, "bar", [print]],
    "kms_key": [5, "my key", "a\nb"],
    "output_kms_key": [5, ["k"], "a\nb"],
    "job_name": [5, "", "a_b", ["a"]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in LATE.items() for value in values])
def test_before_any_call(field: str, value: Any, tmp_path: pathlib.Path) -> None:
    """A problem that only the start of a job can find is found before anything is sent."""
    counting = Counting()
    session = LocalSession(tmp_path / "engine", transport=counting.wrap)
    here = processor(sagemaker_session=session, instance_type="local")
    given: dict[str, Any] = {"code": "clean.py", "source_dir": "src"}
    if field == "output_kms_key":
        here.output_kms_key = value
    else:
        given[field] = value
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        here.run(**given)
    assert counting.requests == 0


def test_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path below such a folder is an error with the field and the reason."""

    stat = pathlib.Path.stat

    def denied(self: pathlib.Path, **given: Any) -> Any:
        if self.name == "rows.csv":
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **given)

    monkeypatch.setattr(pathlib.Path, "stat", denied)
    with pytest.raises(ConfigurationError, match=r"^inputs\[0\]\.source: .*rows.csv' cannot be accessed: .*denied"):
        processor().request("clean.py", [ProcessingInput("data/rows.csv", ROOT + "i")])


def test_each_problem_is_a_value() -> None:
    """An error has what was found as a tuple, whatever is written in a value; its text has them line by line."""
    with pytest.raises(ConfigurationError) as raised:
        processor(instance_count=0).request("clean.py", outputs=["/tmp/o"])
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["outputs[0].source", "instance_count"]
    assert str(raised.value) == "\n".join(raised.value.problems)
    (problem,) = processor().plan("no\nsuch").problems
    assert problem.startswith("code no\nsuch wasn't found")


LINE_BREAKS: dict[str, Callable[[ScriptProcessor, FrameworkProcessor], object]] = {
    "code": lambda script, _: script.request("a\nb.py"),
    "code in S3": lambda script, _: script.request("s3://bucket/a\nb.py"),
    "code of a framework": lambda _, framework: framework.request("s3://bucket/a\nb.py"),
    "source_dir": lambda script, _: script.request("main.py", source_dir="s3://bucket/a\nb"),
    "code_location": lambda _, framework: framework.request("ok.py"),
    "default_bucket_prefix": lambda *_: Session(region_name="eu-west-1", default_bucket_prefix="a\nb"),
    "inputs[0].source": lambda script, _: script.request("ok.py", [ProcessingInput("a\nb.py", "/opt/ml/processing/i")]),
}


@pytest.mark.parametrize("name", LINE_BREAKS)
def test_a_line_break_is_reported_for_the_field_that_has_it(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's name or a URI with a line break names the parameter, not the generated input that it becomes."""
    monkeypatch.chdir(tmp_path)
    for file in ("a\nb.py", "ok.py"):
        (tmp_path / file).write_text("print(1)")
    options: dict[str, Any] = {
        "role": "arn:aws:iam::111122223333:role/etl",
        "image_uri": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/etl:1",
        "command": ["python3"],
        "instance_count": 1,
        "instance_type": "ml.m5.large",
        "sagemaker_session": Session(region_name="eu-west-1", default_bucket="bucket"),
    }
    script = ScriptProcessor(**options)
    framework = FrameworkProcessor(**options, code_location="s3://bucket/a\nb")
    with pytest.raises(ConfigurationError) as raised:
        LINE_BREAKS[name](script, framework)
    assert str(raised.value).startswith(f"{name.partition(' ')[0]}: ")
    assert "line break" in str(raised.value)
