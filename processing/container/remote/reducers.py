"""Reduced forms of objects whose own pickles lose something, or copy their memory.

| object | kept beyond its own pickle |
|---|---|
| exception | cause, context and traceback; fields that its constructor does not take as arguments |
| traceback | file, function and line of each frame |
| storage of PyTorch | its memory without a copy, shared by the tensors that share it |

An open file has no reduced form: cloudpickle would take its content at that moment for the file.

Pickles name the functions here as members of the module `_processing_values`. So they can be loaded wherever this
module was loaded, under any package name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import types

TYPE_CHECKING = False  # as in the boot program
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

WIRE_NAME = "_processing_values"
"""The name of this module in pickles."""

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by a class statement


def register() -> None:
    """Let pickles find the functions of this module. The first copy of the module that is loaded serves all."""
    sys.modules.setdefault(WIRE_NAME, sys.modules[__name__])


def reduce(obj: Any) -> Any:
    """Return the reduced form of an object, as `__reduce__` does; NotImplemented if its own pickle is right."""
    if isinstance(obj, BaseException):
        return _reduce_exception(obj)
    kind = type(obj)
    if kind is types.TracebackType:
        return _named("rebuild_traceback"), (_frames(obj),)
    if kind.__module__ == "torch.storage":
        return _reduce_storage(obj)
    if kind is io.TextIOWrapper and obj not in (sys.stdin, sys.stdout, sys.stderr):
        raise TypeError("cannot pickle an open file")
    return NotImplemented


def _named(name: str) -> Any:
    register()
    return getattr(sys.modules[WIRE_NAME], name)


def _reduce_exception(error: BaseException) -> Any:
    kind = type(error)
    base = _built_in_base(kind)
    reduced = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(reduced, str):
        raise pickle.PicklingError("%s.__reduce__ returned a name" % kind.__qualname__)
    function, args = reduced[:2]
    state = reduced[2] if len(reduced) > 2 else None
    if function is kind and kind.__reduce__ is base.__reduce__:
        # A constructor of the user's own may take other arguments than the exception keeps, so it is not called again.
        function, args = _named("rebuild_exception"), (kind, base, args)
    fields = dict(_fields(error))
    links = error.__cause__, error.__context__, error.__suppress_context__, error.__traceback__, fields
    # As state instead of arguments, the links may lead back to the exception.
    return function, args, (state, links), None, None, _named("restore_exception")


def _built_in_base(kind: type) -> type:
    """Return the nearest class that C code implements: it determines the layout of an instance."""
    while kind.__flags__ & _HEAP_TYPE:
        assert kind.__base__ is not None
        kind = kind.__base__
    return kind


def _fields(error: BaseException) -> Iterator[Tuple[str, Any]]:
    """Yield the fields of an exception that are not in its dictionary, such as `errno`, and those in slots."""
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():
            # The object of an AttributeError may be anything, and large.
            if isinstance(member, types.MemberDescriptorType) and name not in {"obj", "__suppress_context__"}:
                value = getattr(error, name, None)
                if value is not None:
                    yield name, value


def rebuild_exception(kind: Any, base: Any, args: Tuple[Any, ...]) -> BaseException:
    """Return an exception without a call of its own constructor.

    Args:
        kind: its class.
        base: the nearest built-in base of the class.
        args: the arguments of the built-in base.
    """
    error: BaseException = base.__new__(kind, *args)
    try:
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - the program has replaced `args`
        error.args = args
    return error


def restore_exception(error: BaseException, state: Tuple[Any, Tuple[Any, ...]]) -> None:
    """Give an exception its attributes, its cause, its context and its traceback."""
    own, (error.__cause__, error.__context__, suppress_context, error.__traceback__, fields) = state
    error.__suppress_context__ = suppress_context
    if own is not None:
        error.__setstate__(own)
    for name, value in fields.items():
        if getattr(error, name, None) is not value:
            with contextlib.suppress(AttributeError, TypeError):  # some are read-only, and set by the constructor
                setattr(error, name, value)


def _frames(traceback: Optional[types.TracebackType]) -> List[Tuple[str, str, int, str]]:
    """Return file, function, line and module of each frame. A list, because a nest of 1,000 could not be pickled."""
    frames = []
    while traceback is not None:
        frame = traceback.tb_frame
        code = frame.f_code
        frames.append((code.co_filename, code.co_name, traceback.tb_lineno, str(frame.f_globals.get("__name__", ""))))
        traceback = traceback.tb_next
    return frames


def rebuild_traceback(frames: List[Tuple[str, str, int, str]]) -> Optional[types.TracebackType]:
    """Return a traceback with these frames, each a file, a function, a line and a module."""
    traceback = None
    for filename, function, line, module in reversed(frames):
        code = _stub().replace(co_filename=filename, co_name=function, co_firstlineno=line)
        variables: Dict[str, Any] = {"__name__": module, "__file__": filename}
        variables["frame"] = sys._getframe  # noqa: SLF001 - documented, and every interpreter of images has it
        frame = eval(code, variables)  # noqa: S307 - the stub above; Python makes frames for running code alone
        del variables["frame"]
        traceback = types.TracebackType(traceback, frame, frame.f_lasti, line)
    return traceback


@functools.lru_cache(maxsize=None)
def _stub() -> types.CodeType:
    """Return code that calls `frame` in the first line. It has no columns: Python would mark them in another line."""
    import ast  # loaded on first use: the start of a job waits for this module

    tree = ast.parse("frame()", mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            node.col_offset = node.end_col_offset = -1
    return compile(tree, "<string>", "eval")


def _reduce_storage(storage: Any) -> Any:
    # A typed storage is new for each tensor. The untyped one is shared, and the pickler recognizes it.
    untyped = getattr(storage, "_untyped_storage", storage)
    if untyped.device.type != "cpu":
        return NotImplemented
    if untyped is not storage:
        return _named("rebuild_typed_storage"), (untyped, storage.dtype)
    import ctypes

    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    memory.storage = storage  # keeps the memory
    return _named("rebuild_storage"), (pickle.PickleBuffer(memory),)


def rebuild_storage(buffer: Any) -> Any:
    """Return an untyped storage of PyTorch that uses the memory of a buffer."""
    import torch  # type: ignore[import-not-found]

    view = memoryview(buffer).cast("B")
    if not view.nbytes:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(view) if view.readonly else view, dtype=torch.uint8).untyped_storage()


def rebuild_typed_storage(untyped: Any, dtype: Any) -> Any:
    """Return a typed storage of PyTorch."""
    import torch

    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


for _function in (rebuild_exception, restore_exception, rebuild_traceback, rebuild_storage, rebuild_typed_storage):
    _function.__module__ = WIRE_NAME
