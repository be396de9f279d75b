"""`sagemaker` 2.x: whatever has its name here takes the same parameters, in the same order, with the same defaults."""

from __future__ import annotations

import importlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from processing.compat.modules import HOMES
from processing.compat.offered import OFFERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
SCRIPT = """
import importlib, inspect, json

def parameters(function):
    try:
        kinds = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [
        [each.name, None if each.default is each.empty else repr(each.default)]
        for each in kinds if each.kind is each.POSITIONAL_OR_KEYWORD
    ]

def methods(kind):
    return {name: parameters(getattr(kind, name)) for name in dir(kind) if callable(getattr(kind, name))}

print("RESULT" + json.dumps({
    module + "." + name: {"": parameters(found), **(methods(found) if inspect.isclass(found) else {})}
    for module, names in MODULES.items() for name in names
    for found in [getattr(importlib.import_module(module), name)]
}))
"""
ON_PURPOSE = {
    ("run", "logs"): ("logs", "None"),  # follows `wait`
    ("run", "git_config"): ("requirements", "None"),  # the order of 3.x; a call in that of 2.x is understood
    ("run", "codeartifact_repo_arn"): ("entry_point", "None"),  # the same
    ("upload_string_as_file_body", "desired_s3_uri"): ("desired_s3_uri", None),  # without it 2.x fails
}
CONSTRUCTORS_OF_THEIR_OWN = {"FrameworkProcessor", "FeatureStoreOutput", "retrieve"}
"""The form with `estimator_cls`, any keywords at all, and settings for other jobs' images."""

STANDARD = {"RemoteExecutor"}
"""The classes whose methods are those of Python's own interface, here `concurrent.futures.Executor`."""

NAMES_ONLY = {"processing.compat.estimators"}
"""The modules whose classes are never instantiated."""


def ours(function: Callable[..., Any]) -> list[tuple[str, str | None]]:
    """The parameters that may be given by position, each with its default."""
    return [
        (each.name, None if each.default is each.empty else repr(each.default))
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]


def test_what_has_the_same_name_has_the_same_parameters(foreign: Client) -> None:
    """A call that is right for 2.x is right here: places and names are the same, and what may be left out there may."""
    printed = foreign.script(f"MODULES = {OFFERED!r}\n{SCRIPT}").partition("RESULT")[2]
    compared, other = 0, []
    for whole, members in json.loads(printed.splitlines()[0]).items():
        name = whole.rpartition(".")[2]
        if HOMES[name] in NAMES_ONLY:
            continue
        home = getattr(importlib.import_module(HOMES[name]), name)
        for member, theirs in members.items():
            function = getattr(home, member, None) if member else home
            if theirs is None or function is None or member.startswith("__"):
                continue
            if name in (STANDARD if member else CONSTRUCTORS_OF_THEIR_OWN):
                continue
            compared += 1
            wanted = [ON_PURPOSE.get((member, each), (each, default)) for each, default in theirs]
            found = ours(function)
            if all(default is not None for _, default in found[len(wanted) :]):
                found = found[: len(wanted)]  # more parameters at the end may be left out
            names_differ = [each for each, _ in found] != [each for each, _ in wanted]
            if names_differ or any(their[1] not in {None, our[1]} for their, our in zip(wanted, found, strict=True)):
                other.append((whole, member, wanted, found))
    assert not other
    assert compared > 100  # it has not lost its names
