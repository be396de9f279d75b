"""A Dagster Pipes client that runs a processing job.

The job gets Dagster's context as an environment variable, and its messages come back as lines of its log. So neither a
bucket nor a permission is needed beyond those of the job.
"""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from typing import TYPE_CHECKING, Any, Final

from dagster import (
    PipesClient,
    PipesClientCompletedInvocation,
    PipesEnvContextInjector,
    PipesMessageReader,
    open_pipes_session,
)

from processing._utils.validation import FLAG, MAPPING, require, with_methods
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.job.job import ProcessingJob

_VERSION: Final = "__dagster_pipes_version"  # the member by which Dagster knows its messages
_PROCESSOR: Final = with_methods("a processor", "run", "request")


class PipesProcessingClient(PipesClient):
    """A Pipes client that runs a processing job for an asset or an op.

    The program reports with `open_dagster_pipes()` of `dagster-pipes`, which its image or its requirements contain. All
    other lines of its log are written to standard output, where Dagster shows them.

    Args:
        forward_termination: True to stop the job if the run of Dagster is terminated.
    """

    def __init__(self, *, forward_termination: bool = True) -> None:
        require("forward_termination", forward_termination, FLAG)
        self._forward_termination = forward_termination

    def run(
        self,
        *,
        context: Any,
        extras: Mapping[str, Any] | None = None,
        processor: Any = None,
        run_arguments: Mapping[str, Any] | None = None,
    ) -> PipesClientCompletedInvocation:
        """Run a job and wait for its end.

        Args:
            context: the context of the asset or the op.
            extras: values for the program, which finds them in its Pipes context.
            processor: the processor. It is copied, and the copy's `env` has Dagster's context, too.
            run_arguments: the arguments of its `run`, such as `{"code": "clean.py"}`. `wait`, `logs` and `quiet` are
                the client's.

        Raises:
            ConfigurationError: a value cannot work; nothing was started.
            JobFailedError, JobStoppedError: the job failed or was stopped.
        """
        require("processor", processor, _PROCESSOR)
        require("run_arguments", run_arguments, MAPPING, optional=True)
        arguments = dict(run_arguments or {})
        for name in ("wait", "logs", "quiet"):
            if name in arguments:
                raise ConfigurationError(f"run_arguments[{name!r}]: is set by the client; leave it out")
        reader = _LogLines()
        injector = PipesEnvContextInjector()
        with open_pipes_session(context, injector, reader, dict(extras or {})) as session:
            prepared = copy.copy(processor)
            prepared.env = {**(processor.env or {}), **session.get_bootstrap_env_vars()}
            job = prepared.run(**arguments, wait=False, quiet=True)
            self._follow(job, reader)
        metadata = {"job": job.job_name, **({"console": job.console_url} if job.console_url else {})}
        return PipesClientCompletedInvocation(session, metadata=metadata)

    def _follow(self, job: ProcessingJob, reader: _LogLines) -> None:
        """Hand the lines of a job to Dagster until its end."""
        from processing.watching.events import LogEvent

        try:
            with contextlib.closing(job.events()) as events:
                for event in events:
                    if isinstance(event, LogEvent):
                        reader.take(event.message)
        except BaseException:  # the termination of a run is an exception in its main thread
            if self._forward_termination:
                job.stop()
            raise
        job.wait(logs=False, quiet=True)


class _LogLines(PipesMessageReader):
    """A reader of messages among the lines of a log."""

    def __init__(self) -> None:
        self._handler: Any = None

    @contextlib.contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Let the program write its messages to standard output."""
        self._handler = handler
        try:
            yield {"stdio": "stdout"}
        finally:
            self._handler = None

    def take(self, line: str) -> None:
        """Handle a line if it is a message, and write another one to standard output."""
        message = _message(line)
        if message is None:
            sys.stdout.write(f"{line}\n")  # Dagster captures it as the log of the step
        else:
            self._handler.handle_message(message)

    def no_messages_debug_text(self) -> str:
        """Return advice for a program that reported nothing."""
        return "Looked for messages in the job's log. The program calls dagster_pipes.open_dagster_pipes()."


def _message(line: str) -> dict[str, Any] | None:
    """Return the message in a line; None if the line has none."""
    if _VERSION not in line:
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and {_VERSION, "method", "params"} <= message.keys() else None
