"""Docstrings that an editor shows for a class: they are complete, without references to other classes."""

from __future__ import annotations

import inspect
import re

import pytest

import processing

CLASSES = [
    "AthenaDatasetDefinition",
    "DataWranglerProcessor",
    "DatasetDefinition",
    "FeatureStoreOutput",
    "FrameworkProcessor",
    "HuggingFaceProcessor",
    "LocalSession",
    "MXNetProcessor",
    "NetworkConfig",
    "ProcessingInput",
    "ProcessingOutput",
    "Processor",
    "PyTorchProcessor",
    "RedshiftDatasetDefinition",
    "RunArgs",
    "S3Input",
    "SKLearnProcessor",
    "ScriptProcessor",
    "Session",
    "TensorFlowProcessor",
    "XGBoostProcessor",
]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_documents_its_own_parameters_in_order(name: str) -> None:
    """The `Args` section of the class lists each parameter of its constructor."""
    kind = getattr(processing, name)
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.cleandoc(vars(kind)["__doc__"]), re.MULTILINE)
    assert section is not None
    documented = re.findall(r"^    (\w+): ", section[1], re.MULTILINE)
    assert documented == list(inspect.signature(kind).parameters)


@pytest.mark.parametrize("name", ["Processor", "ScriptProcessor", "FrameworkProcessor"])
def test_run_documents_its_own_parameters_in_order(name: str) -> None:
    """So does the `Args` section of each `run`."""
    run = vars(getattr(processing, name))["run"]
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.cleandoc(run.__doc__), re.MULTILINE)
    assert section is not None
    documented = re.findall(r"^    (\w+): ", section[1], re.MULTILINE)
    assert documented == [parameter for parameter in inspect.signature(run).parameters if parameter != "self"]
