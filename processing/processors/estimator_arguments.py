"""The arguments of `FrameworkProcessor` in the form of `sagemaker` 2.x: an estimator class and a framework's version.

The class is never instantiated. It only names the framework whose image runs the script.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

from processing._utils import type_name
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.processors.base import Preferences
    from processing.session.session import Session

P = ParamSpec("P")

# The names of the image table for the estimator classes of sagemaker 2.x.
_FRAMEWORKS = {
    "Chainer": "chainer",
    "HuggingFace": "huggingface",
    "MXNet": "mxnet",
    "PyTorch": "pytorch",
    "SKLearn": "sklearn",
    "TensorFlow": "tensorflow",
    "XGBoost": "xgboost",
}

# The parameters of FrameworkProcessor in sagemaker 2.x, in order.
_ORDER = (
    "estimator_cls",
    "framework_version",
    "role",
    "instance_count",
    "instance_type",
    "py_version",
    "image_uri",
    "command",
    "volume_size_in_gb",
    "volume_kms_key",
    "output_kms_key",
    "code_location",
    "max_runtime_in_seconds",
    "base_job_name",
    "sagemaker_session",
    "env",
    "tags",
    "network_config",
)


def accepts_estimator_order(initialise: Callable[P, None]) -> Callable[P, None]:
    """Make an initialiser accept the positional order of `sagemaker` 2.x too. A class as first argument selects it."""

    @functools.wraps(initialise)
    def initialise_in_either_order(*args: P.args, **kwargs: P.kwargs) -> None:
        _, *positional = args
        if not positional or not isinstance(positional[0], type):
            initialise(*args, **kwargs)
            return
        in_any_order: Callable[..., None] = initialise
        if len(positional) > len(_ORDER):
            raise TypeError(f"FrameworkProcessor takes {len(_ORDER)} positional arguments, not {len(positional)}")
        named = dict(zip(_ORDER, positional, strict=False))
        for name in named:
            if name in kwargs:
                raise TypeError(f"FrameworkProcessor got multiple values for argument {name!r}")
        in_any_order(args[0], **named, **kwargs)

    return initialise_in_either_order


class EstimatorArguments(NamedTuple):
    """The parameters of `FrameworkProcessor` that only the form of `sagemaker` 2.x has.

    Args:
        estimator_cls: the estimator class; None in the form with an image.
        framework_version: the framework's version.
        py_version: the Python of the image.
    """

    estimator_cls: Any = None
    framework_version: str | None = None
    py_version: str | None = None

    def framework(self, image_uri: str | None) -> str | None:
        """Return the framework's name in `processing.images`, or None in the form with an image.

        Raises:
            ConfigurationError: the values do not name a framework.
        """
        if isinstance(image_uri, type):
            raise ConfigurationError(f"image_uri: must be a string; write estimator_cls={image_uri.__name__}")
        if self.estimator_cls is None:
            given = next(
                (name for name in ("framework_version", "py_version") if getattr(self, name) is not None), None
            )
            if given is not None:
                raise ConfigurationError(f"{given}: goes with estimator_cls, such as PyTorch; or give image_uri alone")
            return None
        if not isinstance(self.estimator_cls, type):
            raise ConfigurationError(
                f"estimator_cls: must be an estimator class, such as PyTorch, not {type_name(self.estimator_cls)}"
            )
        name = getattr(self.estimator_cls, "_framework_name", None) or _FRAMEWORKS.get(self.estimator_cls.__name__)
        if not isinstance(name, str):
            raise ConfigurationError(
                f"estimator_cls: {self.estimator_cls.__name__} is not an estimator class of a framework; there are: "
                f"{', '.join(_FRAMEWORKS)}. Or write FrameworkProcessor(image_uri=..., role=..., ...)"
            )
        return name

    def image_uri(self, session: Session, instance_type: str | None, preferences: Preferences | None) -> str:
        """Return the image of the framework's version, as `sagemaker` 2.x finds it.

        Raises:
            ConfigurationError: AWS has no such image, or Hugging Face's image needs a version of transformers.
        """
        framework = self.framework(None)
        assert framework is not None
        if framework == "huggingface":
            raise ConfigurationError(
                "estimator_cls: an image of Hugging Face has two versions; write "
                "HuggingFaceProcessor(transformers_version=..., pytorch_version=..., role=..., ...)"
            )
        # The table of images is loaded only for processors that need it.
        from processing.processors.framework_image import find_image_for, image_query

        names = {"framework": "estimator_cls", "version": "framework_version"}
        query = image_query(
            session, framework, self.framework_version, py_version=self.py_version or "py3", field_names=names
        )
        return find_image_for(query, instance_type, preferences)
