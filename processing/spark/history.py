"""`HistoryServer`: Spark's history server on this machine, of an installed Spark or of an image.

The event logs are downloaded from S3 once. The server reads them from a temporary folder, and listens on 127.0.0.1
only. It gets no credentials, neither on its command line nor in its environment.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from processing.container import contract
from processing.exceptions import ConfigurationError, EngineError
from processing.local.sandboxes import HostSpec, Sandbox, SandboxError, sandbox_for
from processing.local.settings import EngineSettings
from processing.local.spark.installation import find_spark, installation_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
_LOGS = "logs"
_VARIABLES = {"SPARK_LOCAL_IP": _HOST, "SPARK_NO_DAEMONIZE": "1"}
_LOG_LINES = 5  # of a server that does not start, for the error


_FIND = """\
for home in "$SPARK_HOME" /usr/lib/spark /opt/spark; do
    [ -x "$home/bin/spark-class" ] && exec "$home/bin/spark-class" "$@"
done
echo "the image has no Spark in SPARK_HOME, /usr/lib/spark or /opt/spark" >&2
exit 1
"""
"""A script that starts the Spark of an image: AWS's is in /usr/lib/spark, that of the Spark project in /opt/spark."""


_WATCHED = """\
exec 3<&0 </dev/null
{
    read -r _ <&3 || { rm -rf "$1"; kill "$$"; }
} >/dev/null 2>&1 &
shift
exec "$@" 3<&-
"""
"""A script that runs a program, and ends it and removes a folder if the process that started it dies.

That process holds the standard input open, and writes a line before it ends the program itself.
"""


class ServerCommand(NamedTuple):
    """The command of a history server.

    Attributes:
        argv: its words.
        environment: its variables.
        remove: removes what is left of it after its end.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    remove: Callable[[], None]


class HistoryServer:
    """A running history server. It stops with `stop`, or when this process ends.

    The program is that of the installed Spark. Without Spark or Java, a container of an image runs.

    Args:
        session: the session that downloads the logs.
        event_logs: the S3 prefix with the event logs, rolling ones too.
        image: the URI of an image with Spark.

    Attributes:
        url: the address for a browser.

    Raises:
        EngineError: there is no Spark or no Java on this machine and no container can run, there is no temporary
            folder, or the server does not start.
        ConfigurationError: the prefix has no event logs.
    """

    def __init__(self, session: Session, event_logs: S3Uri, image: str) -> None:
        start = _starter(session, image)
        with contextlib.ExitStack() as cleanup:
            private = _private_folder()
            cleanup.callback(shutil.rmtree, private, ignore_errors=True)
            # The user of an image reads the inner folder; other users of this machine do not reach it.
            folder = private / "history"
            folder.mkdir(mode=0o755)
            _download(session, event_logs, folder / _LOGS)
            port, output = _free_port(), private / "output.txt"
            command = start(folder, port)
            cleanup.callback(command.remove)
            with output.open("wb") as sink:
                process = subprocess.Popen(  # noqa: S603 - the program of the installed Spark, or of the image
                    _watched(command.argv, private),
                    stdin=subprocess.PIPE,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=dict(command.environment),
                )
            cleanup.callback(_end, process)
            _wait_until_ready(session, process, port, output)
            self.url = f"http://{_HOST}:{port}"
            self._finalizer = weakref.finalize(self, cleanup.pop_all().close)
        logger.info("Spark's history server is at %s", self.url)

    def stop(self) -> None:
        """Stop the server and remove its copy of the logs. A second call does nothing."""
        self._finalizer()


def _private_folder() -> Path:
    """Make a temporary folder that only this user can reach."""
    try:
        return Path(tempfile.mkdtemp(prefix="spark-history-"))
    except OSError as error:
        raise EngineError(
            f"the history server has no folder for its copy of the event logs: {error}; TMPDIR names one that can be "
            "written to"
        ) from error


def _download(session: Session, event_logs: S3Uri, folder: Path) -> None:
    """Download the event logs into a folder.

    Raises:
        ConfigurationError: there are none.
    """
    prefix = f"{event_logs.key.rstrip('/')}/" if event_logs.key else ""
    if not session.download_data(folder, event_logs.bucket, prefix):
        raise ConfigurationError(f"spark_event_logs_s3_uri: {event_logs} has no event logs")


def _starter(session: Any, image: str) -> Callable[[Path, int], ServerCommand]:
    """Return a function that makes the command, given the folder with the logs and the port.

    Raises:
        EngineError: neither the installed Spark nor a container can run.
    """
    problem = installation_problem()
    if problem is None:
        return _installed
    settings = session.engine.settings if session.is_local else EngineSettings()
    try:
        sandbox = sandbox_for(attrs.evolve(settings, sandbox="container"))
    except (EngineError, ConfigurationError) as error:
        raise EngineError(f"the history server cannot start: {problem}; nor in a container: {error}") from error
    return lambda folder, port: _in_container(sandbox, image, folder, port)


def _installed(folder: Path, port: int) -> ServerCommand:
    """Return the command of the installed Spark, without AWS's variables."""
    spark = find_spark()
    assert spark is not None
    program = Path(spark.home) / "bin" / ("spark-class.cmd" if os.name == "nt" else "spark-class")
    settings = _write_settings(folder, (folder / _LOGS).as_uri(), port)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    argv = [str(program), _MAIN, "--properties-file", str(settings)]
    return ServerCommand(argv, {**kept, **_VARIABLES}, lambda: None)


def _in_container(sandbox: Sandbox, image: str, folder: Path, port: int) -> ServerCommand:
    """Return the command of a container that has the folder as /opt/ml, and this machine's network."""
    host = HostSpec(str(folder), name="history", key=f"spark-history-{secrets.token_hex(6)}", image=image)
    settings = _write_settings(folder, f"file://{contract.ML}/{_LOGS}", port)
    try:
        sandbox.prepare(host)
    except SandboxError as error:
        raise EngineError(f"the history server cannot start in a container: {error}") from error
    argv = ["/bin/sh", "-c", _FIND, "sh", _MAIN, "--properties-file", f"{contract.ML}/{settings.name}"]
    command = sandbox.command(argv, host, env=_VARIABLES, cwd="/", report_fd=None)
    return ServerCommand(command.argv, command.env, lambda: sandbox.remove(host.key, host.ml_root))


def _watched(argv: Sequence[str], folder: Path) -> Sequence[str]:
    """Return a command whose program does not outlive this process. Windows has no shell for it."""
    return argv if os.name == "nt" else ["/bin/sh", "-c", _WATCHED, "sh", str(folder), *argv]


def _write_settings(folder: Path, logs: str, port: int) -> Path:
    settings = folder / "history.properties"
    settings.write_text(f"spark.history.fs.logDirectory {logs}\nspark.history.ui.port {port}\n", encoding="utf-8")
    return settings


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
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(b"\n")
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
