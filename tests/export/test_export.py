"""The forms of a request for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import processing
from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    FeatureStoreOutput,
    LocalSession,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    ProcessingRequest,
    Processor,
    ScriptProcessor,
    Session,
    attach,
)
from processing.export import airflow, python, step_functions

ROLE = "arn:aws:iam::111122223333:role/x"
SESSION = Session(region_name="eu-west-1", default_bucket="bucket")
JINJA = jinja2.Environment()
DATES = {"date": "$states.input.date"}


class Raw(ProcessingInput):
    """A user's own class of inputs."""


def request(**changes: Any) -> ProcessingRequest:
    """A request with a placeholder in several places."""
    settings: dict[str, Any] = {
        "role": ROLE,
        "image_uri": "image:1",
        "instance_count": 2,
        "instance_type": "ml.m5.large",
        "entrypoint": ["python3", "a b.py"],
        "base_job_name": "clean",
        "env": {"DATE": "{{date}}", "BRACES": "{% {{x}} %}"},
    }
    processor = Processor(**{**settings, **changes}, sagemaker_session=SESSION)
    return processor.request(
        [ProcessingInput("s3://b/{{ date }}/in", "/opt/ml/processing/in", "raw")],
        [ProcessingOutput("/opt/ml/processing/out", output_name="out")],
        ["--date", "{{date}}", "it's {x}"],
    )


REQUESTS = {
    "plain": request(),
    "everything": Processor(
        ROLE,
        "image:1",
        None,
        None,
        ["sh", "-c", "echo 'a' \"b\"\n"],
        100,
        "alias/volume",
        "alias/output",
        600,
        tags=[{"Key": "team", "Value": "etl + more"}],
        network_config=NetworkConfig(subnets=["subnet-1"], security_group_ids=["sg-1"]),
        instance_preferences=[
            {"InstanceType": "ml.m5.large", "InstanceCount": 3},
            {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        ],
        sagemaker_session=SESSION,
    ).request(
        [
            Raw("s3://b/in", "/opt/ml/processing/in", s3_input_mode="Pipe", s3_compression_type="Gzip"),
            ProcessingInput(
                input_name="query",
                dataset_definition=DatasetDefinition(
                    local_path="/opt/ml/processing/query",
                    athena_dataset_definition=AthenaDatasetDefinition(
                        "c", "d", "select 1", "s3://b/o", "w", output_format="PARQUET"
                    ),
                ),
            ),
        ],
        [ProcessingOutput(output_name="f", app_managed=True, feature_store_output=FeatureStoreOutput("group"))],
        experiment_config={"ExperimentName": "e"},
        job_name="everything",
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_python_makes_the_same_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of this package makes a request with the same parameters."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    text = REQUESTS[name].to_python()
    compile(text, "script", "exec")
    made: dict[str, Any] = {}
    offline = text.replace('    if_exists="suffix",\n', "").replace("processor.run(", "made = processor.request(")
    exec(offline, made)
    assert made["made"].to_boto() == REQUESTS[name].to_boto()


def test_python_has_settings_without_a_parameter() -> None:
    """`extra` is part of the script."""
    text = attrs.evolve(request(), extra={"New": {"Setting": 1}}).to_python()
    assert '    extra={"New": {"Setting": 1}},\n' in text


def test_placeholders_do_not_reach_a_file() -> None:
    """The error of a placeholder in arguments that exceed the limits of a request names the file that has them."""
    processor = Processor(ROLE, "image:1", 1, "ml.m5.large", ["sh"], sagemaker_session=SESSION)
    long = processor.request(arguments=["{{date}}", "x" * 5000])
    with pytest.raises(
        ConfigurationError, match=r"placeholders\['date'\]: .* they are in the input processing-command"
    ):
        long.to_airflow(placeholders=DATES)


def test_scripts_run_on_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both scripts create jobs that the engine describes as it does the request's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    session = LocalSession()
    Path("hello.py").write_text("print('hello')\n")
    processor = ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session, env={"A": "b"}
    )
    staged = processor.stage("hello.py", arguments=["x"], job_name="hello", quiet=True)
    exec(staged.to_python(), {})
    exec(staged.to_python(), {})
    client = {"client": session.boto_session.client("sagemaker")}
    exec(staged.with_name("boto").to_python("boto3").replace('boto3.client("sagemaker")', "client"), client)
    seen = []
    for name in ("hello", "hello-2", "boto"):
        attach(name, session=session).wait(logs=False, quiet=True)
        described = attach(name, session=session).describe()
        seen.append({key: value for key, value in described.items() if key in staged.to_boto()})
        del seen[-1]["ProcessingJobName"]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["Environment"] == {"A": "b"}


LEAVES = st.text() | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(VALUES)
def test_any_value_is_written_as_python(value: Any) -> None:
    """The expression of a value evaluates to the value."""
    assert eval(python.expression(value, 4, 10)) == value


@given(st.text())
def test_jinja_renders_any_text_as_it_is(text: str) -> None:
    """Airflow renders every text of the request to that text, with a line break at its end, too."""
    arguments = airflow.operator_arguments({"ProcessingJobName": "a", "Environment": {"A": text}})
    assert JINJA.from_string(arguments["config"]["Environment"]["A"]).render() == text


@given(st.text(), st.text())
def test_jinja_renders_placeholders_between_any_texts(before: str, after: str) -> None:
    """A placeholder is rendered, and the texts around it are not."""
    parameters = {"ProcessingJobName": "a", "Environment": {"A": f"{before} {{{{ day }}}} {after}"}}
    config = airflow.operator_arguments(parameters, placeholders={"day": "ds"})["config"]
    rendered = JINJA.from_string(config["Environment"]["A"]).render(ds="<2026>")
    assert "<2026>" in rendered
    assert rendered.count("<2026>") == f"{before} <2026> {after}".count("<2026>") or "day" in before + after


def rendered_config(value: Any, **context: Any) -> Any:
    """A value after Airflow has rendered its texts."""
    if isinstance(value, dict):
        return {key: rendered_config(member, **context) for key, member in value.items()}
    if isinstance(value, list):
        return [rendered_config(member, **context) for member in value]
    return JINJA.from_string(value).render(**context) if isinstance(value, str) else value


def test_airflow_arguments() -> None:
    """The operator gets the request, with a name that it makes unique and outputs of the DAG's run."""
    made = request().to_airflow(placeholders={"date": "ds", "ProcessingResources.ClusterConfig.InstanceCount": "n"})
    config = made["config"]
    rendered = rendered_config(config, ds="D", run_id="manual__1:2+3", n=4)
    assert made["task_id"] == config["ProcessingJobName"] == "clean"
    assert rendered["AppSpecification"]["ContainerArguments"] == ["--date", "D", "it's {x}"]
    assert rendered["Environment"] == {"DATE": "D", "BRACES": "{% {{x}} %}"}
    assert rendered["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == "4"  # the operator makes it a number
    output = rendered["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    assert output == "s3://bucket/clean-manual__1-2-3/output/out"


def test_state_machine_in_jsonata() -> None:
    """Each value with a placeholder is one expression; texts that look like one are not taken for one."""
    machine = request().to_stepfunctions(placeholders=DATES)
    arguments = machine.state["Arguments"]
    assert machine.definition["QueryLanguage"] == "JSONata"
    assert arguments["ProcessingInputs"][0]["S3Input"]["S3Uri"] == '{% "s3://b/" & ($states.input.date) & "/in" %}'
    assert arguments["AppSpecification"]["ContainerArguments"] == ["--date", "{% $states.input.date %}", "it's {x}"]
    assert arguments["Environment"]["BRACES"] == r'{% "\u007b% {{x}} %\u007d" %}'
    assert arguments["ProcessingJobName"] == '{% "clean-" & ($uuid()) %}'


def test_state_machine_in_jsonpath() -> None:
    """A computed member has a key with `.$`, and a list with a computed element is made by a function."""
    path = "ProcessingResources.ClusterConfig.InstanceCount"
    machine = request().to_stepfunctions("jsonpath", placeholders={"date": "$.date", path: "$.n"})
    arguments = machine.state["Parameters"]
    assert arguments["ProcessingInputs"][0]["S3Input"]["S3Uri.$"] == "States.Format('s3://b/{}/in', $.date)"
    expected = r"States.Array('--date', $.date, 'it\'s \{x\}')"
    assert arguments["AppSpecification"]["ContainerArguments.$"] == expected
    assert arguments["ProcessingResources"]["ClusterConfig"]["InstanceCount.$"] == "$.n"
    assert arguments["Environment"]["BRACES"] == "{% {{x}} %}"
    assert json.loads(machine.to_json()) == machine.definition


def test_jsonpath_escapes_what_its_functions_read() -> None:
    """Quotes, braces and backslashes of a text are escaped in the functions of JSONPath."""
    parameters = {"ProcessingJobName": "a", "RoleArn": ROLE, "Environment": {"A": "\\ ' { } {{day}}"}}
    machine = step_functions.state_machine(parameters, query_language="jsonpath", placeholders={"day": "$.day"})
    assert machine.state["Parameters"]["Environment"] == {"A.$": r"States.Format('\\ \' \{ \} {}', $.day)"}


def test_policy_of_a_state_machine() -> None:
    """The policy allows the jobs of the state machine, its rule, and the role of the job for SageMaker alone."""
    policy = request().to_stepfunctions(placeholders=DATES, region="eu-west-1").policy
    jobs, role, rule = policy["Statement"]
    assert jobs["Resource"] == "arn:aws:sagemaker:eu-west-1:111122223333:processing-job/clean-*"
    assert role["Resource"] == ROLE
    assert role["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert rule["Resource"].endswith(":rule/StepFunctionsGetEventsForSageMakerProcessingJobsRule")
    any_role = request().to_stepfunctions(placeholders={"RoleArn": "$states.input.role"}).policy
    assert any_role["Statement"][1]["Resource"] == "arn:aws:iam::111122223333:role/*"
    key = "arn:aws:kms:eu-west-1:111122223333:key/k"
    computed = "ProcessingResources.ClusterConfig.VolumeKmsKeyId"
    for volume, placeholders, resource in ((key, DATES, key), ("alias/k", DATES, "*"), (key, {computed: "$k"}, "*")):
        policy = request(volume_kms_key=volume).to_stepfunctions(placeholders=placeholders).policy
        assert policy["Statement"][3] == {"Effect": "Allow", "Action": "kms:CreateGrant", "Resource": resource}


def test_names_of_jobs_are_at_most_63_characters() -> None:
    """The base name is cut so that a UUID fits."""
    state = request(base_job_name="n" * 60).to_stepfunctions().state
    expression = state["Arguments"]["ProcessingJobName"]
    assert len(expression.split('"')[1]) + 36 <= 63


def test_pipeline_step() -> None:
    """A step has no job name, its cache, and references instead of placeholders."""
    placeholders = {"date": "Parameters.Date", "ProcessingInputs[raw].S3Input.S3DataType": "Parameters.Kind"}
    step = request().to_pipeline_step("one", placeholders=placeholders, depends_on=["zero"], cache_for="P30D")
    assert "ProcessingJobName" not in step["Arguments"]
    source = step["Arguments"]["ProcessingInputs"][0]["S3Input"]
    joined = {"Std:Join": {"On": "", "Values": ["s3://b/", {"Get": "Parameters.Date"}, "/in"]}}
    assert source["S3Uri"] == joined
    assert source["S3DataType"] == {"Get": "Parameters.Kind"}
    assert (step["DependsOn"], step["CacheConfig"]) == (["zero"], {"Enabled": True, "ExpireAfter": "P30D"})


def test_the_same_code_is_the_same_step(tmp_path: Path) -> None:
    """Two requests for the same files give equal steps; a local input that is not reused is a warning."""
    script = tmp_path / "clean.py"
    script.write_text("print(1)\n")
    processor = ScriptProcessor(ROLE, "image:1", ["python3"], 1, "ml.m5.large", sagemaker_session=SESSION)
    steps = []
    for _ in range(2):
        inputs = [ProcessingInput(script, "/opt/ml/processing/in", "raw", reuse=True)]
        steps.append(processor.request(str(script), inputs).to_pipeline_step("clean", cache_for="P1D"))
    assert steps[0] == steps[1]
    inputs = [ProcessingInput(script, "/opt/ml/processing/in", "raw")]
    with pytest.warns(UserWarning, match=r"^cache_for: the input 'raw' has the job's name in its URI"):
        processor.request(str(script), inputs).to_pipeline_step(cache_for="P1D")


MISTAKES: dict[str, dict[str, Any]] = {
    "placeholders: must be a dictionary, not": {"placeholders": ["date"]},
    r"placeholders\['dat'\]: the request has no such value, .*did you mean 'date'": {"placeholders": {"dat": "x"}},
    r"placeholders\['Environment.DAT'\]: .*did you mean 'DATE'": {"placeholders": {"Environment.DAT": "x"}},
    r"placeholders\['date'\]: must be an expression, not 3": {"placeholders": {"date": 3}},
    r"placeholders\['ProcessingInputs\[9\]'\]": {"placeholders": {"ProcessingInputs[9]": "x"}},
    "query_language: must be 'jsonata' or 'jsonpath', not 'sql'": {"query_language": "sql"},
    "state_name: must be at most 80 characters": {"state_name": "n" * 81},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_name_the_parameter(message: str) -> None:
    """An error begins with the parameter, and has a suggestion."""
    with pytest.raises(ConfigurationError, match=message):
        request().to_stepfunctions(**MISTAKES[message])
    with pytest.raises(ConfigurationError, match="library: must be 'processing' or 'boto3'"):
        request().to_python("sagemaker")


def test_the_request_is_not_changed() -> None:
    """An export works on copies."""
    made = request()
    before = made.to_boto()
    made.to_stepfunctions(placeholders={"AppSpecification.ContainerArguments[1]": "$x"})
    assert made.to_boto() == before


def test_state_machine_is_public() -> None:
    """The class of the result can be imported."""
    assert processing.StateMachine is step_functions.StateMachine
