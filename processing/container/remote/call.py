"""The call in the job: loads the function and its arguments, runs it, and stores its result or its exception."""

# ruff: noqa: PTH103, PTH105, PTH118, PTH120, PTH123

import asyncio
import collections.abc
import hashlib
import inspect
import json
import os
import pickle
import sys
import traceback
from typing import Any, Dict

from . import exceptions

RESULT, EXCEPTION = "result", "exception"
"""The slots, which are also the names of the files."""
LONGEST_MESSAGE = 1000
"""The bytes of the exit message, of which AWS keeps 1024."""


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Run the verified call, and end the process with its outcome.

    Args:
        places: the paths of the call, `boot.Places`.
        manifest: the verified manifest.
        _folder: the folder of the unpacked bundle.
    """
    try:
        import cloudpickle

        with open(places.call, "rb") as file:
            file.seek(manifest["start"])
            function, args, kwargs = pickle.loads(file.read())  # noqa: S301 - verified before
        result = cloudpickle.dumps(collected(function(*args, **kwargs)))
    except BaseException as error:  # noqa: BLE001 - the exit code has to be honest after any of them
        _fail(places, error)
    write_slot(places.result, places.message, RESULT, result, {})


def collected(value: Any) -> Any:
    """Return the value of a call: the items of a generator as a list, the result of a coroutine."""
    if inspect.iscoroutine(value):
        return asyncio.run(value)
    if isinstance(value, collections.abc.AsyncGenerator):
        return asyncio.run(_items(value))
    if inspect.isgenerator(value):
        return list(value)
    return value


async def _items(values: Any) -> Any:
    return [value async for value in values]


def _fail(places: Any, error: BaseException) -> Any:
    """Store an exception, show it in the log, and end the process with a code that is not 0."""
    code = exit_code(error)
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    details: Dict[str, Any] = {"type": type(error).__name__, "text": text}
    if isinstance(error, SystemExit):
        details["code"] = error.code if isinstance(error.code, int) else 1
    try:
        body = exceptions.dumps(error)
    except Exception:  # noqa: BLE001 - any object may be in an exception
        body = b""
    write_slot(places.exception, places.message, EXCEPTION, body, details)
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.exit(code)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an exception: never 0, also not in the eight bits that a system keeps."""
    code = error.code if isinstance(error, SystemExit) else 1
    return (code & 0xFF or 1) if isinstance(code, int) else 1


def write_slot(folder: str, message: str, slot: str, body: bytes, details: Dict[str, Any]) -> None:
    """Write a file whole, and its digest to the exit message."""
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, ".part")
    with open(part, "wb") as file:
        file.write(body)
    os.replace(part, os.path.join(folder, slot))
    fields = {"slot": slot, "sha256": hashlib.sha256(body).hexdigest(), "size": len(body), **details}
    os.makedirs(os.path.dirname(message), exist_ok=True)
    with open(message, "w", encoding="ascii") as file:
        file.write(message_text(fields))


def message_text(fields: Dict[str, Any]) -> str:
    """Return an exit message; a long text in it is cut so that the whole fits."""
    text = json.dumps(fields, separators=(",", ":"))
    while len(text) > LONGEST_MESSAGE and fields.get("text"):
        fields = {**fields, "text": fields["text"][: -max(1, (len(text) - LONGEST_MESSAGE) // 6)]}
        text = json.dumps(fields, separators=(",", ":"))
    return text
