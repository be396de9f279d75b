"""`FrameworkProcessor` in the form of `sagemaker` 2.x: an estimator class and a version instead of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    FrameworkProcessor,
    LocalSession,
    NetworkConfig,
    ProcessingOutput,
    Session,
    compat,
    images,
)

if TYPE_CHECKING:
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/Processing"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/my-image:1"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source directory with a script and a module beside it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "helper.py").write_text("WORD = 'helped'\n")
    (root / "main.py").write_text("import helper\nopen('/opt/ml/processing/out/f', 'w').write(helper.WORD)\n")
    return root


class Foreign:
    """An estimator class of another package."""

    _framework_name = "pytorch"


class Unknown:
    """A class that is not an estimator."""


def in_ireland(*positional: Any, **named: Any) -> FrameworkProcessor:
    """Make a processor in a region, without a call."""
    return FrameworkProcessor(*positional, **{"sagemaker_session": Session(region_name="eu-west-1"), **named})


COMMON: dict[str, Any] = {"role": ROLE, "instance_count": 1, "instance_type": "ml.m5.xlarge"}


@pytest.mark.parametrize(
    ("estimator", "version", "python", "framework"),
    [
        (compat.SKLearn, "1.2-1", None, "sklearn"),
        (compat.PyTorch, "2.5.1", "py311", "pytorch"),
        (compat.TensorFlow, "2.11", None, "tensorflow"),
        (compat.XGBoost, "1.7-1", None, "xgboost"),
        (compat.MXNet, "1.9.0", "py38", "mxnet"),
        (Foreign, "2.5.1", None, "pytorch"),
    ],
)
def test_an_estimator_class_and_a_version_give_the_image(
    estimator: type[Any], version: str, python: str | None, framework: str
) -> None:
    """The form of 2.x finds the image by keyword, in 2.x's positional order, and in a mixture of both."""
    expected = images.image_uri(
        framework, version, "eu-west-1", py_version=python or "py3", instance_type="ml.m5.xlarge"
    )
    rest = {} if python is None else {"py_version": python}
    for made in (
        in_ireland(estimator_cls=estimator, framework_version=version, **COMMON, **rest),
        in_ireland(estimator, version, ROLE, 1, "ml.m5.xlarge", *rest.values()),
        in_ireland(estimator, framework_version=version, **COMMON, **rest),
        in_ireland(estimator, version, **COMMON, **rest),
    ):
        assert (made.image_uri, made.base_job_name, made.command) == (expected, framework, ["python"])
        assert (made.role, made.instance_count, made.instance_type) == (ROLE, 1, "ml.m5.xlarge")
        assert (made.estimator_cls, made.framework_version, made.py_version) == (estimator, version, python or "py3")


def test_all_positions_of_sagemaker_2() -> None:
    """Eighteen positional arguments have their places of 2.x, and an image needs no version."""
    network = NetworkConfig(enable_network_isolation=True)
    session = Session(region_name="eu-west-1")
    places = (compat.HuggingFace, None, ROLE, 2, "ml.m5.xlarge", "py3", IMAGE, ["python3"], 50, "volume", "output")
    more = ("s3://code/x/", 60, "base", session, {"A": "b"}, {"k": "v"}, network)
    made: Any = FrameworkProcessor(*places, *more)  # type: ignore[arg-type, call-arg]  # v2's order
    assert (made.image_uri, made.command, made.volume_size_in_gb) == (IMAGE, ["python3"], 50)
    assert (made.volume_kms_key, made.output_kms_key, made.code_location) == ("volume", "output", "s3://code/x")
    assert (made.max_runtime_in_seconds, made.base_job_name, made.sagemaker_session) == (60, "base", session)
    assert (made.env, made.tags, made.network_config) == ({"A": "b"}, {"k": "v"}, network)


def test_a_subclass_passes_its_estimator_on() -> None:
    """A subclass in the form of 2.x calls the initialiser with its own estimator class."""

    class Mine(FrameworkProcessor):
        estimator_cls = compat.PyTorch

        def __init__(self, version: str, role: str, **others: Any) -> None:
            super().__init__(self.estimator_cls, version, role, 1, "ml.g4dn.xlarge", "py311", **others)  # type: ignore[arg-type]

    made = Mine("2.5.1", ROLE, sagemaker_session=Session(region_name="eu-west-1"), base_job_name="mine")
    assert str(made.image_uri).endswith("/pytorch-training:2.5.1-gpu-py311")
    assert made.base_job_name == "mine"


def test_the_region_may_come_later() -> None:
    """Without a region the processor can be made, and the image is found when it runs."""
    made = FrameworkProcessor(estimator_cls=compat.SKLearn, framework_version="1.2-1", **COMMON)
    assert made.image_uri is None
    assert made.plan("main.py").problems[0].startswith("region_name: no AWS region is set")
    made.sagemaker_session = Session(region_name="eu-west-1", default_bucket="data")
    assert "sagemaker-scikit-learn:1.2-1-cpu-py3" in str(made.request("s3://b/main.py").image_uri)


def test_an_image_replaces_the_version() -> None:
    """With an image the version is not used, as in 2.x; the framework still names the jobs."""
    made = in_ireland(estimator_cls=compat.PyTorch, framework_version="none", image_uri=IMAGE, **COMMON)
    assert (made.image_uri, made.base_job_name) == (IMAGE, "pytorch")


def test_a_job_runs_in_the_form_of_sagemaker_2(source: Path, tmp_path: Path) -> None:
    """The form of most public scripts gives a job, with 2.x's order of `run`."""
    made = FrameworkProcessor(
        estimator_cls=compat.SKLearn,
        framework_version="1.2-1",
        instance_count=1,
        instance_type="local",
        sagemaker_session=LocalSession(tmp_path / "engine"),
    )
    outputs = [ProcessingOutput("/opt/ml/processing/out", f"file://{tmp_path}/out")]
    job = made.run("main.py", str(source), None, None, None, outputs, None, True, False, "first")  # noqa: FBT003 - a positional call is the rule
    assert (job.job_name, job.status) == ("first", "Completed")
    assert (tmp_path / "out" / "f").read_text() == "helped"
    assert job.describe()["AppSpecification"]["ImageUri"] == made.image_uri


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_uri": IMAGE, "framework_version": "1.0"}, "framework_version: goes with estimator_cls"),
        ({"image_uri": IMAGE, "py_version": "py3"}, "py_version: goes with estimator_cls"),
        ({"estimator_cls": Unknown, "framework_version": "1"}, "estimator_cls: Unknown is not an estimator class"),
        ({"estimator_cls": "sklearn"}, "estimator_cls: must be an estimator class"),
        ({"estimator_cls": compat.SKLearn}, "framework_version: missing; sklearn has: "),
        ({"estimator_cls": compat.SKLearn, "framework_version": "9"}, "framework_version: sklearn has no '9'"),
        ({"estimator_cls": compat.PyTorch, "framework_version": "2.5.1", "py_version": "py36"}, "py_version: "),
        ({"estimator_cls": compat.HuggingFace, "framework_version": "4.6"}, "write HuggingFaceProcessor"),
        ({"image_uri": compat.SKLearn}, "image_uri: must be a string; write estimator_cls=SKLearn"),
    ],
)
def test_errors_in_the_form_of_sagemaker_2(given: dict[str, Any], message: str) -> None:
    """An error names the parameter, and the remedy."""
    with pytest.raises(ConfigurationError, match=message):
        in_ireland(**{**COMMON, **given})


def test_a_value_given_twice_is_a_type_error() -> None:
    """Python's own rules for arguments hold in both orders."""
    with pytest.raises(TypeError, match="multiple values for argument 'role'"):
        in_ireland(compat.SKLearn, "1.2-1", ROLE, **COMMON)
    with pytest.raises(TypeError, match="18 positional arguments, not 19"):
        FrameworkProcessor(compat.SKLearn, *[None] * 18)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["HuggingFace", "MXNet", "PyTorch", "SKLearn", "TensorFlow", "XGBoost"])
def test_a_marker_is_no_estimator(name: str) -> None:
    """Using a marker as an estimator is an error that names the package with estimators."""
    marker = getattr(compat, name)
    with pytest.raises(ConfigurationError, match=f"^{name}: sm-processing has no estimators"):
        marker(entry_point="train.py", role=ROLE, instance_count=1)
    with pytest.raises(AttributeError, match="sm-processing has no estimators"):
        _ = marker.fit
