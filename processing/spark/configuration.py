"""The check of `configuration`: classifications for Hadoop, Spark and Hive in the form of Amazon EMR."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from processing._utils import did_you_mean
from processing._utils.validation import is_encodable, nesting_problem, shown
from processing.exceptions import ConfigurationError

Configuration = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Classifications in the form of Amazon EMR: one, or several."""

CLASSIFICATIONS = (
    "core-site",
    "hadoop-env",
    "hadoop-log4j",
    "hive-env",
    "hive-exec-log4j",
    "hive-log4j",
    "hive-site",
    "spark-defaults",
    "spark-env",
    "spark-hive-site",
    "spark-log4j",
    "spark-metrics",
    "yarn-env",
    "yarn-site",
)
"""The classifications that AWS's Spark images apply."""

_KEYS = ("Classification", "Properties", "Configurations")
_EXPORT = "export"
_ENVIRONMENTS = tuple(name for name in CLASSIFICATIONS if name.endswith("-env"))
# The container writes names and values into its files as they are. A line break would begin another setting.
_CONTROL = re.compile(r"[\x00-\x08\n-\x1f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_XML_NAME = re.compile(r"[^\s<>&]+")
_PROPERTY_NAME = re.compile(r"[^\s=:#!][^\s=:]*")
_BARE_AMPERSAND = re.compile(r"&(?!#?\w+;)")
_ADDRESS = "see https://docs.aws.amazon.com/emr/latest/ReleaseGuide/emr-configure-apps.html"


def configuration_body(configuration: Any) -> bytes:
    """Return the content of `configuration.json` for one classification or a list of them.

    The container does not escape the values that it writes into XML. A bare `<`, `>` or `&`, as in a database's URL,
    travels as an entity; entities stay.

    Raises:
        ConfigurationError: the container could not apply a classification; the message has every finding, each with the
            path of its field, such as `configuration[0].Properties`.
    """
    nesting = nesting_problem(configuration)
    if nesting is not None:
        raise ConfigurationError(f"configuration: {nesting}")
    problems = list(_problems(configuration))
    if problems:
        raise ConfigurationError(*problems)
    if isinstance(configuration, Mapping):
        return json.dumps(_with_entities(configuration)).encode()
    return json.dumps([_with_entities(each) for each in configuration]).encode()


def _with_entities(classification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a classification for JSON, with the entities that its file needs."""
    properties = dict(classification["Properties"])
    if str(classification["Classification"]).endswith("-site"):
        properties = {name: _escaped(value) for name, value in properties.items()}
    inner = classification.get("Configurations")
    changed = {} if not inner else {"Configurations": [_with_entities(each) for each in inner]}
    return {**classification, "Properties": properties, **changed}


def _escaped(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _BARE_AMPERSAND.sub("&amp;", value).replace("<", "&lt;").replace(">", "&gt;")


def _problems(configuration: Any) -> Iterator[str]:
    if isinstance(configuration, Mapping):
        yield from _classification_problems(configuration, "configuration", CLASSIFICATIONS)
    elif isinstance(configuration, (list, tuple)):
        yield from _list_problems(configuration, "configuration", CLASSIFICATIONS)
    else:
        yield f"configuration: must be a classification or a list of them, not {shown(configuration)}; {_ADDRESS}"


def _list_problems(values: Any, path: str, names: tuple[str, ...]) -> Iterator[str]:
    for index, value in enumerate(values):
        if isinstance(value, Mapping):
            yield from _classification_problems(value, f"{path}[{index}]", names)
        else:
            yield f"{path}[{index}]: must be a dictionary with the keys {', '.join(_KEYS)}, not {shown(value)}"


def _classification_problems(value: Mapping[Any, Any], path: str, names: tuple[str, ...]) -> Iterator[str]:
    for key in value:
        if key not in _KEYS:
            yield f"{path}: has the unknown key {key!r}{did_you_mean(str(key), _KEYS)}; {_ADDRESS}"
    name = value.get("Classification")
    if name not in names:
        problem = "missing" if name is None else f"{shown(name)} is unknown{did_you_mean(str(name), names)}"
        yield f"{path}.Classification: {problem}; give one of {', '.join(names)}"
    yield from _property_problems(value.get("Properties"), f"{path}.Properties", name)
    if name in _ENVIRONMENTS:
        yield from _environment_problems(value, path)
    elif value.get("Configurations"):
        yield f"{path}.Configurations: only {', '.join(_ENVIRONMENTS)} have inner classifications"


def _environment_problems(value: Mapping[Any, Any], path: str) -> Iterator[str]:
    """Yield the problems of a classification whose variables are those of an inner one."""
    variables = f"{{'Classification': '{_EXPORT}', 'Properties': {{...}}}}"
    if isinstance(value.get("Properties"), Mapping) and value["Properties"]:
        yield f"{path}.Properties: have no effect here; move them into Configurations, as [{variables}]"
    inner = value.get("Configurations")
    if not isinstance(inner, (list, tuple, type(None))):
        yield f"{path}.Configurations: must be a list of classifications, not {shown(inner)}"
    elif not inner:
        yield f"{path}.Configurations: missing; give the variables as [{variables}]"
    else:
        yield from _list_problems(inner, f"{path}.Configurations", (_EXPORT,))


def _property_problems(properties: Any, path: str, classification: Any) -> Iterator[str]:
    if properties is None:
        yield f"{path}: missing; give a dictionary, {{}} for no property; {_ADDRESS}"
        return
    if not isinstance(properties, Mapping):
        yield f"{path}: must be a dictionary, not {shown(properties)}"
        return
    for name, value in properties.items():
        if not isinstance(name, str) or not name:
            yield f"{path}: has the name {shown(name)}, which must be text"
        elif not isinstance(value, (str, int, float)):
            yield f"{path}[{shown(name)}]: must be text or a number, not {shown(value)}"
        else:
            problem = _line_problem(name, value, classification)
            if problem is not None:
                yield f"{path}[{shown(name)}]: {problem}"


def _line_problem(name: str, value: str | float, classification: Any) -> str | None:
    """Return why the line of a setting would mean something else in the file of its classification."""
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits
        return "has too many digits"
    for part, kind in ((name, "name"), (text, "value")):
        if _CONTROL.search(part) or not is_encodable(part):
            return f"the {kind} has a line break or another character that a configuration file cannot have"
    if classification == _EXPORT:
        return _variable_problem(name, text)
    if str(classification).endswith("-site"):
        return None if _XML_NAME.fullmatch(name) else "the name has a character that XML does not allow, or a space"
    return None if _PROPERTY_NAME.fullmatch(name) else "the name has a space, '=', ':', '#' or '!', which ends it"


def _variable_problem(name: str, value: str) -> str | None:
    """Return why a shell does not export a variable with this value. The values of commands are not known here."""
    if not _VARIABLE.fullmatch(name):
        return "is not the name of an environment variable: letters, digits and underscores"
    if "$(" in value or "`" in value:
        return None
    words = shlex.shlex(value, posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, ""
    try:
        count = len(list(words))
    except ValueError:
        return "has a quote that is not closed; a shell reads it"
    if count > 1:
        return f"is more than one word for the shell that reads it; quote it: {shlex.quote(value)!r}"
    return None
