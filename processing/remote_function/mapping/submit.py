"""The start of a map, and the iterator over its results."""

from __future__ import annotations

from concurrent.futures import as_completed
from typing import TYPE_CHECKING, TypeVar

from processing.exceptions import ConfigurationError
from processing.remote_function.mapping.packed_calls import PackedCalls
from processing.remote_function.mapping.run import MapRun
from processing.remote_function.packed_call import function_name
from processing.watching.detach import detaching, jobs_go_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processing.remote_function.mapping.futures import MapFutures
    from processing.remote_function.mapping.options import MapOptions
    from processing.remote_function.mapping.packed_calls import Call
    from processing.remote_function.settings import RemoteSettings
    from processing.watching.render.log_lines import Renderer

T = TypeVar("T")


def submit_map(
    function: Callable[..., T],
    settings: RemoteSettings,
    options: MapOptions,
    calls: Iterable[Call],
    renderer: Renderer | None = None,
) -> MapFutures[T]:
    """Start one job for many calls of a function.

    Args:
        function: the function.
        settings: the settings of the remote function.
        options: the options of the map.
        calls: the positional and the keyword arguments of each call; read to its end first.
        renderer: shows the log lines; None shows nothing.

    Raises:
        ConfigurationError: the arguments of a call do not fit the function's signature.
        SerializationError: the function or an argument cannot be packed.
    """
    refuse_launchers(settings, "map")
    packed = PackedCalls.of(function, settings, options.classes, calls)
    return MapRun[T](function_name(function), settings, options, packed, renderer).start()


def refuse_launchers(settings: RemoteSettings, what: str) -> None:
    """Refuse settings that start a program of another kind.

    Raises:
        ConfigurationError: there is one.
    """
    for name in ("use_torchrun", "use_mpirun", "spark_config"):
        if getattr(settings, name):
            raise ConfigurationError(f"{name}: {what} starts its own workers; call the function instead")


def yield_results(futures: MapFutures[T], options: MapOptions) -> Iterator[T]:
    """Yield the results of a map, in the order of its options. A KeyboardInterrupt's text shows how to go on.

    The iterator ends after the last log line. If it is closed before, no further lines are shown.
    """
    done = iter(futures) if options.ordered else as_completed(futures)
    try:
        for _ in range(len(futures)):
            with detaching(lambda: _advice(futures, options)):
                future = next(done)
                error = future.exception() if options.return_exceptions else None
                result = future.result() if error is None else error
            yield result  # type: ignore[misc]
        with detaching(lambda: _advice(futures, options)):
            futures.shown.wait()
    finally:
        futures.shown.set()


def _advice(futures: MapFutures[T], options: MapOptions) -> str:
    job = futures.job
    if job is None:
        return jobs_go_on()
    call = f"processing.attach({job.job_name!r}, session={job.sagemaker_session.expression()})"
    again = "" if options.name is None else f"\n  result: the same map with name={options.name!r}"
    return f"Detached: the job goes on.{again}\n  stop:   {call}.stop()"
