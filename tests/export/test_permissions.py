"""The table of permissions, compared with the calls that each feature makes at the engine's transport."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import processing
from processing import (
    EventBridgeSource,
    FrameworkProcessor,
    JobFailedError,
    LocalSession,
    NetworkConfig,
    ProcessingError,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
    ShimProcessor,
    execution_role,
    get_execution_role,
    pricing,
    remote,
    submit_all,
)
from processing.cli import main
from processing.export.permissions import FEATURES, JOB_INPUTS, JOB_OUTPUTS, Grant
from processing.export.policies import caller_grants
from processing.local.stores.job_kinds import TRAINING, TRANSFORM
from processing.local.stores.jobs import HostEnd, JobStore
from processing.remote_function import RemoteExecutor, get_future, list_futures
from processing.remote_function.pool import RemotePool
from processing.remote_function.serialization import deserialize_obj_from_s3, serialize_obj_to_s3
from processing.spark import PySparkProcessor
from processing.testing.faults import FaultInjector
from processing.watching.polling import Polling
from recorded_calls import CodeArtifactServer, RecordedCalls, RecordingServer, actions_of
from spark_stand_in import make_spark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from processing import ProcessingJob

ROOT = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::111122223333:role/x"
REGION: Final = "us-east-1"
KEY: Final = "arn:aws:kms:us-east-1:111122223333:key/k"
WRITES: Final = "open('/opt/ml/processing/output/a', 'w').write('a')\nprint('hello')\n"
LARGE: Final = 200_000  # more than fits into a message


class Scenarios:
    """A scenario for each feature: it prepares, forgets the calls so far, and uses the feature.

    Args:
        folder: an empty folder.
        patch: sets variables for the time of the test.

    Attributes:
        calls: the calls of this process, which is the caller.
        session: the engine's session.
        faults: the source of faults.
        server: serves the engine to the programs of jobs, and records their calls.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = patch
        self.calls = RecordedCalls()
        self.faults = FaultInjector()
        self.session = LocalSession(
            home=folder / "engine", transport=lambda inner: self.faults.wrap(self.calls.wrap(inner))
        )
        self.calls.at(self.session)
        self.server = RecordingServer(self.session)

    @property
    def in_jobs(self) -> dict[str, str]:
        """The variables of a job whose calls are recorded."""
        return {"AWS_ENDPOINT_URL": self.server.endpoint}

    def script(self, text: str = "print('hello')\n") -> ScriptProcessor:
        """A processor with a script in the current folder."""
        Path("clean.py").write_text(text)
        return ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.session
        )

    def ended(self, name: str = "ended") -> ProcessingJob:
        """A job that has ended, with an output; its calls are forgotten, and so is all that is known of it."""
        job = self.script(WRITES).run(
            "clean.py",
            outputs=[ProcessingOutput("/opt/ml/processing/output", output_name="out")],
            job_name=name,
            wait=False,
            quiet=True,
        )
        job.exception()
        self.calls.clear()
        return processing.ProcessingJob.known(self.session, name)

    def submit(self) -> None:
        processor = Processor(entrypoint=["true"], instance_type="local", instance_count=1)
        processor.sagemaker_session = self.session
        processor.run(wait=False, quiet=True)

    def upload(self) -> None:
        processor = self.script()
        processor.run("clean.py", wait=False, quiet=True)
        Path("data").mkdir()
        Path("data/a").write_text("a")
        self.calls.clear()
        inputs = [ProcessingInput("data", "/opt/ml/processing/in", reuse=True)]
        processor.run("clean.py", inputs, wait=False, quiet=True)
        processor.run("clean.py", inputs, wait=False, quiet=True)

    def tags(self) -> None:
        processor = Processor(entrypoint=["true"], instance_type="local", instance_count=1, tags={"team": "etl"})
        processor.sagemaker_session = self.session
        processor.run(wait=False, quiet=True)

    def large_files(self) -> None:
        processor = self.script()
        with Path("large").open("wb") as file:
            file.truncate(40_000_000)
        self.faults.on("UploadPart", "denied", times=99)
        with pytest.raises(ProcessingError):
            processor.run("clean.py", [ProcessingInput("large", "/opt/ml/processing/in")], wait=False, quiet=True)
        assert "AbortMultipartUpload" in self.calls.operations

    def uploads_taken_back(self) -> None:
        class Fixed(ScriptProcessor):
            """A processor that generates one name, so that it is taken at the second run."""

            def _generate_current_job_name(self, job_name: str | None = None) -> str:
                return job_name or "fixed"

        Path("clean.py").write_text("print('hello')\n")
        Path("data").write_text("a")
        processor = Fixed(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.session)
        processor.run("clean.py", wait=False, quiet=True)
        self.calls.clear()
        with pytest.raises(ProcessingError):
            processor.run("clean.py", [ProcessingInput("data", "/opt/ml/processing/in")], wait=False, quiet=True)

    def kms(self) -> None:
        with Path("large").open("wb") as file:
            file.truncate(40_000_000)
        processor = self.script()
        processor.volume_kms_key = processor.output_kms_key = KEY
        inputs = [ProcessingInput("large", "/opt/ml/processing/in")]
        processor.run("clean.py", inputs, kms_key=KEY, job_name="encrypted", wait=False, quiet=True)
        options: Any = {"environment_variables": self.in_jobs, "s3_kms_key": KEY}
        with RemotePool(workers=1, instance_type="local", sagemaker_session=self.session, **options) as pool:
            assert len(pool.submit(bytes.upper, b"x" * LARGE).result()) == LARGE

    def job_name(self) -> None:
        processor = self.script()
        self.calls.clear()
        processor.run("clean.py", job_name="named", wait=False, quiet=True)

    def on_aws(self) -> Session:
        """A session as for AWS, whose calls the engine answers: that of the engine knows account and bucket itself."""
        return Session(self.session.boto_session, polling=Polling.of_engine())

    def default_bucket(self) -> None:
        processor = Processor(ROLE, "image", 1, "ml.m5.large", ["true"], sagemaker_session=self.on_aws())
        processor.run(outputs=[ProcessingOutput("/opt/ml/processing/out")], wait=False, quiet=True)

    def role_name(self) -> None:
        assert self.on_aws().expand_role("etl").endswith("/etl")

    def execution_role_notebook(self) -> None:
        metadata = self.folder / "metadata.json"
        self.patch.setattr(execution_role, "METADATA", metadata)
        role = {"ExecutionRole": ROLE}
        self.calls.answers = {
            "DescribeNotebookInstance": {"RoleArn": ROLE},
            "DescribeUserProfile": {"UserSettings": {}},
            "DescribeDomain": {"DefaultUserSettings": role},
        }
        for found in ({"ResourceName": "mine"}, {"DomainId": "d-1", "UserProfileName": "me"}):
            metadata.write_text(json.dumps(found))
            assert get_execution_role(self.on_aws()) == ROLE

    def config(self) -> None:
        bucket = "team-config"
        self.session.client("s3").create_bucket(Bucket=bucket)
        text = b"SchemaVersion: '1.0'\nSageMaker: {ProcessingJob: {Environment: {A: b}}}\n"
        self.session.client("s3").put_object(Bucket=bucket, Key="team/config.yaml", Body=text)
        self.patch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", f"s3://{bucket}/team/")
        self.calls.clear()
        assert "A = 'b'" in str(self.on_aws().config)

    def prices(self) -> None:
        self.patch.setenv("PROCESSING_CACHE_HOME", str(self.folder / "cache"))
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.5"}}
        entry = {
            "product": {"attributes": {"usagetype": "USE1-Processing:ml.m5.large"}},
            "terms": {"OnDemand": {"a": {"priceDimensions": {"b": dimension}}}},
            "publicationDate": "2026-11-30T00:00:00Z",
        }
        self.calls.answers = {"GetProducts": {"PriceList": [json.dumps(entry)]}}
        assert pricing.refresh(REGION, self.on_aws()) == 1

    def queue_setup(self) -> None:
        self.calls.answers = {"PutRule": {"RuleArn": "arn"}, "PutTargets": {"FailedEntryCount": 0, "FailedEntries": []}}
        page = (ROOT / "docs/how-to/other-processes.md").read_text()
        shown = re.findall(r"^aws (\w+) ([\w-]+)", page, re.MULTILINE)
        assert shown == [("sqs", "create-queue"), ("events", "put-rule"), ("events", "put-targets")]
        self.session.client("sqs").create_queue(QueueName="processing-jobs")
        events = self.session.client("events")
        events.put_rule(Name="processing-jobs", EventPattern="{}")
        events.put_targets(Rule="processing-jobs", Targets=[{"Id": "queue", "Arn": "arn"}])

    def queue(self) -> None:
        self.session = LocalSession(home=self.folder / "engine", transport=self.calls.wrap, events_queue="job-events")
        self.calls.at(self.session)
        url = self.session.client("sqs").create_queue(QueueName="job-events")["QueueUrl"]
        session = Session(self.session.boto_session, event_source=EventBridgeSource(url))
        job = self.script("import time; time.sleep(1)\n").run("clean.py", job_name="awaited", wait=False, quiet=True)
        self.calls.clear()
        processing.attach(job.job_name, session).wait(logs=False, quiet=True)
        assert self.calls.await_operation("DeleteMessageBatch")

    def execution_role(self) -> None:
        with contextlib.suppress(ProcessingError):  # the caller is no role
            get_execution_role(self.on_aws())

    def watch(self) -> None:
        self.ended().wait(logs=False, quiet=True)

    def watch_many(self) -> None:
        jobs = [self.ended(f"j-{number}") for number in range(9)]
        processing.wait(jobs, quiet=True)

    def logs(self) -> None:
        assert [line.message for line in self.ended().logs()] == ["hello"]

    def logs_by_stream(self) -> None:
        job = self.ended()
        self.faults.on("FilterLogEvents", "denied", times=99)
        assert [line.message for line in job.logs()] == ["hello"]

    def stop(self) -> None:
        job = self.script("import time; time.sleep(600)\n").run("clean.py", wait=False, quiet=True)
        self.calls.clear()
        job.stop()

    def delete(self) -> None:
        self.ended().delete()

    def rerun(self) -> None:
        processing.rerun(self.ended())

    def metrics(self) -> None:
        self.ended().metrics()

    def card(self) -> None:
        job = self.ended()
        job.card()
        self.script("raise SystemExit(3)").run("clean.py", job_name="failed", wait=False, quiet=True).exception()
        self.calls.clear()
        job.card()
        processing.card("failed", session=self.session)

    def other_cards(self) -> None:
        for kind, end in ((TRAINING, HostEnd("failed")), (TRANSFORM, HostEnd("completed"))):
            store = JobStore(self.session.home, kind)
            arn = f"arn:aws:sagemaker:{REGION}:000000000000:{kind.resource}/old"
            request = {kind.name_member: "old"}
            job = store.create(request, arn=arn, folder="old", plan={}, hosts=1, tags={}, now=1.7e9)
            store.record_host_end(job.id, 1, end, 1.7e9 + 60)
            processing.card(f"{kind.resource}/old", session=self.session)
        with pytest.raises(ProcessingError):
            processing.card("endpoint/absent", session=self.session)

    def download(self) -> None:
        job = self.ended()
        _ = job.outputs
        self.calls.clear()
        job.outputs["out"].download("downloaded")

    def jobs(self) -> None:
        self.ended()
        assert len(list(processing.jobs(session=self.session))) == 1

    def jobs_by_tag(self) -> None:
        self.ended()
        list(processing.jobs(tags={"a": "b"}, session=self.session))

    def remote_function(self) -> None:
        session = self.on_aws()

        @remote(sagemaker_session=session, instance_type="ml.m5.large", role=ROLE, image_uri="image")
        def add(one: int, other: int) -> int:
            return one + other

        assert add(1, 2) == 3

    def values(self) -> None:
        uri = f"s3://{self.session.default_bucket()}/value"
        self.calls.clear()
        serialize_obj_to_s3([1, 2], self.session, uri)
        assert deserialize_obj_from_s3(self.session, uri) == [1, 2]

    def futures(self) -> None:
        with RemoteExecutor(instance_type="local", sagemaker_session=self.session) as executor:
            future = executor.submit(pow, 2, 3)
            assert future.result() == 8
        assert future.job is not None
        self.calls.clear()
        assert get_future(future.job.job_name, self.session).result() == 8
        assert list(list_futures(future.job.job_name, self.session))

    def map_results(self) -> None:
        @remote(instance_type="local", sagemaker_session=self.session)
        def double(value: int) -> int:
            return 2 * value

        assert list(double.map([1, 2])) == [2, 4]

    def map_resume(self) -> None:
        stopped = str(self.folder / "stopped")

        @remote(instance_type="local", sagemaker_session=self.session)
        def double(value: int) -> int:
            if value == 2 and not os.path.exists(stopped):  # noqa: PTH110 - a path as text travels
                time.sleep(600)
            return 2 * value

        first = double.submit_map([1, 2], workers=1, name="twice")
        assert first[0].result() == 2
        assert first.job is not None
        first.job.stop()
        assert first[1].exception() is not None
        Path(stopped).touch()
        self.calls.clear()
        assert list(double.map([1, 2], name="twice")) == [2, 4]

    def pool(self) -> None:
        options: Any = {"workers": 1, "instance_type": "local", "sagemaker_session": self.session}
        with RemotePool(**options, environment_variables=self.in_jobs) as pool:
            assert pool.submit(pow, 2, 3).result() == 8
            assert len(pool.submit(bytes.upper, b"x" * LARGE).result()) == LARGE

    def pool_remains(self) -> None:
        abandoned = f"""if True:
            from processing import LocalSession
            from processing.remote_function.pool import RemotePool
            pool = RemotePool(
                workers=1, instance_type="local", sagemaker_session=LocalSession({str(self.session.home)!r}),
                environment_variables={self.in_jobs!r},
            )
            assert len(pool.submit(bytes.upper, b"x" * {LARGE}).result()) == {LARGE}
            import os, sys
            pool.close_at_exit()
            os._exit(0)
        """
        subprocess.run([sys.executable, "-c", abandoned], check=True, stdin=subprocess.DEVNULL)
        assert self.server.calls.await_operation("DeleteQueue")
        (job,) = processing.jobs(session=self.session)
        job.exception()
        bucket, old = self.session.default_bucket(), "processing-pool-00000001-abcdefabcdef"
        self.session.client("s3").put_object(Bucket=bucket, Key=f"old/{old}/value", Body=b"a")
        self.session.client("sqs").create_queue(QueueName=f"{old}-results")
        self.calls.clear()
        options: Any = {"workers": 1, "instance_type": "local", "sagemaker_session": self.session}
        with RemotePool(**options, s3_root_uri=f"s3://{bucket}/old") as pool:
            assert pool.submit(pow, 2, 3).result() == 8
            assert self.calls.await_operation("DeleteObjects")

    def shim(self) -> None:
        bucket = self.session.default_bucket()
        self.session.client("s3").put_object(Bucket=bucket, Key="in/a", Body=b"a")
        copies = "cp -r /opt/ml/processing/shim/input/. /opt/ml/processing/shim/output/"
        processor = ShimProcessor(
            command=["sh", "-c", copies],
            instance_type="local",
            instance_count=1,
            sagemaker_session=self.session,
            env=self.in_jobs,
        )
        source = {"relative_path": "a", "bucket_name": bucket, "bucket_key": "in/a"}
        task = {"pk": "t", "inputs": [source], "output_bucket_name": bucket, "output_prefix": "out"}
        (result,) = processor.run_tasks(task, quiet=True).results()
        assert result.succeeded

    def spark(self) -> None:
        home = make_spark(self.folder / "spark")
        self.patch.setenv("SPARK_HOME", str(home))
        self.patch.setenv("JAVA_HOME", str(home / "java"))
        bucket = self.session.default_bucket()
        self.session.client("s3").put_object(Bucket=bucket, Key="lib/z.jar", Body=b"z")
        Path("app.py").write_text("print('hello')\n")
        processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=self.session, env=self.in_jobs)
        processor.run("app.py", submit_jars=[f"s3://{bucket}/lib/z.jar"], quiet=True)

    def code_artifact(self) -> None:
        Path("source").mkdir()
        Path("source/main.py").touch()
        Path("source/requirements.txt").write_text("no-such-package-of-ours\n")
        with CodeArtifactServer(self.server.calls) as repository:
            processor = FrameworkProcessor(
                command=["python3"],
                image_uri="image",
                instance_type="local",
                instance_count=1,
                sagemaker_session=self.session,
                env={"AWS_ENDPOINT_URL_CODEARTIFACT": repository.endpoint},
            )
            arn = "arn:aws:codeartifact:us-east-1:111122223333:repository/ours/python"
            with pytest.raises(JobFailedError):  # the repository has no such package
                processor.run("main.py", "source", codeartifact_repo_arn=arn, quiet=True)

    def fleet(self) -> None:
        runs: list[dict[str, str]] = [{"code": "clean.py"}]
        processor = self.script()
        processor.base_job_name = "card"
        submit_all(processor, runs, name="fleet", quiet=True).wait(quiet=True)
        self.calls.clear()
        submit_all(processor, runs, name="fleet", quiet=True).wait(quiet=True)


# The further features that a scenario uses.
BESIDES: Final[dict[str, tuple[str, ...]]] = {
    "tags": ("submit",),
    "kms": ("submit", "upload", "job-name", "pool", "pool-remains", "remote-function", "watch", "logs", "stop"),
    "upload": ("submit",),
    "large-files": ("upload", "uploads-taken-back"),
    "uploads-taken-back": ("upload", "submit", "job-name"),
    "job-name": ("submit", "upload"),
    "default-bucket": ("submit",),
    "rerun": ("submit",),
    "queue": ("watch",),
    "remote-function": ("submit", "upload", "watch", "logs", "default-bucket"),
    "watch-many": ("watch",),
    "futures": ("watch",),
    "map-results": ("remote-function", "submit", "upload", "watch"),
    "map-resume": ("remote-function", "submit", "upload", "watch", "logs"),
    "pool-remains": ("pool", "remote-function", "submit", "upload", "watch", "logs", "stop"),
    "pool": ("remote-function", "submit", "upload", "watch", "logs", "stop", "pool-remains"),
    "shim": ("submit", "upload", "watch", "logs"),
    "code-artifact": ("submit", "upload", "watch", "logs"),
    "spark": ("submit", "upload", "watch", "logs"),
    "fleet": ("watch", "submit", "upload"),
    "logs": ("watch",),
    "logs-by-stream": ("logs", "watch"),
}
# The programs of jobs that a scenario runs are allowed these too.
BESIDES_IN_JOBS: Final[dict[str, tuple[str, ...]]] = {"kms": ("pool",), "pool-remains": ("pool",)}


# tests/spark/stages/test_permissions.py records these, in an environment with Spark.
IN_SPARK: Final = {"spark-ml"}


def test_each_feature_has_a_scenario() -> None:
    """A new row of the table comes with its scenario."""
    assert {name for name in FEATURES if not hasattr(Scenarios, name.replace("-", "_"))} == IN_SPARK


@pytest.mark.parametrize("name", [name for name in FEATURES if name not in IN_SPARK])
def test_the_table_has_the_calls_of_each_feature(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature makes no call whose permission the table lacks, and the table has none that is not used."""
    monkeypatch.chdir(tmp_path)
    scenarios = Scenarios(tmp_path, monkeypatch)
    use: Callable[[], None] = getattr(scenarios, name.replace("-", "_"))
    with scenarios.server:
        use()
    feature = FEATURES[name]
    allowed = {action for grant in caller_grants([name, *BESIDES.get(name, ())]) for action in grant.actions}
    in_jobs = {
        action
        for each in (name, *BESIDES_IN_JOBS.get(name, ()))
        for grant in FEATURES[each].role
        for action in grant.actions
    }
    found = [
        (sorted(recorded - permitted), sorted(_actions(own) - recorded))
        for recorded, permitted, own in (
            (scenarios.calls.actions, allowed, feature.caller),
            (scenarios.server.calls.actions, in_jobs, feature.role),
        )
    ]
    assert found == [([], []), ([], [])]


def test_the_table_has_each_call_in_the_code() -> None:
    """A call that no scenario makes needs a row, too."""
    pattern = re.compile(r"""\bcall\(\s*(?:self\.)?(?:_?session, )?"([a-z0-9-]+)",\s*"([A-Z]\w+)\"""")
    found = {
        action
        for path in (ROOT / "processing").rglob("*.py")
        if path.relative_to(ROOT / "processing").parts[0] not in {"local", "testing"}
        for service, operation in pattern.findall(path.read_text(encoding="utf-8"))
        for action in actions_of(service, operation, {}, {})
    }
    assert len(found) > 20
    assert found <= _actions(grant for feature in FEATURES.values() for grant in feature.caller)


def test_a_role_reads_the_inputs_and_writes_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has the calls that the engine makes in SageMaker's place at another S3, and no other."""
    with RecordingServer(LocalSession(home=tmp_path / "other")) as server:
        for name, value in server.environment().items():
            if name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}:
                monkeypatch.setenv(name, value)
        session = LocalSession(home=tmp_path / "engine", s3_endpoint=server.endpoint, default_bucket="unused")
        client = session.client("s3")
        client.create_bucket(Bucket="data")
        for name in ("a", "b"):
            client.put_object(Bucket="data", Key=f"in/{name}", Body=b"a")
        copies = "cp -r /opt/ml/processing/in/. /opt/ml/processing/out/"
        processor = Processor(entrypoint=["sh", "-c", copies], instance_type="local", instance_count=1)
        processor.sagemaker_session = session
        server.calls.clear()
        job = processor.run(
            [ProcessingInput("s3://data/in/", "/opt/ml/processing/in")],
            [ProcessingOutput("/opt/ml/processing/out", "s3://data/out")],
            wait=False,
            quiet=True,
        )
        while job.status == "InProgress":
            pass
        assert server.calls.actions == _actions([*JOB_INPUTS, *JOB_OUTPUTS])
        assert job.status == "Completed"


def _actions(grants: Iterable[Grant]) -> set[str]:
    return {action for grant in grants for action in grant.actions}


def test_the_page_is_that_of_the_table() -> None:
    """docs/reference/permissions.md is generated from the table, and its JSON is two policies."""
    spec = importlib.util.spec_from_file_location("permissions_page", ROOT / "scripts" / "permissions_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = script.PAGE.read_text(encoding="utf-8")
    assert written == script.page(), "run scripts/permissions_page.py"
    policies = [json.loads(block.partition("```")[0]) for block in written.split("```json")[1:]]
    assert [policy["Version"] for policy in policies] == ["2012-10-17", "2012-10-17"]


def test_policies_of_a_request() -> None:
    """The policies name the job's prefix, its buckets and prefixes, its key and its repository."""
    session = Session(region_name="eu-west-1", default_bucket="bucket")
    image = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/team/etl:1"
    network = NetworkConfig(subnets=["subnet-1"], security_group_ids=["sg-1"])
    key = "arn:aws:kms:eu-west-1:111122223333:key/k"
    processor = Processor(
        ROLE, image, 1, "ml.m5.large", output_kms_key=key, network_config=network, sagemaker_session=session
    )
    request = processor.request(
        [ProcessingInput("s3://raw/2026/", "/opt/ml/processing/in")],
        [ProcessingOutput("/opt/ml/processing/out", "s3://clean/2026")],
        job_name="clean-2026-11-30-01-02-03-004",
    )
    policies = request.to_policies("eu-west-1")
    caller = {action: each["Resource"] for each in policies["caller"]["Statement"] for action in each["Action"]}
    assert caller["sagemaker:CreateProcessingJob"] == ["arn:aws:sagemaker:eu-west-1:111122223333:processing-job/clean*"]
    assert caller["iam:PassRole"] == [ROLE]
    assert caller["s3:PutObject"] == ["arn:aws:s3:::raw/*", "arn:aws:s3:::clean/*"]
    assert caller["kms:CreateGrant"] == [key]
    assert "sagemaker:AddTags" not in caller
    role = [(action, each["Resource"]) for each in policies["role"]["Statement"] for action in each["Action"]]
    assert ("s3:GetObject", ["arn:aws:s3:::raw/2026/*"]) in role
    assert ("s3:PutObject", ["arn:aws:s3:::clean/2026*"]) in role
    assert ("s3:ListBucket", ["arn:aws:s3:::raw"]) in role
    assert ("ecr:BatchGetImage", ["arn:aws:ecr:eu-west-1:111122223333:repository/team/etl"]) in role
    assert ("ec2:CreateNetworkInterface", ["*"]) in role
    assert ("kms:Decrypt", [key]) in role


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`processing iam` prints both policies of a script that is not run, or one of them."""
    monkeypatch.chdir(tmp_path)
    Path("clean.py").write_text("print()\n")
    words = ["iam", "clean.py", "--image", "1/i:1", "--role", ROLE, "-t", "ml.m5.large", "--region", "eu-west-1"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"caller", "role"}
    assert main([*words, "--only", "role"]) == 0
    assert json.loads(capsys.readouterr().out)["Version"] == "2012-10-17"
    assert main([*words, "-n", "0"]) == 2
    assert "-n: " in capsys.readouterr().err
