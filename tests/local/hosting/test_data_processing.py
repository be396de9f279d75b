"""The filters of a transform job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processing.local.hosting.transforms.data_processing import DataProcessing, FilterError
from processing.local.hosting.transforms.json_path import JsonPath, JsonPathError


@pytest.mark.parametrize(
    ("path", "value", "selected"),
    [
        ("$", [1], [1]),
        ("$[1:]", [1, 2, 3], [2, 3]),
        ("$[0,2:]", [1, 2, 3, 4], [1, 3, 4]),
        ("$[-1]", [1, 2], 2),
        ("$[::2]", [1, 2, 3], [1, 3]),
        ("$[*]", [1, 2], [1, 2]),
        ("$.a.b", {"a": {"b": 1}}, 1),
        ("$['id','out']", {"id": 1, "out": 2, "x": 3}, {"id": 1, "out": 2}),
        ("$['a,b']", {"a,b": 1}, 1),
        ('$["a"].b[0]', {"a": {"b": [5]}}, 5),
    ],
)
def test_paths_select_a_part(path: str, value: Any, selected: Any) -> None:
    """Names keep an object, indexes and slices keep an array, and one name or index selects the value itself."""
    assert JsonPath(path).select(value) == selected


@pytest.mark.parametrize("path", ["", "a", "$..a", "$[?(@.x>1)]", "$['a',1]", "$[", "$[]", "$a"])
def test_other_paths_are_refused(path: str) -> None:
    """An expression beyond the operators that AWS documents is an error, and not a guess."""
    with pytest.raises(JsonPathError):
        JsonPath(path)


def _job(content_type: str, split_type: str = "Line", accept: str | None = None, **filters: str) -> dict[str, Any]:
    return {
        "TransformInput": {"ContentType": content_type, "SplitType": split_type},
        "TransformOutput": {"Accept": accept} if accept else {},
        "DataProcessing": filters,
    }


def test_rows_are_filtered_and_joined() -> None:
    """The program gets the columns of the input filter, and the output has those of the joined rows."""
    job = DataProcessing(_job("text/csv", InputFilter="$[1:]", JoinSource="Input", OutputFilter="$[0,-1]"))
    payload = b'one,2,"a,b"\ntwo,4,c\n'
    assert job.to_program(payload) == b'2,"a,b"\n4,c\n'
    assert job.to_output(payload, b"0.5\n0.6") == b"one,0.5\ntwo,0.6"


def test_documents_are_joined_under_a_key() -> None:
    """A JSON object gets the key SageMakerOutput, and any other value becomes SageMakerInput."""
    lines = DataProcessing(_job("application/jsonlines", InputFilter="$.x", JoinSource="Input"))
    payload = b'{"id": 1, "x": [1, 2]}\n'
    assert lines.to_program(payload) == b"[1, 2]\n"
    assert json.loads(lines.to_output(payload, b"[3]\n")) == {"id": 1, "x": [1, 2], "SageMakerOutput": [3]}
    whole = DataProcessing(_job("application/json; charset=utf-8", "None", JoinSource="Input"))
    assert json.loads(whole.to_output(b"[1]", b"[2]")) == {"SageMakerInput": [1], "SageMakerOutput": [2]}


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (_job("image/png", InputFilter="$[0]"), "ContentType to be one of"),
        (_job("text/csv", "RecordIO", JoinSource="Input"), "SplitType None or Line"),
        (_job("text/csv", accept="application/json", JoinSource="Input"), "cannot join CSV and JSON"),
        (_job("text/csv", InputFilter="$..x"), "not supported"),
    ],
)
def test_filters_that_cannot_work_are_refused(job: dict[str, Any], message: str) -> None:
    """Filters need rows or JSON, and their message says which member is in the way."""
    with pytest.raises(FilterError, match=message):
        DataProcessing(job)


def test_answers_that_do_not_fit_are_errors() -> None:
    """Another number of answers, a missing column, and content of another type cannot be joined."""
    job = DataProcessing(_job("text/csv", JoinSource="Input", OutputFilter="$[5]"))
    with pytest.raises(FilterError, match="answered 1 records for 2"):
        job.to_output(b"1\n2\n", b"3\n")
    with pytest.raises(FilterError, match="selects nothing in a record with 2 fields"):
        job.to_output(b"1\n", b"3\n")
    with pytest.raises(FilterError, match="not application/json"):
        DataProcessing(_job("application/json", InputFilter="$.a")).to_program(b"<xml/>\n")


def test_without_filters_nothing_is_parsed() -> None:
    """Any bytes pass if there is nothing to filter."""
    job = DataProcessing(_job("image/png", "RecordIO", InputFilter="$", OutputFilter="$", JoinSource="None"))
    assert not job.active
    assert job.to_program(b"\xff") == job.to_output(b"", b"\xff") == b"\xff"
