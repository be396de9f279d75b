"""The Spark processors: their signatures, images and requests, the files of their options, and KMS keys."""

from __future__ import annotations

import inspect
import io
import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    LocalSession,
    ProcessingInput,
    ProcessingOutput,
    ScriptProcessor,
    Session,
)
from processing.exceptions import CodeNotFoundError
from processing.processors.run_arguments import CodeOptions, RunArguments
from processing.spark import PySparkProcessor, SparkJarProcessor

if TYPE_CHECKING:
    import pathlib

ROLE = "arn:aws:iam::123456789012:role/Processing"
KINDS = (PySparkProcessor, SparkJarProcessor)
CONSTRUCTOR = (
    "role instance_type instance_count framework_version py_version container_version image_uri volume_size_in_gb "
    "volume_kms_key output_kms_key configuration_location dependency_location max_runtime_in_seconds base_job_name "
    "sagemaker_session env tags network_config"
)
END = "inputs outputs arguments wait logs job_name experiment_config configuration spark_event_logs_s3_uri kms_key"
STAGED = "inputs outputs arguments job_name configuration spark_event_logs_s3_uri"
DEFAULTS: dict[str, Any] = {"Classification": "spark-defaults", "Properties": {"spark.executor.cores": 2}}
INPUT = "/opt/ml/processing/input"


@pytest.fixture
def session() -> Session:
    return Session(default_bucket="data", region_name="eu-central-1")


@pytest.fixture
def pyspark(session: Session) -> PySparkProcessor:
    return PySparkProcessor(ROLE, "ml.m5.xlarge", 2, "3.3", sagemaker_session=session)


@pytest.fixture
def jar(session: Session) -> SparkJarProcessor:
    return SparkJarProcessor(ROLE, "ml.m5.xlarge", 2, "3.3", sagemaker_session=session)


@pytest.fixture
def code(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with an application, a package, modules, jars and other files; it is the working directory."""
    contents = {
        "app.py": "import shop",
        "app.jar": "jar",
        "shop/__init__.py": "",
        "shop/orders.py": "ORDERS = 1",
        "shop/.env": "SECRET=1",
        "modules/dates.py": "",
        "modules/readme.txt": "",
        "modules/money/euro.py": "",
        "jars/a.jar": "a",
        "jars/deep/b.jar": "b",
        "one.jar": "1",
        "log.properties": "p",
    }
    for name, text in contents.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path / "code")
    return tmp_path / "code"


def channel(name: str, key: str) -> dict[str, Any]:
    """Return an input as 2.x sends it for the job `job`."""
    return {
        "InputName": name,
        "AppManaged": False,
        "S3Input": {
            "S3Uri": f"s3://data/job/input/{key}",
            "LocalPath": f"{INPUT}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_are_v2_s(kind: type[Any]) -> None:
    """Names and positional order are those of sagemaker 2.x; further parameters are keyword-only."""
    options = "submit_py_files submit_jars submit_files" if kind is PySparkProcessor else ""
    options = options or "submit_class submit_jars submit_files"
    expected = {
        "__init__": f"self {CONSTRUCTOR}",
        "run": f"self submit_app {options} {END}",
        "get_run_args": f"self submit_app {options} {STAGED}",
    }
    for method, names in expected.items():
        parameters = inspect.signature(getattr(kind, method)).parameters.values()
        assert [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] == names.split(), method


@pytest.mark.usefixtures("code")
def test_the_request_is_that_of_2_x(session: Session, pyspark: PySparkProcessor) -> None:
    """The command, the inputs and the output for event logs equal those that sagemaker 2.257.7 sends."""
    session.code_layout = "job"
    given = [ProcessingInput("s3://in/orders", "/opt/ml/processing/orders")]
    sent = pyspark.request(
        "app.py",
        ["modules/dates.py"],
        ["one.jar"],
        ["log.properties"],
        given,
        ["/opt/ml/processing/out"],
        ["--day", "1"],
        job_name="job",
        configuration=DEFAULTS,
        spark_event_logs_s3_uri="s3://logs/events",
    ).to_boto()
    assert sent["AppSpecification"] == {
        "ImageUri": pyspark.image_uri,
        "ContainerEntrypoint": [
            *("smspark-submit", "--py-files", f"{INPUT}/py-files", "--jars", f"{INPUT}/jars"),
            *("--files", f"{INPUT}/files", "--local-spark-event-logs-dir", "/opt/ml/processing/spark-events/"),
            f"{INPUT}/code/app.py",
        ],
        "ContainerArguments": ["--day", "1"],
    }
    assert [entry["InputName"] for entry in sent["ProcessingInputs"]][:1] == ["input-1"]
    assert sent["ProcessingInputs"][1:] == [
        channel("py-files", "py-files"),
        channel("jars", "jars"),
        channel("files", "files"),
        channel("conf", "conf/configuration.json"),
        channel("code", "code/app.py"),
    ]
    assert sent["ProcessingOutputConfig"]["Outputs"][1] == {
        "OutputName": "output-2",
        "AppManaged": False,
        "S3Output": {
            "S3Uri": "s3://logs/events",
            "LocalPath": "/opt/ml/processing/spark-events/",
            "S3UploadMode": "Continuous",
        },
    }
    assert "Environment" not in sent
    assert len(given) == 1


@pytest.mark.usefixtures("code")
def test_a_jar_has_its_class_first(jar: SparkJarProcessor) -> None:
    """`--class` precedes the options, and the next run begins with a new command."""
    for jars, words in (
        (["s3://lib/z.jar", "s3a://lib/y.jar"], ["--jars", "s3://lib/z.jar,s3a://lib/y.jar"]),
        (None, []),
    ):
        request = jar.request("app.jar", "com.shop.Main$", jars)
        assert request.entrypoint == ("smspark-submit", "--class", "com.shop.Main$", *words, f"{INPUT}/code/app.jar")


@pytest.mark.usefixtures("code")
def test_local_files_and_objects_are_mixed(pyspark: PySparkProcessor) -> None:
    """S3 URIs come first, and each local file is named: smspark-submit does not expand a directory beside a URI."""
    objects = ["s3://lib/z.jar", "s3://lib/one/*.jar", "s3://lib/two/*.jar"]
    request = pyspark.request("app.py", submit_jars=["jars", *objects, "one.jar", "s3://lib/z.jar", "one.jar"])
    local = [f"{INPUT}/jars/{name}.jar" for name in ("a", "b", "one")]
    assert request.entrypoint is not None
    assert request.entrypoint[2] == ",".join([*objects, *local])


def test_ignore_files_do_not_travel(pyspark: PySparkProcessor, code: pathlib.Path) -> None:
    """Their rules hold in each directory; as files they would have one name, and be jars for Spark."""
    for folder in ("jars", "more", "none"):
        (code / folder).mkdir(exist_ok=True)
        (code / folder / ".processingignore").write_text("b.jar\n")
    (code / "more/c.jar").write_text("c")
    request = pyspark.request("app.py", submit_jars=["s3://lib/z.jar", "jars", "more"])
    assert request.entrypoint is not None
    assert request.entrypoint[2] == f"s3://lib/z.jar,{INPUT}/jars/a.jar,{INPUT}/jars/c.jar"
    with pytest.raises(
        ConfigurationError, match=r"^submit_files\[0\]: no file of '.*none' is left but the ignore file"
    ):
        pyspark.request("app.py", submit_files=["none"])


def test_packages_travel_as_archives(code: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A package is one archive without ignored files; another directory gives its modules and packages; KMS for all."""
    engine = LocalSession(tmp_path / "engine", python=sys.executable)
    processor = PySparkProcessor(
        ROLE, "ml.m5.xlarge", 1, "3.3", sagemaker_session=engine, dependency_location="s3://deps/here/"
    )
    engine.client("s3").create_bucket(Bucket="deps")
    key = "1234abcd-12ab-34cd-56ef-1234567890ab"
    args = processor.get_run_args(
        code / "app.py", ["shop", "modules"], job_name="staged", configuration=[DEFAULTS], kms_key=key
    )
    assert processor.command == ["smspark-submit", "--py-files", f"{INPUT}/py-files"]
    assert [str(entry.source) for entry in args.inputs or ()] == [
        "s3://deps/here/staged/input/py-files",
        f"s3://{engine.default_bucket()}/staged/input/conf/configuration.json",
    ]
    s3 = engine.client("s3")

    def read(bucket: str, name: str) -> bytes:
        return bytes(s3.get_object(Bucket=bucket, Key=name)["Body"].read())

    listed = s3.list_objects_v2(Bucket="deps")["Contents"]
    prefix = "here/staged/input/py-files/"
    assert [entry["Key"] for entry in listed] == [f"{prefix}{name}" for name in ("dates.py", "money.zip", "shop.zip")]
    assert {s3.head_object(Bucket="deps", Key=entry["Key"])["SSEKMSKeyId"].rpartition("/")[2] for entry in listed} == {
        key
    }
    with zipfile.ZipFile(io.BytesIO(read("deps", f"{prefix}shop.zip"))) as archive:
        assert archive.namelist() == ["shop/__init__.py", "shop/orders.py"]
        assert archive.testzip() is None
    assert json.loads(read(engine.default_bucket(), "staged/input/conf/configuration.json")) == [DEFAULTS]
    plan = ScriptProcessor.plan(processor, args.code or "", args.inputs, kms_key=key)
    assert plan.request is not None
    assert plan.request.entrypoint == (*processor.command, f"{INPUT}/code/app.py")


@pytest.mark.usefixtures("code")
def test_every_upload_has_the_kms_key(session: Session, pyspark: PySparkProcessor) -> None:
    """The application, the files of the options, archives and the configuration are encrypted with `kms_key`."""
    further = {"submit_py_files": ["shop"], "submit_files": ["one.jar"], "configuration": DEFAULTS}
    arguments = RunArguments(kms_key="alias/spark", code="app.py", job_name="job", further=further)
    uploads = pyspark._prepare(arguments).staging.uploads
    assert [upload.target.key.rpartition("/")[2] for upload in uploads] == [
        *("shop.zip", "one.jar", "configuration.json", "app.py"),
    ]
    assert {upload.kms_key for upload in uploads} == {"alias/spark"}
    assert session.default_bucket_prefix is None


@pytest.mark.usefixtures("code")
def test_old_overrides_of_staging_hooks_work(session: Session) -> None:
    """Overrides with 2.x's signatures are called, and what they pass on has the KMS key of the run."""

    class Team(PySparkProcessor):
        def _stage_configuration(self, configuration: Any) -> ProcessingInput:
            return super()._stage_configuration([*configuration, DEFAULTS])

        def _stage_submit_deps(self, submit_deps: Any, input_channel_name: str) -> tuple[ProcessingInput | None, str]:
            return super()._stage_submit_deps([*submit_deps, "log.properties"], input_channel_name)

    team = Team(ROLE, "ml.m5.xlarge", 1, "3.3", sagemaker_session=session)
    further = {"submit_files": ["one.jar"], "configuration": [DEFAULTS]}
    options = CodeOptions(source_dir=".")
    launch = team._prepare(RunArguments(kms_key="alias/spark", code="app.py", options=options, further=further))
    uploads = launch.staging.uploads
    names = [upload.target.key.rpartition("/")[2] for upload in uploads]
    launch.staging.close()
    assert names == ["one.jar", "log.properties", "configuration.json", "sourcedir.tar.gz", "runproc.sh"]
    assert {upload.kms_key for upload in uploads} == {"alias/spark"}


@pytest.mark.usefixtures("code")
def test_executors_get_the_modules_of_a_bundle(pyspark: PySparkProcessor, jar: SparkJarProcessor) -> None:
    """An archive has every module but the application, without ignored files; a bundle without modules has none."""
    further = {"submit_py_files": ["s3://lib/a.py"]}
    options = CodeOptions(source_dir=".", dependencies=["modules/money"])
    launch = pyspark._prepare(RunArguments(kms_key="alias/spark", code="app.py", options=options, further=further))
    bodies = {upload.source.name: upload for upload in launch.staging.uploads}
    launch.staging.close()
    archive = bodies["source_dir_modules.zip"]
    assert archive.kms_key == "alias/spark"
    with zipfile.ZipFile(io.BytesIO(archive.body or b"")) as found:
        modules = found.namelist()
    assert modules == [
        *("modules/dates.py", "modules/money/euro.py", "money/euro.py", "shop/__init__.py", "shop/orders.py"),
    ]
    script = bodies["runproc.sh"].body or b""
    assert b' --py-files s3://lib/a.py,"$ml"/processing/input/py-files/source_dir_modules.zip app.py ' in script
    names = [
        entry["InputName"] for entry in jar.request("app.jar", "a.B", source_dir=".").to_boto()["ProcessingInputs"]
    ]
    assert "py-files" not in names
    plain = pyspark.request("app.py", requirements="log.properties").to_boto()["ProcessingInputs"]
    assert "py-files" not in [entry["InputName"] for entry in plain]


@pytest.mark.usefixtures("code")
def test_a_bundle_starts_smspark_submit(pyspark: PySparkProcessor) -> None:
    """With `source_dir` the bootstrap runs smspark-submit with the options of this run."""
    options = CodeOptions(source_dir=".", requirements="log.properties")
    further = {"submit_jars": ["s3://lib/z.jar"]}
    launch = pyspark._prepare(RunArguments(code="app.py", options=options, further=further))
    (script,) = (upload.body for upload in launch.staging.uploads if upload.source.name == "runproc.sh")
    launch.staging.close()
    assert script is not None
    assert b'\nexec smspark-submit --jars s3://lib/z.jar app.py "$@"\n' in script
    assert b" -r log.properties" in script
    assert launch.request.entrypoint == ("/bin/sh", f"{INPUT}/entrypoint/runproc.sh")


@pytest.mark.usefixtures("code")
def test_a_name_that_begins_like_an_input_s_is_kept_apart(pyspark: PySparkProcessor) -> None:
    """The prefix of `files` does not match the objects of an input named `files-2`."""
    mine = ProcessingInput("jars", "/opt/ml/processing/mine", "files-2")
    sent = pyspark.request("app.py", submit_files=["one.jar"], inputs=[mine], job_name="job").to_boto()
    assert sent["ProcessingInputs"][1]["S3Input"]["S3Uri"] == "s3://data/job/input/files/"


@pytest.mark.parametrize(
    ("options", "image"),
    [
        ({"framework_version": "3.3"}, ":3.3-cpu"),
        ({"framework_version": "3.5", "py_version": "py312", "container_version": "1.0"}, ":3.5-cpu-py312-v1.0"),
        ({"framework_version": "9", "image_uri": "mine:1"}, "mine:1"),
        ({"image_uri": "mine:1"}, "mine:1"),
    ],
)
def test_the_version_determines_the_image(session: Session, options: dict[str, Any], image: str) -> None:
    """The tag has both versions or neither, and an image of the user's wins."""
    for kind in KINDS:
        processor = kind(ROLE, "ml.m5.xlarge", 1, sagemaker_session=session, **options)
        assert str(processor.image_uri).endswith(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^framework_version: missing; spark has: 3\.5, "),
        ({"framework_version": "3.4"}, r"^framework_version: spark has no '3\.4'"),
        ({"framework_version": "3.3", "py_version": "py39"}, r"^container_version: missing; py_version needs it"),
        ({"framework_version": "3.3", "container_version": "1"}, r"^py_version: missing; container_version needs it"),
        (
            {"framework_version": "3.3", "py_version": "py37", "container_version": "1"},
            r"^py_version: .*no 'py37'",
        ),
        ({"framework_version": "3.3", "py_version": 39, "container_version": "1"}, r"^py_version: must be a string"),
    ],
)
def test_a_missing_image_is_an_error_at_construction(session: Session, options: dict[str, Any], message: str) -> None:
    """The error begins with the processor's own parameter."""
    with pytest.raises(ConfigurationError, match=message):
        PySparkProcessor(ROLE, "ml.m5.xlarge", 1, sagemaker_session=session, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"submit_app": None}, r"^submit_app: missing"),
        ({"submit_app": "same"}, r"^submit_app same must be a file, not a directory.*as entry_point"),
        ({"submit_app": "same", "entry_point": "one.jar.txt"}, r"^submit_app: must be a \.py or \.jar file"),
        ({"submit_app": "no.py", "source_dir": "."}, r"^submit_app no\.py wasn't found"),
        ({"submit_app": None, "source_dir": "."}, r"^submit_app: must be a path"),
        ({"submit_app": "same.py", "source_dir": "."}, r"^submit_app same\.py must be a file"),
        ({"submit_app": "one.txt", "source_dir": "."}, r"^submit_app: must be a \.py or \.jar file"),
        ({"submit_app": "s3://a/b.py", "source_dir": "."}, r"^submit_app: .*must be a local file"),
        ({"submit_app": "app.R"}, r"^submit_app app\.R wasn't found"),
        ({"submit_app": "one.txt"}, r"^submit_app: must be a \.py or \.jar file.*'one\.txt'"),
        ({"submit_app": "s3://code/a b.py"}, r"^submit_app: 'a b\.py' contains ' '"),
        ({"submit_jars": "one.jar"}, r"^submit_jars: must be a list"),
        ({"submit_jars": ["one.jar", "two.jar"]}, r"^submit_jars\[1\]: 'two\.jar' does not exist"),
        ({"submit_jars": ["hdfs://x/y.jar"]}, r"^submit_jars\[0\]: .*scheme hdfs is not recognized"),
        ({"submit_files": [1]}, r"^submit_files\[0\]: must be a path"),
        ({"submit_files": ["s3://"]}, r"^submit_files\[0\]: .*no bucket"),
        ({"submit_files": ["one.jar", "same/one.jar"]}, r"^submit_files\[1\]: .* are both one\.jar"),
        ({"submit_jars": ["one.jar", "s3://lib/v2/one.jar"]}, r"^submit_jars\[1\]: s3://lib/.* are both one\.jar"),
        ({"submit_jars": ["s3://lib/z.jar", "s3a://lib/v2/z.jar"]}, r"^submit_jars\[1\]: .* are both z\.jar"),
        (
            {"submit_jars": ["s3://lib/jars/"]},
            r"^submit_jars\[0\]: 's3://lib/jars/' names no object, and Spark expands",
        ),
        ({"submit_files": ["s3a://lib"]}, r"^submit_files\[0\]: 's3a://lib' names no object"),
        ({"submit_files": ["s3a://lib/a,b"]}, r"^submit_files\[0\]: .*contains ','"),
        ({"submit_files": ["a b.txt"]}, r"^submit_files\[0\]: .*contains ' '"),
        ({"submit_py_files": ["same"]}, r"^submit_py_files\[0\]: .*no package and no \.py"),
        ({"spark_event_logs_s3_uri": "/logs"}, r"^spark_event_logs_s3_uri: '/logs' is not an S3 URI"),
        ({"configuration": "x"}, r"^configuration: must be a classification"),
        ({"configuration": {"Properties": {}}}, r"^configuration\.Classification: missing"),
        ({"configuration": [{**DEFAULTS, "Properties": [1]}]}, r"^configuration\[0\]\.Properties: must be a dict"),
        ({"configuration": [DEFAULTS, 1]}, r"^configuration\[1\]: must be a dictionary"),
        ({"configuration": [{**DEFAULTS, "Property": {}}]}, r"^configuration\[0\]: has the unknown key 'Property'"),
        ({"configuration": {**DEFAULTS, "Properties": {"a": None}}}, r"^configuration\.Properties\['a'\]: must be"),
        ({"configuration": {**DEFAULTS, "Configurations": [{}]}}, r"^configuration\.Configurations: only hadoop-env"),
        (
            {
                "configuration": [
                    {"Classification": "spark-env", "Properties": {}, "Configurations": [{"Classification": "x"}]}
                ]
            },
            r"^configuration\[0\]\.Configurations\[0\]\.Classification: 'x' is unknown",
        ),
    ],
)
def test_an_impossible_value_is_named(
    pyspark: PySparkProcessor, code: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    """The error names the parameter or the field's path, and `plan` lists it among its problems."""
    (code / "same").mkdir()
    (code / "same.py").mkdir()
    for name in ("same/one.jar", "one.txt", "a b.txt"):
        (code / name).write_text("x")
    arguments = {"submit_app": "app.py", **options}
    with pytest.raises((ConfigurationError, CodeNotFoundError), match=message):
        pyspark.request(**arguments)
    assert pyspark.plan(**arguments).problems != ()


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("parameter", ["configuration_location", "dependency_location"])
def test_a_location_is_checked_also_without_files(pyspark: PySparkProcessor, parameter: str) -> None:
    """A prefix that is no S3 URI is refused in any run; an empty one is the session's, as in 2.x."""
    setattr(pyspark, parameter, "/local")
    with pytest.raises(ConfigurationError, match=rf"^{parameter}: '/local' is not an S3 URI"):
        pyspark.request("app.py")
    with pytest.raises(ConfigurationError, match=rf"^{parameter}: "):
        pyspark.get_run_args("app.py")
    setattr(pyspark, parameter, "")
    sent = pyspark.request("app.py", submit_files=["one.jar"], configuration=DEFAULTS, job_name="job").to_boto()
    assert [entry["S3Input"]["S3Uri"] for entry in sent["ProcessingInputs"][:2]] == [
        *("s3://data/job/input/files", "s3://data/job/input/conf/configuration.json"),
    ]


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job_name": "a b"}, "^job_name: must be a job's name, not 'a b'"),
        ({"job_name": 5}, "^job_name: must be a job's name"),
        ({"kms_key": 5}, "^kms_key: must be a string"),
        ({"arguments": "--day"}, "^arguments: must be a list of strings"),
        ({"inputs": ["data"]}, r"^inputs\[0\]: must be a processing\.ProcessingInput"),
        ({"outputs": [5]}, r"^outputs\[0\]: must be "),
    ],
)
def test_get_run_args_refuses_before_uploads(tmp_path: pathlib.Path, options: dict[str, Any], message: str) -> None:
    """A value that a later `run` would refuse is refused before the files of the options are uploaded."""
    engine = LocalSession(tmp_path / "engine", python=sys.executable)
    processor = PySparkProcessor(ROLE, "ml.m5.xlarge", 1, "3.3", sagemaker_session=engine)
    with pytest.raises(ConfigurationError, match=message):
        processor.get_run_args("app.py", submit_files=["one.jar"], **options)
    assert engine.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("option", ["wait", "logs"])
def test_a_flag_that_is_none_is_refused(pyspark: PySparkProcessor, option: str) -> None:
    """The word "false" would be true."""
    flags: dict[str, Any] = {option: "false"}
    with pytest.raises(ConfigurationError, match=f"^{option}: must be True or False, not str"):
        pyspark.run("app.py", **flags)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("name", [None, "", "com.shop Main", "1x", 5])
def test_a_class_is_needed(jar: SparkJarProcessor, name: Any) -> None:
    """A missing or impossible main class is named, and the application must be a jar."""
    with pytest.raises(ConfigurationError, match=r"^submit_class: "):
        jar.request("app.jar", name)
    with pytest.raises(ConfigurationError, match=r"^submit_app: must be a \.jar file"):
        jar.request("app.py", "com.shop.Main")


@pytest.mark.usefixtures("code")
def test_inner_classifications_are_accepted(pyspark: PySparkProcessor) -> None:
    """`export` belongs into the classifications of environments."""
    export = {"Classification": "export", "Properties": {"A": "1"}}
    configuration = [{"Classification": "hadoop-env", "Properties": {}, "Configurations": [export]}, DEFAULTS]
    assert pyspark.plan("app.py", configuration=configuration).problems == ()


@pytest.mark.usefixtures("code")
def test_hooks_of_subclasses_are_called_once(session: Session) -> None:
    """A subclass sees the options in `_extend_processing_args`, whose answer the job gets once."""
    seen: list[dict[str, Any]] = []

    class Team(PySparkProcessor):
        def _extend_processing_args(self, inputs: Any, outputs: Any, **kwargs: Any) -> Any:
            seen.append(kwargs)
            outputs = [*(outputs or ()), ProcessingOutput("/opt/ml/processing/report", output_name="report")]
            return super()._extend_processing_args(inputs, outputs, **kwargs)

    team = Team(ROLE, "ml.m5.xlarge", 1, "3.3", sagemaker_session=session)
    sent = team.request("app.py", submit_jars=["one.jar"]).to_boto()
    assert [output["OutputName"] for output in sent["ProcessingOutputConfig"]["Outputs"]] == ["report"]
    assert [kwargs["submit_jars"] for kwargs in seen] == [["one.jar"]]
