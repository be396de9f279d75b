"""Helpers of stages as values: both spellings of their parameters, comparison, and their form in a saved stage."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from processing.exceptions import ConfigurationError

_Result = TypeVar("_Result")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """Return `trainingInputS3DataPath` as `training_input_s3_data_path`."""
    return _WORD.sub("_", name).lower()


def camel_case(name: str) -> str:
    """Return `score_column_name` as `scoreColumnName`."""
    first, *others = name.split("_")
    return first + "".join(each[:1].upper() + each[1:] for each in others)


def both_spellings(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Let callers write each parameter of a function in camelCase or snake_case."""
    names = list(inspect.signature(function).parameters)
    spellings = {other: name for name in names for other in (snake_case(name), camel_case(name)) if other not in names}

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> _Result:
        return function(*args, **rename(kwargs, spellings))

    return renamed


def rename(given: Mapping[str, Any], spellings: Mapping[str, str]) -> dict[str, Any]:
    """Return keyword arguments under their own names.

    Args:
        given: the arguments.
        spellings: the own name of each other spelling.

    Raises:
        ConfigurationError: a parameter is given in both spellings.
    """
    result: dict[str, Any] = {}
    for name, value in given.items():
        own = spellings.get(name, name)
        if own in result:
            raise ConfigurationError(f"{own}: is given twice, as {own} and {name}")
        result[own] = value
    return result


class Value:
    """A value that belongs to a stage: equal to another one with the same attributes, and saved with the stage.

    A subclass has to be importable from a module, and its attributes have to be numbers, texts, lists, dictionaries or
    other values. Its constructor is not called when the stage is loaded.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), tuple(sorted(vars(self)))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


_CLASS = "class"
_SCHEMA = "schema"
_VALUE = "value"


def to_json(parameter: str, value: Any) -> Any:
    """Return a parameter's value as JSON can hold it.

    Raises:
        ConfigurationError: it has no form in JSON; the message names the parameter.
    """
    if isinstance(value, Value):
        members = {name: to_json(f"{parameter}.{name}", member) for name, member in vars(value).items()}
        return {_VALUE: {_CLASS: f"{type(value).__module__}:{type(value).__qualname__}", "members": members}}
    if hasattr(value, "jsonValue"):  # a schema of Spark
        return {_VALUE: {_SCHEMA: value.jsonValue()}}
    if isinstance(value, Mapping):
        return {_VALUE: {"items": {str(name): to_json(parameter, member) for name, member in value.items()}}}
    if isinstance(value, (list, tuple)):
        return [to_json(parameter, member) for member in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigurationError(f"{parameter}: {type(value).__qualname__} cannot be saved; give numbers, texts or lists")


def from_json(parameter: str, stored: Any) -> Any:
    """Return a parameter's value from its form in JSON.

    Raises:
        ConfigurationError: its class cannot be imported, or is not a `Value`.
    """
    if isinstance(stored, list):
        return [from_json(parameter, member) for member in stored]
    if not isinstance(stored, Mapping):
        return stored
    content = stored[_VALUE]
    if _SCHEMA in content:
        from pyspark.sql.types import StructType

        return StructType.fromJson(content[_SCHEMA])
    if "items" in content:
        return {name: from_json(parameter, member) for name, member in content["items"].items()}
    made = object.__new__(_class_of(parameter, content[_CLASS]))
    vars(made).update({name: from_json(parameter, member) for name, member in content["members"].items()})
    return made


def _class_of(parameter: str, place: str) -> type[Value]:
    module, _, name = place.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{parameter}: {place} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Value)):
        raise ConfigurationError(f"{parameter}: {place} is not a serializer, role, path or policy of a stage")
    return found
