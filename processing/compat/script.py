"""Runs a script as `python script.py` does, with the names of `sagemaker` 2.x installed."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sys
from types import ModuleType, TracebackType

from processing.compat import finder


def run_script(script: str, source: bytes, arguments: list[str]) -> None:
    """Run a script as the program of this process.

    An exception is shown without the frames of this command. The process then ends as it would without the command.

    Args:
        script: the script's path, as the user wrote it.
        source: the content of the script.
        arguments: the script's arguments.

    Raises:
        SystemExit: the script ended with an exit code, or with an exception.
    """
    finder.install()
    _warn_of_installed_package()
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):  # `python -m` has put the working directory there
        sys.path[0] = os.path.dirname(os.path.realpath(script))  # noqa: PTH120 - as text, as Python does
    module = ModuleType("__main__")
    module.__dict__.update(__file__=script, __builtins__=builtins, __cached__=None, __annotations__={})
    sys.modules["__main__"] = module
    try:
        exec(compile(source, script, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's program
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - shown as Python shows it
        _remove_frames(error)
        sys.excepthook(type(error), error, error.__traceback__)
        # 128 + SIGINT is the exit code of a shell for a program that Ctrl-C ends.
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    else:
        return
    raise SystemExit(code)


def _warn_of_installed_package() -> None:
    spec = importlib.util.find_spec("sagemaker")
    if spec is not None and spec.origin != finder.ORIGIN:
        sys.stderr.write(
            f"python -m processing.compat: the script uses the sagemaker in {spec.origin}; without it, the names come "
            "from sm-processing\n"
        )


def _remove_frames(error: BaseException | None) -> None:
    """Remove the frames of this module and of the import hook from an exception and from its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _without_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _without_frames(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    following = _without_frames(trace.tb_next)
    if trace.tb_frame.f_code.co_filename in {__file__, finder.__file__}:
        return following
    trace.tb_next = following
    return trace
