"""The training of an estimator as a processing job, for images whose program `train` can be started in one.

A processing job mounts its data below /opt/ml/processing. A shell script puts them where an image for training looks
for them, starts its program, and packs the model.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import ConfigurationError
from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
from processing.processors import Processor
from processing.request.s3_uri import S3Uri
from processing.spark.ml.creation import PROCESSING_JOB, Resource
from processing.spark.ml.roles_and_paths import S3DataPath
from processing.spark.ml.runs import ANYWHERE, TrainingOrder, engine_program
from processing.staging.transfers import put_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.spark.ml.upload import Staged

_ROOT: Final = "/opt/ml/processing"
_START: Final = f"{_ROOT}/input/start"
_SCRIPT_FILE: Final = "train.sh"
_SCRIPT: Final = r"""#!/bin/sh
# Starts a program for training in a processing job, with the files of a training job, and packs its model.
set -e
start=$(cd "$(dirname "$0")" && pwd)
ml=$(cd "$start/../../.." && pwd)
mkdir -p "$ml/input/config" "$ml/input/data" "$ml/model" "$ml/output/data" "$ml/processing/output/model"
cp "$start"/*.json "$ml/config/resourceconfig.json" "$ml/input/config/"
for channel in "$ml"/processing/input/data/*; do ln -s "$channel" "$ml/input/data/"; done
set +e
"$@" &
program=$!
trap 'kill -TERM $program' TERM INT
wait $program
code=$?
while kill -0 $program 2>/dev/null; do  # a signal has ended the wait, and not the program
    wait $program
    code=$?
done
if [ $code -ne 0 ]; then
    [ ! -s "$ml/output/failure" ] || cp "$ml/output/failure" "$ml/output/message"
    exit $code
fi
set -e
[ -z "$(ls -A "$ml/output/data")" ] || tar -czf "$ml/processing/output/model/output.tar.gz" -C "$ml/output/data" .
tar -czf "$ml/processing/output/model/model.tar.gz" -C "$ml/model" .
"""

_SETTING_OF: Final = {
    "role": "sagemakerRole",
    "image_uri": "trainingImage",
    "instance_type": "trainingInstanceType",
    "instance_count": "trainingInstanceCount",
    "volume_size_in_gb": "trainingInstanceVolumeSizeInGB",
    "output_kms_key": "trainingKmsKeyId",
    "max_runtime_in_seconds": "trainingMaxRuntimeInSeconds",
    "entrypoint": "trainingCommand",
    "arguments": "trainingCommand",
    "job_name": "namePolicyFactory",
    "network_config": "subnets",
    "extra": "extra[CreateProcessingJob]",
}
"""The settings of an estimator by the names that processors have for them."""


def check_settings(values: Mapping[str, Any]) -> None:
    """Refuse settings that a processing job does not have.

    Raises:
        ConfigurationError: the message names the setting.
    """
    problems = {
        "trainingInstanceCount": "nothing puts the models of several instances together; take one"
        if values["trainingInstanceCount"] != 1
        else None,
        "trainingInputMode": "the data of a processing job are files; take 'File'"
        if values["trainingInputMode"] != "File"
        else None,
        "spot": "processing jobs have no spot instances" if values["spot"] else None,
        "extra[CreateTrainingJob]": "there is no training job; give extra={'CreateProcessingJob': {...}}"
        if "CreateTrainingJob" in values["extra"]
        else None,
    }
    for name, problem in problems.items():
        if problem is not None:
            raise ConfigurationError(f"{name}: with runAs='processing', {problem}")


@attrs.frozen
class ProcessingJobRun:
    """A processing job that trains.

    Args:
        order: all that it needs beside its data.
    """

    order: TrainingOrder

    resource: Resource = PROCESSING_JOB

    def check(self, hyperparameters: Mapping[str, str]) -> None:
        """Refuse a job that SageMaker or the engine would refuse, without a call to AWS.

        Raises:
            ConfigurationError: a setting cannot work; the message names it.
            EngineError: the embedded engine has no program for the image.
        """
        del hyperparameters  # they are in a file
        anywhere = S3Uri.parse(ANYWHERE)
        inputs, outputs = self._inputs(anywhere, anywhere), self._outputs(anywhere)
        plan = self._processor().plan(inputs=inputs, outputs=outputs, job_name=self.order.name)
        if plan.problems:
            raise ConfigurationError(*map(_as_given, plan.problems))

    def start(self, hyperparameters: Mapping[str, str], staged: Staged, output: S3Uri) -> None:
        """Start the job, exactly once.

        Args:
            hyperparameters: the hyperparameters.
            staged: the data. The script and its files are put beside them.
            output: the place of the model.
        """
        session, kms_key = self.order.session, self.order.values["trainingKmsKeyId"]
        place = staged.prefix / "start"
        for name, content in self._files(hyperparameters).items():
            put_bytes(session.api, content, place / name, kms_key=kms_key, expected_owner=session.expected_owner)
        self._processor().run(
            inputs=self._inputs(staged.manifest, place),
            outputs=self._outputs(output / "output"),
            job_name=self.order.name,
            wait=False,
            quiet=True,
        )

    def model(self, output: S3Uri) -> dict[str, Any]:
        """Return the arguments of a `SageMakerModel` that name the model."""
        archive = output / "output" / "model.tar.gz"
        return {"modelPath": S3DataPath(archive.bucket, archive.key)}

    def _files(self, hyperparameters: Mapping[str, str]) -> dict[str, bytes]:
        values = self.order.values
        channel = {
            "TrainingInputMode": "File",
            "S3DistributionType": values["trainingS3DataDistribution"],
            "RecordWrapperType": "None",
            **({"ContentType": self.order.content_type} if self.order.content_type else {}),
        }
        return {
            _SCRIPT_FILE: _SCRIPT.encode(),
            "hyperparameters.json": json.dumps(dict(hyperparameters)).encode(),
            "inputdataconfig.json": json.dumps({values["trainingChannelName"]: channel}).encode(),
        }

    def _processor(self) -> Processor:
        order, values = self.order, self.order.values
        command, variables = self._command()
        network = None
        if values["subnets"]:
            network = NetworkConfig(subnets=values["subnets"], security_group_ids=values["securityGroupIds"])
        return Processor(
            order.role,
            order.image,
            1,
            values["trainingInstanceType"],
            ["/bin/sh", f"{_START}/{_SCRIPT_FILE}", *command],
            values["trainingInstanceVolumeSizeInGB"],
            output_kms_key=values["trainingKmsKeyId"],
            max_runtime_in_seconds=values["trainingMaxRuntimeInSeconds"],
            sagemaker_session=order.session,
            env={"TRAINING_JOB_NAME": order.name, **variables},
            tags=values["tags"],
            network_config=network,
            extra=values["extra"].get("CreateProcessingJob"),
        )

    def _command(self) -> tuple[list[str], dict[str, str]]:
        """Return the program that trains, with its variables. On the engine, it is the one in place of the image."""
        session: Any = self.order.session
        given = list(self.order.values["trainingCommand"])
        if not session.is_local or session.engine.settings.runs_images or given != ["train"]:
            return given, {}
        settings, image = session.engine.settings, self.order.image
        program = engine_program(session, image, "give trainingCommand, or ")
        words = [settings.interpreter(image).executable, "-m", program.module, "train", *program.arguments]
        return words, {"PYTHONPATH": os.pathsep.join(program.path)} if program.path else {}

    def _inputs(self, manifest: S3Uri, start: S3Uri) -> list[ProcessingInput]:
        values = self.order.values
        data = ProcessingInput(
            str(manifest),
            f"{_ROOT}/input/data/{values['trainingChannelName']}",
            "data",
            s3_data_type="ManifestFile",
            s3_data_distribution_type=values["trainingS3DataDistribution"],
        )
        return [data, ProcessingInput(f"{start}/", _START, "start")]

    def _outputs(self, place: S3Uri) -> list[ProcessingOutput | str]:
        return [ProcessingOutput(f"{_ROOT}/output/model", str(place), "model")]


def _as_given(problem: str) -> str:
    """Return a problem of a processor with the name that the estimator has for the setting."""
    field, colon, text = problem.partition(":")
    name = field.partition(".")[0].partition("[")[0]
    return _SETTING_OF.get(name, name) + field[len(name) :] + colon + text
