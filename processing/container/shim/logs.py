"""Log lines of the shim and of the program, as JSON or as plain text."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Optional, TextIO, Tuple

from processing.container.lines import split_text

LINE_BYTES = 200_000
"""The most bytes of text in one line of JSON. With the other fields it stays below the 256 KiB of CloudWatch Logs."""
KEPT_LINES = 100
"""The last lines of stderr that a result contains."""
KEPT_CHARACTERS = 8_192
"""The most characters of such a line: an answer of an endpoint may have 6 MB."""
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


class Log:
    """Writes lines to stdout, and those of errors to stderr. Threads may share it.

    Args:
        level: the lowest level of the shim's own messages. Lines of the program are always written.
        form: "json" for an object with `log`, `level`, `source`, `internal` and `task` in each line, or "plain".
        stdout: the stream for lines up to level INFO.
        stderr: the stream for higher levels.
    """

    def __init__(
        self, level: str = "INFO", form: str = "json", stdout: Optional[TextIO] = None, stderr: Optional[TextIO] = None
    ) -> None:
        self._lowest = _LEVELS.get(level, 20)
        self._json = form == "json"
        # Python has no stream for a descriptor that was closed before its start.
        self._streams: Dict[str, Optional[TextIO]] = {"stdout": stdout or sys.stdout, "stderr": stderr or sys.stderr}
        self._lock = threading.Lock()

    def write(self, level: str, message: str, task: Optional[str] = None, *, internal: bool = True) -> None:
        """Write a message of the shim.

        Args:
            level: "DEBUG", "INFO", "WARNING" or "ERROR".
            message: the message; it may have several lines.
            task: the task's name.
            internal: whether the message is for the operator alone, not for the user of the program.
        """
        if _LEVELS[level] >= self._lowest:
            source = "stdout" if _LEVELS[level] <= _LEVELS["INFO"] else "stderr"
            lines = [piece for line in message.splitlines() for piece in split_text(_text(line), LINE_BYTES)]
            self._write([self._format(line, level, source, task, internal=internal) for line in lines], source)

    def program_lines(self, source: str, lines: List[str], task: Optional[str]) -> None:
        """Write lines of the program.

        Args:
            source: "stdout" or "stderr".
            lines: the lines.
            task: the task's name.
        """
        level = "INFO" if source == "stdout" else "WARNING"
        pieces = [piece for line in lines for piece in split_text(line, LINE_BYTES)]
        self._write([self._format(piece, level, source, task, internal=False) for piece in pieces], source)

    def _format(self, line: str, level: str, source: str, task: Optional[str], *, internal: bool) -> str:
        if not self._json:
            return "%s: %s" % (level.lower(), line) if internal else line
        fields = {"log": line, "level": level, "source": source, "internal": internal, "task": task}
        return json.dumps(fields)

    def _write(self, lines: List[str], source: str) -> None:
        stream = self._streams[source]
        if stream is None:
            return
        data = "".join(line + "\n" for line in lines)
        try:
            with self._lock:
                # A stream in another encoding than UTF-8 must not end a task.
                encoding = getattr(stream, "encoding", None) or "utf-8"
                stream.write(data.encode(encoding, "backslashreplace").decode(encoding))
                stream.flush()
        except (OSError, ValueError):
            # The reader of the log has gone. The task and its result matter more.
            return


class ProgramOutput:
    """The output of one run of the program: written to the log, and its last lines of stderr kept.

    Args:
        log: the log.
        task: the task's name.
    """

    def __init__(self, log: Log, task: Optional[str]) -> None:
        self._log = log
        self._task = task
        self._last: Deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def last_stderr_lines(self) -> List[str]:
        """The last lines of stderr, each cut to its end and with a newline, as in results of sagemaker-shim."""
        return list(self._last)

    def stdout(self, messages: List[Tuple[int, str]]) -> None:
        """Write messages of stdout, each with its time."""
        self._log.program_lines("stdout", [message for _, message in messages], self._task)

    def stderr(self, messages: List[Tuple[int, str]]) -> None:
        """Write messages of stderr, each with its time."""
        lines = [message for _, message in messages]
        self._last.extend(line[-KEPT_CHARACTERS:] + "\n" for line in lines)
        self._log.program_lines("stderr", lines, self._task)


def _text(value: Any) -> str:
    """Return text that can be encoded: names of files may contain bytes that are not UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
