"""The program that the shim runs: its command by Docker's rules, its user, its limits, a process for each task."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from processing.container.runner import TIMED_OUT, Program, RunLimits, run_program
from processing.container.shim.errors import SettingError, ShimError
from processing.container.shim.guard import Guard
from processing.container.shim.logs import Log, ProgramOutput
from processing.container.shim.running_server import RunningServer
from processing.container.shim.settings import Settings, Words, program_environment
from processing.container.shim.users import User, become, find_user

STOPPED = "stopped"
"""The reason of a run that ended because the shim was stopped."""


class ProgramEnd(NamedTuple):
    """The end of one run.

    Attributes:
        return_code: 0 to 255; 128 plus the signal if a signal ended the program, as in a shell.
        message: the reason if the shim ended the program; empty otherwise.
        seconds: the duration.
        stderr: the last lines of stderr.
        invoked: whether a long-lived server did the task, not a process of its own.
    """

    return_code: int
    message: str
    seconds: float
    stderr: List[str]
    invoked: bool = False


class ShimProgram:
    """A program in an image.

    Args:
        argv: the program and its arguments.
        settings: the settings.
        environment: the environment of the shim. The program receives it without credentials and the shim's variables.
        log: the log, which receives each line of the program.
        should_stop: returns whether the shim is being stopped.
        guard: the guard of the program; None for a program that may outlive the shim.

    Attributes:
        user: the program's user; None for that of the shim, and if the image has no such user. `start` and
            `make_program` then raise the error, so that tasks have results.
    """

    def __init__(
        self,
        argv: Sequence[str],
        settings: Settings,
        environment: Mapping[str, str],
        log: Log,
        should_stop: Callable[[], bool] = lambda: False,
        guard: Optional[Guard] = None,
    ) -> None:
        self.user: Optional[User] = None
        self._user_problem: Optional[ShimError] = None
        try:
            self.user = find_user(settings.user)
        except ShimError as error:
            self._user_problem = error
        self._argv = tuple(argv)
        self._log = log
        self._should_stop = should_stop
        self._guard = guard or Guard()
        self._settings = settings
        self._environment = _environment(settings, environment, self.user)

    @property
    def healthy(self) -> bool:
        """True if the program can do a task."""
        return True

    def start(self) -> None:
        """Prepare the program for tasks; a process for each task needs its user alone.

        Raises:
            ShimError: the image has no such user.
        """
        if self._user_problem is not None:
            raise self._user_problem

    def close(self) -> None:
        """End the preparation."""

    def run(self, timeout: Optional[float] = None, task: Optional[str] = None) -> ProgramEnd:
        """Run the program to its end. Its process group is killed with it.

        Args:
            timeout: the longest run in seconds; None for no limit.
            task: the task's name, for the log.

        Raises:
            ShimError: the program cannot be started.
        """
        output = ProgramOutput(self._log, task)
        limits = RunLimits(grace=self._settings.grace, max_runtime=timeout)
        started = time.monotonic()
        try:
            end = run_program(
                self.make_program(), output.stdout, limits, self._stop_reason, self._guard.watch, output.stderr
            )
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            raise ShimError("start", self._start_problem(error)) from error
        finally:
            self._guard.watch(0)
        seconds = time.monotonic() - started
        _reap_orphans()
        if end.stop_reason == TIMED_OUT:
            return ProgramEnd(1, "Time limit exceeded", seconds, output.last_stderr_lines)
        if end.stop_reason == STOPPED:
            return ProgramEnd(end.exit_code or 1, "The shim was stopped", seconds, output.last_stderr_lines)
        return ProgramEnd(end.exit_code, "", seconds, output.last_stderr_lines)

    def make_server(self, should_stop: Callable[[], bool]) -> RunningServer:
        """Return the program as a server that runs until it is closed.

        Args:
            should_stop: returns whether to stop the server at once.
        """
        return RunningServer(
            self.make_program, self._settings.grace, self._log, should_stop, self._start_problem, self._guard
        )

    def make_program(self) -> Program:
        """Return the program, ready to run.

        Raises:
            ShimError: the image has no such user.
        """
        # Without the user the program would run as the shim's, which may be root.
        if self._user_problem is not None:
            raise self._user_problem
        return Program(self._argv, self._environment, str(Path.cwd()), preexec=self._preexec())

    def _start_problem(self, error: Exception) -> str:
        return _start_problem(error, self._argv, self._settings.user)

    def _stop_reason(self) -> Optional[str]:
        return STOPPED if self._should_stop() else None

    def _preexec(self) -> Optional[Callable[[], None]]:
        """Return a function for the new process that limits its memory and gives up root; None without need.

        It also names the process to the guard: a kill of the shim just after the start must not leave the program.
        """
        limit, user, extra = self._settings.memory_mb << 20, self.user, self._settings.extra_groups
        guard = self._guard
        if not limit and user is None and not guard.active:
            return None

        def preexec() -> None:
            guard.watch_this_process()
            if limit:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            if user is not None:
                become(user, extra_groups=extra)

        return preexec


def find_command(given: Sequence[str], settings: Settings) -> List[str]:
    """Return the program and its arguments: those given, those of the variable, or those of the image.

    Raises:
        SettingError: there are none.
    """
    return list(given or settings.program) or docker_command(settings.entrypoint, settings.command)


def docker_command(entrypoint: Words, command: Words) -> List[str]:
    """Return the program and its arguments by Docker's rules.

    A string is in the shell form. An entrypoint in the shell form ignores the command.

    Raises:
        SettingError: there is neither an entrypoint nor a command.
    """
    if isinstance(entrypoint, str):
        return _shell(entrypoint)
    words = [*(entrypoint or ()), *(_shell(command) if isinstance(command, str) else command or ())]
    if not words:
        raise SettingError(
            "there is no program: give it after --, in PROCESSING_SHIM_PROGRAM, or in "
            "GRAND_CHALLENGE_COMPONENT_ENTRYPOINT_B64J and GRAND_CHALLENGE_COMPONENT_CMD_B64J, or the same names with "
            "PROCESSING_SHIM_"
        )
    return words


def _reap_orphans() -> None:
    """Reap the processes that programs left behind, if this is the first process of a container.

    They become its children, and stay as zombies until it asks for their ends. No program runs meanwhile.
    """
    if os.getpid() != 1:
        return
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:  # there are none
        pass


def _shell(text: str) -> List[str]:
    return ["/bin/sh", "-c", text]


def _environment(settings: Settings, environment: Mapping[str, str], user: Optional[User]) -> Dict[str, str]:
    result = program_environment(environment, keep_credentials=settings.keep_credentials)
    if user is not None and user.home is not None:
        result["HOME"] = user.home
    return result


def _start_problem(error: Exception, argv: Sequence[str], user: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "The program %r does not exist, or the interpreter in its first line does not" % argv[0]
    if isinstance(error, PermissionError):
        return "The program %r may not be executed by the user %r" % (argv[0], user or "of the shim")
    if isinstance(error, subprocess.SubprocessError):
        return "The program cannot become the user %r, or its memory cannot be limited; run the shim as root" % user
    return "The program %r cannot be started: %s" % (argv[0], error)
