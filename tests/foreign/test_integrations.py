"""The operator in Airflow and the Pipes client in Dagster, with jobs on the engine's endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import processing

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

PREPARE = """
import json, os, pathlib, sys
import boto3
import processing

boto3.client("s3").create_bucket(Bucket="integrations")
session = processing.Session(region_name="us-east-1", default_bucket="integrations")
processor = processing.ScriptProcessor(
    "arn:aws:iam::000000000000:role/any", "image", ["python3"], 1, "ml.m5.large", sagemaker_session=session,
    base_job_name="clean", env={"DAY": "{{ ds }}"})
"""


def packages_of(foreign: Client) -> Path:
    """A folder that has this package alone, for the search path of the client."""
    packages = foreign.folder / "packages"
    packages.mkdir(exist_ok=True)
    if not (packages / "processing").exists():
        (packages / "processing").symlink_to(Path(processing.__file__).parent)
    return packages


def script(foreign: Client, text: str, **environment: Any) -> Any:
    """Run a script that imports this package beside the client's own packages, and return its result."""
    path = foreign.folder / "script.py"
    path.write_text(PREPARE + text)
    printed = foreign.run("python", str(path), PYTHONPATH=str(packages_of(foreign)), **environment)
    before, _, result = printed.rpartition("RESULT")
    return {**json.loads(result.splitlines()[0]), "printed": before}


AIRFLOW = """
import asyncio, threading, types
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.serde import serialize
from processing.integrations.airflow import ProcessingJobTrigger, ProcessingOperator

pathlib.Path("clean.py").write_text('''
import os, sys, time
print("day", os.environ["DAY"], *sys.argv[1:], flush=True)
if sys.argv[1:] == ["sleep"]:
    time.sleep(600)
sys.exit(sys.argv[1:] == ["fail"])
''')
lines = []
class Log:
    def info(self, text, *words):
        lines.append(text % words)
    warning = info

class Operator(ProcessingOperator):
    log = Log()

def context(try_number=1, max_tries=2, map_index=-1):
    task = types.SimpleNamespace(
        dag_id="dag", task_id="clean", run_id=os.getcwd(), map_index=map_index, try_number=try_number,
        max_tries=max_tries)
    return {"ti": task, "ds": "2026-01-01", "word": "<{{ ds }}>"}

def operator(*words, kind=Operator, **options):
    output = processing.ProcessingOutput("/opt/ml/processing/output", "s3://integrations/{{ ds }}/", "out")
    return kind(
        task_id="clean", processor=processor, retries=2, **options,
        run_arguments={"code": "clean.py", "arguments": list(words), "outputs": [output]})

def raised(call):
    try:
        call()
    except BaseException as error:
        return error
    return None
"""

RUNS = """
first = operator("{{ word }}").execute(context(map_index=1))
again = operator("other").execute(context(try_number=2, map_index=1))
cleared = operator("other").execute(context(try_number=3, max_tries=4, map_index=1))
failed = raised(lambda: operator("fail").execute(context(map_index=2)))
retried = operator("fine").execute(context(try_number=2, map_index=2))
wrong = raised(lambda: operator(3).execute(context(map_index=3)))
print("RESULT" + json.dumps({
    "first": first, "again": again, "cleared": cleared, "lines": lines, "retried": retried,
    "failed": type(failed).__name__, "wrong": [type(wrong).__name__, str(wrong)]}))
"""


@pytest.mark.parametrize("foreign", ["airflow"], indirect=True)
def test_airflow_runs_and_attaches(foreign: Client) -> None:
    """Templates are rendered once, lines are logged, a retry attaches, a cleared or failed task starts a new job."""
    done = script(foreign, AIRFLOW + RUNS)
    assert done["first"]["status"] == "Completed"
    assert done["first"]["outputs"] == {"out": "s3://integrations/2026-01-01/"}
    assert "day 2026-01-01 <{{ ds }}>" in done["lines"]
    assert done["again"] == done["first"]
    assert done["cleared"]["job_name"] != done["first"]["job_name"]
    assert done["failed"] == "JobFailedError"
    assert done["retried"]["job_name"].endswith("-2")
    assert done["wrong"][0] == "AirflowFailException"
    assert done["wrong"][1].startswith("arguments[0]: ")


KILLS = """
task = operator("sleep")
def kill():
    while not any("day 2026-01-01 sleep" in line for line in lines):
        task_ended.wait(0.05)
    task.on_kill()
task_ended = threading.Event()
killer = threading.Thread(target=kill, daemon=True)
killer.start()
killed = raised(lambda: task.execute(context(map_index=1)))
killer.join()

deferred = raised(lambda: operator("later", deferrable=True).execute(context(map_index=2)))
path, arguments = deferred.trigger.serialize()
serialize(arguments)
trigger = ProcessingJobTrigger(**arguments)
async def first_event():
    return await anext(trigger.run())
event = asyncio.run(first_event()).payload
continued = operator("later", deferrable=True).execute_complete(context(), event)

slow = raised(lambda: operator("sleep", deferrable=True).execute(context(map_index=3)))
asyncio.run(slow.trigger.on_kill())
stopped = processing.attach(slow.trigger.job_name, session=session)
stopped.exception()
print("RESULT" + json.dumps({
    "killed": type(killed).__name__, "deferred": isinstance(deferred, TaskDeferred), "path": path, "event": event,
    "continued": continued, "lines": lines, "stopped": stopped.status}))
"""


@pytest.mark.parametrize("foreign", ["airflow"], indirect=True)
def test_airflow_kills_and_defers(foreign: Client) -> None:
    """A killed task stops its job, also while it is deferred; a deferred one logs its lines at the end."""
    done = script(foreign, AIRFLOW + KILLS)
    assert done["killed"] == "JobStoppedError"
    assert done["deferred"]
    assert done["path"] == "processing.integrations.airflow.ProcessingJobTrigger"
    assert done["event"] == {"job_name": done["continued"]["job_name"]}
    assert "day 2026-01-01 later" in done["lines"]
    assert done["stopped"] == "Stopped"


DAG = """
import datetime
from airflow.sdk import DAG
with DAG("dag", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
    task = operator("in a dag", kind=ProcessingOperator)
    mapped = ProcessingOperator.partial(task_id="mapped", processor=processor).expand(
        run_arguments=[{"code": str(CODE), "arguments": [word]} for word in ("a", "b")])
    task >> mapped
"""


@pytest.mark.parametrize("foreign", ["airflow"], indirect=True)
def test_airflow_runs_a_dag(foreign: Client) -> None:
    """A whole DAG with a mapped task runs in Airflow, with its own context and database."""
    home = foreign.folder / "airflow"
    environment: dict[str, Any] = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(packages_of(foreign)),
    }
    dag = home / "dags" / "dag.py"
    dag.parent.mkdir(parents=True)
    code = f"CODE = {str(foreign.folder / 'clean.py')!r}\n"
    dag.write_text(PREPARE + code + AIRFLOW.replace('"clean.py"', "CODE") + DAG)
    foreign.run("airflow", "db", "migrate", **environment)
    foreign.run("airflow", "dags", "reserialize", **environment)
    printed = foreign.run("airflow", "dags", "test", "dag", "2026-01-01", **environment)
    assert "day 2026-01-01 in a dag" in printed
    jobs = script(
        foreign, "print('RESULT' + json.dumps({'jobs': [job.name for job in processing.jobs(session=session)]}))"
    )
    assert sum(name.startswith("clean-") for name in jobs["jobs"]) >= 3
    assert "state=success" in printed


DAGSTER = """
import dagster
from processing.integrations.dagster import PipesProcessingClient

pathlib.Path("clean.py").write_text('''
import sys
sys.path += sys.argv[1:2]
from dagster_pipes import open_dagster_pipes
print("a plain line", flush=True)
with open_dagster_pipes() as pipes:
    pipes.log.info("the limit is " + str(pipes.extras["limit"]))
    pipes.report_asset_materialization(metadata={"rows": 7})
    if len(sys.argv) > 2:
        raise SystemExit(3)
''')
packages = os.path.dirname(os.path.dirname(__import__("dagster_pipes").__file__))

@dagster.asset(config_schema={"words": [str]})
def clean(context: dagster.AssetExecutionContext, pipes: dagster.ResourceParam[PipesProcessingClient]):
    words = context.op_config["words"]
    return pipes.run(
        context=context, extras={"limit": 5, "long": "x" * 1000}, processor=processor,
        run_arguments={"code": "clean.py", "arguments": [packages, *words]}).get_materialize_result()

def materialize(*words):
    return dagster.materialize(
        [clean], resources={"pipes": dagster.ResourceDefinition.hardcoded_resource(PipesProcessingClient())},
        run_config={"ops": {"clean": {"config": {"words": list(words)}}}}, raise_on_error=False)

good, bad = materialize(), materialize("fail")
(event,) = good.asset_materializations_for_node("clean")
failure = [event for event in bad.all_events if event.is_failure][0]
print("RESULT" + json.dumps({
    "success": [good.success, bad.success], "rows": event.metadata["rows"].value, "job": event.metadata["job"].value,
    "failure": failure.event_specific_data.error.to_string()}))
"""


@pytest.mark.parametrize("foreign", ["dagster"], indirect=True)
def test_dagster_materializes_an_asset(foreign: Client) -> None:
    """The program gets its context, larger than a variable of a request, and its messages arrive with its lines."""
    done = script(foreign, DAGSTER, DAGSTER_HOME="")
    assert done["success"] == [True, False]
    assert done["rows"] == 7
    assert done["job"].startswith("clean-")
    assert "JobFailedError" in done["failure"]
    assert "a plain line" in done["printed"]


TERMINATION = """
import signal, threading
pathlib.Path("clean.py").write_text("import time; time.sleep(600)")
processor.base_job_name = "terminated"

def terminate():
    while not list(processing.jobs("terminated", session=session)):
        over.wait(0.05)
    os.kill(os.getpid(), signal.SIGINT)
over = threading.Event()
threading.Thread(target=terminate, daemon=True).start()
try:
    materialize()
except BaseException:
    pass
(job,) = processing.jobs("terminated", session=session)
job.exception()
print("RESULT" + json.dumps({"status": job.status}))
"""


@pytest.mark.parametrize("foreign", ["dagster"], indirect=True)
def test_dagster_stops_the_job(foreign: Client) -> None:
    """The termination of a run stops its job."""
    done = script(foreign, DAGSTER.partition("good, bad")[0] + TERMINATION, DAGSTER_HOME="")
    assert done["status"] == "Stopped"
