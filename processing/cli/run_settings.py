"""From the words of `processing run` to a processor and the arguments of its `run`."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.cli import job_file
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.session.session import Session

_INPUTS: Final = "/opt/ml/processing/input"
_OUTPUTS: Final = "/opt/ml/processing/output"


@attrs.frozen
class PreparedRun:
    """A run that can be planned and started.

    Args:
        processor: the processor.
        arguments: the arguments of its `run`, `plan` and `stage`.
        downloads: the folder of this machine for each output, by the output's name.
    """

    processor: Any
    arguments: Mapping[str, Any]
    downloads: Mapping[str, Path]


def make_run(settings: Mapping[str, Any], session: Session | None, downloads: Mapping[str, Path]) -> PreparedRun:
    """Return the run with settings of Python's names.

    Args:
        settings: the parameters of the processor and of its `run`, and `processor`, the class.
        session: the session; None for that of the instance type.
        downloads: the folder of this machine for each output, by the output's name.

    Raises:
        ConfigurationError: a parameter is not one of the class.
    """
    values = dict(settings)
    name = values.pop("processor", job_file.PROCESSORS[0])
    made, run = job_file.parameters(name)
    for given in values:
        if given not in made | run:
            raise ConfigurationError(f"{given}: is not a parameter of {name}")
    if "command" in made and name == "ScriptProcessor":
        values.setdefault("command", ["python3"])
    if "instance_count" in made and not values.get("instance_preferences"):
        values.setdefault("instance_count", 1)
    if "code" in values and not values.get("base_job_name"):
        values["base_job_name"] = PurePath(str(values["code"])).stem
    for key in ("inputs", "outputs"):
        if key in values:
            values[key] = _entries(key, values[key])
    if "network_config" in values:
        values["network_config"] = _model("network_config", values["network_config"])
    if isinstance(values.get("env"), dict):
        values["env"] = {key: value if isinstance(value, str) else str(value) for key, value in values["env"].items()}
    processor = job_file.processor_class(name)(
        **{key: value for key, value in values.items() if key in made}, sagemaker_session=session
    )
    return PreparedRun(
        processor, {key: value for key, value in values.items() if key in run and key not in made}, downloads
    )


def named_input(text: str, position: int) -> dict[str, Any]:
    """Return the input of a word such as `raw=data/`. Without a name it is `input-1`, `input-2`, ..."""
    name, source = _named(text, f"input-{position}")
    return {"source": source, "destination": f"{_INPUTS}/{name}", "input_name": name}


def named_output(text: str, position: int) -> tuple[dict[str, Any], Path | None]:
    """Return the output of a word such as `clean=out/`, and its folder on this machine.

    The folder is None if the destination is in S3, or if there is none: then the default bucket has the files.
    """
    name, place = _named(text, f"output-{position}", alone_is_name=True)
    output = {"source": f"{_OUTPUTS}/{name}", "output_name": name}
    if not place:
        return output, None
    if place.lower().startswith("s3://"):
        return {**output, "destination": place}, None
    return output, Path(place)


def _named(text: str, default: str, *, alone_is_name: bool = False) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if equals and name and "/" not in name:
        return name, place
    return (text, "") if alone_is_name and "/" not in text else (default, text)


def _entries(key: str, values: Any) -> Any:
    if not isinstance(values, list):
        return values  # the processor refuses it by its name
    return [_model(key, value, position) for position, value in enumerate(values)]


def _model(key: str, value: Any, position: int | None = None) -> Any:
    """Return the value of a model's class from a mapping of a job file."""
    from processing._utils import did_you_mean
    from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput

    if not isinstance(value, dict):
        return value
    kind: Any = {
        "inputs": ProcessingInput,
        "outputs": ProcessingOutput,
        "network_config": NetworkConfig,
    }[key]
    known = {field.name.lstrip("_") for field in attrs.fields(kind)}
    place = key if position is None else f"{key}[{position}]"
    for name in value:
        if name not in known:
            raise ConfigurationError(
                f"{place}.{name}: is not a parameter of {kind.__name__}{did_you_mean(name, known)}"
            )
    return kind(**value)


def image_of(text: str, session: Session, *, instance_type: str | None, py_version: str | None) -> str:
    """Return the URI of an image: the text itself, or AWS's image for a framework such as `sklearn:1.9-0`."""
    from processing import images

    framework, colon, version = text.partition(":")
    if "/" in text or framework not in images.frameworks():
        return text
    return images.image_uri(
        framework,
        version if colon else None,
        session.boto_region_name,
        py_version=py_version,
        instance_type=instance_type,
    )


def merged(base: Mapping[str, Any], given: Mapping[str, Any], lists: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a job file with those of the command line, which have priority.

    Args:
        base: the settings of the file.
        given: the settings of the command line. None and empty values are not given.
        lists: the names of settings that are added to those of the file.
    """
    result = dict(base)
    for name, value in given.items():
        if value is None or value in ([], {}, ()):
            continue
        if name in lists and isinstance(result.get(name), list):
            result[name] = [*result[name], *value]
        elif isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = {**result[name], **value}
        else:
            result[name] = value
    return result
