"""The names of `sagemaker.workflow` that code for processing jobs imports. This package records no pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


class PipelineVariable:
    """A name for type annotations and `isinstance`. No value of this package has this type."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ConfigurationError(
            "PipelineVariable: sm-processing records no pipelines; for them, install sagemaker itself"
        )


def is_pipeline_variable(var: object) -> bool:
    """Return True for a `PipelineVariable`."""
    return isinstance(var, PipelineVariable)


def runnable_by_pipeline(run_func: Function) -> Function:
    """Return the method that is decorated, unchanged."""
    return run_func
