"""Findings of a request, in the user's own terms."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any, cast

import pytest

from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    RedshiftDatasetDefinition,
)
from processing.request.build import build_request
from processing.request.validate import check_request, field_name

MINIMAL: dict[str, Any] = {
    "job_name": "job",
    "role_arn": "arn:aws:iam::123456789012:role/etl",
    "image_uri": "image",
    "instance_count": 1,
    "instance_type": "ml.m5.xlarge",
}
ROOT = "/opt/ml/processing/"


def problems(*, file_uris: bool = False, **given: Any) -> list[str]:
    """The lines of the error for the minimal request with these changes; none where it is fine."""
    try:
        check_request(build_request(**{**MINIMAL, **given}), file_uris=file_uris)
    except ConfigurationError as error:
        return str(error).splitlines()
    return []


def an_input(
    name: str = "a", path: str | None = ROOT + "a", source: str | None = "s3://b/k", **given: Any
) -> ProcessingInput:
    """A valid input with these changes."""
    return ProcessingInput(source, path, name, **given)


def an_output(
    name: str = "a", path: str | None = ROOT + "a", destination: str | None = "s3://b/k", **given: Any
) -> ProcessingOutput:
    """A valid output with these changes."""
    return ProcessingOutput(path, destination, name, **given)


def test_the_minimal_request_is_fine() -> None:
    """The base of the other tests has nothing wrong."""
    assert problems() == []


ONE_PROBLEM: list[tuple[dict[str, Any], str]] = [
    ({"job_name": "a_b"}, "job_name: must match "),
    ({"job_name": "x" * 64}, "job_name: has 64 characters, at most 63"),
    ({"role_arn": "arn:aws:iam::1:role/x"}, "role: must match "),
    ({"image_uri": "x" * 256}, "image_uri: has 256 characters, at most 255"),
    ({"image_uri": None}, "image_uri: missing"),
    ({"instance_count": 999}, "instance_count: must be at most 100, not 999"),
    ({"instance_count": 0}, "instance_count: must be at least 1, not 0"),
    ({"instance_count": "2"}, "instance_count: must be an integer, not '2' (str)"),
    ({"instance_count": None}, "instance_count: missing"),
    ({"instance_type": None}, "instance_type: missing"),
    ({"instance_type": "local"}, "instance_type: 'local' is only for the embedded engine"),
    ({"volume_size_in_gb": 0}, "volume_size_in_gb: must be at least 1"),
    ({"volume_size_in_gb": 16385}, "volume_size_in_gb: must be at most 16384"),
    ({"volume_kms_key": "no!"}, "volume_kms_key: must match"),
    ({"output_kms_key": "no!", "outputs": [an_output()]}, "output_kms_key: must match"),
    ({"max_runtime_in_seconds": 777601}, "max_runtime_in_seconds: must be at most 777600"),
    ({"arguments": ["a", "b", "c", "x" * 400]}, "arguments[3]: has 400 characters, at most 256"),
    ({"arguments": ["a\nb"]}, "arguments[0]: holds a line break"),
    ({"arguments": ["--n", 5]}, "arguments[1]: must be a string, not 5 (int)"),
    ({"arguments": "--n 5"}, "arguments: must be a list, not '--n 5' (str)"),
    ({"arguments": ["x"] * 101}, "arguments: has 101 entries, at most 100"),
    ({"entrypoint": "python3"}, "entrypoint: must be a list"),
    ({"entrypoint": ["x" * 257]}, "entrypoint[0]: has 257 characters"),
    ({"environment": {"X": "x" * 257}}, 'env["X"]: has 257 characters, at most 256'),
    ({"environment": {"1X": "x"}}, 'env["1X"]: must match'),
    ({"environment": {f"X{i}": "" for i in range(101)}}, "env: has 101 entries, at most 100"),
    ({"inputs": [an_input(str(i), f"{ROOT}{i}") for i in range(11)]}, "inputs: has 11 entries, at most 10"),
    ({"inputs": [an_input(path="/data")]}, f"inputs[0].destination: must begin with {ROOT}"),
    ({"inputs": [an_input(path=ROOT + "../x")]}, f"inputs[0].destination: must begin with {ROOT}"),
    ({"inputs": [an_input(path=ROOT)]}, f"inputs[0].destination: must begin with {ROOT}"),
    ({"inputs": [an_input(path=None)]}, "inputs[0].destination: missing"),
    ({"inputs": [an_input(source=None)]}, "inputs[0].source: missing"),
    ({"inputs": [an_input(source="data")]}, "inputs[0].source: must be an S3 URI, not 'data'"),
    ({"inputs": [an_input(source="file:///x")]}, "inputs[0].source: must be an S3 URI"),
    (
        {"inputs": [an_input(s3_input_mode="FastFile")]},
        "inputs[0].s3_input_mode: must be 'Pipe' or 'File', not 'FastFile'",
    ),
    ({"inputs": [an_input(s3_data_type="Prefix")]}, "inputs[0].s3_data_type: must be 'ManifestFile' or 'S3Prefix'"),
    ({"inputs": [an_input(s3_data_distribution_type="x")]}, "inputs[0].s3_data_distribution_type: must be"),
    (
        {"inputs": [an_input(s3_compression_type="Gzip")]},
        "inputs[0].s3_compression_type: Data can only be gzipped when",
    ),
    ({"inputs": [an_input(), an_input(path=ROOT + "b")]}, "inputs[1].input_name: 'a' is also inputs[0].input_name"),
    (
        {"inputs": [an_input("code"), an_input("code", ROOT + "b")]},
        "inputs[0].input_name: 'code' is the name of the script's",
    ),
    (
        {"inputs": [an_input(), an_input("b", ROOT + "a/")]},
        f"inputs[1].destination: '{ROOT}a/' is also inputs[0].destination",
    ),
    ({"outputs": [an_output(path="/x")]}, f"outputs[0].source: must begin with {ROOT}"),
    ({"outputs": [an_output(path=None)]}, "outputs[0].source: missing"),
    ({"outputs": [an_output(destination=None)]}, "outputs[0].destination: missing"),
    ({"outputs": [an_output(destination="out/")]}, "outputs[0].destination: must be an S3 URI"),
    ({"outputs": [an_output(s3_upload_mode="Never")]}, "outputs[0].s3_upload_mode: must be 'Continuous' or 'EndOfJob'"),
    (
        {"outputs": [an_output(), an_output(path=ROOT + "b")]},
        "outputs[1].output_name: 'a' is also outputs[0].output_name",
    ),
    ({"outputs": [an_output(), an_output("b")]}, f"outputs[1].source: '{ROOT}a' is also outputs[0].source"),
    ({"network_config": NetworkConfig(subnets=["s"])}, "network_config.security_group_ids: missing"),
    (
        {"network_config": NetworkConfig(subnets=["s"], security_group_ids=["g"] * 6)},
        "network_config.security_group_ids: has 6",
    ),
    (
        {"network_config": NetworkConfig(subnets=["_"], security_group_ids=["g"])},
        "network_config.subnets[0]: must match",
    ),
    (
        {"network_config": NetworkConfig(enable_network_isolation=cast("bool", "no"))},
        "network_config.enable_network_isolation: must be true or false",
    ),
    (
        {"network_config": NetworkConfig(encrypt_inter_container_traffic=cast("bool", 1))},
        "network_config.encrypt_inter_container_traffic: must",
    ),
    ({"tags": {"aws:x": "v"}}, "tags[0].Key: 'aws:x' begins with aws:"),
    ({"tags": {"k": "x" * 257}}, "tags[0].Value: has 257 characters, at most 256"),
    ({"tags": [{"Key": "k", "Value": "1"}] * 2}, "tags[1].Key: 'k' is also tags[0].Key"),
    ({"experiment_config": {"ExperimentName": "a b"}}, 'experiment_config["ExperimentName"]: must match'),
    ({"experiment_config": {"Experiment": "a"}}, 'experiment_config["Experiment"]: is not known'),
    ({"instance_preferences": ["ml.m5.large"]}, "instance_preferences: excludes instance_type"),
    (
        {"instance_type": None, "instance_preferences": ["ml.m5.large"] * 2},
        "instance_preferences[1]: 'ml.m5.large' is also",
    ),
    ({"instance_type": None, "instance_preferences": []}, "instance_preferences: has 0 entries, at least 1"),
    (
        {"instance_type": None, "instance_preferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 2}]},
        "instance_count: excludes counts in instance_preferences",
    ),
    (
        {
            "instance_type": None,
            "instance_count": None,
            "instance_preferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 2}, "ml.m5.xlarge"],
        },
        "instance_preferences: give InstanceCount in each",
    ),
]


@pytest.mark.parametrize(("given", "expected"), ONE_PROBLEM)
def test_one_problem(given: dict[str, Any], expected: str) -> None:
    """Each mistake is one line, which begins with the field as the user wrote it."""
    found = problems(**given)
    assert [line[: len(expected)] for line in found] == [expected], found


def test_all_problems_in_one_error() -> None:
    """Every mistake of a request is in the one error."""
    found = problems(job_name="_", instance_count=0, arguments=["x" * 300], inputs=[an_input(path="/x")])
    assert [line.partition(":")[0] for line in found] == [
        "inputs[0].destination",
        "job_name",
        "instance_count",
        "arguments[0]",
    ]


@pytest.mark.parametrize("engines", [RedshiftDatasetDefinition(), None])
def test_exactly_one_dataset(engines: RedshiftDatasetDefinition | None) -> None:
    """A dataset definition is of Athena or of Redshift."""
    athena = AthenaDatasetDefinition() if engines else None
    definition = DatasetDefinition(
        local_path=ROOT + "d", athena_dataset_definition=athena, redshift_dataset_definition=engines
    )
    found = problems(inputs=[ProcessingInput(input_name="d", dataset_definition=definition)])
    assert (
        "inputs[0].dataset_definition: exactly one of athena_dataset_definition, redshift_dataset_definition" in found
    )


def test_dataset_fields() -> None:
    """A query's own fields are named by the path that leads to them."""
    athena = AthenaDatasetDefinition("c", "d", "", "s3://b/k", output_format="XML")
    definition = DatasetDefinition(local_path="/x", athena_dataset_definition=athena)
    found = problems(inputs=[ProcessingInput(input_name="d", dataset_definition=definition)])
    prefix = "inputs[0].dataset_definition."
    assert [line.partition(":")[0] for line in found] == [
        prefix + "local_path",
        prefix + "athena_dataset_definition.query_string",
        prefix + "athena_dataset_definition.output_format",
    ]


def test_source_or_dataset() -> None:
    """An input has a source or a query, not both."""
    athena = AthenaDatasetDefinition("c", "d", "q", "s3://b/k", output_format="ORC")
    definition = DatasetDefinition(local_path=ROOT + "d", athena_dataset_definition=athena)
    assert problems(inputs=[an_input(dataset_definition=definition)]) == [
        "inputs[0].dataset_definition: excludes source; give one of the two"
    ]


def test_app_managed_entries_need_no_path() -> None:
    """Inputs and outputs that the container transfers itself have no path to check."""
    assert (
        problems(
            inputs=[ProcessingInput(input_name="a", app_managed=True)],
            outputs=[ProcessingOutput(output_name="a", app_managed=True)],
        )
        == []
    )


def test_the_value_of_a_variable_is_not_shown() -> None:
    """An environment variable may be a secret: the message names it without its value."""
    found = problems(environment={"TOKEN": ["hunter2"]})
    assert found == ['env["TOKEN"]: must be a string']


def test_a_long_value_is_cut() -> None:
    """A message stays readable for any value."""
    assert all(len(line) < 300 for line in problems(job_name="_" * 10_000))


def test_the_engine_understands_more() -> None:
    """On the embedded engine `file://` and `local` are fine."""
    assert (
        problems(
            file_uris=True,
            instance_type="local",
            inputs=[an_input(source="file:///data")],
            outputs=[an_output(path=ROOT + "b", destination="file:///out")],
        )
        == []
    )
    assert problems(file_uris=True, instance_type="local_gpu") == []


def test_an_unknown_instance_type_is_a_warning() -> None:
    """AWS has new types before botocore does: a warning, with what was probably meant, at the user's line."""
    with pytest.warns(UserWarning, match=r"instance_type: 'ml.m5.xlagre' .*; did you mean 'ml.m5.xlarge'\?") as caught:
        assert problems(instance_type="ml.m5.xlagre") == []
    assert caught[0].filename == __file__


def test_an_unknown_preference_is_a_warning() -> None:
    """The same for each of the preferences, which is named."""
    with pytest.warns(UserWarning, match=r"instance_preferences\[1\]: 'ml.new.large'"):
        assert problems(instance_type=None, instance_preferences=["ml.m5.large", "ml.new.large"]) == []


def test_a_known_type_warns_of_nothing() -> None:
    """No warning without a reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert problems() == []


def test_did_you_mean() -> None:
    """A value that is nearly one of the known ones gets a hint."""
    assert problems(outputs=[an_output(s3_upload_mode="endofjob")])[0].endswith("; did you mean 'EndOfJob'?")


def test_a_member_without_a_name_of_ours() -> None:
    """A member that a newer service model brings is still named, in Python's spelling."""
    assert field_name(("ProcessingResources", "ClusterConfig", "NewThingInGB")) == "new_thing_in_gb"
    assert field_name(("NewConfig", "Part", 0)) == "new_config.part[0]"


def test_importing_it_is_light() -> None:
    """The check loads botocore when it checks, not when it is imported."""
    code = "import sys, processing.request.validate, processing.request.build; print('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
