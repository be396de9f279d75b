"""The table of permissions, compared with the calls that each feature makes at the engine's transport."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import processing
from processing import (
    LocalSession,
    NetworkConfig,
    ProcessingError,
    ProcessingInput,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
    get_execution_role,
    remote,
    submit_all,
)
from processing.cli import main
from processing.export.permissions import FEATURES
from processing.export.policies import caller_grants
from processing.remote_function import RemoteExecutor, get_future, list_futures
from processing.remote_function.pool import RemotePool
from processing.remote_function.serialization import deserialize_obj_from_s3, serialize_obj_to_s3
from processing.testing.faults import FaultInjector

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import ProcessingJob

ROOT = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::111122223333:role/x"
# The actions that AWS checks for a call, where they have not the call's name.
S3: Final = {
    "HeadBucket": ("s3:ListBucket",),
    "ListObjectsV2": ("s3:ListBucket",),
    "HeadObject": ("s3:GetObject",),
    "CreateMultipartUpload": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "DeleteObjects": ("s3:DeleteObject",),
    "CopyObject": ("s3:GetObject", "s3:PutObject"),
    **{name: (f"s3:{name}",) for name in ("GetObject", "PutObject", "DeleteObject", "CreateBucket")},
    "AbortMultipartUpload": ("s3:AbortMultipartUpload",),
}
OTHERS: Final = {
    "logs": {"FilterLogEvents", "GetLogEvents", "DescribeLogStreams"},
    "sqs": {"CreateQueue", "DeleteQueue", "SendMessage", "ReceiveMessage", "DeleteMessage", "ListQueues"},
    "tag": {"GetResources"},
    "cloudwatch": {"GetMetricData"},
    "sts": {"GetCallerIdentity"},
    "iam": {"GetRole"},
}
BATCHES: Final = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}


def actions_of(operation: str) -> tuple[str, ...]:
    """The actions that a call needs."""
    operation = BATCHES.get(operation, operation)
    if operation in S3:
        return S3[operation]
    service = next((name for name, operations in OTHERS.items() if operation in operations), "sagemaker")
    return (f"{service}:{operation}",)


class Scenarios:
    """A scenario for each feature: it prepares, forgets the calls so far, and uses the feature.

    Args:
        session: the engine's session.
        faults: the recorder of the calls.
    """

    def __init__(self, session: LocalSession, faults: FaultInjector) -> None:
        self.session = session
        self.faults = faults

    def script(self, text: str = "print('hello')\n") -> ScriptProcessor:
        """A processor with a script in the current folder."""
        Path("clean.py").write_text(text)
        return ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.session
        )

    def ended(self, name: str = "ended") -> ProcessingJob:
        """A job that has ended, with an output; its calls are forgotten, and so is all that is known of it."""
        text = "open('/opt/ml/processing/output/a', 'w').write('a')\nprint('hello')\n"
        job = self.script(text).run(
            "clean.py",
            outputs=[ProcessingOutput("/opt/ml/processing/output", output_name="out")],
            job_name=name,
            wait=False,
            quiet=True,
        )
        job.exception()
        self.faults.calls.clear()
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
        self.faults.calls.clear()
        inputs = [ProcessingInput("data", "/opt/ml/processing/in", reuse=True)]
        processor.run("clean.py", inputs, wait=False, quiet=True)
        processor.run("clean.py", inputs, wait=False, quiet=True)

    def job_name(self) -> None:
        processor = self.script()
        self.faults.calls.clear()
        processor.run("clean.py", job_name="named", wait=False, quiet=True)

    def on_aws(self) -> Session:
        """A session as for AWS, whose calls the engine answers: that of the engine knows account and bucket itself."""
        return Session(self.session.boto_session)

    def default_bucket(self) -> None:
        processor = Processor(ROLE, "image", 1, "ml.m5.large", ["true"], sagemaker_session=self.on_aws())
        processor.run(outputs=[ProcessingOutput("/opt/ml/processing/out")], wait=False, quiet=True)

    def role_name(self) -> None:
        assert self.on_aws().expand_role("etl").endswith("/etl")

    def execution_role(self) -> None:
        with contextlib.suppress(ProcessingError):  # the caller is no role
            get_execution_role(self.on_aws())

    def watch(self) -> None:
        self.ended().wait(logs=False, quiet=True)

    def watch_many(self) -> None:
        jobs = [self.ended(f"j-{number}") for number in range(9)]
        processing.wait(jobs)

    def logs(self) -> None:
        assert [line.message for line in self.ended().logs()] == ["hello"]

    def logs_by_stream(self) -> None:
        job = self.ended()
        self.faults.on("FilterLogEvents", "denied", times=99)
        assert [line.message for line in job.logs()] == ["hello"]

    def stop(self) -> None:
        job = self.script("import time; time.sleep(600)\n").run("clean.py", wait=False, quiet=True)
        self.faults.calls.clear()
        job.stop()

    def delete(self) -> None:
        self.ended().delete()

    def rerun(self) -> None:
        processing.rerun(self.ended())

    def metrics(self) -> None:
        self.ended().metrics()

    def download(self) -> None:
        job = self.ended()
        _ = job.outputs
        self.faults.calls.clear()
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
        self.faults.calls.clear()
        serialize_obj_to_s3([1, 2], self.session, uri)
        assert deserialize_obj_from_s3(self.session, uri) == [1, 2]

    def futures(self) -> None:
        with RemoteExecutor(instance_type="local", sagemaker_session=self.session) as executor:
            future = executor.submit(pow, 2, 3)
            assert future.result() == 8
        assert future.job is not None
        self.faults.calls.clear()
        assert get_future(future.job.job_name, self.session).result() == 8
        assert list(list_futures(future.job.job_name, self.session))

    def map_results(self) -> None:
        @remote(instance_type="local", sagemaker_session=self.session)
        def double(value: int) -> int:
            return 2 * value

        assert list(double.map([1, 2])) == [2, 4]

    def pool(self) -> None:
        with RemotePool(workers=1, instance_type="local", sagemaker_session=self.session) as pool:
            assert pool.submit(pow, 2, 3).result() == 8

    def fleet(self) -> None:
        runs: list[dict[str, str]] = [{"code": "clean.py"}]
        processor = self.script()
        processor.base_job_name = "card"
        submit_all(processor, runs, name="fleet").wait()
        self.faults.calls.clear()
        submit_all(processor, runs, name="fleet").wait()


# The further features that a scenario uses.
BESIDES: Final[dict[str, tuple[str, ...]]] = {
    "submit": ("generated-name",),
    "upload": ("submit", "generated-name"),
    "job-name": ("submit", "upload"),
    "default-bucket": ("submit", "generated-name"),
    "rerun": ("submit",),
    "remote-function": ("submit", "upload", "generated-name", "watch", "logs", "default-bucket"),
    "watch-many": ("watch",),
    "futures": ("watch",),
    "map-results": ("remote-function", "submit", "upload", "generated-name", "watch"),
    "pool": ("remote-function", "submit", "upload", "generated-name", "watch", "logs", "stop", "pool-remains"),
    "fleet": ("watch", "submit", "upload", "generated-name"),
    "logs": ("watch",),
    "logs-by-stream": ("logs", "watch"),
}


# Features without a scenario here, and the reason.
_CHECKED_INSIDE = "AWS checks it inside another call"
_FAILURE = "only after a failure between two calls"
_AWS_ONLY = "only AWS has these"
_SLOW = "its calls are those of jobs of many seconds"
UNRECORDED: Final = {
    "tags": _CHECKED_INSIDE,
    "kms": _CHECKED_INSIDE,
    "queue-setup": "the user's own calls",
    "large-files": _FAILURE,
    "generated-name": _FAILURE,
    "execution-role-notebook": _AWS_ONLY,
    "prices": _AWS_ONLY,
    "config": _AWS_ONLY,
    **dict.fromkeys(("map-resume", "pool-remains", "queue"), _SLOW),
}


def test_each_feature_has_a_scenario_or_a_reason() -> None:
    """A new row of the table comes with its scenario."""
    scenarios = {name for name in FEATURES if hasattr(Scenarios, name.replace("-", "_"))}
    assert scenarios | UNRECORDED.keys() == FEATURES.keys()
    assert scenarios & UNRECORDED.keys() == set()


@pytest.mark.parametrize("name", [name for name in FEATURES if hasattr(Scenarios, name.replace("-", "_"))])
def test_the_table_has_the_calls_of_each_feature(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature makes no call whose permission the table lacks, and the table has none that is not used."""
    monkeypatch.chdir(tmp_path)
    faults = FaultInjector()
    scenarios = Scenarios(LocalSession(home=tmp_path / "engine", transport=faults.wrap), faults)
    use: Callable[[], None] = getattr(scenarios, name.replace("-", "_"))
    use()
    recorded = {action for operation in faults.calls for action in actions_of(operation)}
    allowed = {action for grant in caller_grants([name, *BESIDES.get(name, ())]) for action in grant.actions}
    own = {action for grant in FEATURES[name].caller if grant.is_call for action in grant.actions}
    assert (sorted(recorded - allowed), sorted(own - recorded)) == ([], [])


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
