"""The package is typed, for whoever installs it."""

from __future__ import annotations

import importlib.resources
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import processing

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_py_typed_is_there() -> None:
    """The marker of PEP 561 travels in the wheel, beside the code."""
    assert importlib.resources.files("processing").joinpath("py.typed").is_file()


def functions(value: Any) -> Iterator[Any]:
    """A function itself, or the public functions of a class that are our own."""
    if inspect.isfunction(value):
        yield value
    for name, member in inspect.getmembers(value) if inspect.isclass(value) else ():
        found = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        ours = inspect.isfunction(found) and found.__module__.startswith("processing.")
        if ours and (not name.startswith("_") or name == "__init__"):
            yield found


@pytest.mark.parametrize("name", processing.__all__)
def test_every_parameter_has_a_type(name: str) -> None:
    """Each public function and method says the type of every parameter and of what it returns."""
    for function in functions(getattr(processing, name)):
        signature = inspect.signature(function)
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
        ]
        assert untyped == [], function.__qualname__
        assert signature.return_annotation is not signature.empty, function.__qualname__
