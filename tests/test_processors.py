"""Processors: the requests that they send to AWS, and the ways to subclass them."""

from __future__ import annotations

import copy
import inspect
import pathlib
import pickle
import threading
from typing import Any

import boto3
import botocore.session
import botocore.validate
import numpy as np
import pytest

from processing import (
    CodeNotFoundError,
    ConfigurationError,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingJob,
    ProcessingOutput,
    Processor,
    RunArgs,
    S3Input,
    ScriptProcessor,
    Session,
)

ROLE = "arn:aws:iam::123456789012:role/Processing"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/my-image:1"


@pytest.fixture
def session() -> Session:
    return Session(default_bucket="data", region_name="eu-central-1")


@pytest.fixture
def script(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "clean.py"
    path.write_text("print('hello')\n")
    return path


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "data"
    path.mkdir()
    (path / "a.csv").write_text("1\n")
    return path


@pytest.fixture
def processor(session: Session) -> ScriptProcessor:
    return ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)


def valid(params: dict[str, Any]) -> dict[str, Any]:
    """Check a request with botocore's own validator, and return it."""
    shape = (
        botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateProcessingJob").input_shape
    )
    assert shape is not None
    report = botocore.validate.ParamValidator().validate(params, shape)
    assert not report.has_errors(), report.generate_report()
    return params


def parameters(function: Any) -> list[str]:
    """The positional parameters of a method, without self."""
    kinds = inspect.signature(function).parameters.values()
    return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]


COMMON = [
    "volume_size_in_gb",
    "volume_kms_key",
    "output_kms_key",
    "max_runtime_in_seconds",
    "base_job_name",
    "sagemaker_session",
    "env",
    "tags",
    "network_config",
]
RUN = ["wait", "logs", "job_name", "experiment_config", "kms_key"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Processor.__init__, ["role", "image_uri", "instance_count", "instance_type", "entrypoint", *COMMON]),
        (Processor.run, ["inputs", "outputs", "arguments", *RUN]),
        (ScriptProcessor.__init__, ["role", "image_uri", "command", "instance_count", "instance_type", *COMMON]),
        (ScriptProcessor.run, ["code", "inputs", "outputs", "arguments", *RUN]),
        (ScriptProcessor.get_run_args, ["code", "inputs", "outputs", "arguments"]),
        (Processor._normalize_args, ["job_name", "arguments", "inputs", "outputs", "code", "kms_key"]),
        (ProcessingJob.__init__, ["sagemaker_session", "job_name", "inputs", "outputs", "output_kms_key"]),
        (ProcessingJob.start_new, ["processor", "inputs", "outputs", "experiment_config"]),
        (ProcessingJob.from_processing_name, ["sagemaker_session", "processing_job_name"]),
        (ProcessingJob.from_processing_arn, ["sagemaker_session", "processing_job_arn"]),
        (
            ProcessingInput.__init__,
            [
                "source",
                "destination",
                "input_name",
                "s3_data_type",
                "s3_input_mode",
                "s3_data_distribution_type",
                "s3_compression_type",
                "s3_input",
                "dataset_definition",
                "app_managed",
            ],
        ),
        (
            ProcessingOutput.__init__,
            ["source", "destination", "output_name", "s3_upload_mode", "app_managed", "feature_store_output"],
        ),
        (
            S3Input.__init__,
            [
                "s3_uri",
                "local_path",
                "s3_data_type",
                "s3_input_mode",
                "s3_data_distribution_type",
                "s3_compression_type",
            ],
        ),
        (
            NetworkConfig.__init__,
            ["enable_network_isolation", "security_group_ids", "subnets", "encrypt_inter_container_traffic"],
        ),
        (RunArgs.__init__, ["code", "inputs", "outputs", "arguments"]),
    ],
)
def test_positional_order_is_that_of_sagemaker_2(function: Any, names: list[str]) -> None:
    """Positional calls written for sagemaker.processing mean the same here."""
    assert parameters(function) == names


def test_a_run_is_one_valid_create_call(processor: ScriptProcessor, script: pathlib.Path, folder: pathlib.Path) -> None:
    """The whole request, member by member, is what sagemaker 2.x would send."""
    request = processor.request(
        str(script),
        inputs=[ProcessingInput(str(folder), "/opt/ml/processing/input/raw")],
        outputs=[ProcessingOutput("/opt/ml/processing/output", output_name="clean")],
        arguments=["--min-rows", "10"],
        job_name="clean-1",
    )
    boto = valid(request.to_boto())
    code_uri = boto["ProcessingInputs"][1]["S3Input"].pop("S3Uri")
    assert code_uri.startswith("s3://data/code/")
    assert code_uri.endswith("/clean.py")
    s3_settings = {
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
    }
    assert boto == {
        "ProcessingJobName": "clean-1",
        "ProcessingInputs": [
            {
                "InputName": "input-1",
                "AppManaged": False,
                "S3Input": {
                    "S3Uri": "s3://data/clean-1/input/input-1",
                    "LocalPath": "/opt/ml/processing/input/raw",
                    **s3_settings,
                },
            },
            {
                "InputName": "code",
                "AppManaged": False,
                "S3Input": {"LocalPath": "/opt/ml/processing/input/code", **s3_settings},
            },
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "clean",
                    "AppManaged": False,
                    "S3Output": {
                        "S3Uri": "s3://data/clean-1/output/clean",
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
        },
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerArguments": ["--min-rows", "10"],
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/clean.py"],
        },
        "RoleArn": ROLE,
    }


def test_v2_code_layout(script: pathlib.Path) -> None:
    """With code_layout="job" the script goes where sagemaker 2.x puts it."""
    session = Session(
        default_bucket="data", default_bucket_prefix="team/a", region_name="eu-central-1", code_layout="job"
    )
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)
    boto = valid(processor.request(script, job_name="j").to_boto())
    assert boto["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://data/team/a/j/input/code/clean.py"


def test_all_settings_reach_the_request(session: Session, script: pathlib.Path) -> None:
    """Every constructor setting has its place in the request."""
    processor = ScriptProcessor(
        ROLE,
        IMAGE,
        ["python3", "-u"],
        2,
        None,
        50,
        "volume-key",
        "output-key",
        3600,
        "base",
        session,
        {"A": "1"},
        {"team": "etl"},
        NetworkConfig(True, ["sg-1"], ["subnet-1"], True),  # noqa: FBT003 - as v2 allows
        instance_preferences=["ml.m5.xlarge", "ml.m5.2xlarge"],
    )
    outputs = ["/opt/ml/processing/output"]
    boto = valid(processor.request(script, outputs=outputs, experiment_config={"ExperimentName": "e"}).to_boto())
    assert boto["ProcessingJobName"].startswith("base-")
    assert boto["ProcessingResources"]["ClusterConfig"] == {
        "InstancePreferences": [{"InstanceType": "ml.m5.xlarge"}, {"InstanceType": "ml.m5.2xlarge"}],
        "InstanceCount": 2,
        "VolumeSizeInGB": 50,
        "VolumeKmsKeyId": "volume-key",
    }
    assert boto["ProcessingOutputConfig"]["KmsKeyId"] == "output-key"
    assert boto["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert boto["Environment"] == {"A": "1"}
    assert boto["Tags"] == [{"Key": "team", "Value": "etl"}]
    assert boto["NetworkConfig"] == {
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    assert boto["ExperimentConfig"] == {"ExperimentName": "e"}


@pytest.mark.parametrize("form", [str, pathlib.Path, lambda path: path.as_uri()])
def test_forms_of_local_sources(
    processor: ScriptProcessor, script: pathlib.Path, folder: pathlib.Path, form: Any
) -> None:
    """A string, a pathlib path and a file:// URI mean the same, for the code and for inputs."""
    inputs = [ProcessingInput(form(folder), pathlib.PurePosixPath("/opt/ml/processing/input/raw"))]
    boto = processor.request(form(script), inputs=inputs, job_name="j").to_boto()
    assert boto["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://data/j/input/input-1"
    assert boto["AppSpecification"]["ContainerEntrypoint"][-1] == "/opt/ml/processing/input/code/clean.py"


def test_code_in_s3(processor: ScriptProcessor) -> None:
    """A script in S3 is used without an upload."""
    boto = processor.request("s3://elsewhere/x/prep.py").to_boto()
    assert boto["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://elsewhere/x/prep.py"
    assert boto["AppSpecification"]["ContainerEntrypoint"][-1] == "/opt/ml/processing/input/code/prep.py"


def test_outputs_may_be_strings(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """A string among the outputs is the container path."""
    boto = processor.request(script, outputs=["/opt/ml/processing/out"], job_name="j").to_boto()
    output = boto["ProcessingOutputConfig"]["Outputs"][0]
    assert (output["OutputName"], output["S3Output"]["S3Uri"]) == ("output-1", "s3://data/j/output/output-1")


def test_a_name_that_begins_another_gets_a_slash(
    processor: ScriptProcessor, script: pathlib.Path, folder: pathlib.Path
) -> None:
    """input-1 must not also fetch the files of input-10: S3Prefix means the beginning of the key."""
    inputs = [ProcessingInput(folder, f"/opt/ml/processing/in/{n}", input_name=n) for n in ("day-1", "day-10")]
    boto = processor.request(script, inputs=inputs, job_name="j").to_boto()
    uris = [entry["S3Input"]["S3Uri"] for entry in boto["ProcessingInputs"][:2]]
    assert uris == ["s3://data/j/input/day-1/", "s3://data/j/input/day-10"]


def test_the_callers_values_do_not_change(
    processor: ScriptProcessor, script: pathlib.Path, folder: pathlib.Path
) -> None:
    """Two runs with the same lists write to two prefixes, and do not change the lists."""
    inputs = [ProcessingInput(folder, "/opt/ml/processing/input/raw")]
    outputs = [ProcessingOutput("/opt/ml/processing/output")]
    before = copy.deepcopy((inputs, outputs))
    first = processor.request(script, inputs=inputs, outputs=outputs).to_boto()
    second = processor.request(script, inputs=inputs, outputs=outputs).to_boto()
    assert (inputs, outputs) == before
    destinations = [r["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] for r in (first, second)]
    assert len(set(destinations)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": "missing.py"}, r"code missing.py wasn't found"),
        ({"code": "."}, r"code \. must be a file, not a directory"),
        ({"code": "ftp://host/x.py"}, r"code ftp://host/x.py url scheme ftp is not recognized"),
        ({"code": ""}, r"code: missing"),
        ({"inputs": ["data/"]}, r"inputs\[0\]: must be a processing.ProcessingInput, not str"),
        ({"inputs": ProcessingInput("data/")}, r"inputs: must be a list, not ProcessingInput"),
        ({"outputs": "/opt/ml/processing/o"}, r"outputs: must be a list, not str"),
        ({"inputs": [ProcessingInput("no-such", "/opt/ml/processing/x")]}, r"inputs\[0\]\.source: .*no-such"),
        ({"inputs": [ProcessingInput(None, "/opt/ml/processing/x")]}, r"inputs\[0\]\.source: missing"),
        ({"inputs": [ProcessingInput("s3://b/k")]}, r"inputs\[0\]\.destination: "),
        (
            {"inputs": [ProcessingInput("s3://b/k", "/data")]},
            r"inputs\[0\]\.destination: must begin with /opt/ml/processing/",
        ),
        (
            {"inputs": [ProcessingInput("s3://b/k", f"/opt/ml/processing/{n}", "same") for n in "ab"]},
            r"inputs\[1\]\.input_name: .*same",
        ),
        ({"inputs": [ProcessingInput("s3://b/k", "/opt/ml/processing/x", "code")]}, r"inputs\[0\]\.input_name: .*code"),
        ({"outputs": [3]}, r"outputs\[0\]: must be a processing.ProcessingOutput or a container path, not int"),
        (
            {"outputs": [ProcessingOutput("/opt/ml/processing/o", output_name=3)]},  # type: ignore[arg-type]
            "output_name: must be a string",
        ),
        ({"outputs": ["/output"]}, r"outputs\[0\]\.source: must begin with /opt/ml/processing/"),
        ({"outputs": [ProcessingOutput("/opt/ml/processing/o", "out/")]}, r"outputs\[0\]\.destination: "),
        ({"arguments": [3]}, r"arguments\[0\]: .*string"),
        ({"arguments": "--all"}, r"arguments: .*list"),
        ({"kms_key": 3}, r"kms_key: must be a string, not int"),
        ({"job_name": "a_b"}, r"job_name: "),
        ({"job_name": "a" * 64}, r"job_name: .*63"),
    ],
)
def test_bad_input_is_named(
    processor: ScriptProcessor,
    script: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    """An invalid value is refused before any call, and the error names the field as the user wrote it."""
    monkeypatch.chdir(script.parent)
    with pytest.raises(ConfigurationError, match=message):
        processor.request(**{"code": script, **change})


def test_code_errors_have_their_own_type(processor: ScriptProcessor) -> None:
    """A missing script is a CodeNotFoundError, and still v2's ValueError."""
    with pytest.raises(CodeNotFoundError) as caught:
        processor.request("missing.py")
    assert isinstance(caught.value, ValueError)


def test_an_empty_directory_is_refused(
    processor: ScriptProcessor, script: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A directory without a file is a mistake: the job would find nothing."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"inputs\[0\]\.source: .*empty"):
        processor.request(script, inputs=[ProcessingInput(tmp_path / "empty", "/opt/ml/processing/x")])


@pytest.mark.parametrize(
    ("command", "message"), [(None, "command: missing"), ("python3 -u", r"command: must be a list")]
)
def test_a_bad_command_is_named(session: Session, script: pathlib.Path, command: Any, message: str) -> None:
    """A missing command is found before the upload."""
    processor = ScriptProcessor(ROLE, IMAGE, command, 1, "ml.m5.xlarge", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=message):
        processor.request(script)


def test_a_role_without_a_path_needs_a_call(session: Session, script: pathlib.Path) -> None:
    """request() makes no call, so the name of a role without its ARN is an error."""
    processor = ScriptProcessor("Processing", IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=r"role: .*ARN"):
        processor.request(script)
    processor.role = None
    with pytest.raises(ConfigurationError, match="role: missing"):
        processor.request(script)


def test_the_default_buckets_name_comes_from_the_role(script: pathlib.Path) -> None:
    """Without a bucket, request() takes the account from the role, since it must not call STS."""
    session = Session(region_name="eu-central-1")
    processor = ScriptProcessor(ROLE, IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)
    boto = processor.request(script, outputs=["/opt/ml/processing/o"], job_name="j").to_boto()
    uri = boto["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    assert uri == "s3://sagemaker-eu-central-1-123456789012/j/output/output-1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"instance_count": "2"}, "instance_count: must be an integer"),
        ({"instance_count": None}, "instance_count: missing"),
        ({"image_uri": 3}, "image_uri: must be a string"),
        ({"base_job_name": 3}, "base_job_name: must be a string"),
        ({"env": {"A": 1}}, r'env\["A"\]: must be a string'),
        ({"tags": ["a"]}, r"tags\[0\]: must be"),
        ({"network_config": {"subnets": []}}, r"network_config: must be a processing.NetworkConfig, not dict"),
        ({"volume_size_in_gb": 99999}, "volume_size_in_gb: must be at most 16384"),
        ({"max_runtime_in_seconds": 0}, "max_runtime_in_seconds: must be at least 1"),
        ({"image_uri": None}, "image_uri: missing"),
        ({"instance_preferences": ["ml.m5.large"]}, "instance_preferences: "),
    ],
)
def test_bad_settings_are_named(
    processor: ScriptProcessor, script: pathlib.Path, settings: dict[str, Any], message: str
) -> None:
    """An invalid attribute of the processor is refused in the same way."""
    vars(processor).update(settings)
    with pytest.raises(ConfigurationError, match=message):
        processor.request(script)


def test_logs_without_wait() -> None:
    """Explicit logs without wait is v2's ValueError on Processor."""
    processor = Processor(ROLE, IMAGE, 1, "ml.m5.xlarge", sagemaker_session=Session(default_bucket="data"))
    with pytest.raises(ValueError, match="Logs can only be shown if wait is set to True"):
        processor.run(wait=False, logs=True)


def test_bad_if_exists(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """An unknown if_exists is an error, not a silent default."""
    with pytest.raises(ConfigurationError, match="if_exists: "):
        processor.run(script, if_exists="replace")  # type: ignore[arg-type]


def test_get_run_args(processor: ScriptProcessor) -> None:
    """get_run_args returns its arguments."""
    assert processor.get_run_args("a.py", arguments=["x"]) == RunArgs("a.py", None, None, ["x"])


def test_two_threads_share_a_processor(processor: ScriptProcessor, tmp_path: pathlib.Path) -> None:
    """Requests built at once by one processor do not mix names, arguments and scripts."""
    requests: dict[str, dict[str, Any]] = {}

    def build(name: str) -> None:
        path = tmp_path / f"{name}.py"
        path.write_text("pass")
        requests[name] = processor.request(path, arguments=[name], job_name=name).to_boto()

    threads = [threading.Thread(target=build, args=(f"job-{n}",)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, boto in requests.items():
        assert boto["ProcessingJobName"] == name
        assert boto["AppSpecification"]["ContainerArguments"] == [name]
        assert boto["AppSpecification"]["ContainerEntrypoint"][-1].endswith(f"/{name}.py")
    assert len(requests) == 16


class Slow(Session):
    """A session that answers for a role only after the test releases it."""

    asked = threading.Event()
    answer = threading.Event()

    def expand_role(self, role: str) -> str:
        assert role
        self.asked.set()
        assert self.answer.wait(60)
        return ROLE


def test_a_slow_answer_keeps_no_other_processor_waiting(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """While AWS is asked for one processor's role, another one gets its request ready."""
    slow = ScriptProcessor(
        "arn:aws:iam::1:role/x", IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=Slow(default_bucket="data")
    )
    waiting = threading.Thread(target=slow.request, args=(script,))
    waiting.start()
    try:
        assert Slow.asked.wait(60)
        other = threading.Thread(target=processor.request, args=(script,))
        other.start()
        other.join(60)
        assert not other.is_alive()
    finally:
        Slow.answer.set()
        waiting.join()


def test_a_processor_can_be_copied_and_pickled(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """A processor can be copied and pickled after a run, although it has a lock."""
    processor.request(script)
    processor.sagemaker_session = None
    assert copy.deepcopy(processor).command == ["python3"]
    assert pickle.loads(pickle.dumps(processor)).command == ["python3"]


class Appending(ScriptProcessor):
    """Overrides _normalize_args, appends to inputs in place, and calls super with six positionals."""

    def _normalize_args(
        self,
        job_name: Any = None,
        arguments: Any = None,
        inputs: Any = None,
        outputs: Any = None,
        code: Any = None,
        kms_key: Any = None,
    ) -> Any:
        inputs = inputs or []
        inputs.append(ProcessingInput("s3://flows/a.flow", "/opt/ml/processing/flow", "flow"))
        return super()._normalize_args(job_name, arguments, inputs, outputs, code, kms_key)


def test_subclass_that_appends_to_inputs(session: Session, script: pathlib.Path, folder: pathlib.Path) -> None:
    """The first way of subclassing adds an input, and the caller's list does not change."""
    processor = Appending(ROLE, IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=session)
    inputs = [ProcessingInput(folder, "/opt/ml/processing/input/raw")]
    for _ in range(2):
        boto = valid(processor.request(script, inputs=inputs).to_boto())
        assert [entry["InputName"] for entry in boto["ProcessingInputs"]] == ["input-1", "flow", "code"]
    assert len(inputs) == 1


class OwnEntrypoint(ScriptProcessor):
    """Overrides _set_entrypoint, sets what ScriptProcessor's initialiser would, and skips that initialiser."""

    def __init__(self, **kwargs: Any) -> None:
        self.command = ["run-job"]
        self._CODE_CONTAINER_BASE_PATH = "/opt/ml/processing/"
        self._CODE_CONTAINER_INPUT_NAME = "program"
        super(ScriptProcessor, self).__init__(**kwargs)

    def _set_entrypoint(self, command: list[str] | None, user_script_name: str) -> None:
        self.entrypoint = ["/bin/launch", *(command or ()), user_script_name]


def test_subclass_with_its_own_entrypoint(session: Session, script: pathlib.Path) -> None:
    """The second way of subclassing sets the entrypoint and the code's directory."""
    processor = OwnEntrypoint(
        role=ROLE, image_uri=IMAGE, instance_count=1, instance_type="ml.m5.xlarge", sagemaker_session=session
    )
    boto = valid(processor.request(script).to_boto())
    assert boto["AppSpecification"]["ContainerEntrypoint"] == ["/bin/launch", "run-job", "clean.py"]
    code = boto["ProcessingInputs"][0]
    assert (code["InputName"], code["S3Input"]["LocalPath"]) == ("program", "/opt/ml/processing/program")


class NoInitialiser(Processor):
    """Calls no initialiser at all."""

    def __init__(self, session: Session) -> None:
        self.sagemaker_session = session
        self.role, self.image_uri, self.instance_count, self.instance_type = ROLE, IMAGE, 1, "ml.m5.xlarge"


def test_subclass_that_skips_every_initialiser(session: Session) -> None:
    """Attributes have defaults on the class, so attributes that the subclass leaves out are None."""
    boto = valid(NoInitialiser(session).request().to_boto())
    assert boto["ProcessingResources"]["ClusterConfig"]["VolumeSizeInGB"] == 30


def test_a_session_may_be_assigned(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """A `sagemaker.Session` may be assigned to the attribute as well as passed, and None means the default."""

    class SagemakerSession:
        boto_session = boto3.Session(region_name="eu-central-1")
        boto_region_name = "eu-central-1"
        _default_bucket_name_override = "theirs"

        def default_bucket(self) -> str:
            return self._default_bucket_name_override

    processor.sagemaker_session = SagemakerSession()
    request = processor.request(script, outputs=["/opt/ml/processing/o"])
    assert str(request.outputs[0].destination).startswith("s3://theirs/")
    processor.sagemaker_session, processor.instance_type = None, "local"
    assert processor.request(script).instance_type == "local"
    processor.sagemaker_session = "no session"
    with pytest.raises(ConfigurationError, match="sagemaker_session: must be"):
        processor.request(script)


class Wrapper:
    """Rewrites processor.env before a run, and reads role and latest_job."""

    def __init__(self, processor: ScriptProcessor) -> None:
        self.processor = processor

    def request(self, code: pathlib.Path) -> dict[str, Any]:
        self.processor.env = {**(self.processor.env or {}), "WRAPPED": str(self.processor.role)}
        return self.processor.request(code).to_boto()


def test_wrapper_that_rewrites_the_environment(processor: ScriptProcessor, script: pathlib.Path) -> None:
    """The third way of subclassing changes attributes after construction, and each run reads them again."""
    assert valid(Wrapper(processor).request(script))["Environment"] == {"WRAPPED": ROLE}
    assert processor.latest_job is None


def test_missing_arguments_come_first(monkeypatch: pytest.MonkeyPatch, script: pathlib.Path) -> None:
    """A forgotten argument is named before a region or credentials are asked for, and by every method."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    given: dict[str, Any] = {
        "role": ROLE,
        "image_uri": IMAGE,
        "instance_count": 1,
        "instance_type": "ml.m5.xlarge",
    }
    for left_out in given:
        rest = {name: value for name, value in given.items() if name != left_out}
        processor = ScriptProcessor(command=["python3"], **rest)
        for method in (processor.run, processor.request):
            with pytest.raises(ConfigurationError) as refused:
                method(script)
            assert [text.partition(": ")[0] for text in refused.value.problems] == [left_out]
        assert [text.partition(": ")[0] for text in processor.plan(script).problems] == [left_out]
    with pytest.raises(ConfigurationError) as refused:
        ScriptProcessor(command=["python3"]).run(script)
    assert {text.partition(": ")[0] for text in refused.value.problems} == set(given)
    with pytest.raises(ConfigurationError, match="region_name: no AWS region is set"):
        ScriptProcessor(command=["python3"], **given).run(script)


def test_a_hook_may_supply_what_is_missing(script: pathlib.Path) -> None:
    """A subclass whose hook sets the instance type still runs: only failures look for missing arguments."""

    class Late(ScriptProcessor):
        def _extend_processing_args(self, inputs: Any, outputs: Any, **given: Any) -> Any:
            self.instance_type = "ml.m5.xlarge"
            return super()._extend_processing_args(inputs, outputs, **given)

    session = Session(default_bucket="data", region_name="eu-central-1")
    processor = Late(ROLE, IMAGE, ["python3"], 1, sagemaker_session=session)
    assert processor.request(script).instance_type == "ml.m5.xlarge"


@pytest.mark.parametrize("flag", [None, 0, 1, np.True_, np.False_])
def test_flags_of_old_scripts(local_session: LocalSession, tmp_path: pathlib.Path, flag: Any) -> None:
    """None, numbers and booleans of numpy are flags, as in `sagemaker` 2.x."""
    (tmp_path / "app.py").write_text("print('ran')")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    job = processor.run(str(tmp_path / "app.py"), wait=flag, logs=flag, quiet=True)
    job.wait(logs=False)
    assert job.describe()["ProcessingJobStatus"] == "Completed"
