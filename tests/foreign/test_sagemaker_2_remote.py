"""`sagemaker` 2.x: its `@remote` and ours refuse the same arguments and settings, with errors of the same class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from processing import remote
from processing.remote_function import RemoteExecutor

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
CALLS: list[tuple[list[Any], dict[str, Any]]] = [
    ([1, 2, 3], {}),
    ([1, 2, 3], {"d": 4}),
    ([1, 2, 3], {"d": 3, "e": 4, "g": 5}),
    ([], {"c": 3, "d": 4}),
    ([1], {"d": 4, "e": 5}),
    ([1, 2, 3, 4], {"d": 3, "e": 4}),
    ([1, 2], {"a": 1, "d": 3, "e": 2}),
    ([1, 2], {"b": 1, "d": 3, "e": 2}),
    ([], {"a": 1, "b": 2, "d": 3, "e": 2}),
    ([1, 2], {"d": 3, "e": 2, "f": 0}),
]
EXECUTORS: list[dict[str, Any]] = [{"max_parallel_jobs": 0}, {"max_parallel_jobs": 1, "instance_count": 2}]

# The job is left out: it begins after all checks of the arguments.
SCRIPT = """
import json
from sagemaker.remote_function import client

class Started(Exception): pass

def start(*args, **kwargs):
    raise Started

client._JobSettings = lambda **kwargs: None
client._Job.start = start

@client.remote(image_uri="mine:1", s3_root_uri="s3://bucket")
def function(a, b, c=1, *, d, e, f=3):
    pass

def kind(call):
    try:
        call()
    except Exception as error:
        return [each.__name__ for each in type(error).__mro__]

def make(options):
    client.RemoteExecutor(image_uri="mine:1", s3_root_uri="s3://bucket", **options)

calls, executors = json.loads(TABLE)
print("RESULT" + json.dumps([
    [kind(lambda: function(*args, **kwargs)) for args, kwargs in calls],
    [kind(lambda: make(options)) for options in executors],
]))
"""


class StartedError(Exception):
    """The call got as far as its job."""


def function(a: Any, b: Any, c: Any = 1, *, d: Any, e: Any, f: Any = 3) -> None:
    """Take arguments of all kinds."""


@pytest.fixture
def theirs(foreign: Client) -> list[list[list[str]]]:
    """The classes of their errors, for each call and each executor."""
    table = repr(json.dumps([CALLS, EXECUTORS]))
    printed = foreign.script(f"TABLE = {table}\n{SCRIPT}")
    found: list[list[list[str]]] = json.loads(printed.partition("RESULT")[2])
    return found


def test_the_same_arguments_are_refused_as_type_errors(theirs: list[list[list[str]]]) -> None:
    """A call that 2.x refuses is refused before anything starts, with an error that the same `except` catches."""
    refused = 0
    for (args, kwargs), classes in zip(CALLS, theirs[0], strict=True):
        if classes[0] == "Started":
            plan = remote(function, instance_type="local").plan(*args, **kwargs)
            assert not plan.problems
            continue
        assert classes[0] == "TypeError", (args, kwargs, classes)
        refused += 1
        with pytest.raises(TypeError, match=r"^function\(.*: "):
            remote(function, instance_type="local").submit(*args, **kwargs)
    assert refused == len(CALLS) - 2


def test_the_same_executors_are_refused(theirs: list[list[list[str]]]) -> None:
    """An executor that 2.x refuses with a ValueError is a ValueError here, at the latest with its first call."""
    for options, classes in zip(EXECUTORS, theirs[1], strict=True):
        assert classes[0] == "ValueError", (options, classes)
        with pytest.raises(ValueError), RemoteExecutor(instance_type="local", **options) as executor:  # noqa: PT011 - the texts differ
            executor.submit(function, 1, 2, d=3, e=4).result()
