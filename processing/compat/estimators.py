"""The estimator classes of `sagemaker` 2.x, as names of frameworks for `FrameworkProcessor(estimator_cls=...)`."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from processing.exceptions import ConfigurationError

_REMEDY = "sm-processing has no estimators, and runs processing jobs only; for training, install sagemaker itself"


class _EstimatorType(type):
    def __getattr__(cls, name: str) -> NoReturn:
        raise AttributeError(f"{cls.__name__}.{name}: {_REMEDY}")


class Estimator(metaclass=_EstimatorType):
    """An estimator class that names a framework and cannot be instantiated."""

    _framework_name: ClassVar[str]

    def __init__(self, *_: Any, **__: Any) -> None:
        name = type(self).__name__
        raise ConfigurationError(f"{name}: {_REMEDY}. A FrameworkProcessor takes the class: estimator_cls={name}")


class HuggingFace(Estimator):
    """The framework Hugging Face; `FrameworkProcessor` also needs an `image_uri`."""

    _framework_name = "huggingface"


class MXNet(Estimator):
    """The framework MXNet, for `FrameworkProcessor(estimator_cls=MXNet, framework_version="1.9.0", ...)`."""

    _framework_name = "mxnet"


class PyTorch(Estimator):
    """The framework PyTorch, for `FrameworkProcessor(estimator_cls=PyTorch, framework_version="2.5.1", ...)`."""

    _framework_name = "pytorch"


class SKLearn(Estimator):
    """The framework scikit-learn, for `FrameworkProcessor(estimator_cls=SKLearn, framework_version="1.2-1", ...)`."""

    _framework_name = "sklearn"


class TensorFlow(Estimator):
    """The framework TensorFlow, for `FrameworkProcessor(estimator_cls=TensorFlow, framework_version="2.18.0", ...)`."""

    _framework_name = "tensorflow"


class XGBoost(Estimator):
    """The framework XGBoost, for `FrameworkProcessor(estimator_cls=XGBoost, framework_version="1.7-1", ...)`."""

    _framework_name = "xgboost"
