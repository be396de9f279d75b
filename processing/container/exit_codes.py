"""Explanations of the exit codes that a shell or the system gives, in place of a program's own."""

from __future__ import annotations

import re
from typing import Optional

_SIGNALS = {
    1: "ended by SIGHUP",
    2: "interrupted (SIGINT)",
    3: "ended by SIGQUIT",
    4: "ended by SIGILL: native code uses an instruction that the processor lacks",
    6: "aborted (SIGABRT), usually by a failed check in native code",
    7: "ended by SIGBUS, often because /dev/shm or the disk is full",
    8: "ended by SIGFPE: an arithmetic error in native code",
    9: "killed (SIGKILL), mostly because memory ran out. Try an instance type with more memory, or smaller data",
    11: "ended by SIGSEGV: a crash in native code, such as a library that does not fit the image or the processor",
    13: "ended by SIGPIPE: it wrote to a pipe without a reader",
    15: "ended by SIGTERM, as by a stop of the job or a shutdown of its host",
    24: "ended by SIGXCPU: it exceeded a limit of processor time",
    25: "ended by SIGXFSZ: it exceeded a limit of the size of files",
}
_CODES = {
    126: "not executable. Check its mode, its first line and the processor architecture of the image",
    127: "not found. Check the entrypoint, the PATH of the image, and the interpreter in the script's first line",
}
_IN_REASON = re.compile(r"\bexit code:? (-?\d+)")


def explain_exit_code(code: int) -> Optional[str]:
    """Return the meaning of an exit code; None for a program's own code.

    Args:
        code: 0 to 255 as in a shell, or the negative number of a signal as in Python.
    """
    if code in _CODES:
        return "exit code %d: the program, or one that it started, was %s." % (code, _CODES[code])
    number = -code if code < 0 else code - 128
    if number not in _SIGNALS:
        return None
    return "exit code %d: the program was %s." % (code, _SIGNALS[number])


def explain_reason(reason: str) -> Optional[str]:
    """Return the meaning of the exit code that a FailureReason contains; None if there is none to explain.

    A reason that explains itself, as that of an entrypoint that does not exist, needs no further text.
    """
    found = _IN_REASON.search(reason)
    return None if found is None or "the entrypoint" in reason else explain_exit_code(int(found.group(1)))
