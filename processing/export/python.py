"""A request as a Python script: for this package, or for boto3 alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import attrs

from processing._utils.validation import one_of, require

_WIDTH: Final = 88  # columns: the default of formatters
# The parameters of `Processor`, and the fields of a request with their values.
_PROCESSOR: Final = {
    "role": "role_arn",
    "image_uri": "image_uri",
    "instance_count": "instance_count",
    "instance_type": "instance_type",
    "entrypoint": "entrypoint",
    "volume_size_in_gb": "volume_size_in_gb",
    "volume_kms_key": "volume_kms_key",
    "output_kms_key": "output_kms_key",
    "max_runtime_in_seconds": "max_runtime_in_seconds",
    "env": "environment",
    "network_config": "network_config",
    "instance_preferences": "instance_preferences",
    "extra": "extra",
}


def script(request: Any, library: str = "processing") -> str:
    """Return a Python script that makes a request.

    Args:
        request: the `ProcessingRequest`.
        library: `processing` for a script with this package, `boto3` for one that needs boto3 alone.

    Raises:
        ConfigurationError: there is no such library.
    """
    require("library", library, one_of("processing", "boto3"))
    if library == "boto3":
        members = _members(request.to_boto(), 4)
        return f'import boto3\n\nsagemaker = boto3.client("sagemaker")\nsagemaker.create_processing_job(\n{members})\n'
    processor = {name: getattr(request, field) for name, field in _PROCESSOR.items()}
    processor["entrypoint"] = _listed(processor["entrypoint"])
    processor["env"] = None if request.environment is None else dict(request.environment)
    processor["instance_preferences"] = _preferences(request.instance_preferences)
    processor["tags"] = _tags(request.tags)
    run = {
        "inputs": list(request.inputs) or None,
        "outputs": list(request.outputs) or None,
        "arguments": _listed(request.arguments),
        "job_name": request.job_name,
        "if_exists": "suffix",
        "experiment_config": dict(request.experiment_config) if request.experiment_config else None,
    }
    made, started = (_members({k: v for k, v in each.items() if v is not None}, 4) for each in (processor, run))
    names = ", ".join(sorted({"Processor", *_classes([*processor.values(), *run.values()])}))
    imported = f"from processing import {names}"
    if len(imported) > _WIDTH:
        imported = "from processing import (\n" + "".join(f"    {name},\n" for name in names.split(", ")) + ")"
    return f"{imported}\n\nprocessor = Processor(\n{made})\nprocessor.run(\n{started})\n"


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _preferences(values: Any) -> list[Any] | None:
    if values is None:
        return None
    return [
        each.instance_type
        if each.instance_count is None
        else {"InstanceType": each.instance_type, "InstanceCount": each.instance_count}
        for each in values
    ]


def _tags(pairs: tuple[tuple[str, Any], ...] | None) -> Any:
    if pairs is None or len(dict(pairs)) == len(pairs):
        return None if pairs is None else dict(pairs)
    return [{"Key": key, "Value": value} for key, value in pairs]


def _members(values: Mapping[str, Any], indent: int) -> str:
    """Return the lines of keyword arguments."""
    blank = " " * indent
    return "".join(f"{blank}{name}={expression(value, indent, len(name) + 2)},\n" for name, value in values.items())


def expression(value: Any, indent: int = 0, used: int = 0) -> str:
    """Return the Python expression of a value: of JSON's types, or a model of this package.

    Args:
        value: the value.
        indent: the column where its line begins.
        used: the columns of that line that other text needs.
    """
    short = _short(value)
    if len(short) + indent + used <= _WIDTH or not (
        attrs.has(type(value)) or isinstance(value, (Mapping, list, tuple))
    ):
        return short
    blank, inner = " " * indent, " " * (indent + 4)
    if attrs.has(type(value)):
        return f"{_class(value).__name__}(\n{_members(_arguments(value), indent + 4)}{blank})"
    if isinstance(value, Mapping):
        lines = [
            f"{inner}{_short(key)}: {expression(member, indent + 4, len(_short(key)) + 3)},\n"
            for key, member in value.items()
        ]
        return f"{{\n{''.join(lines)}{blank}}}"
    lines = [f"{inner}{expression(member, indent + 4, 1)},\n" for member in value]
    return f"[\n{''.join(lines)}{blank}]"


def _short(value: Any) -> str:
    """Return the expression in one line."""
    if attrs.has(type(value)):
        inside = ", ".join(f"{name}={_short(member)}" for name, member in _arguments(value).items())
        return f"{_class(value).__name__}({inside})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_short(key)}: {_short(member)}' for key, member in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_short(member) for member in value)}]"
    if isinstance(value, str):
        return _quoted(str.__str__(value))  # a member of an enumeration is a text, too
    return repr(value)


def _quoted(text: str) -> str:
    """Return a literal in double quotes, as formatters write it, unless the text has some."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal.startswith("'") and '"' not in text else literal


def _class(value: Any) -> type[Any]:
    """Return the class of this package that a value has, or from which the user's class is derived."""
    classes = type(value).__mro__
    return next((each for each in classes if each.__module__.partition(".")[0] == "processing"), classes[0])


def _arguments(value: Any) -> dict[str, Any]:
    """Return the arguments that make an equal model: the attributes that differ from the defaults."""
    parameters = inspect.signature(_class(value)).parameters
    return {
        name: getattr(value, name)
        for name, parameter in parameters.items()
        if name != "s3_input" and getattr(value, name, parameter.default) != parameter.default
    }


def _classes(value: Any) -> set[str]:
    """Return the names of the models in a value."""
    if attrs.has(type(value)):
        return {_class(value).__name__, *_classes(list(_arguments(value).values()))}
    if isinstance(value, Mapping):
        return _classes(list(value.values()))
    return set().union(*map(_classes, value)) if isinstance(value, (list, tuple)) else set()
