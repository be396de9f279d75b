"""Job files: the parameters of a processor and of its `run`, by their names in Python, as YAML or JSON.

`schema` returns the published JSON schema, docs/reference/job.schema.json.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, Final

from processing._utils import did_you_mean
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROCESSORS: Final = (
    "ScriptProcessor",
    "Processor",
    "FrameworkProcessor",
    "SKLearnProcessor",
    "PyTorchProcessor",
    "TensorFlowProcessor",
    "HuggingFaceProcessor",
    "XGBoostProcessor",
    "MXNetProcessor",
    "PySparkProcessor",
    "SparkJarProcessor",
)
"""The classes that a job file can name; the first one is the default."""

SUFFIXES: Final = (".yaml", ".yml", ".json")

# Parameters that a file cannot hold, or that the command's own options set.
_LEFT_OUT: Final = frozenset({"self", "sagemaker_session", "wait", "logs", "progress", "quiet", "estimator_cls"})

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_MAPPING: Final = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_ANY_MAPPING: Final = {"type": "object"}
_INPUT: Final = {
    "type": "object",
    "properties": {
        "source": _TEXT,
        "destination": _TEXT,
        "input_name": _TEXT,
        "s3_data_type": {"enum": ["S3Prefix", "ManifestFile"]},
        "s3_input_mode": {"enum": ["File", "Pipe"]},
        "s3_data_distribution_type": {"enum": ["FullyReplicated", "ShardedByS3Key"]},
        "s3_compression_type": {"enum": ["None", "Gzip"]},
        "app_managed": {"type": "boolean"},
        "reuse": {"type": "boolean"},
    },
    "required": ["source"],
    "additionalProperties": False,
}
_OUTPUT: Final = {
    "type": "object",
    "properties": {
        "source": _TEXT,
        "destination": _TEXT,
        "output_name": _TEXT,
        "s3_upload_mode": {"enum": ["EndOfJob", "Continuous"]},
        "app_managed": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_NETWORK: Final = {
    "type": "object",
    "properties": {
        "enable_network_isolation": {"type": "boolean"},
        "security_group_ids": _TEXTS,
        "subnets": _TEXTS,
        "encrypt_inter_container_traffic": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_TYPES: Final[Mapping[str, Any]] = {
    "arguments": _TEXTS,
    "command": _TEXTS,
    "configuration": {"type": ["object", "array"]},
    "dependencies": _TEXTS,
    "entrypoint": _TEXTS,
    "env": _MAPPING,
    "experiment_config": _MAPPING,
    "extra": _ANY_MAPPING,
    "git_config": _MAPPING,
    "if_exists": {"enum": ["fail", "attach", "suffix"]},
    "inputs": {"type": "array", "items": _INPUT},
    "instance_count": {"type": "integer", "minimum": 1},
    "instance_preferences": {"type": "array", "items": {"type": ["string", "object"]}, "minItems": 1, "maxItems": 5},
    "max_runtime_in_seconds": {"type": "integer", "minimum": 1},
    "network_config": _NETWORK,
    "outputs": {"type": "array", "items": {"anyOf": [_TEXT, _OUTPUT]}},
    "submit_files": _TEXTS,
    "submit_jars": _TEXTS,
    "submit_py_files": _TEXTS,
    "tags": _MAPPING,
    "volume_size_in_gb": _NUMBER,
}
"""The JSON schema of each parameter that is not a string."""


def processor_class(name: str) -> Any:
    """Return the class of processors of that name.

    Raises:
        ConfigurationError: there is no such class.
    """
    from processing import processors, spark
    from processing.processors import frameworks

    if name not in PROCESSORS:
        raise ConfigurationError(f"processor: must be one of {', '.join(PROCESSORS)}, not {name!r}")
    return next(getattr(place, name) for place in (processors, frameworks, spark) if hasattr(place, name))


def parameters(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the parameters of a class of processors, and of its `run`."""
    kind = processor_class(name)
    made, run = (
        frozenset(inspect.signature(function).parameters) - _LEFT_OUT for function in (kind.__init__, kind.run)
    )
    return made, run


def schema() -> dict[str, Any]:
    """Return the JSON schema of job files."""
    names = sorted(set().union(*(names for each in PROCESSORS for names in parameters(each))))
    properties = {name: _TYPES.get(name, _TEXT) for name in names}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job file of sm-processing",
        "description": "The parameters of a processor and of its `run`, by their names in Python.",
        "type": "object",
        "properties": {"processor": {"enum": list(PROCESSORS), "default": PROCESSORS[0]}, **properties},
        "additionalProperties": False,
    }


def read(path: Path) -> dict[str, Any]:
    """Return the parameters in a job file. Paths in it are relative to the current directory, as in Python.

    Raises:
        ConfigurationError: the file cannot be read, or it is not a mapping of known parameters.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the job file cannot be read: {error}") from error
    found = _parse(path, text)
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: must be a mapping of parameters, not {type(found).__name__}")
    known = {"processor", *schema()["properties"]}
    unknown = [str(name) for name in found if name not in known]
    if unknown:
        raise ConfigurationError(*(f"{path}: {name} is not a parameter{did_you_mean(name, known)}" for name in unknown))
    return found


def _parse(path: Path, text: str) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        raise ConfigurationError(
            f"{path}: needs PyYAML, which is not installed; pip install 'sm-processing[cli]'"
        ) from None
    except Exception as error:
        if isinstance(error, ValueError) or type(error).__module__.startswith("yaml"):
            raise ConfigurationError(f"{path}: is not valid: {' '.join(str(error).split())}") from error
        raise
