"""The form of tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.container.shim.errors import TaskError
from processing.container.shim.tasks import Task, TaskInput, parse_task, parse_tasks

INPUT = {"relative_path": "a", "bucket_name": "b", "bucket_key": "k"}
TASK = {"pk": "p", "inputs": [INPUT], "output_bucket_name": "b", "output_prefix": "o"}
ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/point"


def test_the_form_of_sagemaker_shim() -> None:
    """All fields are read; a leading `/` of a relative path is dropped, and a prefix ends with `/`."""
    given = {**INPUT, "relative_path": "/x/./y", "bucket_name": ARN, "bucket_key": "/k", "decompress": True}
    task = parse_task(json.dumps({**TASK, "inputs": [given], "timeout": "P1DT1H1M1.5S", "unknown": 1}))
    assert task == Task("p", (TaskInput("x/y", ARN, "/k", decompress=True),), "b", "o/", 90_061.5)


def test_commas_may_follow_the_last_item() -> None:
    """Commas at the end of lists and objects are ignored, those in strings are kept."""
    text = '[{"pk": "p,]", "inputs": [], "output_bucket_name": "b", "output_prefix": "o,}",},]'
    assert parse_tasks(text) == [Task("p,]", (), "b", "o,}/")]


@pytest.mark.parametrize(
    ("value", "seconds"), [("PT30M", 1800), ("pt0.5s", 0.5), (2, 2), ("01:00:01", 3601), ("P1W", 604_800), (None, None)]
)
def test_durations(value: Any, seconds: float | None) -> None:
    """A timeout is ISO 8601, a clock, a number of seconds, or absent."""
    assert parse_task(json.dumps({**TASK, "timeout": value})).timeout == seconds


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pk": 1}, "pk"),
        ({"pk": "../x"}, "pk"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "inputs[0]"),
        ({"inputs": [{**INPUT, "relative_path": "a/../../b"}]}, "inputs[0].relative_path"),
        ({"inputs": [{**INPUT, "relative_path": "/"}]}, "inputs[0].relative_path"),
        ({"inputs": [{**INPUT, "relative_path": "a\0"}]}, "inputs[0].relative_path"),
        ({"inputs": [{**INPUT, "relative_path": "\ud800"}]}, "inputs[0].relative_path"),
        ({"inputs": [INPUT, INPUT]}, "inputs[1].relative_path"),
        ({"inputs": [{**INPUT, "bucket_name": "a/b"}]}, "inputs[0].bucket_name"),
        ({"inputs": [{**INPUT, "bucket_key": ""}]}, "inputs[0].bucket_key"),
        ({"inputs": [{**INPUT, "bucket_key": "k" * 1025}]}, "inputs[0].bucket_key"),
        ({"inputs": [{**INPUT, "decompress": 1}]}, "inputs[0].decompress"),
        ({"output_bucket_name": "b\n"}, "output_bucket_name"),
        ({"output_prefix": ""}, "output_prefix"),
        ({"timeout": "P"}, "timeout"),
        ({"timeout": "PT0S"}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": 10**400}, "timeout"),
        ({"inputs": [{**INPUT, "relative_path": "x/y/z"}, {**INPUT, "relative_path": "x"}]}, "inputs[1].relative_path"),
        (
            {"inputs": [{**INPUT, "relative_path": "x"}, {**INPUT, "relative_path": "x/y.zip", "decompress": True}]},
            "inputs[0].relative_path",
        ),
    ],
    ids=range(23),
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    """An error has the path of the field."""
    with pytest.raises(TaskError) as caught:
        parse_task(json.dumps({**TASK, **change}))
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize("name", TASK)
def test_a_missing_field_is_named(name: str) -> None:
    """Each field but the timeout is required, and named with the place of its task in a list."""
    with pytest.raises(TaskError, match=rf"^\[1\]\.{name}: is missing"):
        parse_tasks(json.dumps([TASK, {key: value for key, value in TASK.items() if key != name}]))


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", b"\xff", "[" * 100_000, '"' + r"\"" * 500_000, '["a' + "," * 1_000_000], ids=range(8)
)
def test_text_that_is_not_tasks_is_refused(text: str | bytes) -> None:
    """Text that is not JSON, or not a list with a task, is refused: megabytes at once, and in a short answer."""
    with pytest.raises(TaskError) as caught:
        parse_tasks(text)
    assert len(str(caught.value)) < 1_000


def test_a_long_value_is_cut_in_the_error() -> None:
    """An error does not repeat megabytes of a wrong value."""
    with pytest.raises(TaskError, match=r"^output_bucket_name: 'xxx.*\.\.\.$") as caught:
        parse_task(json.dumps({**TASK, "output_bucket_name": "x" * 1_000_000}))
    assert len(str(caught.value)) < 1_000


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["PT1S", "a", "../a"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TASK, *INPUT, "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def nearly_tasks(draw: st.DrawFn) -> Any:
    """Tasks in which at most some fields are wrong."""
    inputs = draw(
        st.lists(st.builds(lambda more: {**INPUT, **more}, st.dictionaries(st.sampled_from([*INPUT]), values)))
    )
    return {**TASK, "inputs": inputs, **draw(st.dictionaries(st.sampled_from([*TASK, "timeout"]), values, max_size=2))}


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(value=nearly_tasks() | values)
def test_any_json_is_a_task_or_an_error(value: Any) -> None:
    """Any JSON is refused, or is a task all of whose paths stay in their folders."""
    text = json.dumps(value)
    try:
        task = parse_task(text)
    except TaskError:
        return
    assert parse_tasks(text) == [task]
    for path in (task.pk, *(each.relative_path for each in task.inputs)):
        assert ".." not in path.split("/")
    assert not any(each.relative_path.startswith("/") for each in task.inputs)
    assert task.output_prefix.endswith("/")
    assert task.timeout is None or 0 < task.timeout < float("inf")
