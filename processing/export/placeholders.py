"""Placeholders: values of a request that the receiving tool computes at run time.

A placeholder replaces a whole value, which its path names (`ProcessingResources.ClusterConfig.InstanceCount`), or a
part of a text, which has the placeholder's name in double braces (`s3://bucket/{{date}}/`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from processing._utils import did_you_mean
from processing._utils.validation import MAPPING, shown
from processing.exceptions import ConfigurationError

_MARKER: Final = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")
# The input with arguments and variables that exceed the limits of a request.
_LONG_COMMAND: Final = "processing-command"
# The members that name an element of a list.
_ELEMENT_NAMES: Final = ("InputName", "OutputName", "Key")


@attrs.frozen
class Expression:
    """An expression in the language of the receiving tool.

    Args:
        text: the expression, without the characters that enclose it.
    """

    text: str


@attrs.frozen
class Template:
    """A text with expressions in it.

    Args:
        parts: its parts in their order; a template of one expression may have any type.
    """

    parts: tuple[str | Expression, ...]


def check_placeholders(placeholders: object) -> dict[str, str]:
    """Return the placeholders as a new dictionary; empty for None.

    Raises:
        ConfigurationError: it is not a dictionary of texts.
    """
    if placeholders is None:
        return {}
    if not isinstance(placeholders, Mapping):
        raise ConfigurationError(f"placeholders: must be {MAPPING.description}, not {shown(placeholders)}")
    for name, expression in placeholders.items():
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"placeholders: must have names or paths as keys, not {shown(name)}")
        if not isinstance(expression, str) or not expression.strip():
            raise ConfigurationError(f"placeholders[{name!r}]: must be an expression, not {shown(expression)}")
    return dict(placeholders)


def insert_placeholders(
    parameters: Mapping[str, Any], placeholders: Mapping[str, str], run: Template
) -> dict[str, Any]:
    """Return a copy of the parameters with a `Template` in place of each text or value that has a placeholder.

    Args:
        parameters: the parameters of CreateProcessingJob.
        placeholders: the expression of each placeholder, by its name or path.
        run: a text that differs between two runs. It replaces the job's name in the destinations of outputs, so that
            no run replaces the files of another.

    Raises:
        ConfigurationError: the request has no such path, and no text with such a name.
    """
    paths = {name: text for name, text in placeholders.items() if _is_path(name, parameters)}
    names = {name: Expression(text) for name, text in placeholders.items() if name not in paths}
    used: set[str] = set()
    copied: dict[str, Any] = _mapped(parameters, lambda text: _split(text, names, used))
    for name in names.keys() - used:
        raise ConfigurationError(
            f"placeholders[{name!r}]: the request has no such value, and no text with {{{{{name}}}}}"
            f"{did_you_mean(name, [*markers(parameters), *parameters])}{_hidden(parameters)}"
        )
    _rename_outputs(copied, str(parameters["ProcessingJobName"]), run)
    for path, text in paths.items():
        _replace(copied, path, Template((Expression(text),)))
    return copied


def _hidden(parameters: Mapping[str, Any]) -> str:
    """Return the end of an error if some texts of the request are in a file."""
    inputs = {entry.get("InputName") for entry in parameters.get("ProcessingInputs", ())}
    if _LONG_COMMAND not in inputs:
        return ""
    return f"; its arguments or variables exceed the limits of a request, so they are in the input {_LONG_COMMAND}"


def render(value: Any, template: Callable[[Template], Any], literal: Callable[[str], Any]) -> Any:
    """Return a copy of a value with its templates and texts in the form of the receiving tool."""
    if isinstance(value, Template):
        return template(value)
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, Mapping):
        return {key: render(member, template, literal) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [render(member, template, literal) for member in value]
    return value


def markers(value: Any) -> list[str]:
    """Return the names in double braces in the texts of a value."""
    found: list[str] = []
    _mapped(value, lambda text: found.extend(_MARKER.findall(text)))
    return found


def _mapped(value: Any, change: Callable[[str], Any]) -> Any:
    return render(value, lambda template: template, change)


def _split(text: str, names: Mapping[str, Expression], used: set[str]) -> str | Template:
    """Return a text with the names of placeholders as a template, and another one as it is."""
    parts: list[str | Expression] = []
    rest = 0
    for match in _MARKER.finditer(text):
        if match[1] in names:
            used.add(match[1])
            parts += [text[rest : match.start()], names[match[1]]]
            rest = match.end()
    if not parts:
        return text
    return template_of([*parts, text[rest:]])


def _is_path(name: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether a name is the path of a value: it begins with a member of the request.

    Raises:
        ConfigurationError: it begins so, and leads to no value.
    """
    first = _STEP.match(name)
    if first is None or first[1] not in parameters:
        return False
    _find(parameters, name)
    return True


def _steps(path: str) -> list[str]:
    return [match[1] or match[2] for match in _STEP.finditer(path)]


def _find(value: Any, path: str) -> tuple[Any, Any]:
    """Return the container of a value, and the value's key or position in it."""
    container, key = None, None
    for step in _steps(path):
        container, key = value, _key(value, step)
        if key is None:
            known = list(value) if isinstance(value, Mapping) else []
            raise ConfigurationError(
                f"placeholders[{path!r}]: replaces a value of the request, and it has no {step!r}"
                f"{did_you_mean(step, known)}"
            )
        value = value[key]
    return container, key


def _key(value: Any, step: str) -> Any:
    if isinstance(value, Mapping):
        return step if step in value else None
    if not isinstance(value, list):
        return None
    for position, element in enumerate(value):
        if isinstance(element, Mapping) and step in {element.get(member) for member in _ELEMENT_NAMES}:
            return position
    return int(step) if step.isdecimal() and int(step) < len(value) else None


def _replace(parameters: dict[str, Any], path: str, template: Template) -> None:
    container, key = _find(parameters, path)
    container[key] = template


def _rename_outputs(parameters: dict[str, Any], job_name: str, run: Template) -> None:
    for entry in parameters.get("ProcessingOutputConfig", {}).get("Outputs", []):
        target = entry.get("S3Output", {})
        uri = target.get("S3Uri")
        if uri is None:
            continue
        parts: list[str | Expression] = []
        for part in uri.parts if isinstance(uri, Template) else (uri,):
            parts += [part] if isinstance(part, Expression) else _renamed(part, job_name, run)
        if any(isinstance(part, Expression) for part in parts):
            target["S3Uri"] = template_of(parts)


def _renamed(text: str, job_name: str, run: Template) -> list[str | Expression]:
    before, found, after = f"{text}/".partition(f"/{job_name}/")
    return [f"{before}/", *run.parts, f"/{after}"[:-1]] if found else [text]


def template_of(parts: Iterable[str | Expression]) -> Template:
    """Return a template in which no two texts follow each other, and no text is empty."""
    joined: list[str | Expression] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return Template(tuple(joined))
