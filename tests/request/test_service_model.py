"""The walk along the service model's shapes."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import json
import re
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processing._utils import garbage
from processing._utils.garbage import collection_paused
from processing.request.model_loader import ModelLoader
from processing.request.service_model import (
    Violation,
    _shared_loader,
    aws_message,
    compile_pattern,
    processing_model,
    service_model,
    shared_loader,
    violations,
)

if TYPE_CHECKING:
    from pathlib import Path

REQUEST: Any = processing_model().operation_model("CreateProcessingJob").input_shape

VALID: dict[str, Any] = {
    "ProcessingJobName": "a",
    "ProcessingResources": {
        "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
    },
    "AppSpecification": {"ImageUri": "image"},
    "RoleArn": "arn:aws:iam::123456789012:role/a",
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=3),
)


def values(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values near a shape: mostly of its type, now and then of another."""
    near: st.SearchStrategy[Any]
    if shape.type_name == "structure" and depth < 6:
        optional = {name: values(member, depth + 1) for name, member in shape.members.items()}
        near = st.fixed_dictionaries({}, optional={**optional, "Unknown": scalars})
    elif shape.type_name == "list" and depth < 6:
        near = st.lists(values(shape.member, depth + 1), max_size=3)
    elif shape.type_name == "map":
        near = st.dictionaries(st.text(max_size=3), values(shape.value, depth + 1), max_size=3)
    elif shape.type_name == "string":
        near = st.sampled_from(shape.enum[:3]) if shape.enum else st.text(max_size=25)
    elif shape.type_name in {"integer", "long"}:
        near = st.integers(-1, 1_000_000)
    else:
        near = scalars
    return st.one_of(near, near, near, near, scalars)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(value=values(REQUEST))
def test_finds_all_that_botocore_finds(value: Any) -> None:
    """The walk finds everything that botocore's validator finds."""
    if ParamValidator().validate(value, REQUEST).has_errors():
        assert violations(REQUEST, value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(value=values(REQUEST))
def test_no_violation_means_valid_for_botocore(value: Any) -> None:
    """A value without findings is valid for botocore, and every finding can be expressed in AWS's words."""
    found = violations(REQUEST, value)
    if not found:
        assert not ParamValidator().validate(value, REQUEST).has_errors()
    assert aws_message(found).startswith(f"{len({aws_message([one]) for one in found})} validation error")


def with_member(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The valid request with one member replaced."""

    def replaced(base: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return value
        if isinstance(rest[0], int):
            return [replaced(None, rest[1:])]
        return {**(base or {}), rest[0]: replaced((base or {}).get(rest[0]), rest[1:])}

    result: dict[str, Any] = replaced(VALID, path)
    return result


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        (("ProcessingJobName",), "x" * 64, "longest"),
        (("ProcessingJobName",), "", "shortest"),
        (("ProcessingJobName",), "a_b", "pattern"),
        (("ProcessingResources", "ClusterConfig", "InstanceCount"), 999, "greatest"),
        (("ProcessingResources", "ClusterConfig", "InstanceCount"), 0, "least"),
        (("ProcessingResources", "ClusterConfig", "InstanceCount"), True, "type"),
        (("ProcessingResources", "ClusterConfig", "InstanceType"), "ml.none", "enum"),
        (("AppSpecification", "ContainerArguments", 0), "x" * 257, "longest"),
        (("AppSpecification", "ContainerArguments", 0), "a\nb", "pattern"),
        (("AppSpecification", "ContainerArguments"), [], "shortest"),
        (("AppSpecification", "ContainerArguments"), "text", "type"),
        (("AppSpecification", "Nonsense"), 1, "unknown"),
        (("RoleArn",), None, "required"),
        (("Environment", "1X"), "v", "pattern"),
    ],
)
def test_each_constraint(path: tuple[Any, ...], value: Any, kind: str) -> None:
    """Each kind of constraint is found, at its place."""
    found = violations(REQUEST, with_member(path, value))
    assert [(one.path, one.kind) for one in found if one.kind == kind] == [(path, kind)]


def test_a_valid_request_has_no_violation() -> None:
    """The base of the other tests is valid."""
    assert violations(REQUEST, VALID) == []


def test_eleven_inputs() -> None:
    """A list that is too long is one finding, beside those of its elements."""
    entry = {"InputName": "a"}
    assert [one.constraint for one in violations(REQUEST, {**VALID, "ProcessingInputs": [entry] * 11})] == [
        "Member must have length less than or equal to 10"
    ]


def test_the_message_is_the_services() -> None:
    """The words, the order and the spelling of the path are AWS's."""
    request = {
        **VALID,
        "ProcessingInputs": [
            {"InputName": "a"},
            {"InputName": "b", "S3Input": {"S3Uri": "s3://b", "S3DataType": "S3Prefix", "S3InputMode": "FastFile"}},
        ],
    }
    assert aws_message(violations(REQUEST, request)) == (
        "1 validation error detected: Value 'FastFile' at 'processingInputs.2.member.s3Input.s3InputMode' failed to "
        "satisfy constraint: Member must satisfy enum value set: [Pipe, File]"
    )


def test_the_message_of_elements_keys_and_entries() -> None:
    """For simple elements AWS names the list or map, and all that its elements have to satisfy."""
    request = {
        **VALID,
        "Environment": {"1X": "v" * 300},
        "AppSpecification": {"ImageUri": "i", "ContainerArguments": ["a\nb"]},
    }
    message = aws_message(violations(REQUEST, request))
    limits = "Member must have length less than or equal to 256, Member must have length greater than or equal to 0"
    assert message.startswith("3 validation errors detected: ")
    assert f"at 'environment' failed to satisfy constraint: Map keys must satisfy constraint: [{limits}" in message
    assert f"at 'environment' failed to satisfy constraint: Map value must satisfy constraint: [{limits}" in message
    arguments = "appSpecification.containerArguments"
    assert f"at '{arguments}' failed to satisfy constraint: Member must satisfy constraint: [{limits}" in message


def test_the_message_of_a_missing_member() -> None:
    """A missing member is a null value without quotes."""
    assert "Value null at 'roleArn' failed to satisfy constraint: Member must not be null" in aws_message(
        violations(REQUEST, {})
    )


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), True),
        ("2026-01-01", True),
        (1.5, True),
        ("x", False),
        (None, False),
        (1e17, False),
        ("100000000000000", False),
    ],
)
def test_timestamps(value: Any, good: bool) -> None:
    """A time may be written in each way that botocore takes."""
    shape: Any = processing_model().operation_model("ListProcessingJobs").input_shape
    assert (not violations(shape, {"CreationTimeAfter": value})) is good


def test_tagged_union() -> None:
    """Of a union exactly one member is set."""
    shape: Any = next(
        shape
        for shape in map(service_model("sagemaker").shape_for, service_model("sagemaker").shape_names)
        if getattr(shape, "is_tagged_union", False)
    )
    assert [one.kind for one in violations(shape, {})] == ["union"]


def test_every_pattern_of_the_model_is_understood_or_left_alone() -> None:
    """No pattern of the installed model makes the walk fail."""
    model = processing_model()
    patterns = {model.shape_for(name).metadata.get("pattern") for name in model.shape_names} - {None}
    unknown = [pattern for pattern in patterns if compile_pattern(pattern) is None]
    assert len(unknown) < len(patterns) / 20


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "Straße 5_ok", "no!"),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "emoji \U0001f600", "bell \a"),
        (r".*", "one line", "two\r\nlines"),
        (r"\d{2}", "42", "\u0664\u0662"),
        (r"[\S\s]*", "two\nlines", None),
    ],
)
def test_javas_patterns(pattern: str, good: str, bad: str | None) -> None:
    """Patterns mean what they mean in Java, where the service checks them."""
    compiled = compile_pattern(pattern)
    assert compiled is not None
    assert compiled.fullmatch(good)
    assert bad is None or not compiled.fullmatch(bad)


def test_one_loader_for_the_process() -> None:
    """The model is read once, through a loader that sessions share."""
    assert shared_loader() is shared_loader()
    assert processing_model() is service_model("sagemaker")


@pytest.mark.parametrize("service", ["logs", "s3", "sagemaker", "sts"])
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"])
def test_the_data_are_those_of_botocores_loader(service: str, kind: str) -> None:
    """The loader returns what botocore's own one returns, in the same order, and the same error."""

    def load(loader: Loader) -> str:
        try:
            return json.dumps(loader.load_service_model(service, kind))
        except UnknownServiceError as error:
            return str(error)

    assert load(ModelLoader()) == load(Loader())


def test_an_unknown_service() -> None:
    """The error lists the known services, and the list of services is complete."""
    with pytest.raises(UnknownServiceError, match="sagemaker-runtime"):
        ModelLoader().load_service_model("sagemakr", "service-2")
    assert ModelLoader().list_available_services("service-2") == Loader().list_available_services("service-2")


def test_a_version_of_the_model() -> None:
    """A version can be named, and one that does not exist is an error."""
    latest = ModelLoader().load_service_model("cloudfront", "service-2")
    oldest = Loader().list_api_versions("cloudfront", "service-2")[0]
    assert ModelLoader().load_service_model("cloudfront", "service-2", api_version=oldest) != latest
    with pytest.raises(DataNotFoundError):
        ModelLoader().load_service_model("s3", "service-2", "1999-01-01")


def test_a_model_of_the_users(tmp_path: Path) -> None:
    """A model in a folder of the user's comes before botocore's own one, and so does its addition."""
    folder = tmp_path / "sagemaker" / "2099-01-01"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text('{"metadata": {"serviceId": "Mine"}}')
    (folder / "service-2.sdk-extras.json").write_text('{"merge": {"metadata": {"added": true}}}')
    model = ModelLoader([str(tmp_path)]).load_service_model("sagemaker", "service-2")
    assert model == {"metadata": {"serviceId": "Mine", "added": True}}


@pytest.fixture
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has made nothing yet."""
    monkeypatch.setattr(garbage._PAUSES, "left", 2)


@pytest.mark.usefixtures("_cold")
def test_the_fast_start_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable selects botocore's loader, and ends the pauses."""
    monkeypatch.setenv("PROCESSING_FAST_START", "off")
    assert type(_shared_loader.__wrapped__()) is Loader
    with collection_paused():
        assert gc.isenabled()
    monkeypatch.delenv("PROCESSING_FAST_START")
    assert type(_shared_loader.__wrapped__()) is ModelLoader


@pytest.mark.usefixtures("_cold")
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collection_of_garbage_continues(enabled: bool) -> None:
    """It is paused in the block only, and stays off if the user has switched it off."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with contextlib.suppress(KeyError), collection_paused():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is enabled
        assert gc.get_freeze_count() == 0
    finally:
        (gc.enable if before else gc.disable)()


def test_violations_are_values() -> None:
    """Two findings of the same are equal."""
    assert Violation(("A",), 1, "least", "c") == Violation(("A",), 1, "least", "c", all_constraints=("x",))


def test_the_service_takes_no_dot_for_a_newline() -> None:
    """A dot inside brackets stays a dot."""
    compiled = compile_pattern("[.]+")
    assert compiled is not None
    assert re.fullmatch(compiled, "..")
    assert not re.fullmatch(compiled, "a")


@pytest.mark.usefixtures("_cold")
def test_objects_that_the_user_has_frozen_stay_frozen() -> None:
    """A server freezes its objects before it forks. The pause undoes nothing."""
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collection_paused():
            assert not gc.isenabled()
        assert gc.get_freeze_count() > frozen // 2  # 0 if they were not; some may be gone meanwhile
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("_cold")
def test_new_objects_become_old_ones() -> None:
    """Python looks for garbage in objects of the block seldom, and finds it nevertheless."""
    with collection_paused():
        cycle: list[Any] = []
        cycle.append(cycle)
        kept = [cycle]
        assert any(each is kept for each in gc.get_objects(0))
    assert any(each is kept for each in gc.get_objects(2))
    with collection_paused():
        found = weakref.ref(_Cycle())
    gc.collect()
    assert found() is None


@pytest.mark.usefixtures("_cold")
def test_only_the_first_pauses_of_a_process_have_an_effect() -> None:
    """A process that makes sessions again and again needs the collection: each of their clients refers to itself."""
    for expected in (False, False, True, True):
        with collection_paused():
            assert gc.isenabled() is expected


class _Cycle:
    def __init__(self) -> None:
        self.itself = self
