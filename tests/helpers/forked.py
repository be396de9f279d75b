"""Functions that run in forked children of the test's process."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_SECONDS = 30  # a child that waits for a lock of its parent's threads would wait for ever


def in_children(*functions: Callable[[], T]) -> list[T]:
    """Run each function in a child of its own, all at once, and return their results.

    Raises:
        AssertionError: a function raised, or its child did not end in time.
    """
    started = [_start(function) for function in functions]
    results = []
    for child, end in started:
        with open(end, "rb") as pipe:  # noqa: PTH123 - a descriptor
            content = pipe.read()
        status = os.waitpid(child, 0)[1]
        assert content, f"the child ended with {status}"
        result, error = pickle.loads(content)
        assert not error, error
        results.append(result)
    return results


def in_child(function: Callable[[], T]) -> T:
    """Run a function in a forked child, and return its result."""
    return in_children(function)[0]


def _start(function: Callable[[], T]) -> tuple[int, int]:
    end, start = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child:
        os.close(start)
        return child, end
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    try:
        try:
            answer = pickle.dumps((function(), None))
        except BaseException:  # noqa: BLE001 - the parent reports it
            answer = pickle.dumps((None, traceback.format_exc()))
        os.write(start, answer)
    finally:
        os._exit(0)
