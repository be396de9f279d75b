"""Runner of tasks: downloads, runs the program, uploads, and always leaves a result."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional

from processing.container.shim.errors import ShimError, StoreError
from processing.container.shim.files import (
    STOPPED_EARLY,
    InterruptibleStore,
    TaskFolders,
    Uploaded,
    download_archive,
    empty,
)
from processing.container.shim.results import TaskResult, store_result, store_setup_result
from processing.container.shim.storage import Store, parse_uri

if TYPE_CHECKING:
    from processing.container.shim.logs import Log
    from processing.container.shim.program import ProgramEnd, ShimProgram
    from processing.container.shim.settings import Settings
    from processing.container.shim.tasks import Task

KILLED = 137
"""The return code of a task whose shim was killed: 128 plus SIGKILL."""
_PENDING = "The task has not ended. If nothing runs any more, the shim was killed"
_PROBLEMS = 5
"""The most files that the message of a failed upload names."""


class Finished(NamedTuple):
    """A task at its end.

    Attributes:
        result: the result.
        body: the result as JSON.
    """

    result: TaskResult
    body: bytes


class TaskRunner:
    """Runs tasks, one at a time.

    Args:
        program: the program.
        settings: the settings.
        store: the object storage.
        log: the log.
        should_stop: returns whether the shim is being stopped.
    """

    def __init__(
        self,
        program: ShimProgram,
        settings: Settings,
        store: Store,
        log: Log,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._program = program
        self._settings = settings
        self._store = store
        self._log = log
        self._should_stop = should_stop
        self._folders = TaskFolders(settings, program.user, should_stop)

    @property
    def healthy(self) -> bool:
        """True if the program can do a task."""
        return self._program.healthy

    def set_up(self) -> None:
        """Make the writable folders, unpack the model and the ground truth, start the program, and store a result.

        Raises:
            ShimError: an archive is missing or damaged, or a folder cannot be made.
        """
        message = ""
        try:
            for folder in self._settings.writable_folders:
                _make_writable(Path(folder))
            self._unpack("model", *self._settings.model)
            self._unpack("ground truth", *self._settings.ground_truth)
            self._program.start()
        except ShimError as error:
            message = str(error)
            self._log.write("ERROR", message, internal=False)
            raise
        finally:
            self._store_setup(message)

    def tear_down(self) -> None:
        """End the program, and empty the folders that the settings name."""
        self._program.close()
        for folder in self._settings.cleaned_folders:
            self._empty(Path(folder))

    def run(self, task: Task) -> Finished:
        """Run a task, and store its result."""
        self._log.write("INFO", "Task %s begins" % task.pk, task.pk)
        if self._settings.pending_results:
            self._store_early(task, TaskResult(task.pk, KILLED, _PENDING, failed_phase="run"))
        result = self._run(task)
        if result.message:
            self._log.write("ERROR", result.message, task.pk, internal=False)
        self._log.write("INFO", "Task %s ends with return code %d" % (task.pk, result.return_code), task.pk)
        return self._finish(task, result)

    def refuse(self, task: Task, message: str) -> Finished:
        """Store the result of a task that is not run.

        Args:
            task: the task.
            message: the reason.
        """
        return self._finish(task, TaskResult(task.pk, 1, message, failed_phase="setup"))

    def _finish(self, task: Task, result: TaskResult) -> Finished:
        key = self._settings.signing_key
        try:
            return Finished(result, store_result(result, task, self._store, key, self._settings.job_name))
        except StoreError as error:
            message = "The result cannot be stored: %s" % error
            self._log.write("ERROR", message, task.pk)
            failed = result._replace(
                return_code=result.return_code or 1,
                message=result.message or message,
                failed_phase=result.failed_phase or "upload",
            )
            return Finished(failed, failed.to_json())

    def _run(self, task: Task) -> TaskResult:
        end: Optional[ProgramEnd] = None
        try:
            self._folders.reset(task.pk)
            self._folders.download(task, self._store)
            if self._should_stop():
                return _failure(task, None, "start", STOPPED_EARLY)
            end = self._program.run(task.timeout, task.pk)
            uploaded = Uploaded([], [], [])
            if self._should_stop():
                # An upload may take longer than the time until SIGKILL.
                self._store_early(task, _result(task, end, uploaded))
            if end.return_code == 0 or self._settings.partial_outputs:
                uploaded = self._folders.upload(task, self._store)
            return _result(task, end, uploaded)
        except ShimError as error:
            return _failure(task, end, error.phase, str(error))
        except Exception as error:  # noqa: BLE001 - a task has a result whatever happens
            self._log.write("ERROR", traceback.format_exc(), task.pk)
            return _failure(task, end, "setup" if end is None else "upload", "The shim failed: %s" % error)
        finally:
            self._clean(task)

    def _store_early(self, task: Task, result: TaskResult) -> None:
        """Store a result that the final one replaces, unless the shim is killed before."""
        try:
            store_result(result, task, self._store, self._settings.signing_key)
        except StoreError as error:
            self._log.write("WARNING", "The early result cannot be stored: %s" % error, task.pk)

    def _clean(self, task: Task) -> None:
        try:
            self._folders.reset()
        except ShimError as error:
            self._log.write("ERROR", str(error), task.pk)

    def _empty(self, folder: Path) -> None:
        try:
            if folder.is_dir():
                empty(folder)
        except OSError as error:
            self._log.write("WARNING", "The folder %s cannot be emptied: %s" % (folder, error))

    def _unpack(self, name: str, uri: str, folder: str) -> None:
        if not uri:
            return
        try:
            download_archive(parse_uri(uri), folder, InterruptibleStore(self._store, self._should_stop, "setup"))
        except (ShimError, ValueError) as error:
            raise ShimError("setup", "Could not set up %s: %s" % (name, error)) from error

    def _store_setup(self, message: str) -> None:
        if self._settings.setup_output is None:
            return
        bucket, prefix = self._settings.setup_output
        try:
            store_setup_result(bucket, prefix, message, self._store, self._settings.signing_key)
        except StoreError as error:
            self._log.write("ERROR", "The result of the setup cannot be stored: %s" % error)


def _result(task: Task, end: ProgramEnd, uploaded: Uploaded) -> TaskResult:
    code, message, phase = end.return_code, end.message, "run" if end.return_code else None
    if uploaded.problems:
        message = message or _join(uploaded.problems)
        phase = phase or "upload"
        code = code or 1
    return TaskResult(
        task.pk, code, message, end.stderr, end.seconds, end.invoked, uploaded.outputs, uploaded.skipped, phase
    )


def _failure(task: Task, end: Optional[ProgramEnd], phase: str, message: str) -> TaskResult:
    if end is None:
        return TaskResult(task.pk, 1, message, failed_phase=phase)
    code = end.return_code or 1
    return TaskResult(task.pk, code, message, end.stderr, end.seconds, end.invoked, failed_phase=phase)


def _make_writable(folder: Path) -> None:
    """Make a folder that all users of the image may write to, but each only to files of its own in /tmp."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777 if folder == Path("/tmp") else 0o777)  # noqa: S108 - the image's folder, not a file in it
    except OSError as error:
        raise ShimError("setup", "The folder %s cannot be made writable: %s" % (folder, error)) from error


def _join(problems: List[str]) -> str:
    more = len(problems) - _PROBLEMS
    return "; ".join(problems[:_PROBLEMS]) + ("; and %d more" % more if more > 0 else "")
