"""`HistoryServer`: Spark's history server on this machine, from an installed Spark, with event logs from S3.

The logs are downloaded once. The server reads them from a temporary folder, and listens on 127.0.0.1 only. It gets no
credentials, neither on its command line nor in its environment.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from processing.exceptions import ConfigurationError, EngineError
from processing.local.spark.installation import find_spark, installation_problem

if TYPE_CHECKING:
    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

logger = logging.getLogger(__name__)

PORT = 15050
"""The port of the history server in `sagemaker` 2.x. If it is taken, another one is used."""

_HOST = "127.0.0.1"
_MAIN = "org.apache.spark.deploy.history.HistoryServer"
_START_SECONDS = 120.0  # a JVM on a busy machine takes about 20
_POLL_SECONDS = 0.25
_STOP_SECONDS = 10.0
_LOG_LINES = 5  # of a server that does not start, for the error


class HistoryServer:
    """A running history server. It stops with `stop`, or when this process ends.

    Args:
        session: the session that downloads the logs.
        event_logs: the S3 prefix with the event logs, rolling ones too.

    Attributes:
        url: the address for a browser.

    Raises:
        EngineError: there is no Spark or no Java on this machine, or the server does not start.
        ConfigurationError: the prefix has no event logs.
    """

    def __init__(self, session: Session, event_logs: S3Uri) -> None:
        command = _command()
        with contextlib.ExitStack() as cleanup:
            folder = Path(tempfile.mkdtemp(prefix="spark-history-"))
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            logs = _download(session, event_logs, folder / "logs")
            port, output = _free_port(), folder / "output.txt"
            settings = folder / "history.properties"
            settings.write_text(
                f"spark.history.fs.logDirectory {logs.as_uri()}\nspark.history.ui.port {port}\n", encoding="utf-8"
            )
            with output.open("wb") as sink:
                process = subprocess.Popen(  # noqa: S603 - the program of the installed Spark
                    [*command, "--properties-file", str(settings)],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                )
            cleanup.callback(_end, process)
            _wait_until_ready(session, process, port, output)
            self.url = f"http://{_HOST}:{port}"
            self._finalizer = weakref.finalize(self, cleanup.pop_all().close)
        logger.info("Spark's history server is at %s", self.url)

    def stop(self) -> None:
        """Stop the server and remove its copy of the logs. A second call does nothing."""
        self._finalizer()


def _download(session: Session, event_logs: S3Uri, folder: Path) -> Path:
    """Download the event logs into a folder, and return it.

    Raises:
        ConfigurationError: there are none.
    """
    prefix = f"{event_logs.key.rstrip('/')}/" if event_logs.key else ""
    if not session.download_data(folder, event_logs.bucket, prefix):
        raise ConfigurationError(f"spark_event_logs_s3_uri: {event_logs} has no event logs")
    return folder


def _command() -> list[str]:
    """Return the command of the history server.

    Raises:
        EngineError: Spark or Java is missing.
    """
    problem = installation_problem()
    spark = None if problem else find_spark()
    if spark is None:
        raise EngineError(f"the history server cannot start: {problem}")
    program = Path(spark.home) / "bin" / ("spark-class.cmd" if os.name == "nt" else "spark-class")
    return [str(program), _MAIN]


def _environment() -> dict[str, str]:
    """Return this process's variables without AWS's, and with those of a server for this machine alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "SPARK_LOCAL_IP": _HOST, "SPARK_NO_DAEMONIZE": "1"}


def _free_port() -> int:
    """Return the usual port, or a free one if it is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((_HOST, port))
            return int(probe.getsockname()[1])
    raise EngineError("Spark's history server needs a port, and this machine has none left")


def _wait_until_ready(session: Session, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Return when the server answers.

    Raises:
        EngineError: it has ended, or does not answer in time; the message has its last lines.
    """
    clock = session.clock
    deadline = clock.monotonic() + _START_SECONDS
    while process.poll() is None and clock.monotonic() < deadline:
        if _answers(port):
            return
        clock.sleep(_POLL_SECONDS)
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    raise EngineError("\n".join(["Spark's history server does not start; its last lines:", *lines]))


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/v1/applications")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
