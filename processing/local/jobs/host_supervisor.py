"""The part of a supervisor that all kinds of jobs share: files, sandbox, program, stop, log, services and end.

A subclass adds the contract of its kind: the data and files that the program finds, its command, and its results.
It imports little, because its start is part of every job's time.
"""

from __future__ import annotations

import contextlib
import math
import os
import posixpath
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.container import contract, runner
from processing.exceptions import EngineError, ProcessingError
from processing.local import file_trees, processes, reserve
from processing.local.errors import is_full
from processing.local.jobs import events
from processing.local.jobs.data import DataError, HostData
from processing.local.jobs.execution_plan import ExecutionPlan
from processing.local.jobs.host_services import HostServices
from processing.local.jobs.object_source import object_source
from processing.local.jobs.uploads import Uploads
from processing.local.sandboxes import restore
from processing.local.sandboxes.base import Bind, HostSpec, SandboxError, addresses, container_key
from processing.local.sandboxes.private_folders import kept_paths
from processing.local.stores.jobs import HostEnd, JobRecord, JobStore
from processing.local.stores.logs import LogStore
from processing.local.stores.metrics import HOST_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.local.sandboxes.base import HostCommand

END_BYTES = 1 << 17
"""The size of a second reserve, which makes room to record the host's end. The first is for its last log lines."""
_OVERLAY = str(Path(contract.__file__).with_name("overlay.py"))
_SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh"})
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes of a shell for a program that does not exist, and for one that is not executable."""
_LAST_LINES = 5
"""The number of last log lines that a sandbox sees to explain a failed start."""
_FINISH_SECONDS, _FINISH_PAUSE = 60, 0.2
"""The time for which recording a host's end on a full disk is retried, and the pause between two tries."""
_PROBLEM = "problem"
"""The reason for a stop that a service of the host asked for: see `HostServices.problem`."""


class _InterruptedError(Exception):
    """A host that has to end before its program starts. The argument is the outcome."""


class _NoProgramError(Exception):
    """An entrypoint that cannot be started. The arguments are the reason and the exit code."""


class HostSupervisor:
    """The process of one host of a job.

    Args:
        home: the engine's folder.
        jobs: the job store.
        record: the job.
        number: the host's number, from 1.
    """

    log_group = ""
    """The log group of the kind."""
    folders: Sequence[str] = ("home", "ml/tmp", "ml/output")
    """The folders that every host of the kind begins with, relative to the host's folder."""
    longest_grace = math.inf
    """The most seconds between SIGTERM and SIGKILL for programs of the kind."""

    def __init__(self, home: Path, jobs: JobStore, record: JobRecord, number: int) -> None:
        self._jobs = jobs
        self._logs = LogStore(home)
        self._record = record
        self._request = jobs.request(record.id)
        self._plan = ExecutionPlan.from_json(jobs.execution_plan(record.id))
        self._count = len(jobs.hosts(record.id))
        self._number = number
        self._home = home
        self._folder = home / record.folder
        self._work = self._folder / contract.host_name(number)
        self._ml_root = str(self._work / "ml")
        self._reserve = self._work / reserve.FILE
        self._end_reserve = self._work / "reserve-of-end"
        self._stream = f"{record.name}/{contract.host_name(number)}-{int(time.time() * 1000)}"
        # This machine's clock may be set back. No line is older than its job, as clients drop such lines.
        self._earliest = math.ceil(round(record.created, 3) * 1000)
        self._sandbox = restore(self._plan.sandbox)
        self._last_lines: Sequence[str] = ()
        self._objects = object_source(home, self._plan.s3)
        self._data = HostData(
            self.inputs(), self.outputs(), self._ml_root, number, self._count, self._objects, self._check
        )
        self._uploads = Uploads(self.inputs(), self.outputs(), self._ml_root, self._objects)
        self._services = HostServices(
            home,
            self._work,
            self.metric_dimensions(),
            record.id + number,
            self._plan,
            self.volume(),
            self.log_group,
            own_network=self.own_network(),
        )
        self._terminated = False
        self._next_check = 0.0

    # The contract of the kind

    def metric_dimensions(self) -> Mapping[str, str]:
        """Return the dimensions of the host's metrics: its name, such as `my-job/algo-1`."""
        return {HOST_DIMENSION: f"{self._record.name}/{contract.host_name(self._number)}"}

    def inputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the inputs, each with the members of a processing job's S3Input."""
        raise NotImplementedError

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """Return the outputs whose files are uploaded one by one, each with the members of a job's S3Output."""
        raise NotImplementedError

    def volume(self) -> int:
        """Return the size of the host's disk volume, in GB."""
        raise NotImplementedError

    def max_runtime(self) -> int | None:
        """Return the seconds after which the program is stopped; None for no limit."""
        raise NotImplementedError

    def image(self) -> tuple[str, bool]:
        """Return the job's image, and whether the command begins with an entrypoint in place of the image's."""
        raise NotImplementedError

    def isolated(self) -> bool:
        """Return whether the program may not use the network."""
        raise NotImplementedError

    def begin(self) -> None:
        """Record that the host fetches its data. Kinds without phases have nothing to record."""

    def kept(self) -> Sequence[str]:
        """Return further paths below this machine's /tmp that the program sees in its own."""
        return ()

    def own_network(self) -> bool:
        """Return whether each program has a network of its own."""
        return False

    def joins_network(self) -> bool:
        """Return whether the sandbox shares the network of its command."""
        return not self.isolated()

    def wake_descriptor(self) -> int | None:
        """Return a descriptor that becomes readable when the program has to be stopped at once; None if none does."""
        return None

    def passed(self) -> Sequence[str]:
        """Return the names of variables that an image's program gets from the environment of the sandbox's command."""
        return ()

    def outer_command(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the command line that runs the sandbox's command."""
        return argv

    def write_config(self) -> None:
        """Write the files below /opt/ml by which the program learns about its job."""
        raise NotImplementedError

    def command(self, binds: Sequence[Bind]) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the requested variables."""
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        """Return the variables that the platform sets for programs of this kind."""
        raise NotImplementedError

    def collect(self, end: HostEnd) -> HostEnd:
        """Store the results of an ended program, and return the host's end with what they say about it."""
        raise NotImplementedError

    def complete(self, end: HostEnd) -> HostEnd:
        """Complete the job's results if this is its last host, however it ended; return the host's end.

        A host that has not completed keeps the end that it had before.
        """
        return end

    def run(self) -> None:
        """Run the host to its end, record the end, and remove its files."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        end = self._without_error(self._run)
        results = self._without_error(lambda: self.complete(end))
        if end.outcome == "completed":
            end = results
        file_trees.remove_tree(self._work)
        try:
            ended = self._record_end(end)
        except ProcessingError as error:  # the next process that reads the job's status records it
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{error}\n")
            return
        if ended:
            events.deliver(self._jobs, self._home)
            file_trees.remove_tree(self._folder)

    def _free_space(self) -> None:
        """Remove the host's files, but not the reserves: the results of the job may leave no other space."""
        with contextlib.suppress(OSError):
            for place in self._work.iterdir():
                if place.is_dir():
                    file_trees.remove_tree(place)

    def _without_error(self, work: Callable[[], HostEnd]) -> HostEnd:
        """Return the end that the work returns, or a failure for its error: the job must end after any error."""
        try:
            return work()
        except ProcessingError as error:
            return _failure(error, self._folder)
        except Exception as error:  # noqa: BLE001 - an error of any kind
            if not is_full(error):
                import traceback

                with contextlib.suppress(OSError):
                    traceback.print_exc()
            return _failure(error, self._folder)

    def _record_end(self, end: HostEnd) -> bool:
        """Record the end, and return whether the job has ended."""
        return self._retry_while_full(
            lambda: self._jobs.record_host_end(self._record.id, self._number, end, time.time())
        )

    def _retry_while_full(self, write: Callable[[], bool]) -> bool:
        """Write to the job store, and return what the write returns.

        On a full disk other processes may take the space that was just freed, so this retries for a while.
        """
        deadline = time.monotonic() + _FINISH_SECONDS
        while True:
            try:
                return write()
            except ProcessingError as error:  # noqa: PERF203 - tried five times a second
                if not is_full(error) or time.monotonic() > deadline:
                    raise
                with contextlib.suppress(OSError):
                    self._end_reserve.unlink()
                time.sleep(_FINISH_PAUSE)

    def _on_sigterm(self, *_: object) -> None:
        self._terminated = True

    # Phases of the host

    def _run(self) -> HostEnd:
        try:
            host = self._prepare()
            end = self._run_program(host)
        except _InterruptedError as interrupted:
            return _end_of_interrupted(str(interrupted), None, self.max_runtime())
        except _NoProgramError as problem:
            reason, code = problem.args
            self.emit([(int(time.time() * 1000), reason)])
            end = HostEnd("failed", code, f"AlgorithmError: {reason}, exit code: {code}")
        except (DataError, SandboxError) as error:
            return HostEnd("failed", reason=str(error))
        finally:
            self._services.close()
        return self.collect(end._replace(ended=time.time()))

    def _prepare(self) -> HostSpec:
        """Make the host's files, fetch its inputs, and prepare its sandbox."""
        for name in self.folders:
            (self._work / name).mkdir(parents=True, exist_ok=True)
        tmp = self._work / "tmp"
        tmp.mkdir()
        tmp.chmod(0o1777)
        reserve.reserve(self._reserve)
        reserve.reserve(self._end_reserve, END_BYTES)
        self._check()
        self.begin()
        binds = self._data.fetch()
        self._services.open_pipes(self._data.streams, self._objects)
        self.write_config()
        image, entrypoint = self.image()
        host = HostSpec(
            self._ml_root,
            binds,
            contract.host_name(self._number),
            self._write_hosts_file(),
            tuple(self._plan.masks),
            self.joins_network(),
            self._count,
            container_key(self._record.folder, self._number),
            image,
            entrypoint,
            self._plan.gpus,
            str(tmp),
            kept_paths([*self._plan.kept, *self.kept(), str(self._work)]),
            self.passed(),
        )
        self._sandbox.prepare(host, self._check)
        return host

    def _run_program(self, host: HostSpec) -> HostEnd:
        argv, requested = self.command(host.binds)
        env = self._environment(argv, requested)
        if not self._sandbox.runs_image:
            _require_program(argv[0], env, host.binds, self._ml_root)
        if not self._sandbox.mounts:
            self._check_code(argv)
        self._check(at_once=True)
        with contextlib.ExitStack() as at_the_end:
            at_the_end.callback(self._sandbox.remove, host.key, host.ml_root)
            if self._uploads.continuous:
                from processing.local.jobs.continuous_upload import ContinuousUploads  # few jobs have any

                at_the_end.enter_context(ContinuousUploads(self._uploads.upload_settled, self._plan.tick))
            return self._end_of_host(self.run_to_end(argv, env, host), host)

    def run_to_end(
        self, argv: Sequence[str], env: Mapping[str, str], host: HostSpec, inherited: Sequence[int] = ()
    ) -> runner.ProgramExit:
        """Run the program once, to its end.

        Args:
            argv: the program and its arguments.
            env: its environment.
            host: the host.
            inherited: the descriptors that it inherits.
        """
        cwd = str(self._work / "home")
        report = os.pipe() if self._sandbox.reports else None
        command = self._sandbox.command(argv, host, env=env, cwd=cwd, report_fd=report[1] if report else None)
        words = self._services.command(self.outer_command(command.argv))
        program = runner.Program(
            words, command.env, command.cwd, report, command.signal, inherited, wake=self.wake_descriptor()
        )
        limits = runner.RunLimits(self._plan.tick, min(self._plan.grace, self.longest_grace), self.max_runtime())
        try:
            return runner.run_program(
                program, self.emit, limits, self._should_stop, lambda group: self._on_start(group, command)
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise _NoProgramError(
                f"the entrypoint {argv[0]!r} cannot be started: {error.strerror}", NOT_EXECUTABLE
            ) from None

    def _check_code(self, words: Sequence[str]) -> None:
        """Refuse code with paths below /opt/ml that did not exist when the job was created."""
        from processing.local.jobs.fixed_paths import problem_on_disk

        local_paths = [item["LocalPath"] for item in self.inputs() if item["S3InputMode"] == "File"]
        places = {path: contract.resolve_path(self._ml_root, path) for path in local_paths}
        problem = problem_on_disk(words, places)
        if problem is not None:
            self.emit([(int(time.time() * 1000), problem)])
            raise DataError(f"ClientError: {problem}")

    def _end_of_host(self, ended: runner.ProgramExit, host: HostSpec) -> HostEnd:
        """Return the host's outcome for the end of its program."""
        self._emit_service_lines()
        reason = self._services.program_ended(ended.exit_code)
        if ended.stop_reason not in {None, _PROBLEM}:
            return _end_of_interrupted(ended.stop_reason, ended.exit_code, self.max_runtime())
        if reason is not None:
            return HostEnd("failed", ended.exit_code, reason)
        problem = self._sandbox.problem(host, ended.exit_code, self._last_lines)
        if problem is not None:
            return problem
        if ended.exit_code:
            reason = f"AlgorithmError: See job logs for more information, exit code: {ended.exit_code}"
            return HostEnd("failed", ended.exit_code, reason)
        return HostEnd("completed", 0)

    def upload(self, end: HostEnd) -> HostEnd:
        """Upload the outputs, however the program ended. A failed upload fails a host that has completed."""
        try:
            self._uploads.upload()
        except DataError as error:
            self.emit([(int(time.time() * 1000), str(error))])
            if end.outcome == "completed":
                return end._replace(outcome="failed", reason=str(error))
        return end

    # Environment and command line of the program

    def _environment(self, argv: Sequence[str], requested: Mapping[str, str]) -> dict[str, str]:
        """Return the environment: the variables of the plan, of the services, and the requested ones, which win.

        An image brings its own PATH and home.
        """
        python = self._plan.python
        env: dict[str, str] = dict(self._plan.environment)
        if python is not None:
            env["PATH"] = os.pathsep.join([str(Path(python.executable).parent), env.get("PATH") or os.defpath])
            if python.venv:
                env["VIRTUAL_ENV"] = python.venv
            if posixpath.basename(argv[0]) in _SHELLS:
                env.update(self._overlay(python.executable, env))
            env["HOME"] = str(self._work / "home")
            # Short, because multiprocessing makes a Unix socket in it, whose path has 107 bytes at most.
            env["TMPDIR"] = f"{contract.ML}/tmp"  # noqa: S108 - not the directory that all users share
        env.update(self.variables())
        env.update(self._services.environment(requested))
        env.update(requested)
        return env

    def _overlay(self, python: str, env: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that give a shell a Python of its own.

        It sees the packages of the user's Python, and a script can install more into it.
        """
        place = str(self._work / "python")
        made = subprocess.run(  # noqa: S603 - the interpreter that the job runs on
            [python, "-I", _OVERLAY, place],
            env=dict(env),
            capture_output=True,
            check=False,
            start_new_session=True,  # a signal to the group of the job's processes must not reach the supervisor
        )
        if made.returncode == 0:
            return {"PATH": os.pathsep.join([f"{place}/bin", env["PATH"]]), "VIRTUAL_ENV": place}
        # A Python without venv: installed packages go to a folder, and cannot replace those that exist.
        return {"PIP_TARGET": place, "PYTHONPATH": place}

    def _write_hosts_file(self) -> str:
        """Write the job's /etc/hosts: the machine's, and one loopback address for each host of the job."""
        path = self._work / "hosts"
        known = b""
        with contextlib.suppress(OSError):
            known = Path("/etc/hosts").read_bytes().rstrip(b"\n") + b"\n"
        names = [f"{address} {name}\n" for name, address in addresses(self._count)]
        path.write_bytes(known + "".join(names).encode())
        return str(path)

    # Callbacks

    def _check(self, *, at_once: bool = False) -> None:
        """Raise if the host has to end now. Called between two files, and within large ones.

        Args:
            at_once: check even if the last check is less than a tick ago.

        Raises:
            _InterruptedError: the host has to end.
        """
        now = time.monotonic()
        if not at_once and now < self._next_check:
            return
        self._next_check = now + self._plan.tick
        reason = self._interruption()
        if reason is not None:
            raise _InterruptedError(reason)

    def _should_stop(self) -> str | None:
        """Return the reason to stop the program, or None. Called once a tick while the program runs."""
        self._emit_service_lines()
        return self._interruption() or (_PROBLEM if self._services.problem() else None)

    def _interruption(self) -> str | None:
        return "terminated" if self._terminated else self._jobs.interruption(self._record.id)

    def _on_start(self, group: int, command: HostCommand) -> None:
        self._jobs.record_start(self._record.id, self._number, group, processes.start_id(group), time.time())
        self._services.program_started(group, command.process)
        if self.outputs():
            # The checksums of the outputs need OpenSSL, which takes milliseconds to load: now, beside the program.
            import hashlib  # noqa: F401 - imported for its effect

    def _emit_service_lines(self) -> None:
        lines = self._services.take_lines()
        if lines:
            self.emit([(int(time.time() * 1000), line) for line in lines])

    def emit(self, messages: Sequence[tuple[int, str]]) -> None:
        """Append messages to the job's log. On a full disk the reserve is removed to make room for the last lines.

        Args:
            messages: pairs of a time, in milliseconds since the epoch, and a text.
        """
        events = [(max(stamp, self._earliest), message or " ") for stamp, message in messages]
        self._last_lines = [*self._last_lines, *(message for _, message in messages[-_LAST_LINES:])][-_LAST_LINES:]
        try:
            self._logs.append(self.log_group, self._stream, events)
        except ProcessingError as error:
            if not is_full(error) or not self._reserve.exists():
                raise
            self._reserve.unlink()
            for event in events:  # one by one: together they may be larger than the reserve
                self._logs.append(self.log_group, self._stream, [event])


def _end_of_interrupted(why: str, exit_code: int | None, longest: int | None) -> HostEnd:
    """Return the end of a host that was stopped for the reason `why`."""
    if why == "terminated":
        return HostEnd("failed", exit_code, "InternalServerError: the job's supervisor was told to end (SIGTERM)")
    if why == runner.TIMED_OUT:
        reason = f"MaxRuntimeExceeded: the program ran longer than MaxRuntimeInSeconds ({longest})"
        return HostEnd("stopped", exit_code, reason)
    return HostEnd(why, exit_code)


def _failure(error: Exception, folder: Path) -> HostEnd:
    if is_full(error):
        return HostEnd("failed", reason=f"ClientError: There is no space left on the disk of {folder}")
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        reason = f"{error.strerror} ({error.filename or folder})"
        return HostEnd("failed", reason=f"InternalServerError: {reason}")
    text = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return HostEnd("failed", reason=f"InternalServerError: {text}")


def _require_program(name: str, env: Mapping[str, str], binds: Sequence[Bind], ml_root: str) -> None:
    """Check before the start that the entrypoint exists and is executable.

    Raises:
        _NoProgramError: it is not; the exit code is that of a shell.
    """
    if "/" not in name:
        if shutil.which(name, path=env.get("PATH", os.defpath)) is None:
            raise _NoProgramError(f"the entrypoint {name!r} was not found on the PATH", NOT_FOUND)
        return
    place = on_this_machine(name, binds, ml_root)
    try:
        mode = os.stat(place).st_mode  # noqa: PTH116 - a path as text
    except OSError:
        raise _NoProgramError(f"the entrypoint {name!r} was not found", NOT_FOUND) from None
    if not stat.S_ISREG(mode) or not os.access(place, os.X_OK):
        raise _NoProgramError(f"the entrypoint {name!r} is not an executable file", NOT_EXECUTABLE)


def on_this_machine(path: str, binds: Sequence[Bind], ml_root: str) -> str:
    """Return the path on this machine of a file that the program sees at `path`."""
    for bind in binds:
        if path == bind.target or path.startswith(f"{bind.target}/"):
            return bind.source + path[len(bind.target) :]
    try:
        return contract.resolve_path(ml_root, path)
    except ValueError:
        return path
