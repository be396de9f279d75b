"""IAM policies made of the table of permissions: for the caller, and for the role of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.export.names import base_of
from processing.export.permissions import FEATURES, JOB_INPUTS, JOB_NETWORK, JOB_OUTPUTS, JOB_ROLE, Grant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVERYDAY: Final = (
    *("submit", "tags", "upload", "large-files", "uploads-taken-back", "job-name", "watch", "logs", "stop", "download"),
    "metrics",
)
"""The features that nearly every user has: run a job, watch it, stop it, and read what it left."""

_TO_SAGEMAKER: Final = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


@attrs.frozen
class PolicyResources:
    """The resources of a policy.

    Args:
        partition: the partition, such as `aws`.
        region: the region, or `*`.
        account: the account's number, or `*`.
        role: the ARN of the job's role, or a pattern.
        jobs: the pattern of job names.
        buckets: the names of buckets.
        objects: patterns of objects, each with its bucket; None for all objects of the buckets.
        keys: the ARNs of KMS keys.
        image: the pattern of the image's repository.
    """

    partition: str = "aws"
    region: str = "*"
    account: str = "*"
    role: str = "*"
    jobs: str = "*"
    buckets: tuple[str, ...] = ("*",)
    objects: tuple[str, ...] | None = None
    keys: tuple[str, ...] = ()
    image: str = "*"

    def arns(self, kind: str) -> list[str]:
        """Return the ARNs of one kind of resource, of which `any` is all."""
        place = f"{self.region}:{self.account}"
        regional = {
            "jobs": f"sagemaker:{place}:processing-job/{self.jobs}",
            "logs": f"logs:{place}:log-group:/aws/sagemaker/ProcessingJobs:*",
            "job-logs": f"logs:{place}:log-group:/aws/sagemaker/ProcessingJobs*",
            "pool-queues": f"sqs:{place}:processing-pool-*",
            "queue": f"sqs:{place}:*",
            "rules": f"events:{place}:rule/*",
            "image": f"ecr:{place}:repository/{self.image}",
        }
        if kind in regional:
            return [f"arn:{self.partition}:{regional[kind]}"]
        objects = [f"{bucket}/*" for bucket in self.buckets] if self.objects is None else self.objects
        s3 = f"arn:{self.partition}:s3:::"
        others = {
            "role": [self.role],
            "bucket": [s3 + bucket for bucket in self.buckets],
            "objects": [s3 + pattern for pattern in objects],
            "key": list(self.keys) or ["*"],
            "others": [
                f"arn:{self.partition}:sagemaker:{place}:{each}/*"
                for each in ("training-job", "transform-job", "endpoint")
            ],
            "stages": [
                f"arn:{self.partition}:sagemaker:{place}:{each}/*"
                for each in ("training-job", "model", "endpoint-config", "endpoint", "transform-job")
            ],
            "other-logs": [f"arn:{self.partition}:logs:{place}:log-group:/aws/sagemaker/*"],
        }
        return others.get(kind, ["*"])


def policy(grants: Iterable[Grant], places: PolicyResources) -> dict[str, Any]:
    """Return the policy that allows some actions: one statement for each kind of resource."""
    actions: dict[str, set[str]] = {}
    for grant in grants:
        for action in grant.actions:
            # The role may be passed to SageMaker alone, which is a condition of its own.
            actions.setdefault("passed" if action == "iam:PassRole" else grant.on, set()).add(action)
    statements = []
    for kind, names in actions.items():
        statement: dict[str, Any] = {"Effect": "Allow", "Action": sorted(names)}
        statement["Resource"] = places.arns("role" if kind == "passed" else kind)
        if kind == "passed":
            statement["Condition"] = _TO_SAGEMAKER
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def caller_grants(features: Iterable[str]) -> list[Grant]:
    """Return what the caller is allowed for some features."""
    return [grant for name in features for grant in FEATURES[name].caller]


def policies_of(parameters: Mapping[str, Any], region: str | None) -> dict[str, dict[str, Any]]:
    """Return the policies for a request: `caller`, to run and watch such jobs, and `role`, for the job itself.

    Args:
        parameters: the parameters of CreateProcessingJob.
        region: the region; None for any.
    """
    sources, targets = _inputs(parameters), _outputs(parameters)
    places = attrs.evolve(_places(parameters, region), buckets=_buckets([*sources, *targets]))
    features = [name for name in EVERYDAY if name != "tags" or parameters.get("Tags")]
    keys = FEATURES["kms"]
    caller = caller_grants([*features, *(["kms"] if places.keys else [])])
    role = policy([*JOB_ROLE, *(JOB_NETWORK if "VpcConfig" in parameters.get("NetworkConfig", {}) else ())], places)
    for grants, uris in ((JOB_INPUTS, sources), (JOB_OUTPUTS, targets)):
        if uris:
            patterns = tuple(dict.fromkeys(f"{uri}*" for uri in uris))
            narrow = attrs.evolve(places, buckets=_buckets(uris), objects=patterns)
            role["Statement"] += policy(grants, narrow)["Statement"]
    if places.keys:
        role["Statement"] += policy(keys.role, places)["Statement"]
    return {"caller": policy(caller, places), "role": role}


def _places(parameters: Mapping[str, Any], region: str | None) -> PolicyResources:
    role = str(parameters["RoleArn"])
    parts = role.split(":")
    is_arn = len(parts) > 5
    image = str(parameters["AppSpecification"]["ImageUri"])
    registry, _, repository = image.partition("/")
    cluster = parameters["ProcessingResources"]["ClusterConfig"]
    keys = (cluster.get("VolumeKmsKeyId"), parameters.get("ProcessingOutputConfig", {}).get("KmsKeyId"))
    return PolicyResources(
        partition=parts[1] if is_arn else "aws",
        region=region or "*",
        account=parts[4] if is_arn else "*",
        role=role,
        jobs=f"{base_of(str(parameters['ProcessingJobName']))}*",
        keys=tuple(dict.fromkeys(key for key in keys if key and key.startswith("arn:")))
        or (("*",) if any(keys) else ()),
        image=repository.partition("@")[0].partition(":")[0] if ".dkr.ecr." in registry else "*",
    )


def _inputs(parameters: Mapping[str, Any]) -> list[str]:
    uris = [entry.get("S3Input", {}).get("S3Uri") for entry in parameters.get("ProcessingInputs", ())]
    return [uri.removeprefix("s3://") for uri in uris if uri and uri.startswith("s3://")]


def _outputs(parameters: Mapping[str, Any]) -> list[str]:
    entries = parameters.get("ProcessingOutputConfig", {}).get("Outputs", ())
    uris = [entry.get("S3Output", {}).get("S3Uri") for entry in entries]
    return [uri.removeprefix("s3://") for uri in uris if uri and uri.startswith("s3://")]


def _buckets(uris: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uri.partition("/")[0] for uri in uris))
