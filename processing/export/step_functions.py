"""A state machine of Step Functions that creates the job and waits for its end, and the policy that it needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.validation import one_of, require
from processing.export.names import base_of, checked
from processing.export.placeholders import Expression, Template, check_placeholders, insert_placeholders, render

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UUID_LENGTH: Final = 37  # with its dash; a job's name has at most 63 characters


@attrs.frozen
class StateMachine:
    """A state machine of AWS Step Functions with one state, which runs a job and waits for its end.

    Args:
        definition: the definition in Amazon States Language.
        policy: the IAM policy of the state machine's role.
    """

    definition: dict[str, Any]
    policy: dict[str, Any]

    @property
    def state(self) -> dict[str, Any]:
        """The state that runs the job, for a state machine of your own."""
        found: dict[str, Any] = self.definition["States"][self.definition["StartAt"]]
        return found

    def to_json(self) -> str:
        """Return the definition as JSON."""
        return json.dumps(self.definition, indent=2)


@attrs.frozen
class _Language:
    """A query language of Step Functions.

    Args:
        name: its name in a definition.
        arguments: the member that has the arguments of a task.
        uuid: the expression of a new UUID.
        run: the expression of an execution's name.
        render: writes the arguments.
    """

    name: str
    arguments: str
    uuid: Expression
    run: Expression
    render: Callable[[Any], Any]


def state_machine(
    parameters: Mapping[str, Any],
    *,
    query_language: str = "jsonata",
    state_name: str | None = None,
    placeholders: object = None,
    region: str | None = None,
) -> StateMachine:
    """Return the state machine of a job.

    Args:
        parameters: the parameters of CreateProcessingJob.
        query_language: `jsonata` or `jsonpath`.
        state_name: the state's name; None for the beginning of the job's name.
        placeholders: expressions of the query language, by name or path.
        region: the region in the policy; None for any.

    Raises:
        ConfigurationError: a placeholder has no place in the request, or another parameter is not valid.
    """
    require("query_language", query_language, one_of(*_LANGUAGES))
    language = _LANGUAGES[query_language]
    given = check_placeholders(placeholders)
    base = base_of(str(parameters["ProcessingJobName"]), 63 - _UUID_LENGTH)
    name = checked("state_name", state_name, base, r"[^\x00-\x1f]{1,80}", "at most 80 characters")
    arguments = insert_placeholders(parameters, given, Template((f"{base}-", language.run)))
    named = isinstance(arguments["ProcessingJobName"], str)
    if named:  # a job's name is used once, so each execution makes its own
        arguments["ProcessingJobName"] = Template((f"{base}-", language.uuid))
    role = str(parameters["RoleArn"])
    state = {
        "Type": "Task",
        "Resource": f"arn:{_partition(role)}:states:::sagemaker:createProcessingJob.sync",
        language.arguments: language.render(arguments),
        "End": True,
    }
    definition = {"QueryLanguage": language.name, "StartAt": name, "States": {name: state}}
    job = f"{base}-*" if named else "*"
    role_is_known = isinstance(arguments["RoleArn"], str)
    policy = _policy(role, job, region or "*", role_is_known=role_is_known)
    policy["Statement"] += _key_statements(arguments.get("ProcessingResources", {}))
    return StateMachine(definition, policy)


def _partition(role: str) -> str:
    return role.split(":")[1] if role.startswith("arn:") else "aws"


def _policy(role: str, job: str, region: str, *, role_is_known: bool) -> dict[str, Any]:
    """Return the policy of a state machine that runs a job and waits for it, as Step Functions documents it."""
    partition, account = _partition(role), role.split(":")[4] if role.count(":") > 4 else "*"
    place = f"{region}:{account}"
    jobs = f"arn:{partition}:sagemaker:{place}:processing-job/{job}"
    rule = f"arn:{partition}:events:{place}:rule/StepFunctionsGetEventsForSageMakerProcessingJobsRule"
    service = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    actions = ("CreateProcessingJob", "DescribeProcessingJob", "StopProcessingJob", "AddTags", "ListTags")
    passed = role if role_is_known else f"arn:{partition}:iam::{account}:role/*"
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": [f"sagemaker:{action}" for action in actions], "Resource": jobs},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": passed, "Condition": service},
        {
            "Effect": "Allow",
            "Action": [f"events:{a}" for a in ("PutTargets", "PutRule", "DescribeRule")],
            "Resource": rule,
        },
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _key_statements(resources: Any) -> list[dict[str, Any]]:
    """Return the statement for the key of the volumes, if there is one: its grants are those of the caller."""
    cluster = resources.get("ClusterConfig", {}) if isinstance(resources, dict) else resources
    key = cluster.get("VolumeKmsKeyId") if isinstance(cluster, dict) else cluster
    if key is None:
        return []
    known = key if isinstance(key, str) and key.startswith("arn:") else "*"  # else an alias, or computed
    return [{"Effect": "Allow", "Action": "kms:CreateGrant", "Resource": known}]


# JSONata


def _jsonata(value: Any) -> Any:
    return render(value, _jsonata_template, _jsonata_literal)


def _jsonata_template(template: Template) -> str:
    texts = [part.text if isinstance(part, Expression) else _jsonata_text(part) for part in template.parts]
    if len(texts) == 1:
        return f"{{% {texts[0]} %}}"
    joined = " & ".join(
        f"({text})" if isinstance(part, Expression) else text for part, text in zip(template.parts, texts, strict=True)
    )
    return f"{{% {joined} %}}"


def _jsonata_literal(text: str) -> str:
    """Return a text that is not taken for an expression."""
    is_expression = text.lstrip().startswith("{%") or text.rstrip().endswith("%}")
    return f"{{% {_jsonata_text(text)} %}}" if is_expression else text


def _jsonata_text(text: str) -> str:
    """Return a text as a literal of JSONata, which are those of JSON. A `%}` in it would end the expression."""
    return json.dumps(text).replace("%}", "%\\u007d").replace("{%", "\\u007b%")


# JSONPath


def _jsonpath(value: Any) -> Any:
    """Return a value in which the key of each computed member ends with `.$`."""
    if isinstance(value, dict):
        return dict(_jsonpath_member(key, member) for key, member in value.items())
    if isinstance(value, list):
        return [_jsonpath(member) for member in value]
    return value


def _jsonpath_member(key: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, Template):
        return f"{key}.$", _jsonpath_template(value)
    if isinstance(value, list) and any(isinstance(element, Template) for element in value):
        # An element has no key, so a function makes the list.
        elements = [_jsonpath_template(e) if isinstance(e, Template) else _jsonpath_text(str(e)) for e in value]
        return f"{key}.$", f"States.Array({', '.join(elements)})"
    return key, _jsonpath(value)


def _jsonpath_template(template: Template) -> str:
    if len(template.parts) == 1 and isinstance(template.parts[0], Expression):
        return template.parts[0].text
    text = "".join("{}" if isinstance(part, Expression) else _jsonpath_escaped(part) for part in template.parts)
    values = [part.text for part in template.parts if isinstance(part, Expression)]
    return f"States.Format('{text}', {', '.join(values)})"


def _jsonpath_text(text: str) -> str:
    return f"'{_jsonpath_escaped(text)}'"


def _jsonpath_escaped(text: str) -> str:
    for character in ("\\", "'", "{", "}"):
        text = text.replace(character, f"\\{character}")
    return text


_LANGUAGES: Final = {
    "jsonata": _Language(
        "JSONata",
        "Arguments",
        Expression("$uuid()"),
        Expression("$states.context.Execution.Name"),
        _jsonata,
    ),
    "jsonpath": _Language(
        "JSONPath",
        "Parameters",
        Expression("States.UUID()"),
        Expression("$$.Execution.Name"),
        _jsonpath,
    ),
}
