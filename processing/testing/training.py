"""Training jobs for tests: programs of the test's own train on the embedded engine."""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

from processing._utils.validation import FLAG, MAPPING, NAME, TEXT, instance_of, integer, require
from processing.testing.storage import BUCKET, PAUSE, get, put, require_files, require_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.session import LocalSession


class TrainingJobMaker:
    """Makes training jobs on an engine.

    Its calls go to the engine directly, without faults.

    Args:
        session: the session of the engine.
    """

    def __init__(self, session: LocalSession) -> None:
        from processing.local.session import LocalSession

        require("session", session, instance_of(LocalSession))
        self._session = session

    def __call__(
        self,
        name: str,
        *,
        image: str = "image",
        channels: Mapping[str, Mapping[str, bytes]] | None = None,
        content_type: str | None = None,
        hyperparameters: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        instance_count: int = 1,
        wait: bool = True,
    ) -> Mapping[str, Any]:
        """Create a training job, and return its description, as DescribeTrainingJob answers it.

        Args:
            name: the name of the job.
            image: the image, for which the session has a program.
            channels: the files of each channel by their paths below its folder; None for no channels.
            content_type: the ContentType of all channels; None for none.
            hyperparameters: the hyperparameters; None for none.
            environment: the variables of the program; None for none.
            instance_count: the number of hosts.
            wait: whether to wait until the job has ended. A job that failed is no error here.

        Raises:
            ConfigurationError: an argument has a wrong type.
            ApiError: the engine refuses the job.
        """
        require("name", name, NAME)
        require("image", image, NAME)
        require("channels", channels, MAPPING, optional=True)
        for channel, files in (channels or {}).items():
            require(f"channels: the name {channel!r}", channel, NAME)
            require_files(f"channels[{channel!r}]", files)
        require("content_type", content_type, TEXT, optional=True)
        require_texts("hyperparameters", hyperparameters)
        require_texts("environment", environment)
        require("instance_count", instance_count, integer(at_least=1))
        require("wait", wait, FLAG)
        self._call(
            "CreateTrainingJob",
            TrainingJobName=name,
            RoleArn=f"arn:aws:iam::{self._session.engine.account}:role/processing-testing",
            AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
            **self._channels(name, channels or {}, content_type),
            HyperParameters=dict(hyperparameters or {}),
            Environment=dict(environment or {}),
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/training/{name}/output"},
            ResourceConfig={"InstanceType": "local", "InstanceCount": instance_count, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": 86_400},
        )
        return self.wait(name) if wait else self._call("DescribeTrainingJob", TrainingJobName=name)

    def wait(self, name: str) -> Mapping[str, Any]:
        """Wait until a job has ended, and return its description.

        Raises:
            ConfigurationError: the name has a wrong type.
            ApiError: there is no such job.
        """
        require("name", name, NAME)
        running = {"InProgress", "Stopping"}
        while (described := self._call("DescribeTrainingJob", TrainingJobName=name))["TrainingJobStatus"] in running:
            time.sleep(PAUSE)
        return described

    def model(self, name: str) -> dict[str, bytes]:
        """Return the files that a job left in /opt/ml/model, by their paths below it.

        Raises:
            ConfigurationError: the name has a wrong type.
            ApiError: there is no such job, or it has no model.
        """
        require("name", name, NAME)
        described = self._call("DescribeTrainingJob", TrainingJobName=name)
        key = described["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{BUCKET}/")
        with (
            io.BytesIO(get(self._session, key)) as body,
            tarfile.open(fileobj=body, mode="r:gz") as archive,
        ):
            members = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
            return {member.name: file.read() for member, file in members if file is not None}

    def _channels(
        self, job: str, channels: Mapping[str, Mapping[str, bytes]], content_type: str | None
    ) -> dict[str, Any]:
        """Store the files of channels, and return the member of the request, which may not be empty."""
        found = []
        for name, files in channels.items():
            prefix = f"training/{job}/{name}"
            for path, content in files.items():
                put(self._session, f"{prefix}/{path}", bytes(content))
            source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}/"}
            channel = {"ChannelName": name, "DataSource": {"S3DataSource": source}}
            found.append(channel if content_type is None else {**channel, "ContentType": content_type})
        return {"InputDataConfig": found} if found else {}

    def _call(self, operation: str, **params: Any) -> Mapping[str, Any]:
        return self._session.engine.handle("sagemaker", operation, params)
