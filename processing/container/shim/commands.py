"""The command `processing-shim`: runs a program for the tasks that it is given."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from processing.container.shim.errors import SettingError, ShimError, StoreError, TaskError
from processing.container.shim.guard import Guard
from processing.container.shim.hosts import read_resources, share
from processing.container.shim.logs import Log
from processing.container.shim.options import parse_options, split_words, with_options
from processing.container.shim.program import ShimProgram, find_command
from processing.container.shim.settings import ML_ROOT, Settings, read_settings
from processing.container.shim.storage import S3Store, Store, parse_uri
from processing.container.shim.task_runner import TaskRunner
from processing.container.shim.tasks import Task, parse_tasks
from processing.container.shim.train import channel_tasks, hyperparameter_arguments, run_training, write_failure

if TYPE_CHECKING:
    import argparse

USAGE, STOPPED = 2, 143
"""The exit codes for wrong usage, and for a shim that was stopped: 128 plus SIGTERM."""


def main(
    arguments: Optional[Sequence[str]] = None,
    store: Optional[Store] = None,
    others: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run the command and return its exit code.

    The code is 0 on success, or the return code of the first task that failed. It is 1 for a failure of the shim, 2 for
    wrong usage, and 143 after SIGTERM. With `--exit-zero` it is 0 after all of them but wrong usage.

    Args:
        arguments: the arguments after `processing-shim`, by default those of the process.
        store: the object storage, by default S3.
        others: commands that the caller has, for the list of commands, each with a line.
    """
    words, program = split_words(list(sys.argv[1:] if arguments is None else arguments))
    options = parse_options(words, others)
    try:
        settings = with_options(read_settings(os.environ), options)
        if options.command == "check":
            from processing.container.shim.check_command import run_check

            return run_check(options, program, settings, os.environ)
        command = _Command(options, program, settings, os.environ, store)
        code = command.run()
    except (SettingError, TaskError) as error:
        _tell(options, "processing-shim: error: %s" % error)
        return USAGE
    except (ShimError, StoreError) as error:
        _tell(options, "processing-shim: %s" % error)
        code = 1
    return 0 if options.exit_zero else code


def _tell(options: argparse.Namespace, message: str) -> None:
    sys.stderr.write(message + "\n")
    if options.command == "train":
        write_failure(Path(os.environ.get(ML_ROOT) or "/opt/ml"), message)


class _Command:
    """One call of the command."""

    def __init__(
        self,
        options: argparse.Namespace,
        program: List[str],
        settings: Settings,
        environment: Mapping[str, str],
        store: Optional[Store],
    ) -> None:
        if options.signed and not settings.signing_key:
            raise SettingError("--signed needs a key in PROCESSING_SHIM_SIGNING_KEY_HEX")
        self._options = options
        self._settings = settings
        plain = environment if settings.plain_s3 else None
        self._store = store or S3Store(None, settings.endpoint_url, settings.connections, plain)
        self._log = Log(settings.log_level, settings.log_format)
        self._stop = threading.Event()
        self._guard = Guard()
        self._root = Path(settings.ml_root)
        argv = find_command(program, settings)
        self._channel_tasks = channel_tasks(self._root) if options.command == "train" else []
        if options.command == "train" and not self._channel_tasks:
            argv += hyperparameter_arguments(self._root)
        has_tasks = options.command in {"invoke", "serve"} or bool(self._channel_tasks)
        invokes = settings.api_method == "invoke" and has_tasks and not self._is_proxy
        kind = ShimProgram
        if invokes:
            from processing.container.shim.server_program import ServerProgram

            kind = ServerProgram
        self._program = kind(argv, settings, environment, self._log, self._stop.is_set, self._guard)

    def run(self) -> int:
        self._guard.start()
        with contextlib.closing(self._guard), _Signals(self._stop), contextlib.closing(self._store):
            if self._options.command == "serve":
                return self._serve()
            if self._options.command == "train" and not self._channel_tasks:
                return run_training(self._program.run, self._settings, self._root)
            return self._invoke()

    @property
    def _is_proxy(self) -> bool:
        return self._options.command == "serve" and self._settings.proxy.port > 0

    def _serve(self) -> int:
        # Other commands start sooner without these.
        from processing.container.shim.proxy import serve_proxy
        from processing.container.shim.serve import serve_tasks

        runner = self._make_runner()
        try:
            runner.set_up()
            if self._is_proxy:
                # Invocations that run at a stop need the server, so the stop reaches it later.
                server = self._program.make_server(lambda: False)
                return serve_proxy(server, self._settings, self._log, self._stop)
            return serve_tasks(runner, self._settings, self._log, self._stop)
        finally:
            runner.tear_down()

    def _invoke(self) -> int:
        tasks = self._tasks()
        if tasks is None:
            return self._program.run().return_code
        runner = self._make_runner()
        try:
            problem = self._problem_of_setup(runner)
            if problem is None:
                return self._run_tasks(runner, tasks)
            for task in tasks:
                runner.refuse(task, str(problem))
        finally:
            runner.tear_down()
        if self._stop.is_set():
            return STOPPED
        raise problem

    @staticmethod
    def _problem_of_setup(runner: TaskRunner) -> Optional[ShimError]:
        """Set the runner up; return the reason of a failure."""
        try:
            runner.set_up()
        except ShimError as error:
            return error
        except Exception as error:  # noqa: BLE001 - every task has a result, whatever happens
            return ShimError("setup", "The shim failed: %s" % error)
        return None

    def _make_runner(self) -> TaskRunner:
        return TaskRunner(self._program, self._settings, self._store, self._log, self._stop.is_set)

    def _run_tasks(self, runner: TaskRunner, tasks: List[Task]) -> int:
        failed: Optional[Tuple[str, int]] = None
        for task in tasks:
            if self._stop.is_set():
                runner.refuse(task, "The shim was stopped before this task")
            elif failed is not None and not self._options.keep_going:
                runner.refuse(task, "Not run, because the task %s failed" % failed[0])
            else:
                code = runner.run(task).result.return_code
                failed = failed or ((task.pk, code) if code else None)
        if failed is not None and self._channel_tasks:
            write_failure(self._root, "The task %s failed with return code %d" % failed)
        if self._stop.is_set():
            return STOPPED
        return 0 if failed is None else failed[1]

    def _tasks(self) -> Optional[List[Task]]:
        if self._channel_tasks:
            return self._channel_tasks
        if self._options.tasks is not None:
            tasks = parse_tasks(self._options.tasks)
        elif self._options.file is not None:
            tasks = parse_tasks(self._read(self._options.file))
        elif self._options.command == "invoke":
            raise SettingError("give tasks with -t JSON, or a file of tasks with -f s3://bucket/key")
        else:
            return None
        return tasks if self._options.hosts is None else share(tasks, read_resources(self._options.hosts))

    def _read(self, place: str) -> bytes:
        """Return the content of a file of tasks, in S3 or on the disk."""
        try:
            if "://" not in place:
                return Path(place).read_bytes()
            bucket, key = parse_uri(place)
        except (OSError, ValueError) as error:
            raise SettingError("-f: %s" % error) from None
        content = io.BytesIO()
        self._store.fetch(bucket, key, content)
        return content.getvalue()


class _Signals:
    """Turns SIGTERM and SIGINT into an event while the command runs. Only the main thread can."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event
        self._former: Dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._handle)

    def __exit__(self, *_error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _handle(self, _number: int, _frame: object) -> None:
        self._event.set()
