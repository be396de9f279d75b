"""Estimators: a training job on SageMaker as `fit`, and a model on an endpoint as its result."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from pyspark.ml import Estimator

from processing.exceptions import ConfigurationError
from processing.spark.ml import training
from processing.spark.ml.checks import check_extra, check_hosting
from processing.spark.ml.cluster_formats import ClusterFormat, write_with_spark
from processing.spark.ml.creation import describe
from processing.spark.ml.formats import (
    FORMATS,
    TrainingFormat,
    check_column,
    check_dataset,
    format_of,
    plain_name,
    quoted,
)
from processing.spark.ml.model import SageMakerModel
from processing.spark.ml.names import NamePolicy, check_names
from processing.spark.ml.processing_run import ProcessingJobRun, check_settings
from processing.spark.ml.runs import TrainingJobRun, TrainingOrder
from processing.spark.ml.settings import ESTIMATOR, EndpointCreationPolicy, signature_of
from processing.spark.ml.shipping import check_running, check_workers
from processing.spark.ml.stage import Stage
from processing.spark.ml.upload import Contents, Staged, check_contents, delete, upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

logger = logging.getLogger(__name__)

_CODECS: Final = {None: False, "none": False, "gzip": True}


class SageMakerEstimatorBase(Stage, Estimator):
    """The base of all estimators. Subclasses have a table of parameters and an image.

    Attributes:
        latestTrainingJob: the name of the last training job; None before `fit`.
    """

    latestTrainingJob: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._configure(args, kwargs)

    @property
    def latest_training_job(self) -> str | None:
        """The name of the last training job; None before `fit`."""
        return self.latestTrainingJob

    # What subclasses know

    def _images(self) -> tuple[str, str]:
        """Return the image for training and the one for the model."""
        raise NotImplementedError

    def _hyperparameters(self, contents: Contents | None) -> dict[str, str]:
        """Return the hyperparameters of a training job.

        Args:
            contents: the size of the data; None before it is known.

        Raises:
            ConfigurationError: one is missing, or does not fit the data.
        """
        raise NotImplementedError

    def _needs_label(self) -> bool:
        return False

    def _check_image_for_processing(self) -> None:
        """Refuse an image that trains in training jobs alone."""

    def _deserializer(self) -> Any:
        return self._settings["responseRowDeserializer"]

    # The steps of fit

    def _fit(self, dataset: Any) -> SageMakerModel:
        check_dataset("dataset", dataset)
        session, spark = self._session, dataset.sparkSession
        values = self._settings
        check_running(spark)
        names: NamePolicy = values["namePolicyFactory"].createNamePolicy()
        check_names("namePolicyFactory", names)
        self._check_settings(session, spark)
        frame, layout = self._layout(dataset)
        hyperparameters = self._hyperparameters(None)
        role = values["sagemakerRole"].arn(session, spark)
        run = self._run(session, names.trainingJobName, role, layout)
        run.check(hyperparameters)
        check_workers(spark)
        contents = check_contents(frame, layout, needs_labels=self._needs_label())
        hyperparameters = self._hyperparameters(contents)
        staging = values["trainingInputS3DataPath"].uri(session, spark, "trainingInputS3DataPath")
        output = values["trainingOutputS3DataPath"].uri(session, spark, "trainingOutputS3DataPath")
        staging, output = staging / names.trainingJobName, output / names.trainingJobName
        staged = self._upload(session, frame, layout, staging, contents)
        pending = self._start(run, hyperparameters, staged, output)
        return self._model(session, names, role, pending, run.model(output))

    def _run(self, session: Session, name: str, role: str, layout: TrainingFormat) -> TrainingJobRun | ProcessingJobRun:
        values = self._settings
        content_type = values["trainingContentType"] or layout.content_type
        kind = ProcessingJobRun if values["runAs"] == "processing" else TrainingJobRun
        image = self._images()[0]
        return kind(TrainingOrder(session, values, image, name, role, content_type, self._is_compressed()))

    def _is_compressed(self) -> bool:
        codec = self._settings["trainingCompressionCodec"]
        return _CODECS[None if codec is None else codec.lower()]

    def _check_settings(self, session: Session, spark: Any) -> None:
        """Refuse settings that cannot work, before anything is uploaded."""
        values = self._settings
        for name in ("trainingInputS3DataPath", "trainingOutputS3DataPath"):
            values[name].check(session, spark, name)
        codec = values["trainingCompressionCodec"]
        if (None if codec is None else codec.lower()) not in _CODECS:
            raise ConfigurationError(f"trainingCompressionCodec: must be 'gzip' or None, not {codec!r}")
        if self._is_compressed() and values["trainingInputMode"] != "Pipe":
            raise ConfigurationError(
                "trainingCompressionCodec: SageMaker unpacks a channel only with trainingInputMode='Pipe', not "
                f"{values['trainingInputMode']!r}"
            )
        check_extra(values["extra"])
        if values["endpointCreationPolicy"] is not EndpointCreationPolicy.DO_NOT_CREATE:
            check_hosting(self._images()[1], values)
        training.network(values["subnets"], values["securityGroupIds"])
        if values["runAs"] == "processing":
            check_settings(values)
            self._check_image_for_processing()
        if values["endpointCreationPolicy"] is not EndpointCreationPolicy.DO_NOT_CREATE:
            for name in ("endpointInstanceType", "endpointInitialInstanceCount"):
                if values[name] is None:
                    raise ConfigurationError(f"{name}: missing; the endpoint needs it")

    def _layout(self, dataset: Any) -> tuple[Any, TrainingFormat]:
        """Return the frame of the columns that are written, and their format."""
        values = self._settings
        frame = dataset
        projected = values["trainingProjectedColumns"]
        if projected is not None:
            for name in projected:
                check_column(dataset.schema, name, "trainingProjectedColumns")
            frame = dataset.select(*[quoted(name) for name in projected])
        data_format = plain_name(values["trainingSparkDataFormat"])
        if data_format not in FORMATS:
            return frame, self._cluster_format(values["trainingSparkDataFormat"])
        options = dict(values["trainingSparkDataFormatOptions"])
        if self._needs_label() and "label" in frame.columns and "labelcolumnname" not in map(str.lower, options):
            options["labelColumnName"] = "label"
        layout = format_of(data_format, options, frame.schema)
        if self._needs_label() and layout.label is None:
            raise ConfigurationError(
                f"trainingSparkDataFormatOptions[labelColumnName]: {type(self).__name__} needs labels; there is no "
                f"column 'label'; the columns are {', '.join(frame.columns)}"
            )
        return frame.select(*[quoted(name) for name in layout.columns(frame.columns)]), layout

    def _cluster_format(self, name: str) -> ClusterFormat:
        """Return a format that Spark itself writes, with the settings that it does not have refused."""
        values = self._settings
        if self._is_compressed():
            raise ConfigurationError(
                f"trainingCompressionCodec: Spark writes {name!r} itself; give the option 'compression' of the format "
                "in trainingSparkDataFormatOptions"
            )
        if values["trainingKmsKeyId"] is not None:
            raise ConfigurationError(
                f"trainingKmsKeyId: Spark writes {name!r} itself; set spark.hadoop.fs.s3a.encryption.algorithm and "
                ".key for the session, and OutputDataConfig in extra for the model"
            )
        options = {str(key): str(value) for key, value in values["trainingSparkDataFormatOptions"].items()}
        return ClusterFormat("", None, options, name=name)

    def _upload(
        self, session: Session, frame: Any, layout: TrainingFormat, staging: S3Uri, contents: Contents
    ) -> Staged:
        if isinstance(layout, ClusterFormat):
            return write_with_spark(session, frame, layout, staging, rows=contents.rows)
        return upload(
            session,
            frame,
            layout,
            staging,
            kms_key=self._settings["trainingKmsKeyId"],
            compressed=self._is_compressed(),
            expected_rows=contents.rows,
        )

    def _start(
        self,
        run: TrainingJobRun | ProcessingJobRun,
        hyperparameters: Mapping[str, str],
        staged: Staged,
        output: S3Uri,
    ) -> training.Pending:
        order = run.order
        try:
            run.start(hyperparameters, staged, output)
        except BaseException as error:
            # Ctrl-C may come when the job has been created. It then goes on, and needs its data.
            interrupted = not isinstance(error, Exception)
            may_exist = getattr(error, "may_exist", interrupted)
            with contextlib.suppress(Exception):  # the first error is the one to see
                if interrupted:
                    may_exist = describe(order.session.api, run.resource, order.name) is not None
                if not may_exist:
                    delete(order.session, staged.prefix)
            if may_exist:
                self.latestTrainingJob = order.name
            raise
        self.latestTrainingJob = order.name
        logger.info("%s %s was created", run.resource.noun, order.name)
        kept = not self._settings["deleteStagingDataAfterTraining"]
        pending = training.Pending(order.session, order.name, staged, kept, run.resource)
        if self._settings["wait"]:
            pending.wait()
        return pending

    def _model(
        self, session: Session, names: NamePolicy, role: str, pending: training.Pending, trained: Mapping[str, Any]
    ) -> SageMakerModel:
        values = self._settings
        policy = values["endpointCreationPolicy"]
        if not values["wait"] and policy is EndpointCreationPolicy.CREATE_ON_CONSTRUCT:
            policy = EndpointCreationPolicy.CREATE_ON_TRANSFORM
        same = (
            "endpointInstanceType",
            "endpointInitialInstanceCount",
            "requestRowSerializer",
            "modelEnvironmentVariables",
            "tags",
            "subnets",
            "securityGroupIds",
            "transformBy",
            "maxPayloadInBytes",
            "requestsInFlight",
            "extra",
        )
        model = SageMakerModel(
            **{name: values[name] for name in same},
            responseRowDeserializer=self._deserializer(),
            modelImage=self._images()[1],
            modelExecutionRoleARN=role,
            **trained,
            endpointCreationPolicy=policy,
            prependResultRows=values["modelPrependInputRowsToTransformationRows"],
            namePolicy=names,
            session=session,
        )
        if not values["wait"]:
            model._training = pending  # noqa: SLF001 - a model of this package
        return model

    def _restore(self, uid: str, state: Mapping[str, Any]) -> None:
        super()._restore(uid, state)
        self._settings["endpointCreationPolicy"] = EndpointCreationPolicy(self._settings["endpointCreationPolicy"])


class SageMakerEstimator(SageMakerEstimatorBase):
    """An estimator for any image that trains and serves on SageMaker.

    Args:
        trainingImage: the image that trains.
        modelImage: the image that serves the model.
        trainingInstanceType: the instance type of the training job.
        trainingInstanceCount: the number of its instances.
        endpointInstanceType: the instance type of the endpoint.
        endpointInitialInstanceCount: the number of its instances.
        requestRowSerializer: makes the bodies of requests.
        responseRowDeserializer: reads the answers.
        hyperParameters: the hyperparameters of the training job; values become texts.
        trainingInputS3DataPath: the place of the training data; a prefix with the job's name is below it.
        trainingOutputS3DataPath: the place of the model, in the same way.
        sagemakerRole: the role of the training job and the model.
        trainingInstanceVolumeSizeInGB: the size of the volume of each instance.
        trainingProjectedColumns: the columns that are used; None for all.
        trainingChannelName: the channel of the data.
        trainingContentType: the media type of the data; None for that of the format.
        trainingS3DataDistribution: `ShardedByS3Key` or `FullyReplicated`.
        trainingSparkDataFormat: `sagemaker`, `csv`, `libsvm` or `parquet`, or a format of the cluster, such as `orc`.
        trainingSparkDataFormatOptions: options of the format: `labelColumnName`, `featuresColumnName`, and its own. A
            format of the cluster has its own alone.
        trainingInputMode: `File`, `Pipe` or `FastFile`.
        trainingCompressionCodec: `gzip`, which needs the input mode `Pipe`, or None.
        trainingMaxRuntimeInSeconds: the longest time of the training job.
        trainingKmsKeyId: the key that encrypts the data and the model.
        modelEnvironmentVariables: the environment of the model's container.
        endpointCreationPolicy: when the endpoint is created.
        sagemakerClient: a boto3 client; None for the session's.
        s3Client: a boto3 client; None for the session's.
        stsClient: a boto3 client; None for the session's.
        modelPrependInputRowsToTransformationRows: True to keep the columns of the input.
        deleteStagingDataAfterTraining: True to delete the training data when the job has ended.
        namePolicyFactory: the names of all that `fit` creates.
        uid: the identity of the stage.
        wait: False to return from `fit` before the training job has ended. The first `transform` waits for it.
        spot: True for spot instances.
        runAs: `training` for a training job; `processing` for a processing job of one instance, for images with a
            shell, `tar` and a program that trains.
        trainingCommand: that program with its arguments, in a processing job; `train` by default, as in a training job.
        session: a `processing.Session` or `LocalSession`; None for the default one.
        tags: a dictionary or a list of tags for all that is created.
        subnets: the subnets of the training job and the model.
        securityGroupIds: their security groups.
        transformBy: `endpoint`, or `batch` for a batch transform job, which leaves no endpoint.
        maxPayloadInBytes: the largest body of a request.
        requestsInFlight: the requests that a Spark task has in flight.
        extra: more parameters by operation, such as `{"CreateTrainingJob": {"EnableNetworkIsolation": True}}`.

    Raises:
        ConfigurationError: an argument is missing or wrong; the message names it.
    """

    _table = ESTIMATOR
    __signature__ = signature_of(ESTIMATOR)

    def _images(self) -> tuple[str, str]:
        return self._settings["trainingImage"], self._settings["modelImage"]

    def _hyperparameters(self, contents: Contents | None) -> dict[str, str]:  # noqa: ARG002 - see the base class
        return {str(name): hyperparameter_text(value) for name, value in self._settings["hyperParameters"].items()}


def hyperparameter_text(value: Any) -> str:
    """Return the text of a hyperparameter in a request."""
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
