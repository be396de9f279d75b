"""Spark applications on the engine: options, configuration, hosts, event logs, ends and refusals.

Programs stand in for Spark's: `SPARK_HOME` and `JAVA_HOME` name them, as they may name any Spark and Java. The same
applications run on a real Spark in `test_real_spark.py`.
"""

from __future__ import annotations

import json
import sys
import venv
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import (
    ConfigurationError,
    EngineError,
    JobFailedError,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    Processor,
    attach,
    submit_all,
)
from processing.spark import PySparkProcessor, SparkJarProcessor
from spark_stand_in import make_spark

if TYPE_CHECKING:
    from pathlib import Path

    from processing import ProcessingJob

INPUT = "/opt/ml/processing/input"
SANDBOXES = ("auto", "namespaces", "rewriting")
APPLICATION = """\
import sys
print("ARGUMENTS", sys.argv[1:])
if sys.argv[1:] == ["wait"]:
    import signal
    signal.pause()
if sys.argv[1:] == ["fail"]:
    raise ValueError("a bad day")
"""


@pytest.fixture(autouse=True)
def _spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_spark(tmp_path / "spark")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(home / "java"))


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application, a package and a jar; it is the working directory."""
    for name, text in {"app.py": APPLICATION, "shop/__init__.py": "", "one.jar": "1", "note.txt": "n"}.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path / "code")
    return tmp_path / "code"


@pytest.fixture
def session(tmp_path: Path) -> LocalSession:
    made = LocalSession(tmp_path / "engine", python=sys.executable, tick=0.01, grace=5, cpus=1, memory_gb=2)
    made.client("s3").create_bucket(Bucket="data")
    made.client("s3").put_object(Bucket="data", Key="lib/z.jar", Body=b"z")
    return made


def lines_of(job: ProcessingJob) -> list[str]:
    return [line.message for line in job.logs(follow=False)]


def submitted(job: ProcessingJob) -> dict[str, Any]:
    """Return the facts that the stand-in for spark-submit has written."""
    (line,) = (line for line in lines_of(job) if line.startswith("SUBMIT "))
    facts: dict[str, Any] = json.loads(line.removeprefix("SUBMIT "))
    return facts


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_spark_submit_gets_files_settings_and_arguments(tmp_path: Path, session: LocalSession, sandbox: Any) -> None:
    """Folders are expanded, objects downloaded, classifications applied, and events published, in every sandbox."""
    engine = LocalSession(tmp_path / "engine", python=sys.executable, tick=0.01, sandbox=sandbox, cpus=1, memory_gb=2)
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=engine)
    export = {"Classification": "export", "Properties": {"TEAM": "shop"}}
    job = processor.run(
        "app.py",
        ["shop"],
        ["s3://data/lib/z.jar", "one.jar"],
        ["note.txt"],
        arguments=["--day", "1 2"],
        configuration=[
            {"Classification": "spark-defaults", "Properties": {"spark.executor.cores": 4, "spark.ui.port": 1}},
            {"Classification": "spark-env", "Properties": {}, "Configurations": [export]},
            {"Classification": "hive-site", "Properties": {"a": "<b>"}},
            {"Classification": "spark-log4j", "Properties": {"logger.mine.level": "warn"}},
            {"Classification": "yarn-site", "Properties": {}},
        ],
        spark_event_logs_s3_uri="s3://data/events",
        logs=False,
    )
    facts, lines = submitted(job), lines_of(job)
    words: list[str] = facts["words"]
    options = dict(zip(words[:-3:2], words[1:-3:2], strict=True))
    assert options["--master"].startswith("spark://127.0.")
    assert options["--deploy-mode"] == "client"
    assert options["--py-files"].endswith("/input/py-files/shop.zip")
    assert [path.rpartition("/")[2] for path in options["--jars"].split(",")] == ["z.jar", "one.jar"]
    assert "s3://" not in options["--jars"]
    assert options["--files"].endswith("/input/files/note.txt")
    assert words[-2:] == ["--day", "1 2"]
    assert "ARGUMENTS ['--day', '1 2']" in lines
    files = facts["files"]
    settings = dict(line.split(" ", 1) for line in files["spark-defaults.conf"].splitlines())
    assert (settings["spark.ui.port"], settings["spark.driver.memory"]) == ("1", "512m")
    assert settings["spark.hadoop.fs.s3a.endpoint"] == facts["variables"]["AWS_ENDPOINT_URL"]
    assert files["spark-env.sh"] == "export TEAM=shop\n"
    assert "<name>a</name><value>&lt;b&gt;</value>" in files["hive-site.xml"]
    assert "rootLogger.level=info\n" in files["log4j2.properties"]
    assert files["log4j2.properties"].endswith("logger.mine.level=warn\n")
    assert any("Spark 3.5.9 in " in line and line.endswith("has Spark 3.3") for line in lines)
    assert any("the classification yarn-site has no effect" in line for line in lines)
    # Without room for an executor of four cores, the application would wait for ever.
    assert "[executor 0] 4 cores, 2048M" in lines
    listed = session.client("s3").list_objects_v2(Bucket="data", Prefix="events/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["events/app-1", "events/eventlog_v2_app-2/events_1_app-2"]


def test_a_pattern_stands_for_its_objects(session: LocalSession) -> None:
    """Spark resolves it on AWS, where a wildcard does not match a slash."""
    for key in ("lib/y.jar", "lib/deep/x.jar", "lib/y.txt"):
        session.client("s3").put_object(Bucket="data", Key=key, Body=b"y")
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session)
    job = processor.run("app.py", submit_jars=["s3://data/lib/[yz].jar", "one.jar"], logs=False)
    words = submitted(job)["words"]
    jars = words[words.index("--jars") + 1].split(",")
    assert [path.rpartition("/")[2] for path in jars] == ["y.jar", "z.jar", "one.jar"]


def test_a_failure_is_in_the_exit_message(session: LocalSession) -> None:
    """The job fails with the application's exit code, and its exit message has the exception."""
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session)
    with pytest.raises(JobFailedError) as caught:
        processor.run("app.py", arguments=["fail"], logs=False)
    assert "exit code: 1" in str(caught.value.failure_reason)
    assert caught.value.exit_message == "AlgorithmError: app.py failed with exit code 1: ValueError: a bad day"


def test_every_host_has_a_worker(session: LocalSession) -> None:
    """The application runs on the first host, after all hosts have joined, and the others end with it."""
    processor = PySparkProcessor(None, "local", 3, "3.3", sagemaker_session=session)
    job = processor.run("app.py", logs=False)
    workers = {line.stream for line in job.logs(follow=False) if line.message.startswith("[executor 0]")}
    assert len(workers) == 3
    assert sum(line.startswith("ARGUMENTS") for line in lines_of(job)) == 1


def test_a_stop_reaches_the_application_first(session: LocalSession) -> None:
    """A stopped application ends in order: its events are published, and no process is left."""
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session)
    job = processor.run("app.py", arguments=["wait"], wait=False, spark_event_logs_s3_uri="s3://data/events")
    next(line for line in job.logs(follow=True) if line.message.startswith("ARGUMENTS"))
    job.stop()
    job.wait(logs=False, on_stop="return")
    assert job.describe()["ProcessingJobStatus"] == "Stopped"
    keys = [entry["Key"] for entry in session.client("s3").list_objects_v2(Bucket="data", Prefix="events/")["Contents"]]
    assert keys == ["events/app-1", "events/eventlog_v2_app-2/events_1_app-2"]


@pytest.mark.parametrize("sandbox", ["auto", "rewriting"])
def test_a_bundle_runs_with_its_own_python(tmp_path: Path, sandbox: Any) -> None:
    """With `source_dir`, driver and executors use the environment into which the requirements are installed."""
    engine = LocalSession(tmp_path / "engine", python=sys.executable, tick=0.01, sandbox=sandbox)
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=engine)
    job = processor.run("app.py", source_dir=".", arguments=["1"], logs=False)
    facts = submitted(job)
    assert facts["words"][-2:] == ["app.py", "1"]
    assert facts["words"][5].endswith("/input/py-files/source_dir_modules.zip")
    assert facts["variables"]["PYSPARK_DRIVER_PYTHON"].endswith("/algo-1/python/bin/python3")
    assert facts["variables"]["PYSPARK_PYTHON"] == "spark-python"


def test_a_jar_has_its_class(code: Path, session: LocalSession) -> None:
    """`--class` reaches spark-submit, and an exception of the JVM the exit message."""
    (code / "app.jar").write_text("import sys; sys.stderr.write('x'); sys.exit(7)")
    processor = SparkJarProcessor(None, "local", 1, "3.3", sagemaker_session=session)
    with pytest.raises(JobFailedError) as caught:
        processor.run("app.jar", "com.shop.Main", arguments=["a"], logs=False)
    assert caught.value.exit_message == "AlgorithmError: app.jar failed with exit code 7; see the job's log"
    assert processor.latest_job is not None
    assert submitted(processor.latest_job)["words"][4:6] == ["--class", "com.shop.Main"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--conf", "a=b", "app.py"], 2, "AlgorithmError: No such option: --conf. The options are --class, "),
        (["--jars"], 2, "AlgorithmError: Option --jars requires an argument."),
        (["--verbose"], 2, "AlgorithmError: Missing argument 'APP'."),
        (["--jars", "/no/such.jar", "app.py"], 1, "AlgorithmError: --jars: /no/such.jar does not exist"),
        (["--jars=/etc/hosts,s3://data/a.jar", "app.py"], 1, "AlgorithmError: --jars: s3://data/a.jar comes after a l"),
        (["--jars", "s3://data/lib/*.zip", "app.py"], 1, "AlgorithmError: --jars: s3://data/lib/*.zip matches no obje"),
        (["--files", "s3://data/no.txt", "app.py"], 1, "AlgorithmError: --files: s3://data/no.txt cannot be download"),
    ],
)
def test_a_command_that_the_image_refuses_is_refused(
    session: LocalSession, words: list[str], code: int, message: str
) -> None:
    """An unknown option and an impossible file end the job before the cluster starts; a usage error has code 2."""
    job = create(session, ["smspark-submit", *words])
    with pytest.raises(JobFailedError) as caught:
        job.wait(logs=False)
    assert f"exit code: {code}" in str(caught.value.failure_reason)
    assert (caught.value.exit_message or "").startswith(message)
    assert any(line.startswith(("Usage: smspark-submit", "smspark-submit: --")) for line in lines_of(job))


def create(session: LocalSession, words: list[str], hosts: int = 1, **members: Any) -> ProcessingJob:
    """Create a job as a client without this package does."""
    cluster = {"InstanceCount": hosts, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    session.client("sagemaker").create_processing_job(
        ProcessingJobName="spark",
        RoleArn="arn:aws:iam::000000000000:role/processing",
        AppSpecification={"ImageUri": "mine:1", "ContainerEntrypoint": words},
        ProcessingResources={"ClusterConfig": cluster},
        **members,
    )
    return attach("spark", session)


def test_a_job_has_several_applications(code: Path, session: LocalSession) -> None:
    """Each one has a cluster of its own over all hosts."""
    script = f"smspark-submit {code}/app.py first && exec smspark-submit {code}/app.py second"
    job = create(session, ["sh", "-c", script], hosts=2)
    job.wait(logs=False)
    assert [line for line in lines_of(job) if line.startswith("ARGUMENTS")] == [
        "ARGUMENTS ['first']",
        "ARGUMENTS ['second']",
    ]
    assert sum(line.startswith("[executor 0]") for line in lines_of(job)) == 4


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSession:
    """An engine whose jobs run on an interpreter without packages, on a machine without Spark and Java."""
    monkeypatch.delenv("SPARK_HOME")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    return LocalSession(tmp_path / "engine", python=tmp_path / "bare")


def test_no_spark_is_an_error_before_an_upload(bare: LocalSession) -> None:
    """`run`, `plan`, a fleet and CreateProcessingJob name what is missing, after the values' own errors."""
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=bare)
    forms: list[dict[str, Any]] = [{}, {"source_dir": "."}]
    for options in forms:
        with pytest.raises(EngineError, match=r"no pyspark in .*bare.* and no java .*pip install .*apt-get"):
            processor.run("app.py", **options)
        (problem,) = processor.plan("app.py", **options).problems
        assert "no pyspark" in problem
    with pytest.raises(ConfigurationError, match=r"^submit_jars\[0\]: 'no\.jar' does not exist"):
        processor.run("app.py", submit_jars=["no.jar"])
    fleet = submit_all(processor, [{"submit_app": "app.py"}], name="counts")
    assert "no pyspark" in str(fleet.failures)
    with pytest.raises(ClientError, match=r"no pyspark in .* and no java"):
        create(bare, ["smspark-submit", "app.py"])
    assert bare.client("s3").list_buckets()["Buckets"] == []


def test_a_java_that_is_too_old_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: LocalSession
) -> None:
    """Spark 4 needs Java 17."""
    home = make_spark(tmp_path / "spark-4", "4.0.1", "11")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(home / "java"))
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session)
    with pytest.raises(EngineError, match=r"Spark 4\.0\.1 needs Java 17, but .*java is 11: install Java 17"):
        processor.run("app.py")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(EngineError, match=r"^SPARK_HOME: .* has no bin/spark-class"):
        processor.run("app.py")


@pytest.mark.parametrize("options", [{}, {"source_dir": "."}])
def test_the_homes_of_a_job_are_looked_at(session: LocalSession, options: dict[str, Any]) -> None:
    """Variables of a job that name an image's folders are refused before an upload; those of this machine help."""
    java = {"JAVA_HOME": "/usr/lib/jvm/of-the-image"}
    processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session, env=java)
    with pytest.raises(EngineError, match=r"no java in JAVA_HOME \(/usr/lib/jvm/of-the-image\): correct or unset"):
        processor.run("app.py", **options)
    assert "of-the-image" in processor.plan("app.py", **options).problems[0]
    processor.env = {"SPARK_HOME": "/usr/lib/spark/of-the-image"}
    with pytest.raises(EngineError, match=r"^SPARK_HOME: /usr/lib/spark/of-the-image has no bin/spark-class"):
        processor.run("app.py", **options)
    with pytest.raises(ClientError, match=r"no java in JAVA_HOME \(/usr/lib/jvm/of-the-image\)"):
        create(session, ["smspark-submit", "app.py"], Environment=java)
    assert [bucket["Name"] for bucket in session.client("s3").list_buckets()["Buckets"]] == ["data"]


def test_a_job_may_name_the_java_of_this_machine(
    tmp_path: Path, session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without Java starts a job that has one."""
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    env = {"JAVA_HOME": str(tmp_path / "spark/java")}
    job = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=session, env=env).run("app.py", logs=False)
    assert job.status == "Completed"


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_isolated_hosts_are_refused(tmp_path: Path, sandbox: Any) -> None:
    """Several hosts with network isolation are refused before an upload, where the sandbox isolates them."""
    engine = LocalSession(tmp_path / "engine", python=sys.executable, tick=0.01, sandbox=sandbox, cpus=1, memory_gb=2)
    network = NetworkConfig(enable_network_isolation=True)

    def processor(**options: Any) -> PySparkProcessor:
        return PySparkProcessor(
            framework_version="3.3", sagemaker_session=engine, network_config=network, **{"role": None, **options}
        )

    several: list[PySparkProcessor] = [
        processor(instance_type="local", instance_count=2),
        processor(instance_preferences=[{"InstanceType": "ml.m5.large", "InstanceCount": 2}]),
    ]
    if sandbox == "rewriting":
        assert [each.plan("app.py").problems for each in several] == [(), ()]
        return
    for each in several:
        with pytest.raises(EngineError, match=r"^network_config.enable_network_isolation: Spark connects the 2 hosts"):
            each.run("app.py", logs=False)
        assert "network_config.enable_network_isolation" in each.plan("app.py").problems[0]
    raw = Processor(
        None, "image", 2, "local", ["smspark-submit", "app.py"], sagemaker_session=engine, network_config=network
    )
    with pytest.raises(EngineError, match=r"^network_config.enable_network_isolation: Spark connects the 2 hosts"):
        raw.run(inputs=[ProcessingInput("app.py", "/opt/ml/processing/input/code")])
    with pytest.raises(ClientError, match=r"NetworkConfig.EnableNetworkIsolation: Spark connects the 2 hosts"):
        create(engine, ["smspark-submit", "app.py"], 2, NetworkConfig={"EnableNetworkIsolation": True})
    assert engine.client("s3").list_buckets()["Buckets"] == []
    one = processor(instance_type="local", instance_count=1).run("app.py", logs=False)
    assert one.describe()["ProcessingJobStatus"] == "Completed"
