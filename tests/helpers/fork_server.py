"""A small process that forks: to copy the process of all tests takes ten times longer."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRAM = """
import os, pickle, sys, traceback

def start(function, arguments):
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    code = 1
    try:
        value = pickle.dumps(function(*arguments))
        sys.setprofile(None)
        with open(write, "wb") as pipe:
            pipe.write(value)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

def end(child, read):
    with open(read, "rb") as pipe:
        value = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, pickle.loads(value) if code == 0 else None

while True:
    try:
        calls = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    children = [start(*call) for call in calls]
    pickle.dump([end(*child) for child in children], sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Exit(NamedTuple):
    """The end of a child.

    Args:
        code: its exit code: 0, or 1 after an exception, or the negative number of a signal.
        value: the value that the function returned; None if it did not return.
    """

    code: int
    value: Any


class ForkServer:
    """Runs functions of importable modules in processes of their own, which have no threads."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def run(self, function: Callable[..., object], *calls: tuple[Any, ...]) -> list[Exit]:
        """Run a function in a child for each tuple of arguments, all at once, and return how the children ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump([(function, arguments) for arguments in calls], self._process.stdin)
        self._process.stdin.flush()
        return [Exit(*ended) for ended in pickle.load(self._process.stdout)]

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()
