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
