"""A workload: the properties of a job or an endpoint on which its execution plan depends."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container import training_contract
from processing.local.jobs.data import file_path, inputs, is_file_uri, outputs
from processing.local.jobs.description import selected_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Workload(NamedTuple):
    """The properties on which an execution plan depends.

    Attributes:
        name: the name of the job or the endpoint.
        image: the URI of its image.
        role: the ARN of its role.
        instance_type: the type of its instances.
        longest: the longest time that its keys have to last, in seconds.
        isolated: whether it has no network.
        hosts: the number of its hosts.
        words: its command line; empty for that of its image, or of the program in place of the image.
        inputs: its inputs, each with the members of a processing job's S3Input.
        places: the paths of this machine that it uses in place.
        variables: its environment variables.
    """

    name: str
    image: str
    role: str
    instance_type: str
    longest: int
    isolated: bool
    hosts: int = 1
    words: Sequence[str] = ()
    inputs: Sequence[Mapping[str, Any]] = ()
    places: Sequence[str] = ()
    variables: Mapping[str, str] = MappingProxyType({})


def processing_workload(request: Mapping[str, Any]) -> Workload:
    """Return the workload of a processing job.

    Args:
        request: the job's request, with its defaults.
    """
    app = request["AppSpecification"]
    data = list(inputs(request))
    return Workload(
        name=request.get("ProcessingJobName", ""),
        image=app["ImageUri"],
        role=request["RoleArn"],
        instance_type=selected_instances(request)[0],
        longest=request["StoppingCondition"]["MaxRuntimeInSeconds"],
        isolated=bool((request.get("NetworkConfig") or {}).get("EnableNetworkIsolation")),
        hosts=selected_instances(request)[1],
        words=[*app.get("ContainerEntrypoint", ()), *app.get("ContainerArguments", ())],
        inputs=data,
        places=places_in_use([*data, *outputs(request)]),
        variables=request.get("Environment") or {},
    )


def training_workload(request: Mapping[str, Any]) -> Workload:
    """Return the workload of a training job.

    Args:
        request: the job's request, with its defaults.
    """
    algorithm = request["AlgorithmSpecification"]
    channels = training_contract.channel_inputs(request)
    checkpoints = training_contract.checkpoint_config(request)
    return Workload(
        name=request["TrainingJobName"],
        image=algorithm["TrainingImage"],
        role=request["RoleArn"],
        instance_type=request["ResourceConfig"]["InstanceType"],
        longest=request["StoppingCondition"]["MaxRuntimeInSeconds"],
        isolated=bool(request.get("EnableNetworkIsolation")),
        hosts=request["ResourceConfig"].get("InstanceCount", 1),
        words=[*algorithm.get("ContainerEntrypoint", ()), *algorithm.get("ContainerArguments", ())],
        inputs=channels,
        places=places_in_use([*channels, *([] if checkpoints is None else [checkpoints])]),
    )


def places_in_use(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the paths of this machine among the locations of inputs and outputs."""
    return [file_path(item["S3Uri"]) for item in items if is_file_uri(item["S3Uri"])]
