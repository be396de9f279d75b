"""The history server: started on downloaded event logs, without credentials, and stopped with everything it made.

A program stands in for Spark's: `SPARK_HOME` names it, as it may name any Spark.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from container_fixtures import containers  # noqa: F401 - a fixture of several folders
from processing import ConfigurationError, EngineError, LocalSession
from processing.spark import PySparkProcessor, history

if TYPE_CHECKING:
    from container_fixtures import Containers

# Answers as Spark's REST API does: with the files that it sees, its arguments and its variables.
PROGRAM = """\
import http.server, json, os, pathlib, sys, urllib.parse

settings = dict(line.split(" ", 1) for line in pathlib.Path(sys.argv[3]).read_text().splitlines())
logs = pathlib.Path(urllib.parse.unquote(settings["spark.history.fs.logDirectory"][len("file://"):]))
if (logs / "broken").exists():
    sys.exit("cannot parse the log")
files = sorted(str(path.relative_to(logs)) for path in logs.rglob("*") if path.is_file())
body = json.dumps({"files": files, "words": sys.argv, "variables": dict(os.environ), "logs": str(logs),
    "pid": os.getpid()}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.HTTPServer(("127.0.0.1", int(settings["spark.history.ui.port"])), Handler).serve_forever()
"""


@pytest.fixture
def processor(tmp_path: Path) -> PySparkProcessor:
    engine = LocalSession(tmp_path / "engine", python=sys.executable, container_program="no-program")
    return PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=engine)


@pytest.fixture
def spark_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of Spark whose `spark-class` is the program above, and a home of Java."""
    home = tmp_path / "spark"
    for name, text in (
        ("bin/history.py", PROGRAM),
        ("bin/spark-class", f'#!/bin/sh\nexec {sys.executable} "$(dirname "$0")/history.py" "$@"\n'),
        ("java/bin/java", "#!/bin/sh\n"),
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(home / "java"))
    return home


def put_logs(processor: PySparkProcessor, *names: str) -> str:
    s3 = processor.sagemaker_session.client("s3")
    s3.create_bucket(Bucket="logs")
    for name in names:
        s3.put_object(Bucket="logs", Key=name, Body=b"{}")
    return "s3://logs/events"


def read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/v1/applications") as response:
        described: dict[str, Any] = json.loads(response.read())
    return described


@pytest.mark.usefixtures("spark_home")
def test_the_server_shows_the_logs_and_stops(processor: PySparkProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees plain and rolling logs of the prefix alone, and no credentials; its copies go when it stops."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-mine")
    uri = put_logs(
        processor, "events/application_1", "events/eventlog_v2_application_2/events_1", "events-2/application_3"
    )
    seen = read(processor.start_history_server(uri))
    assert seen["files"] == ["application_1", "eventlog_v2_application_2/events_1"]
    assert seen["words"][1:3] == ["org.apache.spark.deploy.history.HistoryServer", "--properties-file"]
    assert "secret-of-mine" not in json.dumps(seen)
    assert seen["variables"]["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert pickle.loads(pickle.dumps(processor)).history_server is None
    first = processor.history_server
    again = read(processor.start_history_server(uri))
    assert processor.history_server is not first
    assert not Path(seen["logs"]).exists()
    processor.terminate_history_server()
    processor.terminate_history_server()
    assert processor.history_server is None
    assert not Path(again["logs"]).exists()


OWNER = """\
import signal, sys
from processing import LocalSession
from processing.spark import PySparkProcessor

engine = LocalSession(sys.argv[1], python=sys.executable, container_program="no-program")
processor = PySparkProcessor(None, "local", 1, "3.3", sagemaker_session=engine)
print(processor.start_history_server("s3://logs/events"), flush=True)
signal.pause()
"""


@pytest.mark.usefixtures("spark_home")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_a_killed_process(
    processor: PySparkProcessor, tmp_path: Path, end: signal.Signals
) -> None:
    """A process that is killed, as the kernel of a notebook is, leaves neither a server nor its copies behind."""
    put_logs(processor, "events/application_1")
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "engine")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        seen = read(owner.stdout.readline().decode().strip())
        server = os.pidfd_open(seen["pid"])
        owner.send_signal(end)
    ended, _, _ = select.select([server], [], [], 60)
    os.close(server)
    assert ended != []
    assert not Path(seen["logs"]).exists()


def test_what_is_missing_is_named(
    processor: PySparkProcessor, spark_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prefix, no logs, a server that ends, no Java, and no Spark at that home are five different errors."""
    with pytest.raises(ConfigurationError, match=r"^spark_event_logs_s3_uri: missing"):
        processor.start_history_server()
    uri = put_logs(processor)
    with pytest.raises(ConfigurationError, match=r"^spark_event_logs_s3_uri: s3://logs/events has no event logs"):
        processor.start_history_server(uri)
    put_logs(processor, "events/broken")
    with pytest.raises(EngineError, match=r"does not start; its last lines:\ncannot parse the log"):
        processor.start_history_server(uri)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(spark_home / "none"))
        with pytest.raises(EngineError, match=r"no folder for its copy .*; TMPDIR names"):
            processor.start_history_server(uri)
    monkeypatch.setenv("JAVA_HOME", str(spark_home))
    with pytest.raises(
        EngineError,
        match=r"^the history server cannot start: Spark .* no java in JAVA_HOME.*; nor in a container: .*no-program",
    ):
        processor.start_history_server(uri)
    monkeypatch.setenv("SPARK_HOME", str(spark_home / "java"))
    with pytest.raises(EngineError, match=r"SPARK_HOME: .* has no bin/spark-class"):
        processor.start_history_server(uri)
    assert processor.history_server is None


CONTAINER = """\
#!/bin/sh
echo "$@"
cp -r /opt/ml/logs /www
env >/www/variables
mkdir -p /www/api/v1
echo '[]' >/www/api/v1/applications
exec /bin/busybox httpd -f -h /www -p 127.0.0.1:$(/bin/busybox sed -n 's/.*port //p' "$3")
"""


def test_an_image_takes_the_place_of_a_missing_spark(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    containers: Containers,  # noqa: F811 - the fixture
) -> None:
    """A container with the logs serves on this machine alone, without credentials, and is removed at the end."""
    monkeypatch.setattr(history, "_STOP_SECONDS", 0.2)  # the program ignores SIGTERM, as process 1 does by default
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-mine")
    program = tmp_path / "spark/bin/spark-class"
    program.parent.mkdir(parents=True)
    program.write_text(CONTAINER)
    program.chmod(0o755)
    mounts = ("--volume", f"{tmp_path}/spark:/opt/spark:ro", "--tmpfs", "/www:mode=1777")
    engine = LocalSession(
        tmp_path / "engine",
        python=sys.executable,
        container_program=containers.program,
        container_options=(*containers.options, *mounts),
    )
    processor = PySparkProcessor(None, "local", 1, image_uri=containers.BUSYBOX, sagemaker_session=engine)
    uri = put_logs(processor, "events/eventlog_v2_application_2/events_1")
    url = processor.start_history_server(uri)
    with urllib.request.urlopen(f"{url}/logs/eventlog_v2_application_2/events_1") as answer:
        assert answer.read() == b"{}"
    with urllib.request.urlopen(f"{url}/variables") as answer:
        variables = answer.read().decode()
    assert "SPARK_LOCAL_IP=127.0.0.1" in variables
    assert "secret-of-mine" not in variables
    assert [name for name in containers.names() if name.startswith("spark-history-")] != []
    processor.terminate_history_server()
    assert [name for name in containers.names() if name.startswith("spark-history-")] == []
