"""Web server of the user's: started and watched by the shim, in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from processing.container.runner import Program, RunLimits, run_program
from processing.container.shim.logs import Log, ProgramOutput

if TYPE_CHECKING:
    from processing.container.runner import ProgramExit
    from processing.container.shim.guard import Guard


class RunningServer:
    """A program that runs until it is closed.

    Args:
        make: returns the program to start.
        grace: the seconds between SIGTERM and SIGKILL.
        log: the log.
        should_stop: returns whether the shim is being stopped.
        explain: returns the sentence for an error of the start.
        guard: the guard of the program.

    Attributes:
        ended: the event of the program's end.
        end: the sentence that tells the end; empty before it.
        exit_code: the program's exit code; None before the end, and if it could not be started.
        output: the receiver of its lines. Each task may set its own.
    """

    def __init__(
        self,
        make: Callable[[], Program],
        grace: float,
        log: Log,
        should_stop: Callable[[], bool],
        explain: Callable[[Exception], str],
        guard: Guard,
    ) -> None:
        self._make = make
        self._grace = grace
        self._should_stop = should_stop
        self._explain = explain
        self._guard = guard
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ended = threading.Event()
        self.end = ""
        self.exit_code: Optional[int] = None
        self.output = ProgramOutput(log, None)

    def start(self) -> None:
        """Start the program."""
        self._thread.start()

    def close(self) -> None:
        """Stop the program, and wait for its end."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            ended: ProgramExit = run_program(
                self._make(),
                self._on_stdout,
                RunLimits(grace=self._grace),
                lambda: "stopped" if self._closing.is_set() or self._should_stop() else None,
                self._guard.watch,
                self._on_stderr,
            )
            self.exit_code = ended.exit_code
            self.end = "The server ended with exit code %d" % ended.exit_code
        except Exception as error:  # noqa: BLE001 - every failure to start has its text
            self.end = self._explain(error)
        finally:
            self._guard.watch(0)
            self.ended.set()

    def _on_stdout(self, messages: List[Tuple[int, str]]) -> None:
        self.output.stdout(messages)

    def _on_stderr(self, messages: List[Tuple[int, str]]) -> None:
        self.output.stderr(messages)
