"""One call of a remote function, from function and arguments to a started job."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import attrs

from processing import default_sessions
from processing.exceptions import ConfigurationError, SerializationError
from processing.remote_function.call_processor import CallProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.job.job import ProcessingJob
    from processing.job.plan import RunPlan
    from processing.remote_function.settings import RemoteSettings


@attrs.frozen
class RemoteCall:
    """A call that is packed and can be started, as often as necessary.

    Args:
        name: the function's name.
        settings: the settings of the remote function.
        packed: the packed function and arguments.
        program: the module of `_processing_remote` that runs them in the job.
        manifest: further members of the manifest, for that module.
    """

    name: str
    settings: RemoteSettings
    packed: bytes = attrs.field(repr=False)
    program: str = "call"
    manifest: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, function: Callable[..., Any], settings: RemoteSettings, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> RemoteCall:
        """Pack a call.

        Raises:
            ConfigurationError: the arguments do not fit the function's signature.
            SerializationError: the function or an argument cannot be packed.
        """
        check_arguments(function, args, kwargs)
        return cls(function_name(function), settings, pack(function, args, kwargs))

    def processor(self) -> CallProcessor:
        """Return the processor of one attempt."""
        settings = self.settings
        session = default_sessions.resolve_session(settings.sagemaker_session, settings.instance_type)
        manifest = {
            **self.manifest,
            "program": self.program,
            "python": list(sys.version_info[:2]),
            "environment": dict(settings.environment_variables or {}),
        }
        return CallProcessor(settings, session, settings.job_name_prefix or self.name, self.packed, manifest)

    def start(self) -> ProcessingJob:
        """Start the job, and return it at once."""
        processor = self.processor()
        return processor.run(
            outputs=processor.own_outputs(),
            arguments=processor.places,
            wait=False,
            job_name=self.settings.job_name,
            experiment_config=self.settings.experiment_config,
            if_exists=self.settings.if_exists,  # type: ignore[arg-type]  # `run` checks it
        )

    def plan(self) -> RunPlan:
        """Return the plan of the job, without a call to AWS."""
        processor = self.processor()
        return processor.plan(outputs=processor.own_outputs(), arguments=processor.places)


def function_name(function: Callable[..., Any]) -> str:
    """Return a name for a job of a function."""
    name = getattr(function, "__name__", type(function).__name__).strip("<>_")
    return str(name) or "function"


def check_arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function would refuse.

    Raises:
        ConfigurationError: they do not fit the function's signature.
    """
    arguments_check(function)("", args, kwargs)


def arguments_check(function: Callable[..., Any]) -> Callable[[str, tuple[Any, ...], Mapping[str, Any]], None]:
    """Return a function that refuses arguments which do not fit a function's signature.

    It takes the beginning of the message, the positional and the keyword arguments, and raises ConfigurationError.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function in C may have none
        return lambda _subject, _args, _kwargs: None

    def check(subject: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigurationError(f"{subject}{function_name(function)}{signature}: {error}") from None

    return check


def pack(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Return the packed function and arguments.

    Raises:
        SerializationError: a value cannot be packed.
    """
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps((function, args, dict(kwargs)))
    except Exception as error:
        raise SerializationError(f"{function_name(function)}: cannot be packed: {error}") from error
    return packed
