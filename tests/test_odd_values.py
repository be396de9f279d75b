"""Odd values in every parameter of every public callable: an error that names the parameter, or a documented result."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
from typing import TYPE_CHECKING, Any

import pytest

import processing
from image_archives import docker_archive, layer
from odd_values import PublicCall
from processing import LocalSession, ProcessingOutput, Processor, ScriptProcessor, Session, ShimProcessor
from processing.spark import PySparkProcessor, SparkJarProcessor
from processing.testing import FaultInjector, SimulatedAws, VirtualClock

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

ROLE = "arn:aws:iam::123456789012:role/etl"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/etl:1"
NUMBERS = itertools.count()
ROOT = "/opt/ml/processing/"
MODULES = ("processing", "processing.testing", "processing.config", "processing.images", "processing.compat")
SPARK = ("processing.spark.PySparkProcessor", "processing.spark.SparkJarProcessor")
FUNCTIONS = {"processing.doctor": ("findings",), "processing.pricing": ("hourly_price", "load", "refresh")}

# Arguments without which a callable cannot be called.
REQUIRED: dict[str, Any] = {
    **dict.fromkeys(("message", "job_name", "status", "name", "host", "stream", "event_id", "kind", "path"), "x"),
    **dict.fromkeys(("at", "seconds", "timestamp", "ingestion_time", "arrival", "files", "size", "usd"), 1),
    **dict.fromkeys(("total_files", "bytes", "total_bytes", "total", "submitted", "attached", "failed"), 1),
    **dict.fromkeys(("uri", "as_of", "owner", "location", "origin", "topic", "text", "severity", "code"), "x"),
    "jobs": {},
    "region": "us-east-1",
    "instance_type": "ml.m5.xlarge",
    "framework": "sklearn",
    "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
    "framework_version": "1.2-1",
}
VERSIONS = {
    **{each.rpartition(".")[2]: "3.3" for each in SPARK},
    "MXNetProcessor": "1.9.0",
    "PyTorchProcessor": "2.5.1",
    "TensorFlowProcessor": "2.14.1",
}
# Callables that need other objects, or that no user calls with values of their own.
SPECIAL = {
    *("Clock", "Transport", "FaultKind", "RunSpec", "PUBLISHED_QUOTAS"),  # types only
    *("EventStream", "Fleet", "WaitResult", "SimulatedJobs", "JobOutputs", "JobListing"),  # the package makes them
    *("ProcessingRequest", "RunPlan", "StatusChanged", "Lost", "Config", "ConfigFile", "Setting", "Checkpoint"),
    *("wait", "wait_async", "as_completed", "as_completed_async", "events", "events_async"),
    *(
        "attach",
        "card",
        "rerun",
        "submit_all",
        "jobs",
        "get_execution_role",
        "ProcessingJob",
        "find_image",
        "refresh",
        "image_uri",
    ),
    *("FaultProxy", "FaultyEndpoint", "JsonService", "ScriptedLogs", "SimulatedAws", "ImageQuery"),
    *("HuggingFaceProcessor", "mutate_image", "patch_image", "registry_commands", "ShimResult", "ShimRun"),
}


class Environment:
    """The engine with a job that has ended, and a simulated AWS."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.session = LocalSession(folder / "engine")
        (folder / "clean.py").write_text("print(1)")
        python = {
            "bin/python3.11": b"",
            "bin/python3": "python3.11",
            "lib/python3.11/site-packages/botocore/__init__.py": b"",
        }
        self.image = docker_archive(folder / "image.tar", [layer(python)])
        self.processor = ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.session
        )
        program = Processor(
            entrypoint=["sh", "-c", "echo 1 > /opt/ml/processing/o/f"],
            instance_type="local",
            instance_count=1,
            sagemaker_session=self.session,
        )
        self.job = program.run(outputs=[ProcessingOutput(ROOT + "o", output_name="o")], logs=False, job_name="done")
        self.output = self.job.outputs["o"]
        self.on_aws = ScriptProcessor(
            ROLE, IMAGE, ["python3"], 1, "ml.m5.large", sagemaker_session=Session(region_name="us-east-1")
        )
        aws = Session(region_name="us-east-1", default_bucket="data")
        (folder / "app.jar").write_bytes(b"jar")
        self.pyspark = PySparkProcessor(ROLE, "ml.m5.large", 1, "3.3", sagemaker_session=aws)
        self.spark_jar = SparkJarProcessor(ROLE, "ml.m5.large", 1, "3.3", sagemaker_session=aws)
        self.shim = ShimProcessor(IMAGE, ROLE, 1, "ml.m5.large", [" "], sagemaker_session=self.on_aws.sagemaker_session)
        self.simulated = SimulatedAws(VirtualClock())


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A folder, settings of AWS without a network, and the engine as the default target."""
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("PROCESSING_LOCAL_HOME", str(folder / "engine"))
        patch.setenv("PROCESSING_TARGET", "local")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield Environment(folder)


def generated() -> dict[str, Callable[[Environment], PublicCall]]:
    """The calls that follow from the signatures of the public names alone."""
    names = [(module, name) for module in MODULES for name in importlib.import_module(module).__all__]
    names += [(module, name) for module, found in FUNCTIONS.items() for name in found]
    names += [(module, name) for module, _, name in (each.rpartition(".") for each in SPARK)]
    calls: dict[str, Callable[[Environment], PublicCall]] = {}
    for module, name in names:
        value = getattr(importlib.import_module(module), name)
        if name in SPECIAL:
            continue
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(value).parameters
            needed = {each for each, found in parameters.items() if found.default is found.empty}
            given = {each: REQUIRED.get(each) for each in needed if parameters[each].kind.name != "VAR_POSITIONAL"}
            given = {each: found for each, found in given.items() if parameters[each].kind.name != "VAR_KEYWORD"}
            if name.endswith("Processor") and name in {*VERSIONS, "XGBoostProcessor"}:
                given["instance_type"] = "ml.m5.xlarge"
            if name in VERSIONS:
                given["framework_version"] = VERSIONS[name]
            if name == "XGBoostProcessor":
                given["framework_version"] = "1.7-1"

            def make(_: Environment, value: Any = value, name: str = name, given: Any = given) -> PublicCall:
                return PublicCall(name, value, lambda: dict(given))

            calls[f"{module}.{name}"] = make
    return calls


def fixed(arguments: dict[str, Any]) -> Callable[[Environment], dict[str, Any]]:
    """Return a function that gives the same arguments to each call."""
    return lambda _: dict(arguments)


def methods_and_functions() -> dict[str, Callable[[Environment], PublicCall]]:
    """The calls that need an engine, a job or a simulation."""

    def on(path: str, given: Callable[[Environment], dict[str, Any]] = lambda _: {}, **options: Any) -> Any:
        def make(env: Environment) -> PublicCall:
            target: Any = env
            for part in path.split("."):
                target = getattr(target, part) if part != "()" else target()
            return PublicCall(path, target, lambda: given(env), **options)

        return make

    def function(name: str, given: Callable[[Environment], dict[str, Any]], **options: Any) -> Any:
        def make(env: Environment) -> PublicCall:
            module, _, attribute = name.rpartition(".")
            return PublicCall(name, getattr(importlib.import_module(module), attribute), lambda: given(env), **options)

        return make

    def job(env: Environment) -> dict[str, Any]:
        return {"jobs": [env.job]}

    names = ("wait", "wait_async", "as_completed", "as_completed_async", "events", "events_async")
    calls = {f"processing.{name}": function(f"processing.{name}", job) for name in names}
    calls |= {
        "processing.attach": function("processing.attach", lambda _: {"name": "done"}),
        "processing.card": function("processing.card", lambda _: {"name": "done"}),
        "processing.jobs": function("processing.jobs", lambda env: {"session": env.session}),
        "processing.submit_all": function(
            "processing.submit_all",
            lambda env: {"processor": env.processor, "runs": {}, "session": env.session, "name": "fleet"},
        ),
        "processing.get_execution_role": function(
            "processing.get_execution_role", lambda env: {"sagemaker_session": env.session}
        ),
        "processing.ProcessingJob": function(
            "processing.ProcessingJob", lambda env: {"sagemaker_session": env.session, "job_name": "done"}
        ),
        "processing.rerun": function("processing.rerun", lambda env: {"job": env.job}),
        "processing.pricing.refresh": function(
            "processing.pricing.refresh", lambda _: {"region": "x y"}, names={"session": ("region",)}
        ),
        "processing.images.ImageQuery": function(
            "processing.images.ImageQuery",
            lambda _: {"framework": "sklearn", "version": "1.2-1", "region": "us-east-1"},
            use=processing.images.find_image,
            leaving=("field_names",),
        ),
        "processing.images.image_uri": function(
            "processing.images.image_uri", lambda _: {"framework": "sklearn", "region": "us-east-1"}
        ),
        "processing.images.find_image": function("processing.images.find_image", lambda _: {}),
        "HuggingFaceProcessor": function(
            "processing.HuggingFaceProcessor",
            lambda _: {
                "transformers_version": "4.49.0",
                "pytorch_version": "2.5.1",
                "py_version": "py311",
                "instance_type": "ml.g5.xlarge",
            },
        ),
        "testing.SimulatedAws": function("processing.testing.SimulatedAws", lambda _: {"clock": VirtualClock()}),
        "testing.FaultProxy": function(
            "processing.testing.FaultProxy", lambda _: {"injector": FaultInjector(), "upstream": "http://127.0.0.1:9"}
        ),
        "testing.JsonService": function("processing.testing.JsonService", lambda _: {"handlers": {}}),
        "testing.ScriptedLogs": function(
            "processing.testing.ScriptedLogs", lambda _: {"lines": [], "clock": VirtualClock()}
        ),
    }
    given: dict[str, Callable[[Environment], dict[str, Any]]] = {
        "job.wait": lambda _: {"logs": False},
        "job.logs": lambda _: {},
        "job.events": lambda _: {},
        "job.events_async": lambda _: {},
        "job.wait_async": lambda _: {"logs": False},
        "job.exception": lambda _: {},
        "job.from_processing_name": lambda env: {"sagemaker_session": env.session, "processing_job_name": "done"},
        "job.from_processing_arn": lambda env: {"sagemaker_session": env.session, "processing_job_arn": env.job.arn},
        "job.from_event": lambda env: {"event": {}, "session": env.session},
        "session.upload_data": lambda _: {"path": "clean.py"},
        "session.download_data": lambda env: {
            "path": "down",
            "bucket": env.session.default_bucket(),
            "key_prefix": "done/output/o",
        },
        "output.download": lambda _: {"path": "down"},
        "output.as_input": lambda _: {"path": ROOT + "in"},
        "session.upload_string_as_file_body": lambda env: {
            "body": "x",
            "bucket": env.session.default_bucket(),
            "key": "k",
        },
        "session.read_s3_file": lambda env: {"bucket": env.session.default_bucket(), "key_prefix": "k"},
        "session.describe_processing_job": lambda _: {"job_name": "done"},
        "session.stop_processing_job": lambda _: {"job_name": "done"},
        "session.expand_role": lambda _: {"role": "r"},
        "session.client": lambda _: {"service": "s3"},
        "session.clean": lambda _: {"dry_run": True},
        "processor.request": lambda _: {"code": "clean.py"},
        "on_aws.request": lambda _: {"code": "clean.py"},
        "processor.stage": lambda _: {"code": "clean.py"},
        "on_aws.get_run_args": lambda _: {"code": "clean.py"},
        "pyspark.start_history_server": lambda _: {"spark_event_logs_s3_uri": "s3://a b/c"},
        "simulated.add_job": lambda _: {"name": f"job-{next(NUMBERS)}"},
        "simulated.at": lambda _: {"moment": 10.0, "action": print},
        "simulated.faults.on": lambda _: {"operation": "PutObject", "kind": "throttle"},
        "simulated.clock.sleep": lambda _: {"seconds": 1},
        "simulated.clock.advance": lambda _: {"seconds": 1},
    }
    calls |= {path: on(path, made) for path, made in given.items()}
    image = {
        "processing.images.mutate_image": lambda env: {"repo_tag": env.image, "env_vars": {}, "version": "1"},
        "processing.images.patch_image": lambda env: {"image": env.image, "output": env.folder / "new.tar"},
        "processing.images.registry_commands": lambda _: {"image": "team/prog:1"},
    }
    # The name of the new archive is made from the version.
    calls |= {name: function(name, made, names={"version": ("output",)}) for name, made in image.items()}
    calls["simulated.add_job"] = on("simulated.add_job", given["simulated.add_job"], names={"starts": ("ends",)})
    for path in ("processor.request", "processor.stage", "on_aws.request"):
        calls[path] = on(path, given[path], names={"source_dir": ("code",)})
    spark: dict[str, dict[str, Any]] = {
        "pyspark.request": {"submit_app": "clean.py"},
        "spark_jar.request": {"submit_app": "app.jar", "submit_class": "a.Main"},
    }
    for path, arguments in spark.items():
        # With `source_dir` the application is a file in it.
        calls[path] = on(path, fixed(arguments), names={"source_dir": ("submit_app",)})
    calls["job.from_event"] = on("job.from_event", given["job.from_event"], names={"session": ("event",)})
    names_of_run = dict.fromkeys(inspect.signature(ScriptProcessor.run).parameters, ("code",))
    # The command ends each call before a job is started; the parameters after the tasks are those of `run`.
    tasks = {"pk": "a", "inputs": [], "output_bucket_name": "data", "output_prefix": "p"}
    names_of_tasks = dict.fromkeys(inspect.signature(ShimProcessor.run_tasks).parameters, ("command[0]",))
    calls["shim.run_tasks"] = on("shim.run_tasks", lambda _: {"tasks": tasks}, names=names_of_tasks)
    calls["on_aws.run"] = on("on_aws.run", lambda _: {"code": "no.py"}, names=names_of_run)
    return calls


CALLS = {**generated(), **methods_and_functions()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(CALLS))
def test_odd_values(name: str, env: Environment) -> None:
    """Each parameter refuses an odd value by its name, or the call has a documented result."""
    call = CALLS[name](env)
    wrong = {parameter: found for parameter in call.parameters if (found := call.wrong_errors(parameter))}
    assert wrong == {}
