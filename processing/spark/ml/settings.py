"""StageSettings of stages: a table of the constructor's parameters, readable as attributes in both spellings."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from processing._utils.validation import FLAG, MAPPING, NAME, Kind, integer, one_of, require
from processing.exceptions import ConfigurationError
from processing.spark.ml.deserializers import ResponseRowDeserializer
from processing.spark.ml.names import NamePolicy, NamePolicyFactory, RandomNamePolicy, RandomNamePolicyFactory
from processing.spark.ml.roles_and_paths import IAMRoleFromConfig, S3AutoCreatePath, path_of, role_of
from processing.spark.ml.serializers import RequestRowSerializer
from processing.spark.ml.values import rename, snake_case


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
    try:
        return EndpointCreationPolicy(value)
    except ValueError:
        known = ", ".join(each.value for each in EndpointCreationPolicy)
        raise ConfigurationError(f"endpointCreationPolicy: must be one of {known}, not {value!r}") from None


def _instance(*classes: type) -> Kind:
    names = " or ".join(each.__name__ for each in classes)
    return Kind(f"a {names}", lambda value: isinstance(value, classes))


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _texts(value: Any) -> Any:
    return None if value is None else [str(each) for each in value]


_COUNT = integer(at_least=1)
_COLUMNS = Kind("a list of column names", lambda value: not isinstance(value, str) and isinstance(value, Sequence))
_TEXTS = Kind("a list of texts", lambda value: not isinstance(value, str) and isinstance(value, Sequence))
_TAGS = Kind("a list of tags or a dictionary", lambda value: isinstance(value, (Mapping, Sequence)))
_SERIALIZER = StageParameter("requestRowSerializer", None, _instance(RequestRowSerializer))
_DESERIALIZER = StageParameter("responseRowDeserializer", None, _instance(ResponseRowDeserializer))
_POLICY = StageParameter("endpointCreationPolicy", lambda: EndpointCreationPolicy.CREATE_ON_CONSTRUCT, convert=_policy)
_ENVIRONMENT = StageParameter("modelEnvironmentVariables", dict, MAPPING, True, lambda value: dict(value or {}))
_UID = StageParameter("uid", lambda: None, NAME, True)

NEW: Final = (
    # Beyond sagemaker_pyspark: all are keywords.
    StageParameter("session", lambda: None, None, True, saved=False),
    StageParameter("tags", lambda: None, _TAGS, True),
    _else("subnets", None, _TEXTS),
    _else("securityGroupIds", None, _TEXTS),
    _else("transformBy", "endpoint", one_of("endpoint", "batch")),
    _else("maxPayloadInBytes", 5 << 20, integer(at_least=1)),
    _else("requestsInFlight", 4, integer(at_least=1, at_most=256)),
    StageParameter("extra", dict, MAPPING, True, _copied),
)
"""StageSettings that estimators and models share, and that sagemaker_pyspark does not have."""

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
    StageParameter("trainingProjectedColumns", lambda: None, _COLUMNS, True, _texts),
    _else("trainingChannelName", "train", NAME),
    _else("trainingContentType", None, NAME),
    _else("trainingS3DataDistribution", "ShardedByS3Key", one_of("ShardedByS3Key", "FullyReplicated")),
    _else("trainingSparkDataFormat", "sagemaker", NAME),
    StageParameter("trainingSparkDataFormatOptions", dict, MAPPING, True, lambda value: dict(value or {})),
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
    StageParameter("trainingCommand", lambda: ["train"], _TEXTS, convert=_texts),
    *NEW,
)
_ROLE: Final = StageParameter("sagemakerRole", IAMRoleFromConfig, convert=role_of)

ESTIMATOR: Final = (
    *_IMAGES,
    *_INSTANCES,
    _SERIALIZER,
    _DESERIALIZER,
    StageParameter("hyperParameters", dict, MAPPING, True, lambda value: dict(value or {})),
    *_TRAINING[:2],
    _ROLE,
    *_TRAINING[2:],
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
