"""The training of an estimator as a training job: its check before an upload, its request, and its start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import EngineError
from processing.spark.ml import training
from processing.spark.ml.checks import check_training_job
from processing.spark.ml.creation import TRAINING_JOB, Resource, create_once

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session
    from processing.spark.ml.upload import Staged

ANYWHERE: Final = "s3://bucket/key"
"""A place for the check of a request, before the data have one."""


def engine_program(session: Any, image: str, remedy: str = "") -> Any:
    """Return the program that the embedded engine of a session runs in place of an image.

    Args:
        session: a session of the engine in this process.
        image: the image.
        remedy: a further remedy in the message, before the others.

    Raises:
        EngineError: there is no such program.
    """
    program = session.engine.settings.program(image)
    if program is None:
        raise EngineError(
            f"trainingImage: the local engine does not run the image {image}; {remedy}name a module that stands in for "
            'it, as in LocalSession(programs={"*/name:*": "package.module"}), or let the image itself run: '
            'LocalSession(sandbox="container")'
        )
    return program


@attrs.frozen
class TrainingOrder:
    """All that a training needs beside its data.

    Args:
        session: the session.
        values: the settings of the estimator.
        image: the image that trains.
        name: the name of the job.
        role: the ARN of its role.
        content_type: the media type of the data; empty for none.
        compressed: True if the data are compressed.
    """

    session: Session
    values: Mapping[str, Any]
    image: str
    name: str
    role: str
    content_type: str
    compressed: bool


@attrs.frozen
class TrainingJobRun:
    """A training job.

    Args:
        order: all that it needs beside its data.
    """

    order: TrainingOrder

    resource: Resource = TRAINING_JOB

    def check(self, hyperparameters: Mapping[str, str]) -> None:
        """Refuse a job that SageMaker would refuse, without a call to AWS.

        Raises:
            ConfigurationError: a setting cannot work; the message names it.
            EngineError: the embedded engine has no program for the image.
        """
        session: Any = self.order.session
        if session.is_local and not session.engine.settings.runs_images:
            engine_program(session, self.order.image)
        check_training_job(self._request(hyperparameters, ANYWHERE, ANYWHERE))

    def start(self, hyperparameters: Mapping[str, str], staged: Staged, output: S3Uri) -> None:
        """Create the job, exactly once.

        Args:
            hyperparameters: the hyperparameters.
            staged: the data.
            output: the place of the model.
        """
        create_once(
            self.order.session.api, TRAINING_JOB, self._request(hyperparameters, str(staged.manifest), str(output))
        )

    def model(self, output: S3Uri) -> dict[str, Any]:  # noqa: ARG002 - a job of another kind needs it
        """Return the arguments of a `SageMakerModel` that name the model."""
        return {"trainingJobName": self.order.name}

    def _request(self, hyperparameters: Mapping[str, str], manifest: str, output: str) -> dict[str, Any]:
        """Return the parameters of CreateTrainingJob."""
        order, values = self.order, self.order.values
        seconds, kms_key = values["trainingMaxRuntimeInSeconds"], values["trainingKmsKeyId"]
        request: dict[str, Any] = {
            "TrainingJobName": order.name,
            "AlgorithmSpecification": {
                "TrainingImage": order.image,
                "TrainingInputMode": values["trainingInputMode"],
            },
            "RoleArn": order.role,
            "HyperParameters": dict(hyperparameters),
            "InputDataConfig": [self._channel(manifest)],
            "OutputDataConfig": {"S3OutputPath": output, **({"KmsKeyId": kms_key} if kms_key else {})},
            "ResourceConfig": {
                "InstanceType": values["trainingInstanceType"],
                "InstanceCount": values["trainingInstanceCount"],
                "VolumeSizeInGB": values["trainingInstanceVolumeSizeInGB"],
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
            **training.network(values["subnets"], values["securityGroupIds"]),
        }
        if values["spot"]:
            request["EnableManagedSpotTraining"] = True
            request["StoppingCondition"]["MaxWaitTimeInSeconds"] = 2 * seconds
        tags = training.tag_list(values["tags"])
        return {**request, **({"Tags": tags} if tags else {}), **values["extra"].get("CreateTrainingJob", {})}

    def _channel(self, manifest: str) -> dict[str, Any]:
        order, values = self.order, self.order.values
        return {
            "ChannelName": values["trainingChannelName"],
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "ManifestFile",
                    "S3Uri": manifest,
                    "S3DataDistributionType": values["trainingS3DataDistribution"],
                }
            },
            **({"ContentType": order.content_type} if order.content_type else {}),
            "CompressionType": "Gzip" if order.compressed else "None",
            "RecordWrapperType": "None",
            "InputMode": values["trainingInputMode"],
        }
