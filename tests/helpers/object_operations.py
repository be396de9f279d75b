"""Operations on the object store, which may be killed at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.stores import uploads
from processing.local.stores.objects import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run_operation(root: Path, name: str, arguments: list[Any], death: int | None) -> tuple[str, Any]:
    """Run an operation, and return `done` or `refused`, and its answer or the code of the refusal.

    Args:
        root: the folder of the store.
        name: the operation.
        arguments: its arguments.
        death: the number of calls, of Python's functions and of C's, after which the process dies; None to live.
    """
    uploads.MIN_PART_BYTES = 1  # in this child only
    store = ObjectStore(root)
    if death is not None:
        _die_after(death)
    try:
        return "done", _carry_out(store, name, arguments)
    except ApiError as error:
        return "refused", error.code


def _carry_out(store: ObjectStore, name: str, arguments: list[Any]) -> Any:
    parts = uploads.MultipartUploads(store)
    operations: dict[str, Callable[..., Any]] = {
        "put": lambda key, body, tags, conditions: store.put("bucket", key, body, tags=tags, **conditions).etag,
        "delete": lambda key: store.delete("bucket", key),
        "create": lambda key: parts.create("bucket", key, headers={}, metadata={}).id,
        "part": lambda upload, key, number, body: parts.add_part(upload, "bucket", key, number, body).etag,
        "complete": lambda upload, key, chosen: (
            parts.complete(upload, "bucket", key, [uploads.CompletedPart(*part) for part in chosen]).etag
        ),
        "abort": lambda upload, key: parts.abort(upload, "bucket", key),
        "sweep": lambda: store.remove_orphans(0.0),
    }
    return operations[name](*arguments)


def _die_after(count: int) -> None:
    left = count

    def tick(*_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(tick)
