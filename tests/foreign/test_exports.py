"""Exported requests in the tools that receive them: Airflow, `sagemaker` 2.x, Step Functions' schema and JSONata."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from processing import ProcessingInput, ProcessingOutput, Processor, Session

if TYPE_CHECKING:
    from pathlib import Path

    from processing import ProcessingRequest
    from tests.foreign.conftest import Client

ROLE = "arn:aws:iam::000000000000:role/any"
COUNT = "ProcessingResources.ClusterConfig.InstanceCount"
PROGRAM = "import os, sys; print('date', sys.argv[1], os.environ['DATE'], os.environ['BRACES'])"


def request(text: str = "it's \\ {x}") -> ProcessingRequest:
    """A request with placeholders, and with texts that only look like some."""
    processor = Processor(
        ROLE,
        "image",
        1,
        "ml.m5.large",
        ["python3", "-c", PROGRAM],
        base_job_name="clean",
        env={"DATE": "{{date}}", "BRACES": "{{ 1 + 1 }} {% x %}\n"},
        sagemaker_session=Session(region_name="us-east-1", default_bucket="exports"),
    )
    return processor.request(
        [ProcessingInput("s3://exports/in-{{date}}/", "/opt/ml/processing/in", "raw")],
        [ProcessingOutput("/opt/ml/processing/out", output_name="out")],
        ["{{date}}", text],
    )


AIRFLOW = """
import datetime, json, sys
import boto3
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerProcessingOperator

boto3.client("s3").create_bucket(Bucket="exports")
boto3.client("s3").put_object(Bucket="exports", Key="in-2026-01-01/a", Body=b"a")
operator = SageMakerProcessingOperator(
    **json.load(open(sys.argv[1])), aws_conn_id=None, check_interval=1, print_log=False, deferrable=False)
context = {"ds": "2026-01-01", "run_id": "manual__2026-01-01T00:00:00+00:00", "count": 1}
operator.render_template_fields(context)
done = operator.execute(context)["Processing"]
print("RESULT" + json.dumps({key: done[key] for key in (
    "ProcessingJobName", "ProcessingJobStatus", "Environment", "AppSpecification", "ProcessingOutputConfig")}))
"""


@pytest.mark.parametrize("foreign", ["airflow"], indirect=True)
def test_airflow_runs_the_request(foreign: Client) -> None:
    """The provider's operator renders the arguments, creates the job on the engine and waits for it."""
    arguments = request().to_airflow(placeholders={"date": "ds", COUNT: "count"})
    (foreign.folder / "arguments.json").write_text(json.dumps(arguments))
    printed = foreign.script(AIRFLOW, "arguments.json")
    done: dict[str, Any] = json.loads(printed.partition("RESULT")[2].splitlines()[0])
    assert (done["ProcessingJobName"], done["ProcessingJobStatus"]) == ("clean", "Completed")
    assert done["Environment"] == {"DATE": "2026-01-01", "BRACES": "{{ 1 + 1 }} {% x %}\n"}
    assert done["AppSpecification"]["ContainerArguments"] == ["2026-01-01", "it's \\ {x}"]
    output = done["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    assert output == "s3://exports/clean-manual__2026-01-01T00-00-00-00-00/output/out"


PIPELINES = """
import json
import boto3, sagemaker
from sagemaker.processing import ProcessingInput, ProcessingOutput, Processor
from sagemaker.workflow.execution_variables import ExecutionVariables
from sagemaker.workflow.functions import Join
from sagemaker.workflow.parameters import ParameterInteger, ParameterString
from sagemaker.workflow.steps import CacheConfig, ProcessingStep

date, count = ParameterString("Date"), ParameterInteger("Count")
processor = Processor(
    ROLE, "image", count, "ml.m5.large", ["python3", "-c", PROGRAM],
    env={"DATE": date, "BRACES": "{{ 1 + 1 }} {% x %}\\n"},
    sagemaker_session=sagemaker.Session(boto3.Session(region_name="us-east-1"), default_bucket="exports"))
step = ProcessingStep(
    "clean", processor=processor, job_arguments=[date, "it's \\\\ {x}"], depends_on=["zero"],
    cache_config=CacheConfig(enable_caching=True, expire_after="P30D"),
    inputs=[ProcessingInput(
        Join("", ["s3://exports/in-", date, "/"]), "/opt/ml/processing/in", "raw", s3_compression_type="None")],
    outputs=[ProcessingOutput("/opt/ml/processing/out", Join("", [
        "s3://exports/clean-", ExecutionVariables.PIPELINE_EXECUTION_ID, "/output/out"]), "out")])
def plain(value):
    if hasattr(value, "expr"):
        return plain(value.expr)
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, list) else value
print("RESULT" + json.dumps(plain(step.to_request())))
"""


@pytest.mark.parametrize("foreign", ["sagemaker-2"], indirect=True)
def test_pipeline_step_is_that_of_sagemaker_2(foreign: Client) -> None:
    """The step is the one that a `ProcessingStep` of 2.x becomes in the definition of its pipeline."""
    printed = foreign.script(f"ROLE, PROGRAM = {ROLE!r}, {PROGRAM!r}\n{PIPELINES}")
    theirs = json.loads(printed.partition("RESULT")[2].splitlines()[0])
    placeholders = {"date": "Parameters.Date", COUNT: "Parameters.Count"}
    ours = request().to_pipeline_step("clean", placeholders=placeholders, depends_on=["zero"], cache_for="P30D")
    assert ours == theirs


EVALUATE = """
const jsonata = require("jsonata"), fs = require("fs");
const bindings = {states: {input: {date: "2026-01-01", count: 1}, context: {Execution: {Name: "run"}}}};
async function evaluated(value) {
  if (typeof value === "string" && value.startsWith("{%") && value.endsWith("%}")) {
    const expression = jsonata(value.slice(2, -2));
    expression.registerFunction("uuid", () => "0000");
    return await expression.evaluate({}, bindings);
  }
  if (Array.isArray(value)) return Promise.all(value.map(evaluated));
  if (value === null || typeof value !== "object") return value;
  const members = Object.entries(value).map(async ([key, member]) => [key, await evaluated(member)]);
  return Object.fromEntries(await Promise.all(members));
}
evaluated(JSON.parse(fs.readFileSync(process.argv[2]))).then(done => console.log(JSON.stringify(done)));
"""


def node(folder: Path, *words: str | Path) -> str:
    """Run a program of Node in the environment of the validator, and return what it printed."""
    done = subprocess.run(["node", *map(str, words)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


EXPRESSIONS = {
    "jsonata": {"date": "$states.input.date", COUNT: "$states.input.count"},
    "jsonpath": {"date": "$.date", COUNT: "$.count"},
}


@pytest.mark.parametrize("language", EXPRESSIONS)
@pytest.mark.parametrize("foreign", ["asl-validator"], indirect=True)
def test_state_machines_are_valid(foreign: Client, language: str) -> None:
    """The schema of Amazon States Language, and the checks of the paths beside it, accept the state machine."""
    definition = foreign.folder / "definition.json"
    # The validator cannot parse an escaped backslash, which the language has.
    definition.write_text(request("it's {x}").to_stepfunctions(language, placeholders=EXPRESSIONS[language]).to_json())
    modules = foreign.bin.parent / "node_modules"
    assert "is valid" in node(
        foreign.folder, modules / "asl-validator/dist/bin/asl-validator.js", "--json-path", definition
    )
    definition.write_text(definition.read_text().replace('"Resource"', '"Resourc"'))
    with pytest.raises(AssertionError, match="SCHEMA_VALIDATION_FAILED"):
        node(foreign.folder, modules / "asl-validator/dist/bin/asl-validator.js", "--json-path", definition)


@pytest.mark.parametrize("foreign", ["asl-validator"], indirect=True)
def test_jsonata_evaluates_to_the_request(foreign: Client) -> None:
    """The expressions evaluate to the request with the values in place of the placeholders."""
    modules = foreign.bin.parent / "node_modules"
    (foreign.folder / "node_modules").symlink_to(modules.resolve())
    (foreign.folder / "evaluate.js").write_text(EVALUATE)
    made = request()
    arguments = made.to_stepfunctions(placeholders=EXPRESSIONS["jsonata"]).state["Arguments"]
    (foreign.folder / "arguments.json").write_text(json.dumps(arguments))
    done = json.loads(node(foreign.folder, "evaluate.js", "arguments.json"))
    expected = json.dumps(made.to_boto()).replace("{{date}}", "2026-01-01")
    expected = expected.replace(f'"{made.job_name}"', '"clean-0000"').replace(made.job_name, "clean-run")
    assert done == json.loads(expected)
