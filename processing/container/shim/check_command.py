"""The command `check`: a program or an image, and the verdict as the exit code."""

from __future__ import annotations

import contextlib
import errno
import shlex
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, List, Mapping

from processing.container.shim.check import CheckTarget, check_job, check_server
from processing.container.shim.check_image import ImageOptions, image_target
from processing.container.shim.errors import SettingError
from processing.container.shim.guard import Guard
from processing.container.shim.listeners import listeners_of
from processing.container.shim.logs import Log
from processing.container.shim.program import ShimProgram, find_command

if TYPE_CHECKING:
    import argparse

    from processing.container.shim.settings import Settings

_SERVE_SECONDS = 60.0
_STOPPED = 143
"""The exit code after SIGTERM."""


def run_check(options: argparse.Namespace, words: List[str], settings: Settings, environment: Mapping[str, str]) -> int:
    """Check a program or an image, write the report to stdout, and return the exit code.

    Raises:
        SettingError: an option is impossible.
    """
    _check_options(options, settings)
    if threading.current_thread() is threading.main_thread():
        # The exception ends the program, and removes the container, on its way.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_STOPPED))
    if options.image is None:
        guard = Guard()
        guard.start()
        with contextlib.closing(guard):
            return _check(_program_target(options, words, settings, environment, guard), options, settings)
    word = "serve" if options.serve else "train" if options.train else ""
    words = words or ([word] if word else [])
    image = ImageOptions(options.image, options.client, words, options.env or (), options.model)
    with image_target(image, word, settings.port, environment) as target:
        return _check(target, options, settings)


def _check(target: CheckTarget, options: argparse.Namespace, settings: Settings) -> int:
    if options.serve:
        return check_server(target, options.wait or _SERVE_SECONDS, _write)
    return check_job(target, options.wait, settings.grace, _write)


def _program_target(
    options: argparse.Namespace,
    words: List[str],
    settings: Settings,
    environment: Mapping[str, str],
    guard: Guard,
) -> CheckTarget:
    argv = find_command(words, settings)
    if options.serve:
        _require_free(settings.port)
    program = ShimProgram(argv, settings, environment, Log(settings.log_level), guard=guard).make_program()
    outputs = [] if options.serve else [Path(settings.output_path)]
    port = settings.port
    return CheckTarget(shlex.join(argv), "", program, listeners_of, port, lambda: port, outputs, guard)


def _check_options(options: argparse.Namespace, settings: Settings) -> None:
    if options.wait is not None and not 0 < options.wait < float("inf"):
        raise SettingError("--wait: %r must be a number of seconds above 0" % options.wait)
    if options.serve and settings.port < 1:
        raise SettingError("--port: 0 must be a port from 1 to 65535")
    if options.image is None:
        for name in ("client", "env", "model"):
            if getattr(options, name) is not None:
                raise SettingError("--%s needs --image" % name)
    elif not options.image or options.image.startswith("-"):
        raise SettingError("--image: %r is not an image" % options.image)


def _require_free(port: int) -> None:
    """Refuse a port that another program has, which would answer in place of the one to check."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for a moment, and never listening
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingError("--port: %d cannot be bound: %s" % (port, error.strerror)) from None
            raise SettingError("--port: another program listens at %d already; end it first" % port) from None


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
