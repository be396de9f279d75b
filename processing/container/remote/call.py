"""The call in the job: loads the function and its arguments, runs it, and stores its result or its exception."""

# Paths are plain strings, as in the boot program.
# ruff: noqa: PTH103, PTH105, PTH118, PTH123

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import types

from . import checkpoints, packing
from .boot import write_message

TYPE_CHECKING = False  # as in the boot program
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, NoReturn, Sequence, Tuple

RESULT, EXCEPTION = "result", "exception"
"""The slots, which are also the names of the files."""
_REMOTE_FUNCTION = "processing.remote_function.decorator", "RemoteFunction"
LOADING, RETURNING = "loading", "returning"
"""The stages at which a call may fail beside the function itself."""


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Run the verified call, and end the process with its outcome.

    Args:
        places: the paths of the call, `boot.Places`.
        manifest: the verified manifest. `format` is the form of the result, `values` whether the call has it too.
        _folder: the folder of the unpacked bundle.
    """
    stage, form = LOADING, manifest["format"]
    try:
        checkpoints.prepare()
        function, args, kwargs = load(read_packed(places.call, manifest["start"]), as_values=manifest["values"])
        stage = ""
        value = collected(function(*args, **kwargs))
        stage = RETURNING
        chunks = encoded(value, form)
    except BaseException as error:  # noqa: BLE001 - the exit code has to be honest after any of them
        fail(places, error, stage)
    write_slot(places.result, places.message, RESULT, chunks, {})


def load(memory: bytearray, *, as_values: bool) -> Tuple[Any, Any, Any]:
    """Return the function and its arguments.

    Args:
        memory: the verified bytes.
        as_values: True if they are values, with the function's module and name; False if they are packed.
    """
    if not as_values:
        function, args, kwargs = packing.unpack(memory)
    else:
        from . import values  # loads json

        call = values.decode(memory)
        function, args, kwargs = call["function"], call["args"], call["kwargs"]
    return (find_function(*function) if isinstance(function, (list, tuple)) else function), args, kwargs


def encoded(value: Any, form: str) -> Sequence[memoryview]:
    """Return the chunks of a result in the form of the call's results: `pickle`, `json` or `arrow`."""
    if form == "pickle":
        return packing.pack(value).chunks
    from . import values  # loads json

    return values.encode(value, form, RESULT)


def find_function(module: str, name: str) -> Any:
    """Return a function by its module and its name there. A remote function is the function that it runs."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    # Other decorators belong to the function. The image need not have this package.
    is_remote = (type(found).__module__, type(found).__name__) == _REMOTE_FUNCTION
    return found._function if is_remote else found  # noqa: SLF001 - as above


def read_packed(path: str, start: int) -> bytearray:
    """Return the bytes of a file from a position on, once and in memory that may be changed: arrays refer to it."""
    with open(path, "rb") as file:
        memory = bytearray(os.fstat(file.fileno()).st_size - start)
        file.seek(start)
        file.readinto(memory)
    return memory


def collected(value: Any) -> Any:
    """Return the value of a call: the items of a generator as a list, the result of a coroutine."""
    if isinstance(value, (types.CoroutineType, types.AsyncGeneratorType)):
        import asyncio  # a third of the time until the function runs

        return asyncio.run(value if isinstance(value, types.CoroutineType) else _items(value))
    return list(value) if isinstance(value, types.GeneratorType) else value


async def _items(items: Any) -> Any:
    return [item async for item in items]


def fail(places: Any, error: BaseException, stage: str) -> NoReturn:
    """Store an exception, show it in the log, and end the process with a code that is not 0.

    Args:
        places: the paths of the call, `boot.Places`.
        error: the exception.
        stage: the stage of the call, if it was not the function itself.
    """
    details = describe_exception(error)
    if stage:
        details["stage"] = stage
    write_slot(places.exception, places.message, EXCEPTION, packed_exception(error), details)
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    sys.exit(exit_code(error))


def describe_exception(error: BaseException) -> Dict[str, Any]:
    """Return the type and the text of an exception, and the code of a SystemExit."""
    import traceback

    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    details: Dict[str, Any] = {"type": type(error).__name__, "text": text}
    if isinstance(error, SystemExit):
        details["code"] = error.code if isinstance(error.code, int) else exit_code(error)
    return details


def packed_exception(error: BaseException) -> Sequence[memoryview]:
    """Return the chunks of a packed exception; none if it cannot be packed, so that only its text is left."""
    try:
        return packing.pack(error).chunks
    except Exception:  # noqa: BLE001 - any object may be in an exception
        return ()


def exit_code(error: BaseException) -> int:
    """Return the exit code for an exception: never 0, also not in the eight bits that a system keeps."""
    code = error.code if isinstance(error, SystemExit) else 1
    return (code & 0xFF or 1) if isinstance(code, int) else 1


def write_slot(folder: str, message: str, slot: str, chunks: Iterable[memoryview], details: Dict[str, Any]) -> None:
    """Write a file whole, and its digest to the exit message."""
    os.makedirs(folder, exist_ok=True)
    # Beside the folder: its contents may be uploaded at any time.
    part, digest, size = folder.rstrip("/") + ".part", hashlib.sha256(), 0
    with open(part, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    os.replace(part, os.path.join(folder, slot))
    facts = {"slot": slot, "sha256": digest.hexdigest(), "size": size, "python": "%d.%d.%d" % sys.version_info[:3]}
    write_message(message, {**facts, **details})
