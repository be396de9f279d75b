"""The public surface as type checkers see it. Nothing here runs: mypy reads it, with the rest of the tests.

A line with `type: ignore[...]` is a mistake that a type checker has to find: where it finds none, the unused `ignore`
is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type

import processing
from processing import (
    ConfigurationError,
    JobError,
    JobFailedError,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingJob,
    ProcessingOutput,
    Processor,
    RunArgs,
    RunPlan,
    ScriptProcessor,
    Session,
    ShimProcessor,
    ShimResult,
    ShimRun,
    SubmissionError,
    WatchError,
    attach,
)
from processing.doctor import Finding, findings
from processing.job.outputs import JobOutput, JobOutputs
from processing.job.plan import PlannedUpload
from processing.job.wait import WaitResult
from processing.pricing import Price, hourly_price, refresh
from processing.processors import FrameworkProcessor
from processing.request.build import ProcessingRequest
from processing.spark import PySparkProcessor, SparkJarProcessor
from processing.watching.events import Event, LogEvent
from processing.watching.status.model import Lost
from processing.watching.stream import EventStream

if TYPE_CHECKING:
    from processing.job.fleet.runs import RunSpec


def spark(script: PySparkProcessor, jar: SparkJarProcessor) -> None:
    """The arguments and results of Spark processors."""
    defaults = {"Classification": "spark-defaults", "Properties": {"spark.executor.cores": 2}}
    job = script.run(
        Path("app.py"), ["lib", Path("a.py")], submit_files=("x",), configuration=defaults, source_dir="src"
    )
    assert_type(job, ProcessingJob)
    assert_type(script.run("app.py", configuration=[defaults], if_exists="suffix", quiet=True), ProcessingJob)
    assert_type(script.request("app.py", kms_key="key"), ProcessingRequest)
    assert_type(script.stage("app.py", job_name="job"), ProcessingRequest)
    assert_type(script.plan("app.py", spark_event_logs_s3_uri="s3://b/e"), RunPlan)
    assert_type(script.get_run_args("app.py", kms_key="key"), RunArgs)
    assert_type(jar.run("app.jar", "com.example.Main", ["lib"]), ProcessingJob)
    assert_type(jar.plan("app.jar", "com.example.Main"), RunPlan)
    assert_type(jar.start_history_server("s3://b/e"), str)
    jar.terminate_history_server()
    jar.run("app.jar")  # type: ignore[call-arg]
    jar.run("app.jar", "Main", ["lib"], py_files=["x"])  # type: ignore[call-arg]
    script.run("app.py", submit_py_files=5)  # type: ignore[arg-type]


def processors(session: Session) -> None:
    """The arguments and results of processors."""
    image = Processor("role", "image", 1, "ml.m5.xlarge", ["python3"], env={"A": "b"}, tags={"k": "v"})
    assert_type(image.run(wait=False), ProcessingJob)
    assert_type(image.request(), ProcessingRequest)
    assert_type(image.plan(), RunPlan)
    assert_type(image.latest_job, ProcessingJob | None)
    script = ScriptProcessor(
        "role",
        "image",
        ["python3"],
        1,
        "ml.m5.xlarge",
        tags=[{"Key": "k", "Value": "v"}],
        network_config=NetworkConfig(subnets=["subnet-1"], security_group_ids=["sg-1"]),
        sagemaker_session=session,
        instance_preferences=["ml.m5.xlarge", {"InstanceType": "ml.m5.large", "InstanceCount": 2}],
        extra={"AppSpecification": {}},
    )
    inputs = [ProcessingInput("data", "/opt/ml/processing/input"), ProcessingInput(Path("data"), Path("/opt"))]
    outputs: list[ProcessingOutput | str] = [ProcessingOutput("/opt/ml/processing/out"), "/opt/ml/processing/other"]
    assert_type(script.run("clean.py", inputs, outputs, ["--n", "1"], if_exists="attach"), ProcessingJob)
    assert_type(script.run(code=Path("clean.py"), outputs=["/opt/ml/processing/out"]), ProcessingJob)
    assert_type(script.request("clean.py").to_boto(), dict[str, Any])
    assert_type(script.plan("clean.py", extra={}), RunPlan)
    assert_type(script.get_run_args("clean.py"), RunArgs)
    spark(PySparkProcessor("role", "ml.m5.xlarge", 2, "3.5"), SparkJarProcessor(instance_type="local", image_uri="i"))
    framework = FrameworkProcessor("image", "role", 1, "ml.m5.xlarge")
    assert_type(framework.run("clean.py", "src", ["lib"], "requirements.txt", inputs), ProcessingJob)
    assert_type(framework.plan("clean.py", source_dir=Path("src")), RunPlan)


def mistakes() -> None:
    """Mistakes that a type checker finds before anything runs."""
    Processor(instance_count="2")  # type: ignore[arg-type]
    Processor(instance_kind="ml.m5.xlarge")  # type: ignore[call-arg]
    Processor().run(if_exists="replace")  # type: ignore[arg-type]
    Processor().run(outputs=[5])  # type: ignore[list-item]
    ScriptProcessor().run()  # type: ignore[call-arg]
    ScriptProcessor(command="python3")  # type: ignore[arg-type]
    ProcessingInput(5)  # type: ignore[arg-type]
    processing.no_such_name  # type: ignore[attr-defined] # noqa: B018 - this is the mistake


def jobs(job: ProcessingJob) -> None:
    """A job, and everything that can be asked of it."""
    assert_type(attach("name"), ProcessingJob)
    assert_type(ProcessingJob.from_processing_name(None, "name"), ProcessingJob)
    assert_type(job.wait(logs=False, timeout=5, on_stop="return"), ProcessingJob)
    assert_type((job.name, job.job_name, job.arn, job.status), tuple[str, str, str, str])
    assert_type(job.describe(), dict[str, Any])
    assert_type(job.events(), EventStream[Event])
    assert_type(job.logs(follow=True), Iterator[LogEvent])
    assert_type(job.outputs, JobOutputs)
    assert_type(job.outputs[0], JobOutput)
    assert_type(job.outputs["clean"], JobOutput)
    assert_type(job.outputs[:1], JobOutputs)
    assert_type(job.outputs["clean"].download("out"), list[Path])
    assert_type(job.logs(since=timedelta(hours=1), host=1, pattern="x"), Iterator[LogEvent])
    assert_type(job.exception(), JobError | WatchError | None)
    job.wait(on_stop="ignore")  # type: ignore[arg-type]


async def many(jobs: list[ProcessingJob]) -> None:
    """Several jobs at once, in threads and coroutines."""
    done, not_done = processing.wait(jobs, timeout=5, return_when="FIRST_COMPLETED", logs=True)
    assert_type((done, not_done), tuple[set[ProcessingJob], set[ProcessingJob]])
    assert_type(processing.wait(jobs).failed, Mapping[ProcessingJob, Exception])
    assert_type(processing.as_completed(jobs), Iterator[ProcessingJob])
    assert_type(processing.events(jobs), EventStream[Event | Lost])
    assert_type(await jobs[0].wait_async(), ProcessingJob)
    assert_type(await processing.wait_async(jobs), WaitResult)
    async for event in jobs[0].events_async():
        assert_type(event, Event)
    async for job in processing.as_completed_async(jobs):
        assert_type(job, ProcessingJob)
    processing.wait(jobs, return_when="LAST")  # type: ignore[arg-type]


def fleets(processor: ScriptProcessor) -> None:
    """Runs of a fleet, typed or as plain dictionaries."""
    typed: list[RunSpec] = [{"code": "clean.py", "arguments": ["1"]}, {"code": Path("clean.py")}]
    assert_type(processing.submit_all(processor, typed, name="etl"), processing.Fleet)
    by_key: dict[str, RunSpec] = {"mon": {"code": "clean.py"}}
    assert_type(processing.submit_all(processor, by_key, name="etl"), processing.Fleet)
    assert_type(processing.submit_all(processor, {"mon": {"code": Path("clean.py")}}, name="etl"), processing.Fleet)
    typed.append({"script": "clean.py"})  # type: ignore[typeddict-unknown-key]


def sessions() -> None:
    """Sessions, for AWS and for this machine."""
    session = Session(default_bucket="bucket", region_name="eu-central-1")
    assert_type(session.default_bucket(), str)
    assert_type(session.boto_region_name, str)
    local: Session = LocalSession("folder")
    assert_type(local.is_local, bool)
    Session(code_layout="other")  # type: ignore[arg-type]


def errors() -> None:
    """The attributes of errors."""
    try:
        attach("name").wait()
    except JobFailedError as error:
        assert_type(error.failure_reason, str | None)
        assert_type(error.log_tail, tuple[str, ...])
    except SubmissionError as error:
        assert_type(error.code, str | None)
    except ConfigurationError as error:
        assert_type(error.problems, tuple[str, ...])


def plans(plan: RunPlan) -> None:
    """A plan's parts, prices and the doctor's findings."""
    assert_type(plan.request, ProcessingRequest | None)
    assert_type(plan.uploads, tuple[PlannedUpload, ...])
    assert_type((plan.files, plan.size, plan.price), tuple[int, int, float | None])
    assert_type((plan.problems, plan.warnings), tuple[tuple[str, ...], tuple[str, ...]])
    assert_type(processing.pricing.hourly_price("ml.m5.xlarge", "us-east-1"), Price | None)
    assert_type(hourly_price("ml.m5.xlarge", "us-east-1"), Price | None)
    assert_type(refresh("us-east-1"), int)
    assert_type(findings("clean.py"), tuple[Finding, ...])


def tasks_of_the_shim(processor: ShimProcessor, tasks: list[dict[str, Any]]) -> None:
    """Tasks as dictionaries, and their results."""
    run = processor.run_tasks(tasks, wait=False)
    assert_type(run, ShimRun)
    assert_type(run.job, ProcessingJob)
    assert_type(run.results(), list[ShimResult])
    assert_type([(result.return_code, result.succeeded) for result in run.results()], list[tuple[int | None, bool]])


class Custom(ScriptProcessor):
    """A subclass in the way of public ones: the hooks have types of their own."""

    def _normalize_args(
        self,
        job_name: str | None = None,
        arguments: list[str] | None = None,
        inputs: list[ProcessingInput] | None = None,
        outputs: Any = None,
        code: Any = None,
        kms_key: str | None = None,
    ) -> tuple[list[ProcessingInput], list[ProcessingOutput]]:
        found = super()._normalize_args(job_name, arguments, inputs, outputs, code, kms_key)
        assert_type(found, tuple[list[ProcessingInput], list[ProcessingOutput]])
        return found


def settings(extra: Mapping[str, Any], environment: dict[str, str]) -> None:
    """Attributes may be assigned, with their types."""
    processor = Processor()
    processor.extra, processor.env, processor.instance_count = extra, environment, 2
    processor.instance_count = "2"  # type: ignore[assignment]
