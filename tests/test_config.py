"""The SageMaker config file: its locations, its values, their effect, and the errors for mistakes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

import processing.config
from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    RedshiftDatasetDefinition,
    ScriptProcessor,
    Session,
)
from processing.config.files import LOCATION_VARIABLES, config_sources
from processing.default_sessions import default_local_session, default_session, resolve_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/service-role/FromFile"
OTHER_ROLE = "arn:aws:iam::123456789012:role/Given"
WHOLE = f"""
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      Session:
        DefaultS3Bucket: team-bucket
        DefaultS3ObjectKeyPrefix: team/prefix
      RemoteFunction:
        InstanceType: ml.m5.large
  ProcessingJob:
    RoleArn: {ROLE}
    Environment:
      STAGE: test
      API_TOKEN: hidden-from-view
    Tags:
    - {{Key: team, Value: sales}}
    - {{Key: cost, Value: '17'}}
    NetworkConfig:
      EnableNetworkIsolation: true
      EnableInterContainerTrafficEncryption: true
      VpcConfig:
        SecurityGroupIds: [sg-1]
        Subnets: [subnet-1, subnet-2]
    ProcessingInputs:
    - DatasetDefinition:
        AthenaDatasetDefinition:
          KmsKeyId: athena-key
    ProcessingOutputConfig:
      KmsKeyId: output-key
    ProcessingResources:
      ClusterConfig:
        VolumeKmsKeyId: volume-key
  TrainingJob:
    RoleArn: of no concern
"""


def job(lines: str) -> str:
    """A file with the lines as its section about processing jobs."""
    return f"SchemaVersion: '1.0'\nSageMaker:\n  ProcessingJob:\n    {lines}\n"


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the user's file, which the environment names."""

    def write(text: str) -> Path:
        path = tmp_path / "user.yaml"
        path.write_text(text)
        monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(path))
        return path

    return write


@pytest.fixture
def admin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the administrator's file, in its standard place."""

    def write(text: str) -> Path:
        monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
        path = tmp_path / "site" / "sagemaker" / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def session(**options: Any) -> Session:
    return Session(region_name="eu-west-1", **options)


def processor(**options: Any) -> Processor:
    """A processor with the required parameters only, and those of the test."""
    return Processor(
        **{
            "image_uri": "image",
            "instance_count": 1,
            "instance_type": "ml.m5.large",
            "sagemaker_session": session(),
            **options,
        }
    )


OUTPUT = ProcessingOutput("/opt/ml/processing/out", output_name="out")


class TestWhatIsUsed:
    def test_a_request_has_all_values_of_the_file(self, user_file: Callable[[str], Path]) -> None:
        """Role, keys, environment, network, tags, bucket and prefix apply if the parameters are left out."""
        user_file(WHOLE)
        request = processor().request(outputs=[OUTPUT], job_name="job").to_boto()
        assert request["RoleArn"] == ROLE
        assert request["Environment"] == {"STAGE": "test", "API_TOKEN": "hidden-from-view"}
        assert request["Tags"] == [{"Key": "team", "Value": "sales"}, {"Key": "cost", "Value": "17"}]
        assert request["NetworkConfig"] == {
            "EnableNetworkIsolation": True,
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]},
        }
        assert request["ProcessingOutputConfig"]["KmsKeyId"] == "output-key"
        assert request["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == "volume-key"
        assert request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] == (
            "s3://team-bucket/team/prefix/job/output/out"
        )

    def test_the_processor_shows_it_once_it_is_made(self, user_file: Callable[[str], Path]) -> None:
        """Attributes that were left out are filled in at construction, so that users can read and change them."""
        user_file(WHOLE)
        made = processor()
        assert (made.role, made.output_kms_key, made.volume_kms_key) == (ROLE, "output-key", "volume-key")
        assert made.env == {"STAGE": "test", "API_TOKEN": "hidden-from-view"}
        assert made.network_config == NetworkConfig(
            enable_network_isolation=True,
            security_group_ids=["sg-1"],
            subnets=["subnet-1", "subnet-2"],
            encrypt_inter_container_traffic=True,
        )

    def test_parameters_have_priority(self, user_file: Callable[[str], Path]) -> None:
        """A parameter has priority; an environment replaces that of the file completely."""
        user_file(WHOLE)
        request = (
            processor(
                role=OTHER_ROLE,
                env={"MINE": "1"},
                volume_kms_key="mine",
                output_kms_key="mine-too",
                sagemaker_session=session(default_bucket="mine", default_bucket_prefix=""),
            )
            .request(outputs=[OUTPUT], job_name="job")
            .to_boto()
        )
        assert request["RoleArn"] == OTHER_ROLE
        assert request["Environment"] == {"MINE": "1"}
        assert request["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == "mine"
        assert request["ProcessingOutputConfig"]["KmsKeyId"] == "mine-too"
        assert request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] == "s3://mine/job/output/out"

    def test_a_network_is_completed_in_a_copy(self, user_file: Callable[[str], Path]) -> None:
        """Each attribute that is None is filled in; the user's own object stays as it is."""
        user_file(WHOLE)
        given = NetworkConfig(enable_network_isolation=False, subnets=["subnet-9"])
        request = processor(network_config=given).request().to_boto()
        assert request["NetworkConfig"] == {
            "EnableNetworkIsolation": False,
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-9"]},
        }
        assert given == NetworkConfig(enable_network_isolation=False, subnets=["subnet-9"])

    @pytest.mark.parametrize("tags", [[{"Key": "team", "Value": "mine"}], {"team": "mine"}])
    def test_tags_are_added_unless_the_key_is_there(self, user_file: Callable[[str], Path], tags: Any) -> None:
        """The file's tags follow the user's in a copy, so the same list can be used twice."""
        user_file(WHOLE)
        made = processor(tags=tags)
        for _ in range(2):
            assert made.request().to_boto()["Tags"] == [
                {"Key": "team", "Value": "mine"},
                {"Key": "cost", "Value": "17"},
            ]
        assert len(tags) == 1

    def test_tags_of_a_wrong_kind_are_named(self, user_file: Callable[[str], Path]) -> None:
        """A value that is not a list of tags is refused as without a file."""
        user_file(WHOLE)
        with pytest.raises(ConfigurationError, match="tags: must be a dictionary or a list"):
            processor(tags="team=sales").request()

    def test_a_query_gets_its_key(self, user_file: Callable[[str], Path]) -> None:
        """The first input's definition is for the first input, and only for a query of the same kind."""
        user_file(WHOLE)
        athena = AthenaDatasetDefinition("catalog", "db", "select 1", "s3://b/out", output_format="PARQUET")
        keyed = AthenaDatasetDefinition("catalog", "db", "select 1", "s3://b/out", "wg", "mine", "PARQUET")
        redshift = RedshiftDatasetDefinition("c", "db", "u", "select 1", OTHER_ROLE, "s3://b/o", None, "CSV")

        def keys(*definitions: Any) -> list[str | None]:
            inputs = [
                ProcessingInput(
                    input_name=f"i{number}",
                    dataset_definition=DatasetDefinition(
                        local_path=f"/opt/ml/processing/{number}",
                        athena_dataset_definition=each if isinstance(each, AthenaDatasetDefinition) else None,
                        redshift_dataset_definition=each if isinstance(each, RedshiftDatasetDefinition) else None,
                    ),
                )
                for number, each in enumerate(definitions)
            ]
            sent = processor().request(inputs).to_boto()["ProcessingInputs"]
            return [next(iter(_queries(entry))).get("KmsKeyId") for entry in sent]

        assert keys(athena, athena) == ["athena-key", None]
        assert keys(keyed) == ["mine"]
        assert keys(redshift) == [None]

    def test_a_subclass_that_skips_the_initialiser_gets_it_too(self, user_file: Callable[[str], Path]) -> None:
        """Values that are missing after construction are filled in before the hooks."""
        user_file(WHOLE)
        seen: list[str | None] = []

        class Bare(Processor):
            def __init__(self) -> None:
                self.image_uri, self.instance_count, self.instance_type = "image", 1, "ml.m5.large"
                self.sagemaker_session = session()

            def _normalize_args(self, *args: Any, **kwargs: Any) -> Any:
                seen.append(self.role)
                self.env = None
                return super()._normalize_args(*args, **kwargs)

        request = Bare().request().to_boto()
        assert seen == [ROLE]
        assert request["Environment"]["STAGE"] == "test"

    def test_an_environment_of_any_size_may_stand_there(self, user_file: Callable[[str], Path], tmp_path: Path) -> None:
        """Variables beyond the limits of a request reach the job in a file, as if the user had passed them."""
        value = "v" * 300
        user_file(job(f"RoleArn: {ROLE}\n    Environment: {{LONG: {value}, SHORT: s}}"))
        (tmp_path / "work.py").touch()

        class Forgetful(ScriptProcessor):
            def _normalize_args(self, *args: Any, **kwargs: Any) -> Any:
                self.env = None
                return super()._normalize_args(*args, **kwargs)

        made = Forgetful(ROLE, "image", ["python3"], 1, "ml.m5.large", sagemaker_session=session())
        request = made.request(tmp_path / "work.py").to_boto()
        assert request["Environment"] == {"SHORT": "s"}

    def test_a_session_of_sagemaker_brings_its_own(self, user_file: Callable[[str], Path]) -> None:
        """A `sagemaker.Session` has already read the files. Its values are used, and the files are not read again."""
        user_file("this is: [no YAML")

        class Theirs:
            boto_session = None
            boto_region_name = "eu-west-1"
            default_bucket_prefix = None
            _default_bucket_name_override = "theirs"
            sagemaker_config = {"SchemaVersion": "1.0", "SageMaker": {"ProcessingJob": {"RoleArn": ROLE}}}  # noqa: RUF012 - a stand-in for the SDK's object

            def default_bucket(self) -> str:
                return "theirs"

        theirs = Theirs()
        assert processor(sagemaker_session=theirs).role == ROLE
        assert resolve_session(theirs, None).config.origin("SageMaker.ProcessingJob.RoleArn") == "sagemaker_config"

    def test_a_dictionary_stands_for_the_files(self, user_file: Callable[[str], Path]) -> None:
        """`sagemaker_config=` is used instead of the files; an empty one turns them off."""
        user_file(WHOLE)
        config = {"SchemaVersion": "1.0", "SageMaker": {"ProcessingJob": {"Environment": {"A": "1"}}}}
        made = processor(sagemaker_session=session(sagemaker_config=config), role=ROLE)
        assert made.env == {"A": "1"}
        made.env["A"] = "2"
        assert config["SageMaker"]["ProcessingJob"]["Environment"] == {"A": "1"}  # type: ignore[index]
        assert processor(sagemaker_session=session(sagemaker_config={})).role is None


def _queries(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in entry["DatasetDefinition"].values() if isinstance(value, dict)]


class TestTheEngine:
    def test_a_job_runs_with_it(self, user_file: Callable[[str], Path], tmp_path: Path) -> None:
        """On the embedded engine the file holds as well: a bucket is made, the environment reaches the job."""
        user_file(
            "SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK: {Modules: {Session: {DefaultS3Bucket: team-bucket}}}\n"
            "  ProcessingJob: {Environment: {STAGE: test}}\n"
        )
        script = tmp_path / "say.py"
        script.write_text("import os, sys, pathlib\npathlib.Path(sys.argv[1], 'out').write_text(os.environ['STAGE'])\n")
        local = LocalSession(tmp_path / "engine", tick=0.01, grace=1.0)
        ran = ScriptProcessor(command=["python3"], instance_count=1, instance_type="local", sagemaker_session=local)
        done = ran.run(script, outputs=[OUTPUT], arguments=["/opt/ml/processing/out"], logs=False)
        assert (done.outputs["out"].destination or "").startswith("s3://team-bucket/")
        assert [file.read_text() for file in done.outputs["out"].download(tmp_path / "got")] == ["test"]
        assert ran.role == "arn:aws:iam::000000000000:role/processing-local"

    def test_a_role_of_the_file_goes_before_the_placeholder(self, user_file: Callable[[str], Path]) -> None:
        """The placeholder role is used only if no role is named anywhere."""
        user_file(WHOLE)
        assert Processor(instance_type="local", instance_count=1).role == ROLE

    def test_settings_of_the_old_local_mode_are_taken(self, local_session: LocalSession) -> None:
        """`session.config = {"local": {"local_code": True}}` is in many scripts, and changes nothing here."""
        local_session.config = {"local": {"local_code": True}}
        assert local_session.config.settings == ()
        with pytest.raises(ConfigurationError, match=r"config: .*Session\(sagemaker_config="):
            local_session.config = {"SageMaker": {}}


class TestFiles:
    def test_nothing_is_there(self) -> None:
        """Without files the configuration is empty, and lists the locations that were searched."""
        config = processing.config.load()
        assert config.settings == ()
        assert [file.found for file in config.files] == [False, False]
        assert config.explain().count("config.yaml (nothing there)") == 2

    def test_the_user_s_wins_key_by_key(
        self, user_file: Callable[[str], Path], admin_file: Callable[[str], Path]
    ) -> None:
        """Mappings are merged, lists and values replaced; each value has the file that it comes from."""
        admin = admin_file(
            job(f"Environment: {{A: admin, B: admin}}\n    RoleArn: {ROLE}\n    Tags: [{{Key: a, Value: b}}]")
        )
        user = user_file(job("Environment: {B: user, C: user}\n    Tags: [{Key: c, Value: d}]"))
        config = processing.config.load()
        assert config.get("SageMaker.ProcessingJob.Environment") == {"A": "admin", "B": "user", "C": "user"}
        assert config.get("SageMaker.ProcessingJob.Tags") == [{"Key": "c", "Value": "d"}]
        assert config.origin("SageMaker.ProcessingJob.RoleArn") == str(admin)
        assert config.origin("SageMaker.ProcessingJob.Environment.B") == str(user)
        assert config.origin("SageMaker.ProcessingJob.Environment") is None

    def test_it_explains_itself(self, user_file: Callable[[str], Path]) -> None:
        """Each value is listed with its file, except possible secrets and values for other kinds of jobs."""
        path = user_file(WHOLE)
        text = processing.config.explain()
        assert f"user: {path} (read, named by SAGEMAKER_USER_CONFIG_OVERRIDE)" in text
        assert f"SageMaker.ProcessingJob.RoleArn = '{ROLE}' ({path})" in text
        assert "Environment.API_TOKEN = *** (" in text
        assert "hidden-from-view" not in text
        assert "TrainingJob" not in text
        assert processing.config.explain(session()) == text

    def test_a_directory_holds_the_file(
        self, user_file: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An override may name the directory of a config.yaml."""
        user_file(WHOLE).rename(tmp_path / "config.yaml")
        monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(tmp_path))
        assert processing.config.load().origin("SageMaker.ProcessingJob.RoleArn") == str(tmp_path / "config.yaml")

    def test_a_file_that_was_named_has_to_be_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the variable; an empty variable has no effect."""
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(tmp_path / "gone.yaml"))
        with pytest.raises(
            ConfigurationError, match=r"^SAGEMAKER_ADMIN_CONFIG_OVERRIDE: there is no file .*gone\.yaml"
        ):
            processor()
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "")
        assert processor().role is None

    @pytest.mark.parametrize("text", ["", "# nothing yet\n"])
    def test_an_empty_file_has_no_effect(self, user_file: Callable[[str], Path], text: str) -> None:
        """An empty file has no effect."""
        user_file(text)
        assert processing.config.load().settings == ()

    def test_an_unreadable_file_is_an_error(self, admin_file: Callable[[str], Path]) -> None:
        """An unreadable file in the standard location is an error."""
        path = admin_file("")
        path.unlink()
        (path / "config.yaml").mkdir(parents=True)
        with pytest.raises(ConfigurationError, match=r"config\.yaml: cannot be read: .*Is a directory"):
            processing.config.load()

    def test_it_is_read_once_by_a_session(self, user_file: Callable[[str], Path]) -> None:
        """A session keeps what it read; another one reads again."""
        user_file(WHOLE)
        first = session()
        assert first.config is first.config
        user_file(job(f"RoleArn: {OTHER_ROLE}"))
        assert processor(sagemaker_session=first).role == ROLE
        assert processor().role == OTHER_ROLE

    def test_default_sessions_follow_the_environment(self, user_file: Callable[[str], Path]) -> None:
        """Naming another file gives another default session, for AWS and for the engine."""

        def roles() -> list[str | None]:
            made = default_session(), default_local_session()
            return [each.config.get("SageMaker.ProcessingJob.RoleArn") for each in made]

        assert roles() == [None, None]
        user_file(job(f"RoleArn: {ROLE}"))
        assert roles() == [ROLE, ROLE]

    def test_without_a_file_nothing_more_is_imported(self) -> None:
        """A session without config file costs neither PyYAML nor boto3."""
        program = (
            "import sys, processing; session = processing.Session(); session.config, session.default_bucket_prefix\n"
            "print([name for name in ('yaml', 'boto3', 'botocore', 'tenacity') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "[]\n"


class TestWithoutTheExtra:
    def test_a_file_that_is_there_is_not_passed_over(
        self, user_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without PyYAML the error names the extra to install; without a file PyYAML is not needed."""
        monkeypatch.setitem(sys.modules, "yaml", None)
        assert processor().role is None
        path = user_file(WHOLE)
        with pytest.raises(ConfigurationError, match=r"pip install 'sm-processing\[config\]'") as caught:
            processor()
        assert str(caught.value).startswith(f"{path}: ")

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"XDG_CONFIG_DIRS": "/one:/two", "XDG_CONFIG_HOME": "/mine"},
            {"XDG_CONFIG_DIRS": "", "XDG_CONFIG_HOME": " ", "HOME": "/home/somebody"},
        ],
    )
    def test_the_places_are_those_of_platformdirs(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        """The locations are the same with and without platformdirs."""
        for name in LOCATION_VARIABLES:
            if name != "HOME":
                monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        known = config_sources()
        monkeypatch.setitem(sys.modules, "platformdirs", None)
        assert config_sources() == known


class TestInS3:
    @pytest.fixture
    def bucket(self, local_session: LocalSession) -> LocalSession:
        local_session.client("s3").create_bucket(Bucket="company")
        return local_session

    @pytest.mark.parametrize(
        ("key", "named"),
        [
            ("settings/any.yaml", "s3://company/settings/any.yaml"),
            ("settings/config.yaml", "s3://company/settings"),
            ("settings/config.yaml", "s3://company/settings/"),
            ("config.yaml", "s3://company"),
            ("noending", "s3://company/noending"),
        ],
    )
    def test_an_object_or_a_prefix_may_be_named(
        self, bucket: LocalSession, monkeypatch: pytest.MonkeyPatch, key: str, named: str
    ) -> None:
        """A file in S3 is read with the session's own client, once, on first use, and not by a constructor."""
        bucket.client("s3").put_object(Bucket="company", Key=key, Body=WHOLE.encode())
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", named)
        gets: list[str] = []
        bucket.client("s3").meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: gets.append(params["url_path"])
        )
        made = processor(sagemaker_session=bucket)
        assert (made.role, gets) == (None, [])
        with pytest.raises(ConfigurationError, match="its config file is in S3 and has not been read"):
            made.request()
        assert bucket.config.origin("SageMaker.ProcessingJob.RoleArn") == f"s3://company/{key}"
        read = len(gets)
        assert made.request().role_arn == ROLE
        assert processor(sagemaker_session=bucket).role == ROLE
        assert len(gets) == read

    def test_a_run_reads_it(self, bucket: LocalSession, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first run reads it before the hooks."""
        bucket.client("s3").put_object(Bucket="company", Key="c.yaml", Body=job("Environment: {A: '1'}").encode())
        monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", "s3://company/c.yaml")
        made = Processor(instance_type="local", instance_count=1, entrypoint=["true"], sagemaker_session=bucket)
        assert made.run(logs=False).describe()["Environment"] == {"A": "1"}

    def test_an_object_that_is_missing_is_named(self, bucket: LocalSession, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error names the variable, for a missing object and for a missing bucket."""
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "s3://company/gone.yaml")
        with pytest.raises(
            ConfigurationError,
            match=r"^SAGEMAKER_ADMIN_CONFIG_OVERRIDE: .*s3://company/gone\.yaml .* in the engine's S3",
        ):
            _ = bucket.config
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "s3://no-such-company/gone.yaml")
        with pytest.raises(ConfigurationError, match=r"^SAGEMAKER_ADMIN_CONFIG_OVERRIDE: "):
            _ = bucket.config

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("AccessDenied", r"^SAGEMAKER_ADMIN_CONFIG_OVERRIDE: .* or these credentials may not read it"),
            (
                "InvalidObjectState",
                r"^s3://company/c\.yaml: the SageMaker config file cannot be read: .*InvalidObjectState",
            ),
        ],
    )
    def test_one_that_may_not_be_read_is_named(self, monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
        """AWS may deny access to a missing object; any other refusal is shown unchanged."""
        monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "s3://company/c.yaml")
        refused = Session(boto3.Session("key", "secret", region_name="eu-west-1"))
        with Stubber(refused.client("s3")) as stub:
            for _ in range(2):
                stub.add_client_error("get_object", code, http_status_code=403)
            with pytest.raises(ConfigurationError, match=message):
                _ = refused.config

    def test_without_a_session_a_file_in_s3_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`load()` alone makes no call."""
        monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", "s3://company/c.yaml")
        with pytest.raises(ConfigurationError, match=r"^SAGEMAKER_USER_CONFIG_OVERRIDE: .*processing\.Session\(\)"):
            processing.config.explain()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (job("RoleArn: my-role"), "SageMaker.ProcessingJob.RoleArn: must be the ARN of an IAM role, not 'my-role'"),
        (job("RoleArn:"), "SageMaker.ProcessingJob.RoleArn: must be the ARN of an IAM role, not None"),
        (job("Roles: x"), "SageMaker.ProcessingJob.Roles: no such key; there are Environment, NetworkConfig, "),
        (job("RoleARN: x"), "SageMaker.ProcessingJob.RoleARN: no such key; did you mean RoleArn?"),
        (job("Environment: {A: 1}"), "SageMaker.ProcessingJob.Environment: must be a mapping of names to strings; "),
        (job("Environment: [A]"), "SageMaker.ProcessingJob.Environment: must be a mapping of names to strings; "),
        (job("Tags: {a: b}"), "SageMaker.ProcessingJob.Tags: must be a list of 0 to 50 tags, each with Key and Value"),
        (job("Tags: [{Key: a}]"), "SageMaker.ProcessingJob.Tags: must be a list of 0 to 50 tags"),
        (job("Tags: [{Key: a, Value: 1}]"), "SageMaker.ProcessingJob.Tags: must be a list of 0 to 50 tags"),
        (
            job("NetworkConfig: {EnableNetworkIsolation: 'yes'}"),
            "SageMaker.ProcessingJob.NetworkConfig.EnableNetworkIsolation: must be true or false, not 'yes'",
        ),
        (
            job("NetworkConfig: {VpcConfig: {Subnets: []}}"),
            "SageMaker.ProcessingJob.NetworkConfig.VpcConfig.Subnets: must be a list of 1 to 16 IDs of subnets",
        ),
        (job("NetworkConfig: [a]"), "SageMaker.ProcessingJob.NetworkConfig: must be a mapping"),
        (job("ProcessingInputs: {}"), "SageMaker.ProcessingJob.ProcessingInputs: must be a list of at most 10"),
        (
            job("ProcessingInputs: [{S3Input: {}}]"),
            "SageMaker.ProcessingJob.ProcessingInputs[0].S3Input: no such key; there are DatasetDefinition",
        ),
        (
            "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {Session: {DefaultS3Bucket: s3://b}}}}",
            "SageMaker.PythonSDK.Modules.Session.DefaultS3Bucket: must be the name of a bucket, not 's3://b'",
        ),
        ("SchemaVersion: 1.0", "SchemaVersion: must be '1.0', in quotes, not 1.0"),
        ("SageMaker: {}", "SchemaVersion: missing; write SchemaVersion: '1.0'"),
        ("SchemaVersion: '1.0'\nSagemaker: {}", "Sagemaker: no such key; did you mean SageMaker?"),
        ("SchemaVersion: '1.0'\nSageMaker: {ProcessingJobs: {}}", "SageMaker.ProcessingJobs: no such key; did you "),
    ],
)
def test_a_mistake_is_named(user_file: Callable[[str], Path], text: str, message: str) -> None:
    """The error begins with the key, states the requirement, and names the file."""
    path = user_file(text)
    with pytest.raises(ConfigurationError) as caught:
        processor()
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(f"(in {path})")


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b\n",
        "just words",
        "a: [",
        "\x00",
        "a: !!python/object:os.system {}",
        "&a {SchemaVersion: '1.0', SageMaker: *a}",
        pytest.param("[" * 5000, id="deep"),
    ],
)
def test_another_kind_of_file_is_refused(user_file: Callable[[str], Path], text: str) -> None:
    """A file that is not a mapping, contains itself, or is not YAML, is refused with the file's name."""
    path = user_file(text)
    with pytest.raises(ConfigurationError) as caught:
        processor()
    assert str(caught.value).startswith(f"{path}: ")


def test_the_sections_of_others_are_left_alone(user_file: Callable[[str], Path]) -> None:
    """One file serves many kinds of jobs, and later versions of other programs."""
    user_file(
        "SchemaVersion: '1.0'\nCustomParameters: {Any: thing}\n"
        "SageMaker: {TrainingJob: 7, MadeUp: [], PythonSDK: {Modules: {Other: {Made: up}}}}\n"
    )
    assert processing.config.load().settings == ()
