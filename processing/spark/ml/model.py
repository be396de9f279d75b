"""Models on SageMaker as stages that predict."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, cast

from pyspark.ml import Model

from processing._utils.validation import require
from processing.exceptions import ConfigurationError
from processing.spark.ml import batch_transform, training
from processing.spark.ml.checks import check_extra
from processing.spark.ml.formats import check_column, check_dataset, check_numbers
from processing.spark.ml.hosting import Hosting, check_endpoint
from processing.spark.ml.invoke import PredictionSettings, invoke_batches
from processing.spark.ml.names import ENDPOINT_NAME, NamePolicy, RandomNamePolicy, check_names
from processing.spark.ml.resources import CreatedResources, SageMakerResourceCleanup
from processing.spark.ml.serializers import FeaturesSerializer
from processing.spark.ml.settings import MODEL, EndpointCreationPolicy, signature_of
from processing.spark.ml.shipping import carried, check_workers, map_batches
from processing.spark.ml.stage import Stage
from processing.spark.ml.values import both_spellings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.request.s3_uri import S3Uri
    from processing.spark.ml.deserializers import ResponseRowDeserializer
    from processing.spark.ml.roles_and_paths import S3Resource
    from processing.spark.ml.serializers import RequestRowSerializer

logger = logging.getLogger(__name__)


class SageMakerModel(Stage, Model):
    """A model on SageMaker. `transform` adds the columns of its answers to a DataFrame.

    Each action on the result invokes the endpoint again: `persist()` keeps the answers. Endpoints cost money until they
    are deleted: `with model:` deletes at its end what this model has created.

    Args:
        endpointInstanceType: the instance type of the endpoint.
        endpointInitialInstanceCount: the number of instances.
        requestRowSerializer: makes the bodies of requests.
        responseRowDeserializer: reads the answers.
        existingEndpointName: an endpoint that exists. It is never deleted.
        modelImage: the image that serves the model.
        modelPath: the `model.tar.gz` in S3, as `S3DataPath` or URI.
        modelEnvironmentVariables: the environment of the container.
        modelExecutionRoleARN: the role of the model.
        endpointCreationPolicy: when the endpoint is created.
        sagemakerClient: a boto3 client; None for the session's.
        prependResultRows: True to keep the columns of the input.
        namePolicy: the names of all that is created.
        uid: the identity of the stage.
        trainingJobName: the training job whose model is hosted, in place of `modelPath`.
        session: a `processing.Session` or `LocalSession`; None for the default one.
        tags: a dictionary or a list of tags for all that is created.
        subnets: the subnets of the model's container.
        securityGroupIds: its security groups.
        transformBy: `endpoint`, or `batch` for a batch transform job, which leaves no endpoint.
        maxPayloadInBytes: the largest body of a request.
        requestsInFlight: the requests that a Spark task has in flight.
        extra: more parameters by operation, such as `{"CreateModel": {"EnableNetworkIsolation": True}}`.

    Raises:
        ConfigurationError: an argument is missing or wrong; the message names it.
    """

    _table = MODEL
    __signature__ = signature_of(MODEL)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self._configure(args, kwargs)
        check_names("namePolicy", self._settings["namePolicy"])
        self._staged: list[S3Uri] = []  # of batch transforms
        self._training: training.Pending | None = None
        self._hosting: Hosting | None = None
        self._shown: tuple[str, str] | None = None  # the resource, and the card that a notebook has shown of it
        if self._settings["existingEndpointName"] is None:
            self._check()
            if self._settings["endpointCreationPolicy"] is EndpointCreationPolicy.CREATE_ON_CONSTRUCT and self._hosts():
                self._endpoint()

    def _hosts(self) -> bool:
        return bool(self._settings["transformBy"] == "endpoint")

    def _check(self) -> None:
        """Refuse a model that could not be hosted."""
        values = self._settings
        check_extra(values["extra"])
        if values["endpointCreationPolicy"] is EndpointCreationPolicy.DO_NOT_CREATE:
            return
        missing = [name for name in ("modelImage", "modelExecutionRoleARN") if values[name] is None]
        if values["modelPath"] is None and values["trainingJobName"] is None:
            missing.append("modelPath")
        if self._hosts():
            missing += [
                name for name in ("endpointInstanceType", "endpointInitialInstanceCount") if values[name] is None
            ]
        if missing:
            raise ConfigurationError(f"{missing[0]}: missing; an endpoint needs it")

    # Construction from what exists

    @classmethod
    @both_spellings
    def fromEndpoint(
        cls,
        endpointName: str,
        requestRowSerializer: RequestRowSerializer,
        responseRowDeserializer: ResponseRowDeserializer,
        modelEnvironmentVariables: Mapping[str, str] | None = None,
        sagemakerClient: Any = None,
        prependResultRows: bool = True,
        namePolicy: NamePolicy | None = None,
        uid: str | None = None,
        **others: Any,
    ) -> SageMakerModel:
        """Return a model for an endpoint that is in service. The endpoint is not this model's, and never deleted.

        Args:
            endpointName: the endpoint.
            requestRowSerializer: makes the bodies of requests.
            responseRowDeserializer: reads the answers.
            modelEnvironmentVariables: not used.
            sagemakerClient: a boto3 client; None for the session's.
            prependResultRows: True to keep the columns of the input.
            namePolicy: not used.
            uid: the identity of the stage.
            others: further parameters of the constructor, such as `session`.

        Raises:
            ConfigurationError: the endpoint is not in service, or an argument is wrong.
        """
        require("endpointName", endpointName, ENDPOINT_NAME)
        model = cls(
            requestRowSerializer=requestRowSerializer,
            responseRowDeserializer=responseRowDeserializer,
            existingEndpointName=endpointName,
            modelEnvironmentVariables=modelEnvironmentVariables,
            sagemakerClient=sagemakerClient,
            prependResultRows=prependResultRows,
            namePolicy=namePolicy or RandomNamePolicy(),
            uid=uid,
            endpointInstanceType=None,
            endpointInitialInstanceCount=None,
            **others,
        )
        check_endpoint(model._session, endpointName)
        return model

    @classmethod
    @both_spellings
    def fromModelS3Path(
        cls,
        modelPath: str | S3Resource,
        modelImage: str,
        modelExecutionRoleARN: str,
        endpointInstanceType: str | None = None,
        endpointInitialInstanceCount: int | None = None,
        requestRowSerializer: RequestRowSerializer | None = None,
        responseRowDeserializer: ResponseRowDeserializer | None = None,
        modelEnvironmentVariables: Mapping[str, str] | None = None,
        endpointCreationPolicy: Any = EndpointCreationPolicy.CREATE_ON_CONSTRUCT,
        sagemakerClient: Any = None,
        prependResultRows: bool = True,
        namePolicy: NamePolicy | None = None,
        uid: str | None = None,
        **others: Any,
    ) -> SageMakerModel:
        """Return a model for a `model.tar.gz` in S3, and host it.

        Args:
            modelPath: the archive, as a URI or an `S3DataPath`.
            modelImage: the image that serves it.
            modelExecutionRoleARN: the role of the model.
            endpointInstanceType: the instance type of the endpoint.
            endpointInitialInstanceCount: the number of instances.
            requestRowSerializer: makes the bodies of requests.
            responseRowDeserializer: reads the answers.
            modelEnvironmentVariables: the environment of the container.
            endpointCreationPolicy: when the endpoint is created.
            sagemakerClient: a boto3 client; None for the session's.
            prependResultRows: True to keep the columns of the input.
            namePolicy: the names of all that is created.
            uid: the identity of the stage.
            others: further parameters of the constructor, such as `session`.

        Raises:
            ConfigurationError: an argument is missing or wrong, or the policy is DO_NOT_CREATE.
        """
        _refuse_do_not_create(endpointCreationPolicy)
        return cls(
            endpointInstanceType=endpointInstanceType,
            endpointInitialInstanceCount=endpointInitialInstanceCount,
            requestRowSerializer=requestRowSerializer,
            responseRowDeserializer=responseRowDeserializer,
            modelImage=modelImage,
            modelPath=modelPath,
            modelEnvironmentVariables=modelEnvironmentVariables,
            modelExecutionRoleARN=modelExecutionRoleARN,
            endpointCreationPolicy=endpointCreationPolicy,
            sagemakerClient=sagemakerClient,
            prependResultRows=prependResultRows,
            namePolicy=namePolicy or RandomNamePolicy(),
            uid=uid,
            **others,
        )

    @classmethod
    @both_spellings
    def fromTrainingJob(
        cls,
        trainingJobName: str,
        modelImage: str,
        modelExecutionRoleARN: str,
        endpointInstanceType: str | None = None,
        endpointInitialInstanceCount: int | None = None,
        requestRowSerializer: RequestRowSerializer | None = None,
        responseRowDeserializer: ResponseRowDeserializer | None = None,
        modelEnvironmentVariables: Mapping[str, str] | None = None,
        endpointCreationPolicy: Any = EndpointCreationPolicy.CREATE_ON_CONSTRUCT,
        sagemakerClient: Any = None,
        prependResultRows: bool = True,
        namePolicy: NamePolicy | None = None,
        uid: str | None = None,
        **others: Any,
    ) -> SageMakerModel:
        """Return a model for a training job that is Completed or Stopped, and host it.

        Args:
            trainingJobName: the training job.
            modelImage: the image that serves the model.
            modelExecutionRoleARN: the role of the model.
            endpointInstanceType: the instance type of the endpoint.
            endpointInitialInstanceCount: the number of instances.
            requestRowSerializer: makes the bodies of requests.
            responseRowDeserializer: reads the answers.
            modelEnvironmentVariables: the environment of the container.
            endpointCreationPolicy: when the endpoint is created.
            sagemakerClient: a boto3 client; None for the session's.
            prependResultRows: True to keep the columns of the input.
            namePolicy: the names of all that is created.
            uid: the identity of the stage.
            others: further parameters of the constructor, such as `session`.

        Raises:
            ConfigurationError: an argument is missing or wrong, or the policy is DO_NOT_CREATE.
            JobError: the training job has no model.
        """
        _refuse_do_not_create(endpointCreationPolicy)
        return cls(
            endpointInstanceType=endpointInstanceType,
            endpointInitialInstanceCount=endpointInitialInstanceCount,
            requestRowSerializer=requestRowSerializer,
            responseRowDeserializer=responseRowDeserializer,
            modelImage=modelImage,
            trainingJobName=trainingJobName,
            modelEnvironmentVariables=modelEnvironmentVariables,
            modelExecutionRoleARN=modelExecutionRoleARN,
            endpointCreationPolicy=endpointCreationPolicy,
            sagemakerClient=sagemakerClient,
            prependResultRows=prependResultRows,
            namePolicy=namePolicy or RandomNamePolicy(),
            uid=uid,
            **others,
        )

    from_endpoint = fromEndpoint
    from_model_s3_path = fromModelS3Path
    from_training_job = fromTrainingJob

    # Hosting

    @property
    def endpointName(self) -> str | None:
        """The endpoint; None before it is created."""
        existing: str | None = self._settings["existingEndpointName"]
        return existing or (None if self._hosting is None else self._hosting.endpoint)

    endpoint_name = endpointName

    @property
    def resourceCleanup(self) -> SageMakerResourceCleanup:
        """Deletes resources with this model's session."""
        return SageMakerResourceCleanup(self._session)

    resource_cleanup = resourceCleanup

    def getCreatedResources(self) -> CreatedResources:
        """Return the names of what this model has created. An endpoint that existed before is not among them."""
        return CreatedResources() if self._hosting is None else copy.copy(self._hosting.created)

    get_created_resources = getCreatedResources

    def close(self) -> None:
        """Delete all that this model has created: endpoint, endpoint configuration, model, data of batch transforms."""
        if self._hosting is not None:
            self._hosting.close()
        while self._staged:
            batch_transform.delete(self._session, self._staged.pop())

    def _repr_html_(self) -> str | None:
        """Return the card that a notebook shows: of the endpoint, or else of the training job; None without either.

        It makes at most three calls, and none when it is shown again.
        """
        from processing.job.cards import card

        if self.endpointName is not None:
            name = f"endpoint/{self.endpointName}"
        elif self._training is not None or self._settings["trainingJobName"] is not None:
            job = self._settings["trainingJobName"] if self._training is None else self._training.job_name
            name = f"training-job/{job}"
        else:
            return None
        if self._shown is None or self._shown[0] != name:
            self._shown = name, card(name, session=self._session).html
        return self._shown[1]

    def __enter__(self) -> SageMakerModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _endpoint(self) -> str:
        """Return the endpoint's name; it is created at the first need."""
        values = self._settings
        if values["existingEndpointName"] is not None:
            return str(values["existingEndpointName"])
        if values["endpointCreationPolicy"] is EndpointCreationPolicy.DO_NOT_CREATE:
            raise ConfigurationError(
                "endpointCreationPolicy: DO_NOT_CREATE leaves transform without an endpoint; use CREATE_ON_TRANSFORM"
            )
        hosting = self._shared_hosting()
        if hosting.endpoint is not None:
            return hosting.endpoint
        variant = {
            "InstanceType": values["endpointInstanceType"],
            "InitialInstanceCount": values["endpointInitialInstanceCount"],
            "InitialVariantWeight": 1.0,
            **values["extra"].get("ProductionVariant", {}),
        }
        return hosting.ensure_endpoint(self._model_request(), variant, training.tag_list(values["tags"]))

    def _shared_hosting(self) -> Hosting:
        if self._hosting is None:
            self._hosting = Hosting(self._session, self._settings["namePolicy"])
        return self._hosting

    def _model_request(self) -> dict[str, Any]:
        """Return the parameters of CreateModel, without the name."""
        values = self._settings
        if self._training is not None:
            self._training.wait()
        path = values["modelPath"]
        if path is not None:
            data = str(path.uri(self._session, None, "modelPath"))
        else:
            data = training.model_data(self._session, values["trainingJobName"])
        container = {"Image": values["modelImage"], "ModelDataUrl": data}
        if values["modelEnvironmentVariables"]:
            container["Environment"] = {str(k): str(v) for k, v in values["modelEnvironmentVariables"].items()}
        return {
            "PrimaryContainer": container,
            "ExecutionRoleArn": self._session.expand_role(values["modelExecutionRoleARN"]),
            **training.network(values["subnets"], values["securityGroupIds"]),
            **values["extra"].get("CreateModel", {}),
        }

    # Predictions

    def transformSchema(self, schema: Any) -> Any:
        """Return the schema of the result.

        Args:
            schema: the schema of a DataFrame.

        Raises:
            ConfigurationError: a column is missing or has no numbers, or a column of the answers exists already.
        """
        from pyspark.sql.types import StructType

        values = self._settings
        serializer = values["requestRowSerializer"]
        for parameter, name in serializer.columns().items():
            check_column(schema, name, parameter)
        if isinstance(serializer, FeaturesSerializer):
            check_numbers(schema, serializer.featuresColumnName, "featuresColumnName")
        answers = values["responseRowDeserializer"].schema
        if not values["prependResultRows"]:
            return answers
        for field in answers.fields:
            if field.name in schema.names:
                raise ConfigurationError(
                    f"responseRowDeserializer: the DataFrame has a column {field.name!r} already; name another one in "
                    "the deserializer, or drop it"
                )
        return StructType([*schema.fields, *answers.fields])

    transform_schema = transformSchema

    def _transform(self, dataset: Any) -> Any:
        check_dataset("dataset", dataset, streaming=self._hosts())
        schema = self.transformSchema(dataset.schema)
        _ = self._session.boto_region_name  # an error here is clearer than one of the workers
        check_workers(dataset.sparkSession)
        values = self._settings
        settings = PredictionSettings(
            endpoint="" if not self._hosts() else self._endpoint(),
            serializer=values["requestRowSerializer"],
            deserializer=values["responseRowDeserializer"],
            prepended=values["prependResultRows"],
            limit=values["maxPayloadInBytes"],
            in_flight=values["requestsInFlight"],
            parameters=dict(values["extra"].get("InvokeEndpoint", {})),
        )
        if self._hosts():
            return map_batches(dataset, carried(invoke_batches, session=self._session, settings=settings), schema)
        return self._transform_in_batch(dataset, schema, settings)

    def _transform_in_batch(self, dataset: Any, schema: Any, settings: PredictionSettings) -> Any:
        values = self._settings
        name = self._shared_hosting().ensure_model(self._model_request(), training.tag_list(values["tags"]))
        frame, place = batch_transform.run(
            self._session,
            dataset,
            schema,
            settings,
            batch_transform.Resources(
                model=name,
                instance_type=values["endpointInstanceType"],
                instance_count=values["endpointInitialInstanceCount"],
                tags=training.tag_list(values["tags"]),
                extra=values["extra"].get("CreateTransformJob", {}),
            ),
        )
        self._staged.append(place)
        return frame

    # Copies and saved models

    def copy(self, extra: Any = None) -> SageMakerModel:
        """Return a copy. It shares the endpoint, which is created at most once for all copies.

        Args:
            extra: values of parameters, as a map of `Param` to value.
        """
        if self._settings["existingEndpointName"] is None:
            self._shared_hosting()
        return cast("SageMakerModel", super().copy(extra))

    def _state(self) -> dict[str, Any]:
        if self._training is not None:
            self._training.wait()
        state = super()._state()
        # Another process uses the endpoint, and does not own it.
        return {**state, "existingEndpointName": self.endpointName}

    def _restore(self, uid: str, state: Mapping[str, Any]) -> None:
        super()._restore(uid, state)
        self._settings["endpointCreationPolicy"] = EndpointCreationPolicy(self._settings["endpointCreationPolicy"])
        if self._settings["existingEndpointName"] is None:
            # The names of the saved model may be taken by what it has created since.
            self._settings["namePolicy"] = RandomNamePolicy()
        self._staged, self._training, self._hosting, self._shown = [], None, None, None


def _refuse_do_not_create(policy: Any) -> None:
    if policy == EndpointCreationPolicy.DO_NOT_CREATE:
        raise ConfigurationError("endpointCreationPolicy: DO_NOT_CREATE makes no sense here; the model is to be hosted")
