"""The collection of garbage, paused while objects are made that stay until the process ends."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Let the collection of garbage wait until the end of the block.

    A collection passes over all objects, and objects that stay are passed over in vain each time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
