"""The methods of a request that write it in the form of other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.export.step_functions import StateMachine


class RequestExports:
    """The forms of a request for other tools.

    A request refers to files in S3. `stage` uploads them; `request` alone does not.

    Placeholders are values that the other tool computes. Their names are paths of values, such as
    `ProcessingResources.ClusterConfig.InstanceCount` or `ProcessingInputs[raw].S3Input.S3Uri`, or names that stand in
    double braces in a text, such as `s3://bucket/{{date}}/`. Their values are expressions of the tool.
    """

    __slots__ = ()

    def to_boto(self) -> dict[str, Any]:
        """Return the parameters of CreateProcessingJob."""
        raise NotImplementedError

    def to_python(self, library: str = "processing") -> str:
        """Return a Python script that makes the same request.

        Args:
            library: `processing` for a script with this package, `boto3` for one that needs boto3 alone.

        Raises:
            ConfigurationError: there is no such library.
        """
        from processing.export.python import script

        return script(self, library)

    def to_airflow(
        self, task_id: str | None = None, *, placeholders: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the arguments of Airflow's `SageMakerProcessingOperator`.

        The operator makes the job's name unique. Outputs below a prefix with the job's name go below one with the name
        of the DAG's run.

        Args:
            task_id: the task's name; None for the beginning of the job's name.
            placeholders: Jinja expressions such as `ds`, by name or path.

        Raises:
            ConfigurationError: a placeholder has no place in the request, or the task's name is not valid.
        """
        from processing.export.airflow import operator_arguments

        return operator_arguments(self.to_boto(), task_id=task_id, placeholders=placeholders)

    def to_stepfunctions(
        self,
        query_language: str = "jsonata",
        *,
        state_name: str | None = None,
        placeholders: Mapping[str, str] | None = None,
        region: str | None = None,
    ) -> StateMachine:
        """Return a state machine of AWS Step Functions that runs the job and waits for its end, and its policy.

        Each execution makes a new job name. Outputs below a prefix with the job's name go below one with the
        execution's name.

        Args:
            query_language: `jsonata` or `jsonpath`.
            state_name: the state's name; None for the beginning of the job's name.
            placeholders: expressions of the query language, such as `$states.input.date` or `$.date`, by name or path.
            region: the region that the policy allows; None for any.

        Raises:
            ConfigurationError: a placeholder has no place in the request, or another parameter is not valid.
        """
        from processing.export.step_functions import state_machine

        return state_machine(
            self.to_boto(),
            query_language=query_language,
            state_name=state_name,
            placeholders=placeholders,
            region=region,
        )

    def to_pipeline_step(
        self,
        name: str | None = None,
        *,
        placeholders: Mapping[str, str] | None = None,
        depends_on: Sequence[str] | None = None,
        cache_for: str | None = None,
    ) -> dict[str, Any]:
        """Return a step for the definition of a SageMaker pipeline.

        Code lies in S3 under a hash of its content, so the same code is the same step for the cache. Local inputs need
        `ProcessingInput(reuse=True)` for that; a warning names those that lack it. Outputs below a prefix with the
        job's name go below one with the id of the pipeline's execution.

        Args:
            name: the step's name; None for the beginning of the job's name.
            placeholders: references such as `Parameters.Date`, by name or path.
            depends_on: the names of steps that end before.
            cache_for: the time for which a result is used again, in the form of ISO 8601, such as `P30D`. None does
                not cache.

        Raises:
            ConfigurationError: a placeholder has no place in the request, or a name is not valid.
        """
        from processing.export.pipelines import pipeline_step, uncached_inputs
        from processing.request.warnings import warn_user

        parameters = self.to_boto()
        step = pipeline_step(
            parameters, name=name, placeholders=placeholders, depends_on=depends_on, cache_for=cache_for
        )
        for entry in uncached_inputs(parameters) if cache_for is not None else ():
            warn_user(
                f"cache_for: the input {entry!r} has the job's name in its URI, so the cache never has the result; "
                "give it reuse=True"
            )
        return step

    def to_policies(self, region: str | None = None) -> dict[str, dict[str, Any]]:
        """Return two IAM policies: `caller`, to run and watch such jobs, and `role`, for the role of the job.

        Queries of Athena and Redshift, and feature groups, need further permissions of the role.

        Args:
            region: the region that the policies allow; None for any.
        """
        from processing.export.policies import policies_of

        return policies_of(self.to_boto(), region)
