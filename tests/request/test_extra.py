"""Settings that no parameter has: `extra={...}`."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest
from botocore.model import ServiceModel

from processing import (
    AthenaDatasetDefinition,
    ConfigurationError,
    DatasetDefinition,
    FeatureStoreOutput,
    NetworkConfig,
    ProcessingInput,
    ProcessingOutput,
    RedshiftDatasetDefinition,
)
from processing.request.build import build_request, request_from_describe
from processing.request.extra import _PARAMETERS, merge_extra
from processing.request.service_model import shared_loader
from processing.request.validate import check_request, find_problems

ROLE = "arn:aws:iam::123456789012:role/etl"
FULL: dict[str, Any] = {
    "job_name": "job",
    "role_arn": ROLE,
    "image_uri": "image",
    "instance_count": 1,
    "instance_type": "ml.m5.xlarge",
    "entrypoint": ["python3"],
    "arguments": ["a"],
    "environment": {"A": "b"},
    "inputs": [
        ProcessingInput("s3://b/in", "/opt/ml/processing/in", "in"),
        ProcessingInput(
            input_name="athena",
            dataset_definition=DatasetDefinition(
                local_path="/opt/ml/processing/athena",
                athena_dataset_definition=AthenaDatasetDefinition(
                    "c", "d", "q", "s3://b/k", "w", "k", "PARQUET", "GZIP"
                ),
            ),
        ),
        ProcessingInput(
            input_name="redshift",
            dataset_definition=DatasetDefinition(
                local_path="/opt/ml/processing/redshift",
                redshift_dataset_definition=RedshiftDatasetDefinition(
                    "c", "d", "u", "q", ROLE, "s3://b/k", "k", "CSV", "GZIP"
                ),
            ),
        ),
    ],
    "outputs": [
        ProcessingOutput("/opt/ml/processing/out", "s3://b/out", "out"),
        ProcessingOutput(output_name="features", feature_store_output=FeatureStoreOutput("group"), app_managed=True),
    ],
    "volume_kms_key": "volume",
    "output_kms_key": "output",
    "max_runtime_in_seconds": 60,
    "tags": {"k": "v"},
    "network_config": NetworkConfig(True, ["sg-1"], ["subnet-1"], True),  # noqa: FBT003 - a positional call is the rule
    "experiment_config": {"ExperimentName": "e"},
}
NAMES = {"InputName", "OutputName"}


@pytest.fixture(scope="module")
def newer() -> ServiceModel:
    """A model of the service as a later botocore could have it, with settings that no parameter has."""
    model = copy.deepcopy(shared_loader().load_service_model("sagemaker", "service-2"))
    shapes = model["shapes"]
    shapes["Priority"] = {"type": "integer", "min": 1, "max": 9}
    shapes["Reservation"] = {
        "type": "structure",
        "required": ["Arn"],
        "members": {"Arn": {"shape": "RoleArn"}, "Priority": {"shape": "Priority"}},
    }
    for shape in ("AppSpecification", "ProcessingClusterConfig", "ProcessingS3Input", "ProcessingOutput"):
        shapes[shape]["members"]["Priority"] = {"shape": "Priority"}
    shapes["CreateProcessingJobRequest"]["members"]["Reservation"] = {"shape": "Reservation"}
    return ServiceModel(model, "sagemaker")


def problems(extra: Any, newer: ServiceModel | None = None, **changes: Any) -> list[str]:
    """Return the findings for the full request with this `extra`."""
    return list(find_problems(build_request(**{**FULL, **changes}, extra=extra), service_model=newer))


def test_it_passes_through(newer: ServiceModel) -> None:
    """Members without a parameter go into the request, beside those of the parameters."""
    extra = {"AppSpecification": {"Priority": 3}, "Reservation": {"Arn": ROLE, "Priority": 1}}
    request = build_request(**FULL, extra=extra)
    check_request(request, service_model=newer)
    sent = request.to_boto()
    assert sent["AppSpecification"] == {**request.without_extra()["AppSpecification"], "Priority": 3}
    assert sent["Reservation"] == {"Arn": ROLE, "Priority": 1}


def test_entries_are_found_by_their_names(newer: ServiceModel) -> None:
    """An input or output is extended by its name, at any position."""
    extra = {
        "ProcessingInputs": [{"InputName": "in", "S3Input": {"Priority": 2}}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "features", "Priority": 4}]},
    }
    request = build_request(**FULL, extra=extra)
    check_request(request, service_model=newer)
    plain, sent = request.without_extra(), request.to_boto()
    plain["ProcessingInputs"][0]["S3Input"]["Priority"] = 2
    plain["ProcessingOutputConfig"]["Outputs"][1]["Priority"] = 4
    assert sent == plain


def test_the_installed_model_decides() -> None:
    """A member that the installed botocore does not know is an error, with its path and a suggestion."""
    assert problems({"AppSpecification": {"Priority": 3}}) == [
        "extra.AppSpecification.Priority: is not known to the installed botocore"
    ]
    (text,) = problems({"ProcessingResource": {}})
    assert text == (
        "extra.ProcessingResource: is not known to the installed botocore; did you mean 'ProcessingResources'?"
    )


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"Reservation": {"Arn": ROLE, "Priority": 10}}, "extra.Reservation.Priority: must be at most 9, not 10"),
        ({"Reservation": {"Priority": 1}}, "extra.Reservation.Arn: missing"),
        ({"Reservation": 5}, "extra.Reservation: must be a structure, not 5 (int)"),
        (
            {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "features", "Priority": "x"}]}},
            "extra.ProcessingOutputConfig.Outputs[0].Priority: must be an integer, not 'x' (str)",
        ),
    ],
)
def test_it_is_checked_like_the_rest(extra: Any, text: str, newer: ServiceModel) -> None:
    """Limits and types of the model hold for it too, with its place in `extra`."""
    assert problems(extra, newer) == [text]


def test_a_parameter_s_error_names_the_parameter(newer: ServiceModel) -> None:
    """Beside an `extra` in the same structure, the parameter's own finding keeps its own name."""
    extra = {"ProcessingInputs": [{"InputName": "in", "S3Input": {"Priority": 2}}], "AppSpecification": {"Priority": 1}}
    bad = [ProcessingInput("s3://b/in", "/opt/ml/processing/in", "in", s3_input_mode="Fast")]
    (text,) = problems(extra, newer, inputs=bad)
    assert text.startswith("inputs[0].s3_input_mode: must be 'Pipe' or 'File'")
    assert problems(extra, newer, image_uri=None) == ["image_uri: missing"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a request."""
    if isinstance(value, dict):
        return [leaf for name, member in value.items() for leaf in leaves(member, (*path, name))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for index, member in enumerate(value) for leaf in leaves(member, (*path, index))]
    return [path]


def as_extra(request: dict[str, Any], path: tuple[Any, ...]) -> Any:
    """The `extra` that names one value of a request; elements of lists by their names."""
    value: Any = request
    parents = []
    for part in path:
        parents.append(value)
        value = value[part]
    for part, parent in zip(reversed(path), reversed(parents), strict=True):
        if isinstance(parent, dict):
            value = {part: value}
        else:
            value = [{**{key: parent[part][key] for key in NAMES & set(parent[part])}, **value}]
    return value


SET_BY_PARAMETERS = [path for path in leaves(build_request(**FULL).to_boto()) if path[-1] not in NAMES]


@pytest.mark.parametrize("path", SET_BY_PARAMETERS, ids=lambda path: ".".join(map(str, path)))
def test_members_of_parameters_are_refused(path: tuple[Any, ...]) -> None:
    """Each setting that a parameter has is refused in `extra`, and the parameter is named; even with an equal value."""
    (text,) = problems(as_extra(build_request(**FULL).to_boto(), path))
    assert text.startswith("extra.")
    assert " is set by the parameter " in text


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"RoleArn": ROLE}, "extra.RoleArn: is set by the parameter role; give it there"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 1}},
            (
                "extra.StoppingCondition.MaxRuntimeInSeconds: "
                "is set by the parameter max_runtime_in_seconds; give it there"
            ),
        ),
        ({"Environment": {"B": "c"}}, "extra.Environment: is set by the parameter env; give it there"),
        (
            {"ProcessingResources": {"ClusterConfig": {"InstanceCount": 9}}},
            (
                "extra.ProcessingResources.ClusterConfig.InstanceCount: "
                "is set by the parameter instance_count; give it there"
            ),
        ),
        (
            {"ProcessingInputs": [{"InputName": "redshift", "AppManaged": True}]},
            "extra.ProcessingInputs[0].AppManaged: is set by the parameter inputs[2].app_managed; give it there",
        ),
        (
            {"ProcessingInputs": [{"InputName": "none"}]},
            "extra.ProcessingInputs[0].InputName: 'none' is not in the request, which has: in, athena, redshift",
        ),
        (
            {"ProcessingOutputConfig": {"Outputs": [{"S3Output": {}}]}},
            "extra.ProcessingOutputConfig.Outputs: must be a list of dictionaries, each with its OutputName",
        ),
        ({"NetworkConfig": True}, "extra.NetworkConfig: must be a dictionary, not bool"),
    ],
)
def test_invalid_members(extra: Any, text: str) -> None:
    """The error names the place in `extra`, and the parameter or what is wrong."""
    assert problems(extra) == [text]


def test_it_is_a_dictionary() -> None:
    """Anything else is an error that begins with the field."""
    with pytest.raises(ConfigurationError, match=r"^extra: must be a dictionary, not list"):
        build_request(**FULL, extra=[])  # type: ignore[arg-type]


def test_one_laid_over_another() -> None:
    """The settings of `run` are merged over the processor's, structure by structure; neither is changed."""
    base = {"A": {"B": 1, "C": {"D": 2}}, "Outputs": [{"OutputName": "x", "E": 1}]}
    over = {"A": {"C": {"F": 3}}, "Outputs": [{"OutputName": "x", "G": 2}, {"OutputName": "y"}]}
    before = copy.deepcopy((base, over))
    assert merge_extra(base, over) == {
        "A": {"B": 1, "C": {"D": 2, "F": 3}},
        "Outputs": [{"OutputName": "x", "E": 1, "G": 2}, {"OutputName": "y"}],
    }
    assert (base, over) == before
    assert merge_extra(None, None) is None


def test_nothing_given_is_kept(newer: ServiceModel) -> None:
    """A change to the dictionary, or to what is handed out, changes no request."""
    extra: dict[str, Any] = {"Reservation": {"Arn": ROLE}}
    request = build_request(**FULL, extra=extra)
    before = request.to_boto()
    extra["Reservation"]["Arn"] = "other"
    assert request.extra is not None
    request.extra["Reservation"]["Arn"] = "other"
    request.to_boto()["Reservation"]["Arn"] = "other"
    assert request.to_boto() == before
    hash(request)


def test_round_trip_through_describe(newer: ServiceModel) -> None:
    """Settings beyond the parameters are found in Describe's response, and nothing else is."""
    extra = {
        "Reservation": {"Arn": ROLE, "Priority": 1},
        "ProcessingResources": {"ClusterConfig": {"Priority": 5}},
        "ProcessingInputs": [{"InputName": "in", "S3Input": {"Priority": 2}}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "features", "Priority": 4}]},
    }
    request = build_request(**{**FULL, "tags": None}, extra=extra)
    answer = {**request.to_boto(), "ProcessingJobArn": "arn", "ProcessingJobStatus": "Completed", "ExitMessage": "x"}
    answer["ProcessingResources"]["ClusterConfig"]["SelectedInstanceType"] = "ml.m5.xlarge"
    found = request_from_describe(answer, service_model=newer)
    assert found.extra == extra
    assert found.to_boto() == request.to_boto()
    assert request_from_describe(attrs.evolve(request, extra=None).to_boto()).extra is None


def spoken_for(parameters: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The paths that parameters claim to set."""
    if parameters is None:
        return {path}
    return {place for name, inner in parameters.items() for place in spoken_for(inner, (*path, name))}


def test_each_listed_parameter_exists() -> None:
    """Each setting that `extra` leaves to a parameter is one that the parameters set, and is in the installed model."""
    preferences = [{"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}]
    changes = {"instance_type": None, "instance_count": None, "instance_preferences": preferences}
    written = {
        tuple(part for part in path if isinstance(part, str))
        for given in (FULL, {**FULL, **changes})
        for path in leaves(build_request(**given).to_boto())
    }
    for place in spoken_for(_PARAMETERS):
        assert any(path[: len(place)] == place for path in written), place
    assert not problems(None)


def _itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value.update(AppSpecification=value, NetworkConfig=[value, (value,)])
    return value


def _deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"AppSpecification": value}
    return value


@pytest.mark.parametrize(
    "value", [_itself(), {"ProcessingInputs": [_itself()]}, _deep()], ids=["itself", "list", "deep"]
)
def test_a_value_without_end_is_refused(value: dict[str, Any]) -> None:
    """A dictionary that contains itself, directly or within others, is a problem of `extra`."""
    for arguments in ((value, None), (None, value)):
        with pytest.raises(ConfigurationError, match=r"^extra: contains itself, or is nested more than"):
            merge_extra(*arguments)


def test_a_structure_that_is_used_often_is_not_refused() -> None:
    """The same dictionary may be in a value many times."""
    same = {"Key": "v"}
    value = {"A": [same] * 100, "B": {"C": same, "D": [same, [same]]}}
    assert merge_extra(value, None) == value
