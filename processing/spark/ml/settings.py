"""Settings of stages: a table of the constructor's parameters, readable as attributes in both spellings."""

from __future__ import annotations

import copy
import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from processing._utils.validation import (
    FLAG,
    MAPPING,
    NAME,
    Kind,
    instance_of,
    integer,
    one_of,
    require,
    with_attributes,
)
from processing.exceptions import ConfigurationError
from processing.session.session import Session
from processing.spark.ml.deserializers import ResponseRowDeserializer
from processing.spark.ml.names import NamePolicy, NamePolicyFactory, RandomNamePolicy, RandomNamePolicyFactory
from processing.spark.ml.roles_and_paths import IAMRoleFromConfig, S3AutoCreatePath, path_of, role_of
from processing.spark.ml.serializers import RequestRowSerializer
from processing.spark.ml.training import tag_list
from processing.spark.ml.values import rename, snake_case

OPERATIONS: Final = (
    "CreateTrainingJob",
    "CreateProcessingJob",
    "CreateModel",
    "ProductionVariant",
    "CreateTransformJob",
    "InvokeEndpoint",
)
"""The operations, and the structure of one, that the setting `extra` has further parameters of."""


class EndpointCreationPolicy(str, enum.Enum):
    """The moment at which a model's endpoint is created."""

    CREATE_ON_CONSTRUCT = "CREATE_ON_CONSTRUCT"
    """At the end of `fit`, or when the model is made."""
    CREATE_ON_TRANSFORM = "CREATE_ON_TRANSFORM"
    """At the first `transform`."""
    DO_NOT_CREATE = "DO_NOT_CREATE"
    """Never: the model is for a later use."""


class StageParameter(NamedTuple):
    """A parameter of a stage's constructor.

    Attributes:
        name: its name in camelCase.
        default: returns its value if it is not given. None for a required one.
        kind: the kind of its values; None for any.
        optional: True if None is a value.
        convert: makes the value from the user's argument.
        saved: False for objects of this process, such as a client.
    """

    name: str
    default: Callable[[], Any] | None
    kind: Kind | None = None
    optional: bool = False
    convert: Callable[[Any], Any] | None = None
    saved: bool = True


def _given(name: str, kind: Kind, *, optional: bool = False) -> StageParameter:
    return StageParameter(name, None, kind, optional)


def _else(name: str, default: Any, kind: Kind, *, optional: bool | None = None) -> StageParameter:
    return StageParameter(name, lambda: default, kind, default is None if optional is None else optional)


def _client(name: str) -> StageParameter:
    return StageParameter(
        name, lambda: None, Kind("a boto3 client", lambda value: hasattr(value, "meta")), True, saved=False
    )


def _policy(value: Any) -> EndpointCreationPolicy:
    known = [each.value for each in EndpointCreationPolicy]
    require("endpointCreationPolicy", value, one_of(*known))
    return EndpointCreationPolicy(value)


def _instance(*classes: type) -> Kind:
    names = " or ".join(each.__name__ for each in classes)
    return Kind(f"a {names}", lambda value: isinstance(value, classes))


def _with_schema(value: ResponseRowDeserializer) -> ResponseRowDeserializer:
    """Refuse a deserializer without columns, or with several of one name."""
    fields = getattr(value.schema, "fields", None)
    names = [each.name for each in fields or ()]
    if not names:
        raise ConfigurationError(
            f"responseRowDeserializer: {type(value).__name__}.schema must be a StructType of the answers' columns"
        )
    if len(set(names)) < len(names):
        raise ConfigurationError(f"responseRowDeserializer: its columns {', '.join(names)} need different names")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _mapping(name: str, *, default: Callable[[], Any] | None = dict) -> StageParameter:
    """Return the parameter of a dictionary from names to texts, numbers and booleans."""

    def convert(value: Mapping[Any, Any] | None) -> dict[str, Any]:
        for key, each in (value or {}).items():
            require(f"{name}: the name", key, NAME)
            require(f"{name}[{key}]", each, _PLAIN)
        return dict(value or {})

    return StageParameter(name, default, MAPPING, True, convert)


def _names(name: str, kind: Kind, default: Sequence[str] | None = None) -> StageParameter:
    """Return the parameter of a list of names."""

    def convert(value: Sequence[str] | None) -> list[str] | None:
        for index, each in enumerate(value or ()):
            require(f"{name}[{index}]", each, NAME)
        return None if value is None else list(value)

    return StageParameter(name, lambda: default, kind, default is None, convert)


def _tags(value: Any) -> Any:
    tag_list(value)  # refuses wrong ones
    return copy.copy(value)


def _extra(value: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    for operation, members in (value or {}).items():
        if operation not in OPERATIONS:
            raise ConfigurationError(f"extra: {operation!r} is not one of {', '.join(OPERATIONS)}")
        require(f"extra[{operation}]", members, MAPPING)
    return {operation: dict(members) for operation, members in (value or {}).items()}


_COUNT = integer(at_least=1)
_PLAIN = Kind("a text, a number or a boolean", _is_plain)
_LIST = Kind("a list of texts", _is_list)
_FILLED_LIST = Kind("a list of texts, and not empty", lambda value: _is_list(value) and len(value) > 0)
_TAGS = MAPPING | Kind("a list of tags", _is_list)
_SESSION = instance_of(Session) | with_attributes("a sagemaker.Session", "boto_session", "default_bucket")
_SERIALIZER = StageParameter("requestRowSerializer", None, _instance(RequestRowSerializer))
_DESERIALIZER = StageParameter(
    "responseRowDeserializer", None, _instance(ResponseRowDeserializer), convert=_with_schema
)
_POLICY = StageParameter("endpointCreationPolicy", lambda: EndpointCreationPolicy.CREATE_ON_CONSTRUCT, convert=_policy)
_ENVIRONMENT = _mapping("modelEnvironmentVariables")
_UID = StageParameter("uid", lambda: None, NAME, True)

NEW: Final = (
    # Beyond sagemaker_pyspark: all are keywords.
    StageParameter("session", lambda: None, _SESSION, True, saved=False),
    StageParameter("tags", lambda: None, _TAGS, True, _tags),
    _names("subnets", _LIST),
    _names("securityGroupIds", _LIST),
    _else("transformBy", "endpoint", one_of("endpoint", "batch")),
    _else("maxPayloadInBytes", 5 << 20, integer(at_least=1)),
    _else("requestsInFlight", 4, integer(at_least=1, at_most=256)),
    StageParameter("extra", dict, MAPPING, True, _extra),
)
"""Parameters that estimators and models share, and that sagemaker_pyspark does not have."""

_IMAGES: Final = (_given("trainingImage", NAME), _given("modelImage", NAME))
_INSTANCES: Final = (
    _given("trainingInstanceType", NAME),
    _given("trainingInstanceCount", _COUNT),
    _given("endpointInstanceType", NAME, optional=True),
    _given("endpointInitialInstanceCount", _COUNT, optional=True),
)
_TRAINING: Final = (
    StageParameter(
        "trainingInputS3DataPath", S3AutoCreatePath, convert=lambda value: path_of(value, "trainingInputS3DataPath")
    ),
    StageParameter(
        "trainingOutputS3DataPath", S3AutoCreatePath, convert=lambda value: path_of(value, "trainingOutputS3DataPath")
    ),
    _else("trainingInstanceVolumeSizeInGB", 1024, _COUNT),
    _names("trainingProjectedColumns", _FILLED_LIST),
    _else("trainingChannelName", "train", NAME),
    _else("trainingContentType", None, NAME),
    _else("trainingS3DataDistribution", "ShardedByS3Key", one_of("ShardedByS3Key", "FullyReplicated")),
    _else("trainingSparkDataFormat", "sagemaker", NAME),
    _mapping("trainingSparkDataFormatOptions"),
    _else("trainingInputMode", "File", one_of("File", "Pipe", "FastFile")),
    _else("trainingCompressionCodec", None, NAME),
    _else("trainingMaxRuntimeInSeconds", 24 * 60 * 60, _COUNT),
    _else("trainingKmsKeyId", None, NAME),
    _ENVIRONMENT,
    _POLICY,
    _client("sagemakerClient"),
)
_CLIENTS: Final = (_client("s3Client"), _client("stsClient"))
_ENDS: Final = (
    _else("modelPrependInputRowsToTransformationRows", True, FLAG),
    _else("deleteStagingDataAfterTraining", True, FLAG),
    StageParameter("namePolicyFactory", RandomNamePolicyFactory, _instance(NamePolicyFactory)),
    _UID,
    _else("wait", True, FLAG),
    _else("spot", False, FLAG),
    _else("runAs", "training", one_of("training", "processing")),
    _names("trainingCommand", _FILLED_LIST, ["train"]),
    *NEW,
)
_ROLE: Final = StageParameter("sagemakerRole", IAMRoleFromConfig, convert=role_of)

ESTIMATOR: Final = (
    *_IMAGES,
    *_INSTANCES,
    _SERIALIZER,
    _DESERIALIZER,
    _mapping("hyperParameters"),
    *_TRAINING,
    _ROLE,
    *_CLIENTS,
    *_ENDS,
)
"""The parameters of `SageMakerEstimator`."""


def algorithm_settings(
    serializer: Callable[[], Any], deserializer: Callable[[], Any], data_format: str
) -> tuple[StageParameter, ...]:
    """Return the parameters of an estimator of one of SageMaker's algorithms, in the order of sagemaker_pyspark."""
    own = [
        each._replace(default=lambda: data_format) if each.name == "trainingSparkDataFormat" else each
        for each in _TRAINING
    ]
    return (
        *_INSTANCES,
        _ROLE,
        _SERIALIZER._replace(default=serializer),
        _DESERIALIZER._replace(default=deserializer),
        *own,
        _else("region", None, NAME),
        *_CLIENTS,
        *_ENDS,
    )


MODEL: Final = (
    _given("endpointInstanceType", NAME, optional=True),
    _given("endpointInitialInstanceCount", _COUNT, optional=True),
    _SERIALIZER,
    _DESERIALIZER,
    _else("existingEndpointName", None, NAME),
    _else("modelImage", None, NAME),
    StageParameter(
        "modelPath", lambda: None, None, True, lambda value: None if value is None else path_of(value, "modelPath")
    ),
    _ENVIRONMENT,
    _else("modelExecutionRoleARN", None, NAME),
    _POLICY,
    _client("sagemakerClient"),
    _else("prependResultRows", True, FLAG),
    StageParameter("namePolicy", RandomNamePolicy, _instance(NamePolicy)),
    _UID,
    _else("trainingJobName", None, NAME),
    _else("trainingKmsKeyId", None, NAME),
    *NEW,
)
"""The parameters of `SageMakerModel`."""


def signature_of(settings: Sequence[StageParameter]) -> inspect.Signature:
    """Return the signature of a constructor with these parameters, all of them keywords."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter(each.name, kind)
            if each.default is None
            else inspect.Parameter(each.name, kind, default=each.default())
            for each in settings
        ]
    )


def read(
    settings: Sequence[StageParameter], owner: str, args: Sequence[Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of a constructor's parameters.

    Args:
        settings: the parameters.
        owner: the class, for messages.
        args: arguments by position, in the order of the table.
        given: arguments by keyword, in either spelling.

    Raises:
        ConfigurationError: a parameter is missing or has a wrong type or value; the message names it.
        TypeError: there is no parameter of that name, or too many arguments.
    """
    if len(args) > len(settings):
        raise TypeError(f"{owner} takes {len(settings)} arguments, and {len(args)} were given")
    keywords = rename(given, {snake_case(each.name): each.name for each in settings})
    for setting, value in zip(settings, args, strict=False):
        if setting.name in keywords:
            raise TypeError(f"{owner} got several values for {setting.name}")
        keywords[setting.name] = value
    unknown = sorted(set(keywords) - {each.name for each in settings})
    if unknown:
        raise TypeError(f"{owner} has no parameter {unknown[0]!r}")
    return {each.name: _value(each, owner, keywords) for each in settings}


def _value(setting: StageParameter, owner: str, keywords: Mapping[str, Any]) -> Any:
    if setting.name not in keywords:
        if setting.default is None and not setting.optional:
            raise ConfigurationError(f"{setting.name}: missing; {owner} needs it")
        return None if setting.default is None else setting.default()
    return checked(setting, keywords[setting.name])


def checked(setting: StageParameter, value: Any) -> Any:
    """Return the value of a parameter from the user's argument.

    Raises:
        ConfigurationError: it has a wrong type or value; the message names the parameter.
    """
    if setting.kind is not None:
        require(setting.name, value, setting.kind, optional=setting.optional)
    return value if setting.convert is None else setting.convert(value)


class StageSettings:
    """The values of a stage's parameters as attributes, in camelCase and snake_case.

    A subclass has the table `_table`. Its instances have the dictionary `_settings`.
    """

    _table: Sequence[StageParameter] = ()
    _settings: dict[str, Any]

    if TYPE_CHECKING:  # attributes, getters and setters are made from tables

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for setting in vars(cls).get("_table", ()):
            if setting.name == "uid":
                continue
            accessor = _accessor(setting)
            for name in {setting.name, snake_case(setting.name)}:
                setattr(cls, name, accessor)


def _accessor(setting: StageParameter) -> property:
    def get(stage: StageSettings) -> Any:
        return stage._settings[setting.name]  # noqa: SLF001 - the attribute of this class

    def put(stage: StageSettings, value: Any) -> None:
        stage._settings[setting.name] = checked(setting, value)  # noqa: SLF001 - the same

    return property(get, put, doc=f"The parameter `{setting.name}`.")
