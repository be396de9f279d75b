"""The command of an image that trains and serves: the request's, the image's own, or that of the program for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession
from processing.local.image_programs import ImageProgram, find_program, module_for
from processing.local.interpreter import Interpreter
from processing.local.jobs.execution_plan import ExecutionPlan
from processing.local.jobs.image_command import command_of
from processing.local.limits import ResourceLimits

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = ImageProgram("package.module", ["/place"], ["--root", "/opt/ml"], "/place/package/module.py")


def _plan(python: str | None, program: ImageProgram | None) -> ExecutionPlan:
    absent: dict[str, Any] = {"memory": None, "gateway": None, "s3": None}
    plan = ExecutionPlan(
        tick=1,
        grace=1,
        sample=1,
        sandbox={},
        python=None if python is None else Interpreter(python),
        gpus=False,
        limits=ResourceLimits(),
        environment={},
        masks=[],
        kept=[],
        events=[],
        program=program,
        **absent,
    )
    assert ExecutionPlan.from_json(plan.to_json()) == plan
    return plan


@pytest.mark.parametrize(
    ("python", "program", "entrypoint", "arguments", "expected"),
    [
        (None, None, [], [], ["train"]),
        (None, None, [], ["own"], ["own"]),
        (None, None, ["/run"], [], ["/run"]),
        (None, None, ["/run"], ["own"], ["/run", "own"]),
        ("/py", PROGRAM, [], [], ["/py", "-m", "package.module", "train", "--root", "/opt/ml"]),
        ("/py", None, ["python3", "x.py"], ["own"], ["/py", "x.py", "own"]),
        ("/py", None, ["/bin/sh"], [], ["/bin/sh"]),
    ],
)
def test_the_command(
    python: str | None, program: ImageProgram | None, entrypoint: list[str], arguments: list[str], expected: list[str]
) -> None:
    """An image gets the word `train` unless the request has arguments or an entrypoint."""
    found, variables = command_of(
        _plan(python, program), "train", {"A": "b"}, entrypoint=entrypoint, arguments=arguments
    )
    assert found == expected
    assert variables == ({"A": "b", "PYTHONPATH": "/place"} if program else {"A": "b"})


def test_a_programs_folder_comes_before_the_requested_ones() -> None:
    """Both are searched."""
    _, variables = command_of(_plan("/py", PROGRAM), "serve", {"PYTHONPATH": "/theirs"})
    assert variables == {"PYTHONPATH": "/place:/theirs"}


def test_the_first_pattern_that_matches_an_image_counts() -> None:
    """The user's patterns come before those of the package, and letters count as they are."""
    ours = [("*/kmeans:2", "second"), ("*/kmeans:*", "mine")]
    assert module_for("registry/kmeans:2", ours) == "second"
    assert module_for("registry/kmeans:1", ours) == "mine"
    assert module_for("registry/kmeans:1", []) == "processing.local.programs.kmeans"
    assert module_for("registry/KMeans:1", ours) is None
    found = find_program("registry/xgboost:1", [])
    assert found is not None
    assert found.arguments == ["--root", "/opt/ml"]
    assert found.source.endswith("xgboost.py")


@pytest.mark.parametrize(
    ("programs", "problem"),
    [
        ("scorer", ", not 'scorer'"),
        ({"*": 5}, ", not {'*': 5} (dict)"),
        ({"": "scorer"}, "; '' is no pattern, such as \"*/kmeans:*\""),
        ({"*": "scorer:main"}, "; 'scorer:main' of '*' is no module, such as \"package.module\""),
        ([("a", "scorer"), ("*", "")], "; '' of '*' is no module, such as \"package.module\""),
    ],
)
def test_programs_that_are_no_modules_are_refused(tmp_path: Path, programs: Any, problem: str) -> None:
    """The message names the entry."""
    with pytest.raises(ConfigurationError) as caught:
        LocalSession(tmp_path, programs=programs)
    assert str(caught.value) == f"programs: must be a mapping of patterns of image URIs to modules{problem}"
