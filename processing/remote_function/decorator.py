"""`@remote`: a function whose calls run as processing jobs."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from processing.exceptions import ConfigurationError, JobError
from processing.remote_function import mapping
from processing.remote_function.call import RemoteCall
from processing.remote_function.futures import RemoteFuture
from processing.remote_function.mapping import MapFutures, MapOptions
from processing.remote_function.results import result_of
from processing.remote_function.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from processing.job.plan import RunPlan

P = ParamSpec("P")
T = TypeVar("T")


class RemoteFunction(Generic[P, T]):
    """A function whose calls run as processing jobs; `@remote` makes it.

    Args:
        function: the function.
        settings: its settings.
    """

    def __init__(self, function: Callable[P, T], settings: RemoteSettings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function as a job, show its log lines, and return its result or raise its exception."""
        job = self._packed(args, kwargs).start()
        with contextlib.suppress(JobError):
            job.wait(logs=True)
        result: T = result_of(job)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RemoteFuture[T]:
        """Start a job that runs the function, and return its future."""
        call = self._packed(args, kwargs)
        future: RemoteFuture[T] = RemoteFuture(call)
        future.started(call.start())
        return future

    def map(self, *iterables: Iterable[Any], **options: Any) -> Iterator[T]:
        """Run the function for each element of an iterable, in one job. Yield the results.

        Several iterables give a call several arguments; the shortest ends the calls. All are read to their ends first.

        Args:
            *iterables: the arguments.
            **options: `workers`, `ordered`, `return_exceptions`, `timeout`, `retries`, `retry_on`, `chunksize` and
                `name`; see `MapOptions`.

        Raises:
            ConfigurationError: an option is not valid, or the arguments of a call do not fit the function's signature.
        """
        return self._mapped(mapping.positional(iterables), options)

    def starmap(self, arguments: Iterable[Iterable[Any]], **options: Any) -> Iterator[T]:
        """Run the function for each tuple of arguments, in one job. Yield the results.

        Args:
            arguments: the positional arguments of each call; read to its end first.
            **options: the options of `map`.
        """
        return self._mapped(mapping.unpacked(arguments), options)

    def submit_map(self, *iterables: Iterable[Any], **options: Any) -> MapFutures[T]:
        """Start the job of a `map`, and return the futures of its calls in their order.

        Args:
            *iterables: the arguments, as for `map`.
            **options: the options of `map`.
        """
        chosen = MapOptions.of(options)
        return mapping.submit_map(self._function, self._settings, chosen, mapping.positional(iterables))

    def _mapped(self, calls: Iterable[mapping.Call], options: dict[str, Any]) -> Iterator[T]:
        chosen = MapOptions.of(options)
        return mapping.results(mapping.submit_map(self._function, self._settings, chosen, calls), chosen)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in this process."""
        return self._function(*args, **kwargs)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> RunPlan:
        """Return the plan of a call: its request, uploads, problems and price. AWS is not called."""
        return self._packed(args, kwargs).plan()

    def options(self, **options: Any) -> RemoteFunction[P, T]:
        """Return the same function with other settings: the parameters of `remote`."""
        return RemoteFunction(self._function, self._settings.evolve(options))

    def _packed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RemoteCall:
        return RemoteCall.of(self._function, self._settings, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> RemoteFunction[..., T]:
        """Return the remote function of a method: `instance` becomes its first argument."""
        if instance is None:
            return self
        return RemoteFunction(functools.partial(self._function, instance), self._settings)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the function itself: in a job, the function calls itself and others locally."""
        return functools.partial, (self._function,)


@overload
def remote(function: Callable[P, T], /) -> RemoteFunction[P, T]: ...
@overload
def remote(**options: Any) -> Callable[[Callable[P, T]], RemoteFunction[P, T]]: ...
def remote(function: Any = None, /, **options: Any) -> Any:
    """Make a function remote: a call of it runs as a processing job."""
    settings = RemoteSettings.of(options)
    if function is None:
        return lambda decorated: remote_with(decorated, settings)
    return remote_with(function, settings)


def remote_with(function: Any, settings: RemoteSettings) -> RemoteFunction[..., Any]:
    """Return a remote function with these settings."""
    if not callable(function):
        raise ConfigurationError(f"remote: decorates a function, not {type(function).__name__}")
    return RemoteFunction(function, settings)
