"""The check of `configuration`: classifications for Hadoop, Spark and Hive in the form of Amazon EMR."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from processing._utils import did_you_mean
from processing._utils.validation import nesting_problem, shown
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
_ADDRESS = "see https://docs.aws.amazon.com/emr/latest/ReleaseGuide/emr-configure-apps.html"


def configuration_body(configuration: Any) -> bytes:
    """Return the content of `configuration.json` for one classification or a list of them.

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
    return json.dumps(configuration, default=dict).encode()


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
    yield from _property_problems(value.get("Properties"), f"{path}.Properties")
    inner = value.get("Configurations")
    if inner is not None and not isinstance(inner, (list, tuple)):
        yield f"{path}.Configurations: must be a list of classifications, not {shown(inner)}"
    elif inner:
        if names == CLASSIFICATIONS and str(name).endswith("-env"):
            yield from _list_problems(inner, f"{path}.Configurations", (_EXPORT,))
        else:
            yield f"{path}.Configurations: only hadoop-env, hive-env, spark-env and yarn-env have inner classifications"


def _property_problems(properties: Any, path: str) -> Iterator[str]:
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
            yield f"{path}[{name!r}]: must be text or a number, not {shown(value)}"
