"""The parameters of remote functions: what is refused, when, and what the config file supplies."""

from __future__ import annotations

import functools
import io
import os
import sys
import threading
import warnings
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession, NetworkConfig, RemoteExecutor, SerializationError, Session
from processing.container.remote.call import find_function
from processing.remote_function import CheckpointLocation, CustomFileFilter, SparkConfig, remote
from processing.remote_function.call import complete_settings
from processing.remote_function.call_processor import split_variables
from processing.remote_function.decorator import plain_function
from processing.remote_function.packed_call import reference_to
from processing.remote_function.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def one() -> int:
    """A function."""
    return 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instance_tpye": "local"}, "instance_tpye: there is no such parameter; did you mean 'instance_type'"),
        ({"use_spot_instances": True}, "use_spot_instances: .*instance_preferences"),
        ({"keep_alive_period_in_seconds": 60}, "keep_alive_period_in_seconds: .*RemotePool"),
        ({"max_wait_time_in_seconds": 60}, "max_wait_time_in_seconds: .*max_runtime_in_seconds"),
        ({"disable_output_compression": True}, "disable_output_compression: results are never compressed"),
        ({"spark_config": {}}, "spark_config: must be a processing.remote_function.SparkConfig"),
        ({"spark_config": SparkConfig(), "dependencies": "a.txt"}, "spark_config: .*dependencies"),
        ({"spark_config": SparkConfig(), "use_mpirun": True}, "spark_config: .*use_mpirun"),
        ({"max_runtime_in_seconds": 777_601}, "max_runtime_in_seconds: must be seconds, from 1 to 777600"),
        ({"max_retry_attempts": 31}, "max_retry_attempts: must be an integer from 0 to 30"),
        ({"instance_count": 0}, "instance_count: must be an integer of at least 1"),
        ({"environment_variables": {"A": 1}}, "environment_variables: must be a dictionary of strings"),
        ({"s3_root_uri": "bucket/prefix"}, "s3_root_uri: must be an s3:// URI"),
        ({"result_format": "xml"}, "result_format: must be one of pickle, json, arrow"),
        ({"tags": [("a",)]}, "tags: must be pairs"),
        ({"pre_execution_commands": ["a"], "pre_execution_script": "a.sh"}, "pre_execution_commands: .*pre_execution_"),
        ({"use_torchrun": True, "use_mpirun": True}, "use_torchrun: cannot be given together with use_mpirun"),
        ({"instance_type": "local", "instance_preferences": ["ml.m5.large"]}, "instance_preferences: .*instance_type"),
        ({"network_config": NetworkConfig(), "subnets": ["subnet-1"]}, "network_config: .*subnets"),
    ],
)
def test_a_parameter_is_refused_at_the_decoration(options: dict[str, Any], message: str) -> None:
    """A parameter that does not exist, cannot work, or that processing jobs lack, is named with the alternative."""
    with pytest.raises(ConfigurationError, match=message):
        remote(**options)
    with pytest.raises(ConfigurationError, match=message):
        RemoteExecutor(**options)


def test_defaults_of_training_jobs_are_accepted() -> None:
    """A script that passes the defaults of `sagemaker` explicitly runs unchanged."""
    remote(
        keep_alive_period_in_seconds=0,
        use_spot_instances=False,
        max_wait_time_in_seconds=None,
        disable_output_compression=False,
        max_retry_attempts=1,
    )


@pytest.mark.parametrize("value", [3, "f", int])
def test_only_functions_are_decorated(value: Any) -> None:
    """A value that is not a function, or is a class, is refused."""
    with pytest.raises(ConfigurationError, match="_func: must be a function"):
        remote(value)


class Recorder:
    """A transport that counts the requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._inner: Any = None

    def wrap(self, inner: Any) -> Recorder:
        self._inner = inner
        return self

    def send(self, request: Any) -> Any:
        self.requests.append(f"{request.method} {request.url}")
        return self._inner.send(request)


@pytest.fixture
def recorder() -> Recorder:
    """The requests of `session`."""
    return Recorder()


@pytest.fixture
def session(tmp_path: Path, recorder: Recorder) -> LocalSession:
    """An engine whose requests are recorded."""
    return LocalSession(tmp_path / "engine", transport=recorder.wrap)


def closure_over(value: Any) -> Callable[[], Any]:
    """A function with a value in its closure."""

    def function() -> Any:
        return value

    return function


def takes(x: int, /, *, y: int) -> int:
    """A function with a signature."""
    return x + y


@pytest.mark.parametrize(
    ("options", "function", "args", "message"),
    [
        ({}, closure_over(threading.Lock()), (), r'function\.__closure__\["value"\]: '),
        ({}, closure_over(io.FileIO(os.devnull)), (), r'function\.__closure__\["value"\]: '),
        ({}, one, (1,), r"one\(\) -> .*too many positional arguments"),
        ({}, takes, (1,), "missing a required.* 'y'"),
        ({}, max, (threading.Lock(), 1), r"args\[0\]|args: "),
        ({"instance_count": 2}, one, (), "instance_count: a call runs on one instance, not on 2"),
        ({"dependencies": "no/requirements.txt"}, one, (), "dependencies: .*does not exist"),
        ({"pre_execution_script": "no.sh"}, one, (), "pre_execution_script: .*does not exist"),
        ({"by_reference": True}, closure_over(1), (), "by_reference: function has no name"),
        ({"by_reference": True, "result_format": "json"}, one, (), "takes 0 positional|too many"),
    ],
)
def test_a_call_is_refused_before_anything_is_sent(
    session: LocalSession,
    recorder: Recorder,
    options: dict[str, Any],
    function: Callable[..., Any],
    args: tuple[Any, ...],
    message: str,
) -> None:
    """A call that cannot work is refused with the parameter's name or the path of the part, without a request."""
    args = (1, 2) if "takes 0" in message else args
    with pytest.raises(ConfigurationError, match=message):
        remote(function, instance_type="local", sagemaker_session=session, **options)(*args)
    assert recorder.requests == []


def test_a_part_that_cannot_be_packed_is_both_errors() -> None:
    """A refused part is a SerializationError, as in `sagemaker`, and a ConfigurationError, as every refusal."""
    with pytest.raises(SerializationError):
        remote(closure_over(threading.Lock()), instance_type="local").submit()


def test_problems_of_the_job_have_the_names_of_the_parameters(session: LocalSession, recorder: Recorder) -> None:
    """The parameters of a processor have other names, which the caller of a remote function has not used."""
    function = remote(
        one,
        instance_type="local",
        sagemaker_session=session,
        volume_size=100_000,
        environment_variables={"1": "x"},
        subnets=["a b"],
        s3_kms_key="k" * 3000,
    )
    named = ['environment_variables["1"]', "s3_kms_key", "security_group_ids", "subnets[0]", "volume_size"]
    assert sorted(problem.partition(":")[0] for problem in function.plan().problems) == sorted(named)
    with pytest.raises(ConfigurationError) as caught:
        function.submit()
    assert sorted(problem.partition(":")[0] for problem in caught.value.problems) == sorted(named)
    assert recorder.requests == []


def test_dependencies_need_a_network(session: LocalSession, recorder: Recorder, tmp_path: Path) -> None:
    """Dependencies that pip would fetch are refused under network isolation; a folder of wheels is the alternative."""
    (tmp_path / "requirements.txt").write_text("numpy\n")
    function = remote(
        one,
        instance_type="local",
        sagemaker_session=session,
        dependencies=tmp_path / "requirements.txt",
        network_config=NetworkConfig(enable_network_isolation=True),
    )
    with pytest.raises(ConfigurationError, match=r"dependencies: .*wheels"):
        function()
    assert recorder.requests == []


def test_a_large_working_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory above the session's `bundle_limit` is refused."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data.bin").write_bytes(bytes(2_000_000))
    monkeypatch.chdir(tmp_path / "work")
    session = LocalSession(tmp_path / "engine", bundle_limit=1_000_000)
    with pytest.raises(ConfigurationError, match=r"bundle_limit: .*data\.bin"):
        remote(one, instance_type="local", sagemaker_session=session, include_local_workdir=True)()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("alpine:3", "has no Python"),
        ("pytorch-training:1.6.0-cpu-py36", "has Python 3.6; a remote function needs 3.8"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-base-python-38:1.0", "has Python 3.8, and this is Python"),
    ],
)
def test_an_image_that_cannot_run_the_call_is_refused(image: str, message: str) -> None:
    """An image whose name tells that it has no Python, or another version of it, is refused."""
    settings = RemoteSettings(
        image_uri=image, instance_type="ml.m5.large", sagemaker_session=Session(region_name="eu-west-1")
    )
    with pytest.raises(ConfigurationError, match=f"image_uri: .*{message}"):
        complete_settings(settings)


def test_the_default_image_has_the_caller_s_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an image, one of AWS's with this Python is chosen; the error for another Python lists the choices."""
    settings = RemoteSettings(instance_type="ml.m5.large", sagemaker_session=Session(region_name="eu-west-1"))
    complete, _ = complete_settings(settings)
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    assert complete.image_uri is not None
    assert complete.image_uri.endswith((f"py{version}", f"-{version}:1.0"))
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with pytest.raises(ConfigurationError, match=r"image_uri: missing; this is Python 3\.99.*Python 3\.10"):
        complete_settings(settings)


def test_the_config_file_supplies_what_is_missing() -> None:
    """The keys below RemoteFunction apply to parameters that are not given; tags are added."""
    section = {
        "InstanceType": "ml.m5.large",
        "ImageUri": "mine:1",
        "RoleArn": "arn:aws:iam::111122223333:role/file",
        "EnvironmentVariables": {"A": "file"},
        "S3RootUri": "s3://bucket/file",
        "Tags": [{"Key": "team", "Value": "file"}, {"Key": "stage", "Value": "test"}],
        "VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "PreExecutionScript": "file.sh",
        "CustomFileFilter": {"IgnoreNamePatterns": ["*.csv"]},
    }
    config = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"RemoteFunction": section}}}}
    session = Session(region_name="eu-west-1", sagemaker_config=config)
    given = RemoteSettings(
        role="arn:aws:iam::111122223333:role/mine",
        tags={"team": "mine"},
        pre_execution_commands=["mine"],
        sagemaker_session=session,
    )
    settings, _ = complete_settings(given)
    assert settings.instance_type == "ml.m5.large"
    assert settings.role == "arn:aws:iam::111122223333:role/mine"
    assert settings.environment_variables == {"A": "file"}
    assert settings.s3_root_uri == "s3://bucket/file"
    assert settings.subnets == ["subnet-1"]
    assert settings.tags == [{"Key": "team", "Value": "mine"}, {"Key": "stage", "Value": "test"}]
    assert (settings.pre_execution_commands, settings.pre_execution_script) == (["mine"], None)
    assert isinstance(settings.custom_file_filter, CustomFileFilter)
    assert settings.custom_file_filter.ignore_name_patterns == ["*.csv"]


def test_an_unknown_key_of_the_config_file_is_a_warning() -> None:
    """A key that this version does not know is warned of, with a suggestion."""
    config = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"RemoteFunction": {"ImageURI": "a"}}}}}
    with pytest.warns(UserWarning, match=r"RemoteFunction\.ImageURI: no such key; did you mean 'ImageUri'"):
        _ = Session(region_name="eu-west-1", sagemaker_config=config).config


def test_the_warning_of_an_unknown_key_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session for AWS and the one for the engine read the same file in one call."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {RemoteFunction: {InstanceType: local, Other: x}}}}\n"
    )
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(config))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        settings, session = complete_settings(RemoteSettings())
    assert (settings.instance_type, session.is_local) == ("local", True)
    assert len([each for each in seen if "RemoteFunction.Other: no such key" in str(each.message)]) == 1


def test_the_caller_s_values_stay_as_they_are() -> None:
    """Later changes of the caller's collections have no effect, and the package changes none of them."""
    variables, tags = {"A": "1"}, [{"Key": "a", "Value": "b"}]
    settings = RemoteSettings.of({"environment_variables": variables, "tags": tags})
    variables["A"] = "2"
    tags[0]["Key"] = "c"
    assert settings.environment_variables == {"A": "1"}
    assert settings.tags == [{"Key": "a", "Value": "b"}]
    assert "'1'" not in repr(settings)  # a variable may hold a secret


def test_variables_that_do_not_fit_a_request_travel_in_the_manifest() -> None:
    """Long values, empty ones, and those beyond a hundred are not in the request."""
    many = {f"V{number}": "x" for number in range(120)}
    fitting, others = split_variables({"LONG": "x" * 257, "EMPTY": "", **many})
    assert {"LONG", "EMPTY"} <= others.keys()
    assert len(fitting) == 90
    assert {**fitting, **others} == {"LONG": "x" * 257, "EMPTY": "", **many}


class Base:
    """A class with remote functions of each kind."""

    size = 2

    @remote
    def own(self, x: int) -> Any:
        """A method."""
        return self, x

    @remote
    @staticmethod
    def alone(x: int) -> Any:
        """A static method."""
        return x

    @staticmethod
    @remote
    def alone_too(x: int) -> Any:
        """A static method."""
        return x

    @remote
    @classmethod
    def of_class(cls, x: int) -> Any:
        """A class method."""
        return cls, x

    length = remote(len)


def plus_one(function: Callable[..., int]) -> Callable[..., int]:
    """Decorate a function in the usual way."""

    @functools.wraps(function)
    def inner(*args: int) -> int:
        return function(*args) + 1

    return inner


@remote
@plus_one
def decorated(x: int) -> int:
    """A remote function with another decorator."""
    return x


@plus_one
@remote
def covered(x: int) -> int:
    """A remote function below another decorator."""
    return x


class Derived(Base):
    """A class that inherits them."""


def test_methods_are_bound_as_without_the_decorator() -> None:
    """A method gets its object, a class method its class, a static method and a builtin function neither."""
    it = Derived()
    assert it.own.local(1) == (it, 1)
    assert Derived.own.local(it, 1) == (it, 1)
    assert it.alone.local(1) == it.alone_too.local(1) == Derived.alone.local(1) == Derived.alone_too.local(1) == 1
    assert it.of_class.local(1) == Derived.of_class.local(1) == (Derived, 1)
    assert Base.of_class.local(1) == (Base, 1)
    assert it.length.local("ab") == 2


def test_methods_by_reference() -> None:
    """A static method has a name in its module, a class method in its class. A method belongs to an object."""
    here = __name__
    assert reference_to(plain_function(Derived().alone)) == (here, "Base.alone")
    assert reference_to(plain_function(Derived.of_class)) == (here, "Derived.of_class")
    assert find_function(here, "Derived.of_class")(1) == (Derived, 1)
    assert find_function(*reference_to(plain_function(decorated)))(1) == 2
    for function in (Derived().own, covered.__wrapped__, functools.partial(one)):  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match=r"by_reference: .* has no name"):
            reference_to(plain_function(function))


def test_an_executor_is_a_standard_one() -> None:
    """`RemoteExecutor` is a `concurrent.futures.Executor`."""
    assert issubclass(RemoteExecutor, Executor)
    with pytest.raises(ConfigurationError, match="max_parallel_jobs: "):
        RemoteExecutor(max_parallel_jobs=0)


@pytest.mark.parametrize("uri", ["bucket", "s3://", 3])
def test_a_checkpoint_location_needs_a_uri(uri: Any) -> None:
    """Another value than an S3 URI is refused."""
    with pytest.raises(ConfigurationError, match="s3_uri: "):
        CheckpointLocation(uri)


def test_one_checkpoint_location_at_most() -> None:
    """A second location among the arguments is refused."""
    with pytest.raises(ConfigurationError, match="one of them at most"):
        remote(print, instance_type="local")(CheckpointLocation("s3://b/a"), CheckpointLocation("s3://b/b"))


def test_decoration_calls_nothing(recorder: Recorder, session: LocalSession) -> None:
    """Decoration, `options`, `plan` and an executor make no request."""
    function = remote(one, instance_type="local", sagemaker_session=session).options(volume_size=40)
    request = function.plan().request
    assert request is not None
    assert request.volume_size_in_gb == 40
    RemoteExecutor(instance_type="local", sagemaker_session=session).shutdown()
    assert recorder.requests == []
