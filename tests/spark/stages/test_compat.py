"""Programs written for sagemaker_pyspark, with their imports as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import processing.compat
from processing.compat.spark_modules import SPARK_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    processing.compat.install()
    yield
    processing.compat.uninstall()


def test_every_name_is_importable() -> None:
    """Each module offers its names, and the classes are this package's."""
    for module, names in SPARK_MODULES.items():
        found: dict[str, Any] = {}
        exec(f"from {module} import *", found)
        assert set(names) <= set(found), module
        assert all(found[name].__module__.startswith("processing.") for name in names)


def test_modules_with_the_name_of_a_class() -> None:
    """The package's attribute is the class, before and after the module of that name was imported."""
    program = (
        "import sagemaker_pyspark\n"
        "from sagemaker_pyspark.SageMakerEstimator import SageMakerEstimatorBase\n"
        "from sagemaker_pyspark import SageMakerEstimator, algorithms\n"
        "from sagemaker_pyspark.algorithms.XGBoostSageMakerEstimator import XGBoostSageMakerEstimator\n"
        "import sagemaker_pyspark.SageMakerModel\n"
        "from sagemaker_pyspark.transformation import *\n"
    )
    found: dict[str, Any] = {}
    exec(program, found)
    assert issubclass(found["SageMakerEstimator"], found["SageMakerEstimatorBase"])
    assert found["algorithms"].XGBoostSageMakerEstimator is found["XGBoostSageMakerEstimator"]
    assert isinstance(found["sagemaker_pyspark"].SageMakerModel, type)
    assert "ProtobufRequestRowSerializer" in dir(found["serializers"])
    assert "KMeansProtobufResponseRowDeserializer" in dir(found["deserializers"])


def test_names_that_stand_for_the_jvm() -> None:
    """They hold what they are given."""
    program = (
        "from sagemaker_pyspark.wrapper import Option, ScalaList, ScalaMap\n"
        "from sagemaker_pyspark import SageMakerClients\n"
        "held = Option(1).value, ScalaList([1]).p_list, ScalaMap({'a': 1}).dictionary, Option.empty().value\n"
        "client = SageMakerClients.create_sagemaker_client()\n"
    )
    found: dict[str, Any] = {}
    exec(program, found)
    assert found["held"] == (1, [1], {"a": 1}, None)
    assert found["client"] is None


def test_the_readme_s_example(instances: dict[str, Any]) -> None:
    """The getting-started example constructs its estimator as it is written."""
    program = (
        "from sagemaker_pyspark import IAMRole, classpath_jars\n"
        "from sagemaker_pyspark.algorithms import KMeansSageMakerEstimator\n"
        "classpath = ':'.join(classpath_jars())\n"
        "estimator = KMeansSageMakerEstimator(\n"
        "    trainingInstanceType='ml.m4.xlarge',\n"
        "    trainingInstanceCount=1,\n"
        "    endpointInstanceType='ml.m4.xlarge',\n"
        "    endpointInitialInstanceCount=1,\n"
        "    sagemakerRole=IAMRole(role),\n"
        ")\n"
        "estimator.setK(10)\n"
        "estimator.setFeatureDim(784)\n"
    )
    found: dict[str, Any] = {"role": instances["sagemakerRole"]}
    exec(program, found)
    assert found["classpath"] == ""
    assert found["estimator"].hyperParameters == {"k": "10", "mini_batch_size": "5000", "feature_dim": "784"}
