"""Exceptions that travel from the job to the caller with cause, context, notes, attributes and traceback.

An exception is restored without a call of an initialiser in Python, which may need other arguments than `args`. Its
traceback travels as plain values. The caller makes a traceback of them, so the job needs no further package.
"""

import io
import pickle
from typing import Any, Dict, List, Tuple

Frames = List[Tuple[str, int, str, str]]
"""The frames of a traceback, the outermost first: file, line, function and module."""


def frames_of(error: BaseException) -> Frames:
    """Return the frames of an exception's traceback."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
        frames.append((code.co_filename, trace.tb_lineno, code.co_name, str(names.get("__name__", "?"))))
        trace = trace.tb_next
    return frames


def reduce_exception(error: BaseException) -> Tuple[Any, ...]:
    """Return the value by which a pickler stores an exception.

    The links to other exceptions are part of the state, so a circle of them can be stored too.
    """
    kind = type(error)
    base = _builtin_base(kind)
    own_way = kind.__reduce__ is not base.__reduce__ or kind.__reduce_ex__ is not base.__reduce_ex__
    reduced: Any = error.__reduce_ex__(pickle.DEFAULT_PROTOCOL) if own_way else base.__reduce__(error)
    made = reduced[:2] if own_way else (restore, (kind, reduced[1]))
    state = {
        "args": None if own_way else error.args,
        "attributes": reduced[2] if len(reduced) > 2 and isinstance(reduced[2], dict) else dict(vars(error)),
        "cause": error.__cause__,
        "context": error.__context__,
        "suppress": error.__suppress_context__,
        "frames": frames_of(error),
    }
    return (*made, state, None, None, restore_state)


def restore(kind: Any, args: Tuple[Any, ...]) -> BaseException:
    """Return an exception. Of its initialisers, only that of Python's own exception class is called."""
    error: BaseException = kind.__new__(kind, *args)
    _builtin_base(kind).__init__(error, *args)
    return error


def restore_state(error: BaseException, state: Dict[str, Any]) -> None:
    """Set what the constructor does not: arguments, attributes and links."""
    if state["args"] is not None:
        error.args = state["args"]
    for name, value in state["attributes"].items():
        setattr(error, name, value)
    error.__cause__ = state["cause"]
    error.__context__ = state["context"]
    error.__suppress_context__ = state["suppress"]


def _builtin_base(kind: Any) -> Any:
    """Return the first class of Python's own among the bases of an exception class."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def dumps(error: BaseException) -> bytes:
    """Return a pickle of an exception.

    Raises:
        Exception: it, or a value in it, cannot be pickled, or not be loaded again.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, BaseException):
                return reduce_exception(value)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file, protocol=pickle.DEFAULT_PROTOCOL).dump(error)
    body = file.getvalue()
    pickle.loads(body)  # noqa: S301 - made in this function
    return body
