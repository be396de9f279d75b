"""`@remote`: a function whose calls run as processing jobs.

Modules that only a call needs are imported by the call: the import of a script with remote functions stays short.
"""

from __future__ import annotations

import copy
import functools
import types
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from processing.exceptions import ConfigurationError, JobError
from processing.remote_function.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from processing.job.plan import RunPlan
    from processing.remote_function.call import RemoteCall
    from processing.remote_function.futures import RemoteFuture
    from processing.remote_function.mapping.futures import MapFutures
    from processing.remote_function.mapping.packed_calls import Call
    from processing.remote_function.settings import RemoteOptions

P = ParamSpec("P")
T = TypeVar("T")


class RemoteFunction(Generic[P, T]):
    """A function whose calls run as processing jobs; `remote` makes it.

    A call packs the function and its arguments, starts a job, shows its log lines, and returns the result. An exception
    of the function is raised as the job raised it. Two threads may call the same function at the same time.

    Args:
        function: the function.
        settings: its settings.
    """

    def __init__(self, function: Callable[P, T], settings: RemoteSettings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function as a job, show its log lines, and return its result or raise its exception.

        Ctrl-C detaches: the job goes on, and the text of the KeyboardInterrupt shows how to get the result.

        A generator function returns at once, with an iterator over its items, which come while the job runs. Log lines
        are not shown then. An exception of the function is raised after the items before it.

        Raises:
            ConfigurationError: an argument or a setting cannot work; nothing was uploaded or started.
            DeserializationError: the stored result is not that of the job, or cannot be loaded.
            RemoteFunctionError: the job has neither a result nor an exception.
            RuntimeEnvironmentError: the job's environment could not run the function.
            SerializationError: the function or an argument cannot be packed; nothing was started.
            processing.ServiceError: S3 could not be read.
            StagingError, SubmissionError: the job could not be started.
        """
        from processing.remote_function.results import result_of

        call = self._call(args, kwargs)
        if call.has_items:
            from processing.remote_function.item_futures import start_items

            return start_items(call)  # type: ignore[return-value]  # the function returns an iterator, too
        job, retries = call.start(), 0
        while True:
            try:
                job.wait(logs=True)
            except KeyboardInterrupt as interrupt:
                raise call.detached(job, interrupt) from None
            except JobError as error:
                if call.may_retry(error, retries):
                    job, retries = call.restart(error), retries + 1
                    continue
            break
        result: T = result_of(job)
        return result

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RemoteFuture[T]:
        """Start a job that runs the function, and return its future. Log lines are not shown."""
        from processing.remote_function.item_futures import future_of

        call = self._call(args, kwargs)
        future: RemoteFuture[T] = future_of(call)
        future.started(call.start())
        return future

    def map(self, *iterables: Iterable[Any], **options: Any) -> Iterator[T]:
        """Run the function for each element of an iterable, in one job. Show its log lines, and yield the results.

        Several iterables give a call several arguments; the shortest ends the calls. All are read to their ends first.

        Args:
            *iterables: the arguments.
            **options: `workers`, `ordered`, `return_exceptions`, `timeout`, `retries`, `retry_on`, `chunksize` and
                `name`; see `MapOptions`.

        Raises:
            ConfigurationError: an option is not valid, or the arguments of a call do not fit the function's signature.
        """
        from processing.remote_function.mapping.packed_calls import positional

        return self._mapped(positional(iterables), options)

    def starmap(self, arguments: Iterable[Iterable[Any]], **options: Any) -> Iterator[T]:
        """Run the function for each tuple of arguments, in one job. Show its log lines, and yield the results.

        Args:
            arguments: the positional arguments of each call; read to its end first.
            **options: the options of `map`.
        """
        from processing.remote_function.mapping.packed_calls import unpacked

        return self._mapped(unpacked(arguments), options)

    def submit_map(self, *iterables: Iterable[Any], **options: Any) -> MapFutures[T]:
        """Start the job of a `map`, and return the futures of its calls in their order. Log lines are not shown.

        Args:
            *iterables: the arguments, as for `map`.
            **options: the options of `map`.
        """
        from processing.remote_function.mapping.options import MapOptions
        from processing.remote_function.mapping.packed_calls import positional
        from processing.remote_function.mapping.submit import submit_map

        chosen = MapOptions.of(options)
        return submit_map(self._function, self._settings, chosen, positional(iterables))

    def _mapped(self, calls: Iterable[Call], options: dict[str, Any]) -> Iterator[T]:
        from processing.remote_function.mapping.options import MapOptions
        from processing.remote_function.mapping.submit import submit_map, yield_results
        from processing.watching.render.log_lines import Renderer

        chosen = MapOptions.of(options)
        renderer = Renderer(instance_count=self._settings.instance_count)
        return yield_results(submit_map(self._function, self._settings, chosen, calls, renderer), chosen)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function as a job, and return its result, without holding a thread while it runs.

        Cancelling the wait stops the job.
        """
        import asyncio

        from processing.watching.aio import in_thread

        future = await in_thread(lambda: self.submit(*args, **kwargs))
        return await asyncio.wrap_future(future)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in this process."""
        return self._function(*args, **kwargs)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> RunPlan:
        """Return the plan of a call: its request, uploads, problems, and the highest price. AWS is not called."""
        return self._call(args, kwargs).plan()

    def options(self, **options: Unpack[RemoteOptions]) -> RemoteFunction[P, T]:
        """Return the same function with other settings.

        Args:
            options: the parameters of `remote`. Others keep their values.
        """
        return RemoteFunction(self._function, self._settings.evolve(options))

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RemoteCall:
        from processing.remote_function.call import RemoteCall

        return RemoteCall.of(self._function, self._settings, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> RemoteFunction[..., T]:
        """Return the remote function of a method, bound as the function itself would be: a static method is not."""
        bind = getattr(self._function, "__get__", None)
        bound = self._function if bind is None else bind(instance, owner)
        return self if bound is self._function else RemoteFunction(bound, self._settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the function itself, with `local`: in a job, the function calls itself and others locally."""
        function: Any = self._function
        if isinstance(function, (classmethod, staticmethod)):
            return type(function), (function.__func__,)
        if isinstance(function, types.FunctionType):  # itself, as a member of a class has to be bound
            return copy.copy, (function,), {"local": function}
        return functools.partial, (function,), (function, (), {}, {"local": function})

    def __repr__(self) -> str:
        return f"<remote function {getattr(self, '__qualname__', self._function)}>"


def plain_function(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function of a remote function; another one itself."""
    return function._function if isinstance(function, RemoteFunction) else function  # noqa: SLF001 - the class is here


@overload
def remote(_func: Callable[P, T]) -> RemoteFunction[P, T]: ...
@overload
def remote(**options: Unpack[RemoteOptions]) -> Callable[[Callable[P, T]], RemoteFunction[P, T]]: ...
@overload
def remote(_func: Callable[P, T], **options: Unpack[RemoteOptions]) -> RemoteFunction[P, T]: ...
def remote(_func: Any = None, **options: Any) -> Any:
    """Make a function remote: a call of it runs as a processing job.

    Use it as a decorator, with parameters or without. Decoration makes no call to AWS and reads no file.

    Args:
        _func: the function.
        options: the parameters, as the reference of remote functions lists them. The config file supplies those that
            are left out.

    Returns:
        A `RemoteFunction`, or the decorator that makes it.

    Raises:
        ConfigurationError: there is no such parameter, or its value cannot work.
    """
    settings = RemoteSettings.of(options)

    def decorate(decorated: Any) -> RemoteFunction[..., Any]:
        inner = plain_function(decorated)
        if isinstance(inner, type) or not (callable(inner) or isinstance(inner, classmethod)):
            raise ConfigurationError(f"_func: must be a function, not {decorated!r}")
        return RemoteFunction(inner, settings)

    return decorate if _func is None else decorate(_func)
