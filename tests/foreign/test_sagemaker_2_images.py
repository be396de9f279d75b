"""`sagemaker` 2.x: it gives the same image URIs, and its framework processors the same images and signatures."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import processing
from processing import ConfigurationError, images

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"

# Prints one JSON object a line: what `retrieve` was asked, and its answer for each region. A fact is asked for once:
# all regions for one processor and Python of a version, and all processors and Pythons in one region.
RETRIEVE = """
import functools, json, logging, pathlib
from sagemaker import image_uris, utils

image_uris.config_for_framework = functools.lru_cache(None)(image_uris.config_for_framework)  # else read each time
resolver = utils._botocore_resolver()
endpoint = functools.lru_cache(None)(resolver.construct_endpoint)
utils._botocore_resolver = lambda: type("Resolver", (), {"construct_endpoint": staticmethod(endpoint)})
INSTANCES = {"cpu": ["ml.m5.xlarge"], "gpu": ["ml.g4dn.xlarge", "ml.p4d.24xlarge"], "c5": ["ml.c5.xlarge"]}

def cells(described):
    if "repository" in described:
        yield None, None, described
        return
    aliases = described.get("version_aliases", {})
    for name, image in described.items():
        if name in ("py2", "py3"):
            yield None, name, image
        elif name != "version_aliases":
            for base in (name, *(alias for alias, meant in aliases.items() if meant == name)):
                yield base, None, image

def ask(framework, regions, **asked):
    answers = {region: image_uris.retrieve(framework, region, **asked) for region in regions}
    print(json.dumps({"framework": framework, "asked": asked, "answers": answers}))

def compare(framework, scope, part):
    aliases = part.get("version_aliases", {})
    for version in (*part["versions"], *aliases):
        for base, python, image in cells(part["versions"][aliases.get(version, version)]):
            processors = part.get("processors") or image.get("processors") or ["cpu"]
            instances = [kind for processor in processors for kind in INSTANCES.get(processor, [])]
            pythons = [python] if python else image.get("py_versions") or [None]
            regions = list(image["registries"])
            for instance in instances:
                for py in pythons:
                    first = instance == instances[0] and py == pythons[0]
                    ask(framework, regions if first else regions[:1], version=version, image_scope=scope,
                        instance_type=instance, py_version=py, base_framework_version=base,
                        container_version="v1" if framework == "spark" else None)

for path in sorted(pathlib.Path(image_uris.__file__).with_name("image_uri_config").glob("*.json")):
    described = json.loads(path.read_text())
    if path.stem in ("instance_gpu_info", "sagemaker-base-python") or path.stem.endswith(("-neuron", "-neuronx")):
        continue  # no framework; another function; instances that processing jobs do not have
    if path.stem.endswith("-training-compiler"):
        continue  # never an image of a processing job
    for scope in described.get("scope") or [name for name in described if "versions" in described[name]]:
        if scope != "inference_graviton":
            compare(path.stem, scope, described if "scope" in described else described[scope])
"""

PROCESSORS = """
import inspect, json
import boto3, sagemaker
from sagemaker.huggingface.processing import HuggingFaceProcessor
from sagemaker.mxnet.processing import MXNetProcessor
from sagemaker.pytorch.processing import PyTorchProcessor
from sagemaker.sklearn.processing import SKLearnProcessor
from sagemaker.tensorflow.processing import TensorFlowProcessor
from sagemaker.wrangler.processing import DataWranglerProcessor
from sagemaker.xgboost.processing import XGBoostProcessor

for name, given in CASES:
    kind = globals()[name]
    made = kind(sagemaker_session=sagemaker.Session(boto3.Session(region_name="eu-west-1")), **given)
    parameters = [[each.name, str(each.default)] for each in inspect.signature(kind).parameters.values()]
    print(json.dumps([parameters, made.image_uri, made.base_job_name, getattr(made, "command", None)]))
"""

COMMON = {"role": "arn:aws:iam::123456789012:role/any", "instance_count": 1, "instance_type": "ml.m5.xlarge"}
GPU = {**COMMON, "instance_type": "ml.p3.2xlarge"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SKLearnProcessor", {**COMMON, "framework_version": "1.2-1"}),
    ("PyTorchProcessor", {**COMMON, "framework_version": "1.8.0"}),
    ("PyTorchProcessor", {**GPU, "framework_version": "2.5.1", "py_version": "py311"}),
    (
        "TensorFlowProcessor",
        {**GPU, "framework_version": "2.3", "py_version": "py37", "instance_type": "ml.p4d.24xlarge"},
    ),
    ("XGBoostProcessor", {**COMMON, "framework_version": "1.7-1"}),
    ("XGBoostProcessor", {**COMMON, "framework_version": "0.90-2"}),
    ("MXNetProcessor", {**COMMON, "framework_version": "1.9.0", "py_version": "py38"}),
    ("HuggingFaceProcessor", {**GPU, "transformers_version": "4.4.2", "pytorch_version": "1.6.0"}),
    (
        "HuggingFaceProcessor",
        {**GPU, "transformers_version": "4.17", "tensorflow_version": "2.6", "py_version": "py38"},
    ),
    ("DataWranglerProcessor", {**COMMON, "data_wrangler_flow_source": "s3://bucket/a.flow"}),
]


def answers_of(foreign: Client, script: str) -> list[Any]:
    """Run a script and return the JSON that it printed, without what sagemaker prints in between."""
    lines = foreign.script(script).splitlines()
    return [json.loads(line) for line in lines if line.startswith(("{", "["))]


def test_every_image_has_the_uri_that_sagemaker_gives_it(foreign: Client) -> None:
    """All frameworks, versions, aliases, regions, Pythons, and CPU or GPU that its files list for processing jobs."""
    compared, other = 0, []
    for case in answers_of(foreign, RETRIEVE):
        for region, uri in case["answers"].items():
            compared += 1
            try:
                ours = images.image_uri(case["framework"], region=region, **case["asked"])
            except ConfigurationError as error:
                ours = str(error)
            if ours != uri:
                other.append((case["framework"], region, case["asked"], uri, ours))
    assert not other[:5]
    assert compared > 20_000  # it has not lost its files


def test_framework_processors_have_the_same_images_and_signatures(foreign: Client) -> None:
    """The image, the beginning of the job names, the command, and each parameter's name, place and default."""
    answers = answers_of(foreign, PROCESSORS.replace("CASES", repr(CASES)))
    session = processing.Session(region_name="eu-west-1")
    for (name, given), answer in zip(CASES, answers, strict=True):
        kind = getattr(processing, name)
        made = kind(sagemaker_session=session, **given)
        parameters = [
            [each.name, str(each.default)]
            for each in inspect.signature(kind).parameters.values()
            if each.kind is not each.KEYWORD_ONLY
        ]
        assert answer == [parameters, made.image_uri, made.base_job_name, getattr(made, "command", None)]


ESTIMATORS = """
import json
import boto3, sagemaker
from sagemaker.huggingface import HuggingFace
from sagemaker.mxnet import MXNet
from sagemaker.processing import FrameworkProcessor
from sagemaker.pytorch.estimator import PyTorch
from sagemaker.sklearn.estimator import SKLearn
from sagemaker.tensorflow import TensorFlow
from sagemaker.xgboost import XGBoost

ROLE, session = "arn:aws:iam::123456789012:role/any", sagemaker.Session(boto3.Session(region_name="eu-west-1"))
for name, version, instance_type, given in CASES:
    made = FrameworkProcessor(
        globals()[name], version, ROLE, 1, instance_type, sagemaker_session=session, **given
    )
    print(json.dumps([made.image_uri, made.base_job_name, made.command, made.framework_version, made.py_version]))
"""
CPU_TYPE, GPU_TYPE = "ml.m5.xlarge", "ml.p3.2xlarge"
ESTIMATOR_CASES: list[tuple[str, str | None, str, dict[str, Any]]] = [
    *[("SKLearn", version, CPU_TYPE, {}) for version in ("0.20.0", "0.23-1", "1.0-1", "1.2-1", "1.4-2")],
    *[("PyTorch", version, kind, {}) for version in ("1.2.0", "1.5", "1.8.0") for kind in (CPU_TYPE, GPU_TYPE)],
    *[("PyTorch", "2.5.1", kind, {"py_version": "py311"}) for kind in (CPU_TYPE, GPU_TYPE)],
    ("TensorFlow", "1.15", CPU_TYPE, {"py_version": "py3"}),
    ("TensorFlow", "2.3", "ml.p4d.24xlarge", {"py_version": "py37"}),
    ("TensorFlow", "2.18.0", GPU_TYPE, {"py_version": "py310"}),
    *[("XGBoost", version, CPU_TYPE, {}) for version in ("0.90-2", "1.0-1", "1.7-1", "3.0-5")],
    ("MXNet", "1.4.1", CPU_TYPE, {}),
    ("MXNet", "1.9.0", GPU_TYPE, {"py_version": "py38"}),
    ("HuggingFace", None, CPU_TYPE, {"image_uri": "image", "py_version": "py310"}),
    ("SKLearn", "1.2-1", CPU_TYPE, {"image_uri": "image", "base_job_name": "base", "command": ["python3"]}),
]


def test_an_estimator_class_has_the_same_image(foreign: Client) -> None:
    """`FrameworkProcessor` finds the image of a framework's version as 2.x does."""
    answers = answers_of(foreign, ESTIMATORS.replace("CASES", repr(ESTIMATOR_CASES)))
    session = processing.Session(region_name="eu-west-1")
    for (name, version, instance_type, given), answer in zip(ESTIMATOR_CASES, answers, strict=True):
        positional: list[Any] = [getattr(processing.compat, name), version, COMMON["role"], 1, instance_type]
        kind: Any = processing.FrameworkProcessor
        made = kind(*positional, sagemaker_session=session, **given)
        ours = [made.image_uri, made.base_job_name, made.command, made.framework_version, made.py_version]
        assert ours == answer, (name, version, given)
