"""The processors of AWS's frameworks: their images, their requests, and jobs that run."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import (
    ConfigurationError,
    DataWranglerProcessor,
    HuggingFaceProcessor,
    LocalSession,
    MXNetProcessor,
    ProcessingInput,
    ProcessingOutput,
    PyTorchProcessor,
    Session,
    SKLearnProcessor,
    TensorFlowProcessor,
    XGBoostProcessor,
)

if TYPE_CHECKING:
    import pathlib

ROLE = "arn:aws:iam::123456789012:role/Processing"
COMMON = "max_runtime_in_seconds base_job_name sagemaker_session env tags network_config"
KEYS = "volume_size_in_gb volume_kms_key output_kms_key"
INSTANCES = "role instance_count instance_type"
SIGNATURES: list[tuple[type[Any], str]] = [
    *(
        (kind, f"framework_version {INSTANCES} py_version image_uri command {KEYS} code_location {COMMON}")
        for kind in (PyTorchProcessor, TensorFlowProcessor, XGBoostProcessor, MXNetProcessor)
    ),
    (
        HuggingFaceProcessor,
        (
            f"{INSTANCES} transformers_version tensorflow_version pytorch_version py_version image_uri command "
            f"{KEYS} code_location {COMMON}"
        ),
    ),
    (SKLearnProcessor, f"framework_version {INSTANCES} command {KEYS} {COMMON}"),
    (DataWranglerProcessor, f"role data_wrangler_flow_source instance_count instance_type {KEYS} {COMMON}"),
]


@pytest.fixture
def session() -> Session:
    return Session(default_bucket="data", region_name="eu-central-1")


@pytest.fixture
def engine(tmp_path: pathlib.Path) -> LocalSession:
    """An engine that maps image URIs to interpreters. An image without a mapping has none."""
    images = {
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1-cpu-py311": sys.executable,
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3": sys.executable,
    }
    return LocalSession(tmp_path / "engine", tick=0.01, grace=1.0, images=images, python="/no/such/python")


@pytest.mark.parametrize(("kind", "names"), SIGNATURES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_constructor_is_v2_s(kind: type[Any], names: str) -> None:
    """Names and positional order are those of sagemaker 2.x; further parameters are keyword-only."""
    parameters = list(inspect.signature(kind).parameters.values())
    assert [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD] == names.split()
    assert {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} == {"instance_preferences", "extra"}


@pytest.mark.parametrize(
    ("kind", "version", "options", "image", "base"),
    [
        (PyTorchProcessor, "2.5.1", {}, "763104351884/pytorch-training:2.5.1-cpu-py311", "pytorch"),
        (PyTorchProcessor, "1.13", {"py_version": "py39"}, "763104351884/pytorch-training:1.13-cpu-py39", "pytorch"),
        (TensorFlowProcessor, "2.19.0", {}, "763104351884/tensorflow-training:2.19.0-cpu-py312", "tensorflow"),
        (XGBoostProcessor, "1.7-1", {}, "492215442770/sagemaker-xgboost:1.7-1", "xgboost"),
        (MXNetProcessor, "1.9.0", {}, "763104351884/mxnet-training:1.9.0-cpu-py38", "mxnet"),
        (SKLearnProcessor, "1.2-1", {}, "492215442770/sagemaker-scikit-learn:1.2-1-cpu-py3", None),
    ],
)
def test_the_image_follows_from_version_region_and_instance(
    session: Session, kind: Any, version: str, options: dict[str, Any], image: str, base: str | None
) -> None:
    """The URI is v2's, known at construction, and the job names begin as in v2."""
    processor = kind(version, ROLE, 1, "ml.m5.xlarge", sagemaker_session=session, **options)
    account, _, rest = image.partition("/")
    assert processor.image_uri == f"{account}.dkr.ecr.eu-central-1.amazonaws.com/{rest}"
    assert processor.base_job_name == base


def test_a_gpu_instance_has_the_gpu_s_image(session: Session) -> None:
    """The instance type decides between the images."""
    processor = PyTorchProcessor("2.5.1", ROLE, 1, "ml.g5.xlarge", sagemaker_session=session)
    assert str(processor.image_uri).endswith("pytorch-training:2.5.1-gpu-py311")


def test_preferred_instance_types_share_an_image(session: Session) -> None:
    """With `instance_preferences` the image is the one that all of them run."""
    kinds = ["ml.g5.xlarge", "ml.g4dn.xlarge"]
    processor = PyTorchProcessor("2.5.1", ROLE, 1, sagemaker_session=session, instance_preferences=kinds)
    assert str(processor.image_uri).endswith("pytorch-training:2.5.1-gpu-py311")
    counted: list[dict[str, Any]] = [{"InstanceType": kind, "InstanceCount": 2} for kind in kinds]
    processor = PyTorchProcessor("2.5.1", ROLE, sagemaker_session=session, instance_preferences=counted)
    assert str(processor.image_uri).endswith("pytorch-training:2.5.1-gpu-py311")
    with pytest.raises(ConfigurationError, match=r"^instance_preferences: must be a list of instance types"):
        PyTorchProcessor("2.5.1", ROLE, 1, sagemaker_session=session, instance_preferences="ml.g5.xlarge")
    mixed = ["ml.g5.xlarge", "ml.m5.xlarge"]
    with pytest.raises(ConfigurationError, match=r"^instance_preferences: their images differ \(ml\.g5\.xlarge: pyto"):
        PyTorchProcessor("2.5.1", ROLE, 1, sagemaker_session=session, instance_preferences=mixed)


def test_an_image_of_the_user_s_needs_no_version(session: Session) -> None:
    """With `image_uri` the version is not used, as in v2."""
    for kind in (PyTorchProcessor, XGBoostProcessor):
        processor = kind("99", ROLE, 1, "ml.m5.xlarge", image_uri="mine:1", sagemaker_session=session)
        assert (processor.image_uri, processor.framework_version) == ("mine:1", "99")
    assert HuggingFaceProcessor(ROLE, 1, "ml.m5.xlarge", image_uri="mine:1").image_uri == "mine:1"


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (SKLearnProcessor, {"framework_version": "1.2"}, r"^framework_version: .*no '1.2'; did you mean '1.2-1'\?"),
        (SKLearnProcessor, {"framework_version": None}, r"^framework_version: missing; sklearn has: "),
        (
            SKLearnProcessor,
            {"framework_version": "1.2-1", "instance_type": "ml.p3.2xlarge"},
            r"^instance_type: .*cpu only",
        ),
        (PyTorchProcessor, {"framework_version": "2.5.1", "py_version": "py310"}, r"^py_version: .*has: py311$"),
        (HuggingFaceProcessor, {}, r"^transformers_version: missing; huggingface has: "),
        (HuggingFaceProcessor, {"transformers_version": "4.26"}, r"^pytorch_version: missing; .* has: pytorch1.13.1$"),
        (
            HuggingFaceProcessor,
            {"transformers_version": "4.17", "tensorflow_version": "2.5"},
            r"^tensorflow_version: .*no 'tensorflow2.5'; did you mean .*: .*tensorflow2.6.3",
        ),
        (
            HuggingFaceProcessor,
            {"transformers_version": "4.17", "tensorflow_version": "2.6", "pytorch_version": "1.10"},
            r"^tensorflow_version: .*pytorch_version is given too",
        ),
    ],
)
def test_a_missing_image_is_an_error_at_construction(
    session: Session, kind: Any, arguments: dict[str, Any], said: str
) -> None:
    """The error begins with the processor's own parameter and lists the available values."""
    arguments = {"instance_type": "ml.m5.xlarge", **arguments}
    with pytest.raises(ConfigurationError, match=said):
        kind(role=ROLE, instance_count=1, sagemaker_session=session, **arguments)


def test_hugging_face_s_image_follows_from_three_versions(session: Session) -> None:
    """The versions of transformers, of its base and of Python are in the tag; the first releases end as in v2."""
    processor = HuggingFaceProcessor(
        ROLE, 1, "ml.p3.2xlarge", "4.28.1", None, "2.0.0", "py310", sagemaker_session=session
    )
    tag = "2.0.0-transformers4.28.1-gpu-py310-cu118-ubuntu20.04"
    assert str(processor.image_uri).endswith(f"/huggingface-pytorch-training:{tag}")
    assert processor.base_job_name == "huggingface"
    first = HuggingFaceProcessor(ROLE, 1, "ml.p3.2xlarge", "4.4.2", "2.4.1", None, "py37", sagemaker_session=session)
    tag = "2.4.1-transformers4.4.2-gpu-py37-cu110-ubuntu18.04"
    assert str(first.image_uri).endswith(f"/huggingface-tensorflow-training:{tag}")


def test_an_image_that_needs_a_gpu_can_be_tried_on_this_machine(local_session: LocalSession) -> None:
    """`local` uses the only image, which is just a name there."""
    processor = HuggingFaceProcessor(
        instance_type="local", transformers_version="4.28.1", pytorch_version="2.0.0", py_version="py310",
        sagemaker_session=local_session,
    )  # fmt: skip
    assert "-gpu-py310-" in str(processor.image_uri)


def test_a_region_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region, the error explains how to set one."""
    with pytest.raises(ConfigurationError, match=r"^region_name: no AWS region is set"):
        SKLearnProcessor("1.2-1", ROLE, 1, "ml.m5.xlarge")


def test_sklearn_runs_a_script_on_the_engine(engine: LocalSession, tmp_path: pathlib.Path) -> None:
    """The job runs with the interpreter that stands for the image, by the URI that AWS would pull."""
    (tmp_path / "clean.py").write_text(
        "import pathlib, sys\npathlib.Path(sys.argv[1]).joinpath('out.txt').write_text('done')\n"
    )
    processor = SKLearnProcessor("1.2-1", instance_count=1, instance_type="local", sagemaker_session=engine)
    output = ProcessingOutput("/opt/ml/processing/output", output_name="out")
    job = processor.run(tmp_path / "clean.py", outputs=[output], arguments=["/opt/ml/processing/output"], logs=False)
    assert processor.command == ["python3"]
    assert job.name.startswith("sagemaker-scikit-learn-")
    job.outputs["out"].download(tmp_path / "back")
    assert (tmp_path / "back" / "out.txt").read_text() == "done"


@pytest.mark.parametrize(("kind", "version"), [(PyTorchProcessor, "2.5.1"), (SKLearnProcessor, "1.2-1")])
def test_a_source_dir_travels_with_the_script(
    engine: LocalSession, tmp_path: pathlib.Path, kind: Any, version: str
) -> None:
    """The processors of frameworks bring the files beside the script, and run it in their folder."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text("import helper, sys\nprint(helper.WORD, sys.argv[1:])\n")
    (source / "helper.py").write_text("WORD = 'helped'\n")
    processor = kind(version, instance_count=1, instance_type="local", sagemaker_session=engine)
    job = processor.run("train.py", source_dir=source, arguments=["--epochs", "2"], logs=False)
    assert "helped ['--epochs', '2']" in [event.message for event in job.logs()]


def test_an_image_that_nothing_stands_for_is_an_error_of_the_engine(
    engine: LocalSession, tmp_path: pathlib.Path
) -> None:
    """The URI is looked up in `images=`: another version of the framework is another image."""
    (tmp_path / "clean.py").write_text("print(1)\n")
    processor = SKLearnProcessor("1.0-1", instance_count=1, instance_type="local", sagemaker_session=engine)
    with pytest.raises(processing.ProcessingError, match=r"/no/such/python"):
        processor.run(tmp_path / "clean.py", logs=False)


def test_data_wrangler_brings_its_flow(session: Session, tmp_path: pathlib.Path) -> None:
    """The flow is the last input, and the user's list stays as it was."""
    flow = tmp_path / "clean.flow"
    flow.write_text("{}")
    processor = DataWranglerProcessor(ROLE, flow, 1, "ml.m5.4xlarge", sagemaker_session=session)
    inputs = [ProcessingInput("s3://data/raw", "/opt/ml/processing/raw", "raw")]
    sent = processor.request(inputs, job_name="wrangled").to_boto()
    assert len(inputs) == 1
    assert [entry["InputName"] for entry in sent["ProcessingInputs"]] == ["raw", "flow"]
    assert sent["ProcessingInputs"][1]["S3Input"] == {
        "S3Uri": "s3://data/wrangled/input/flow/clean.flow",
        "LocalPath": "/opt/ml/processing/flow",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
    }
    assert sent["AppSpecification"] == {
        "ImageUri": "024640144536.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-data-wrangler-container:3.x"
    }


def test_data_wrangler_takes_another_flow(session: Session) -> None:
    """An input named `flow` replaces that of the processor. A job without a flow is refused."""
    processor = DataWranglerProcessor(ROLE, None, 1, "ml.m5.4xlarge", sagemaker_session=session)
    given = [ProcessingInput("s3://data/other.flow", "/opt/ml/processing/flow", "flow")]
    sent = processor.request(given).to_boto()
    assert [entry["S3Input"]["S3Uri"] for entry in sent["ProcessingInputs"]] == ["s3://data/other.flow"]
    with pytest.raises(ConfigurationError, match=r"^data_wrangler_flow_source: missing"):
        processor.request()
