"""The schema of a SageMaker config file: the sections for processing jobs and sessions.

The keys and limits are those of `sagemaker` 2.x and 3.x
(https://sagemaker.readthedocs.io/en/stable/overview.html#list-of-parameters-that-support-default-values). One file
serves many kinds of jobs. The sections of other kinds are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from processing._utils import did_you_mean
from processing._utils.validation import nesting_problem
from processing.exceptions import ConfigurationError
from processing.request.warnings import warn_user

Check = Callable[[Any], str | None]
"""A function that returns None for a valid value, and otherwise the requirement: `must be ...`."""

Section = Mapping[str, Any]
"""The keys of a mapping. Each has a `Check`, a `Section`, or a list with the section of its elements."""


def _text(description: str, pattern: str = r"[\s\S]*", longest: int = 2048) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, str) and len(value) <= longest and re.fullmatch(pattern, value)
        return None if fits else f"must be {description}"

    return check


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _version(value: Any) -> str | None:
    return None if value == "1.0" else "must be '1.0', in quotes"


def _list_of(description: str, check: Check, longest: int, shortest: int = 0) -> Check:
    def check_list(values: Any) -> str | None:
        if isinstance(values, list) and shortest <= len(values) <= longest and not any(map(check, values)):
            return None
        return f"must be a list of {shortest} to {longest} {description}"

    return check_list


def _tag(value: Any) -> str | None:
    key, text = _text("", r"[\w\s.:/=+\-@]{1,128}"), _text("", r"[\w\s.:/=+\-@]{0,256}")
    fits = isinstance(value, dict) and set(value) == {"Key", "Value"} and not key(value["Key"])
    return None if fits and not text(value["Value"]) else "must be a tag"


def _environment(value: Any) -> str | None:
    # There is no limit of number or length: variables beyond the service's limits reach the job in a file.
    names = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if not names or not all(isinstance(text, str) for text in value.values()):
        return "must be a mapping of names to strings; write numbers and true in quotes"
    return None


_ROLE = _text("the ARN of an IAM role", r"arn:aws[a-z\-]*:iam::\d{12}:role/?[\w+=,.@\-/]+")
_KMS_KEY = _text("a KMS key")
_NETWORK_ID = _text("an ID", r"[-0-9a-zA-Z]+", 32)

_VPC: Section = {
    "SecurityGroupIds": _list_of("IDs of security groups", _NETWORK_ID, 5, 1),
    "Subnets": _list_of("IDs of subnets", _NETWORK_ID, 16, 1),
}
_PROCESSING_JOB: Section = {
    "Environment": _environment,
    "NetworkConfig": {
        "EnableInterContainerTrafficEncryption": _flag,
        "EnableNetworkIsolation": _flag,
        "VpcConfig": _VPC,
    },
    "ProcessingInputs": [
        {
            "DatasetDefinition": {
                "AthenaDatasetDefinition": {"KmsKeyId": _KMS_KEY},
                "RedshiftDatasetDefinition": {"KmsKeyId": _KMS_KEY, "ClusterRoleArn": _ROLE},
            }
        }
    ],
    "ProcessingOutputConfig": {"KmsKeyId": _KMS_KEY},
    "ProcessingResources": {"ClusterConfig": {"VolumeKmsKeyId": _KMS_KEY}},
    "RoleArn": _ROLE,
    "Tags": _list_of("tags, each with Key and Value", _tag, 50),
}
_SESSION: Section = {
    "DefaultS3Bucket": _text("the name of a bucket", r"[a-z0-9][.\-a-z0-9]{1,61}[a-z0-9]"),
    "DefaultS3ObjectKeyPrefix": _text("a prefix of 1 to 1024 characters", r"[\s\S]+", 1024),
}
# The section of remote functions. Its unknown keys cause a warning: other versions of `sagemaker` may have more.
_REMOTE_FUNCTION: Section = {
    "CustomFileFilter": {"IgnoreNamePatterns": _list_of("patterns of names", _text("a pattern"), 1000)},
    "Dependencies": _text("a path, or 'auto_capture'", longest=1024),
    "EnableInterContainerTrafficEncryption": _flag,
    "EnvironmentVariables": _environment,
    "ImageUri": _text("the URI of an image"),
    "IncludeLocalWorkDir": _flag,
    "InstanceType": _text("an instance type", r"local|local_gpu|ml\..*"),
    "JobCondaEnvironment": _text("the name of a conda environment"),
    "PreExecutionCommands": _list_of("commands", _text("a command"), 1000),
    "PreExecutionScript": _text("a path"),
    "RoleArn": _ROLE,
    "S3KmsKeyId": _KMS_KEY,
    "S3RootUri": _text("an S3 URI", r"s3://.+", 1024),
    "Tags": _list_of("tags, each with Key and Value", _tag, 50),
    "VolumeKmsKeyId": _KMS_KEY,
    "VpcConfig": _VPC,
}
# A section with this key may contain keys of other kinds of jobs, which are not checked.
_OTHERS = "..."

_DOCUMENT: Section = {
    "SchemaVersion": _version,
    "CustomParameters": lambda _: None,
    "SageMaker": {
        "PythonSDK": {"Modules": {"Session": _SESSION, "RemoteFunction": _REMOTE_FUNCTION, _OTHERS: None}},
        "ProcessingJob": _PROCESSING_JOB,
        _OTHERS: None,
    },
}


def validate_config(document: Any, origin: str) -> dict[str, Any]:
    """Return the document if it is a valid config file.

    Args:
        document: the content of the file.
        origin: the name of the file in errors.

    Raises:
        ConfigurationError: a key or a value is not valid; the message names the key and the file.
    """
    if not isinstance(document, dict):
        raise ConfigurationError(f"{origin}: must be a mapping with SchemaVersion and SageMaker")
    if "SchemaVersion" not in document:
        raise ConfigurationError(f"SchemaVersion: missing; write SchemaVersion: '1.0' (in {origin})")
    if problem := nesting_problem(document):
        raise ConfigurationError(f"{origin}: {problem}")
    _check_section(document, _DOCUMENT, (), origin)
    return document


def _check_section(mapping: Any, section: Section, path: tuple[str, ...], origin: str) -> None:
    if not isinstance(mapping, dict):
        raise _error(path, "must be a mapping", mapping, origin)
    for key, value in mapping.items():
        here = (*path, str(key))
        rule = section.get(key)
        if rule is None:
            _check_unknown(here, section, origin)
        elif callable(rule):
            problem = rule(value)
            if problem is not None:
                raise _error(here, problem, value, origin)
        elif isinstance(rule, list):
            _check_elements(value, rule[0], here, origin)
        else:
            _check_section(value, rule, here, origin)


def _check_elements(elements: Any, section: Section, path: tuple[str, ...], origin: str) -> None:
    if not isinstance(elements, list) or len(elements) > 10:  # the number of inputs that a job may have
        raise _error(path, "must be a list of at most 10", elements, origin)
    for index, element in enumerate(elements):
        _check_section(element, section, (*path[:-1], f"{path[-1]}[{index}]"), origin)


def _check_unknown(path: tuple[str, ...], section: Section, origin: str) -> None:
    """Refuse an unknown key, or warn of it in the section of remote functions.

    Beside keys of other kinds of jobs, refuse only one that is close to a known key.
    """
    import difflib  # loaded only for unknown keys

    known = {name.lower(): name for name in section if name != _OTHERS}
    if section is _REMOTE_FUNCTION:
        hint = did_you_mean(path[-1], known.values())
        # Each session reads the file, and one call may have a session for AWS and one for the engine.
        warn_user(f"{'.'.join(path)}: no such key{hint} (in {origin})", once=True)
        return
    near = difflib.get_close_matches(path[-1].lower(), known, 1, 0.85)
    if near:
        closest = known[near[0]]
        raise ConfigurationError(f"{'.'.join(path)}: no such key; did you mean {closest}? (in {origin})")
    if _OTHERS not in section:
        raise ConfigurationError(f"{'.'.join(path)}: no such key; there are {', '.join(known.values())} (in {origin})")


def _error(path: tuple[str, ...], problem: str, value: Any, origin: str) -> ConfigurationError:
    # Mappings and lists are not shown: the environment may contain secrets.
    shown = f", not {value!r}" if isinstance(value, (str, int, float, type(None))) else ""
    return ConfigurationError(f"{'.'.join(path)}: {problem}{shown} (in {origin})")
