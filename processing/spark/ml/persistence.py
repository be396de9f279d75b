"""Saving and loading of stages: the layout of `pyspark.ml`, so that a Pipeline saves and loads them with its own.

The metadata is one line of JSON, written and read with Spark's text format. `sparkContext` is not used.
"""

# A stage is of this package, and its state is no secret here.
# ruff: noqa: SLF001

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Protocol

from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import SparkSession

from processing._utils.validation import NAME, require
from processing.exceptions import ConfigurationError
from processing.spark.ml.values import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Stage(Protocol):
    """A stage, as far as it is saved and loaded."""

    uid: str
    _paramMap: Mapping[Any, Any]
    _defaultParamMap: Mapping[Any, Any]

    def _state(self) -> Mapping[str, Any]: ...

    def _restore(self, uid: str, state: Mapping[str, Any]) -> None: ...

    def _set(self, **values: Any) -> Any: ...

    def _setDefault(self, **values: Any) -> Any: ...


class _StageWriter(MLWriter):
    """Writes a stage."""

    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        self._stage = stage

    def saveImpl(self, path: str) -> None:
        stage = self._stage
        spark = _spark(self)
        # The members that pyspark's readers look at, and those of SageMaker's stages.
        metadata = {
            "class": f"{type(stage).__module__}.{type(stage).__name__}",
            "timestamp": int(time.time() * 1000),
            "sparkVersion": spark.version,
            "uid": stage.uid,
            "paramMap": {param.name: value for param, value in stage._paramMap.items()},
            "defaultParamMap": {param.name: value for param, value in stage._defaultParamMap.items()},
            "sagemaker": stage._state(),
        }
        frame = spark.createDataFrame([(json.dumps(metadata),)], "value string")
        frame.coalesce(1).write.mode("overwrite" if self.shouldOverwrite else "error").text(f"{path}/metadata")

    def save(self, path: str) -> None:
        """Save the stage to a folder. With `overwrite()`, it may exist."""
        require("path", path, NAME)
        self.saveImpl(path)


class _StageReader(MLReader):
    """Reads a stage."""

    def __init__(self, cls: type[_Stage]) -> None:
        super().__init__()
        self._class = cls

    def load(self, path: str) -> Any:
        """Load a stage from a folder."""
        require("path", path, NAME)
        metadata = json.loads(_spark(self).read.text(f"{path}/metadata").first()[0])
        name = f"{self._class.__module__}.{self._class.__name__}"
        if metadata["class"] != name:
            raise ConfigurationError(f"path: {path} has a {metadata['class']}, not a {name}")
        stage: _Stage = object.__new__(self._class)
        stage._restore(metadata["uid"], metadata["sagemaker"])
        for param, value in metadata["defaultParamMap"].items():
            stage._setDefault(**{param: value})
        for param, value in metadata["paramMap"].items():
            stage._set(**{param: value})
        return stage


def _spark(of: MLReader | MLWriter) -> Any:
    given = getattr(of, "_sparkSession", None)
    return given if given is not None else SparkSession.builder.getOrCreate()


class Persistent(MLWritable, MLReadable):
    """Saving and loading."""

    def write(self) -> MLWriter:
        """Return a writer: `write().overwrite().save(path)`."""
        return _StageWriter(self)

    @classmethod
    def read(cls) -> MLReader:
        """Return a reader: `read().load(path)`."""
        return _StageReader(cls)


def saved(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a stage as JSON can hold them."""
    return {name: to_json(name, value) for name, value in settings.items()}


def loaded(stored: dict[str, Any]) -> dict[str, Any]:
    """Return settings from their form in JSON."""
    return {name: from_json(name, value) for name, value in stored.items()}
