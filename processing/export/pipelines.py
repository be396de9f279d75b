"""A step of a SageMaker Pipelines definition, in the form that `sagemaker` 2.x writes for a `ProcessingStep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing._utils.validation import NAME, Kind, require
from processing.export.names import base_of, checked
from processing.export.placeholders import Expression, Template, check_placeholders, insert_placeholders, render

if TYPE_CHECKING:
    from collections.abc import Mapping

_STEPS = Kind(
    "a list of the names of steps",
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(each, str) and each for each in value),
)


def pipeline_step(
    parameters: Mapping[str, Any],
    *,
    name: str | None = None,
    placeholders: object = None,
    depends_on: object = None,
    cache_for: str | None = None,
) -> dict[str, Any]:
    """Return a step that creates the job.

    Args:
        parameters: the parameters of CreateProcessingJob.
        name: the step's name; None for the beginning of the job's name.
        placeholders: references such as `Parameters.Date`, by name or path.
        depends_on: the names of steps that end before.
        cache_for: the time for which a result is used again, such as `P30D`; None for no cache.

    Raises:
        ConfigurationError: a placeholder has no place in the request, or a name is not valid.
    """
    base = base_of(str(parameters["ProcessingJobName"]))
    rule = "letters, digits and single dashes, at most 64"
    step = checked("name", name, base, r"[A-Za-z0-9](-*[A-Za-z0-9]){0,63}", rule)
    require("depends_on", depends_on, _STEPS, optional=True)
    require("cache_for", cache_for, NAME, optional=True)
    run = Template((f"{base}-", Expression("Execution.PipelineExecutionId")))
    arguments = insert_placeholders(parameters, check_placeholders(placeholders), run)
    # A pipeline names its jobs, and assigns them to its own experiment.
    del arguments["ProcessingJobName"]
    arguments.pop("ExperimentConfig", None)
    made: dict[str, Any] = {"Name": step, "Type": "Processing", "Arguments": render(arguments, _template, str)}
    if isinstance(depends_on, (list, tuple)) and depends_on:
        made["DependsOn"] = list(depends_on)
    if cache_for is not None:
        made["CacheConfig"] = {"Enabled": True, "ExpireAfter": cache_for}
    return made


def uncached_inputs(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of inputs whose URI contains the job's name: no cache of a step has them again."""
    inputs = parameters.get("ProcessingInputs", ())
    segment = f"/{parameters['ProcessingJobName']}/"
    return [
        str(entry.get("InputName")) for entry in inputs if segment in f"{entry.get('S3Input', {}).get('S3Uri', '')}/"
    ]


def _template(template: Template) -> dict[str, Any]:
    values = [{"Get": part.text} if isinstance(part, Expression) else part for part in template.parts]
    only = values[0]
    return only if len(values) == 1 and isinstance(only, dict) else {"Std:Join": {"On": "", "Values": values}}
