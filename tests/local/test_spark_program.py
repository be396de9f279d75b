"""The parts of the engine's `smspark-submit`: shares of workers, exit messages, classifications, event logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from processing.local.spark import cluster, event_logs
from processing.local.spark.failure import describe_failure, write_message
from processing.local.spark.settings_files import Classifications, ConfigurationFileError

if TYPE_CHECKING:
    from pathlib import Path

TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\n    x()\n'


@pytest.mark.parametrize(
    ("text", "expected"), [("4g", 4096), ("512M", 512), ("1024k", 1), ("1", 1), ("2gb", 2048), ("", 0), ("x", 0)]
)
def test_memory_has_units(text: str, expected: int) -> None:
    """A property has the unit of Spark's own, and MiB without one."""
    assert cluster.mebibytes(text) == expected


@pytest.mark.parametrize(
    ("properties", "share", "usable"),
    [
        ({}, (4, 8192), 8),
        ({"spark.executor.cores": "3", "spark.executor.memory": "4g"}, (4, 8192), 6),
        ({"spark.executor.cores": "1", "spark.executor.memory": "4g"}, (4, 8192), 4),
        ({"spark.executor.cores": "16", "spark.executor.memory": "60g"}, (16, 61440), 32),
    ],
)
def test_a_worker_has_room_for_an_executor(properties: dict[str, str], share: tuple[int, int], usable: int) -> None:
    """A worker offers its host, or one executor of the job's; the job expects the cores that its executors can get."""
    offered = cluster.worker_share(4, 8192, properties)
    assert offered == share
    assert cluster.usable_cores(offered, 2, properties) == usable


@pytest.mark.parametrize(
    ("output", "errors", "end"),
    [
        (f"{TRACEBACK}ValueError: bad\n", "", ": ValueError: bad"),
        (f"{TRACEBACK}KeyError: 1\n\nDuring ...\n\n{TRACEBACK}OSError: 2\nat x\n", "", ": OSError: 2"),
        ("", 'x\nException in thread "main" a.B: c\n\tat d\n', ": a.B: c"),
        ("", "Error: Failed to load class a.Main.\n", ": Error: Failed to load class a.Main."),
        ('  File "app.py", line 1\n    x(\n     ^\nSyntaxError: x\n', "", ": SyntaxError: x"),
        ("usage: app.py\napp.py: error: no --day\n\n", "y\n", "; its last line: app.py: error: no --day"),
        ("", "y\n", "; see the job's log"),
    ],
)
def test_the_exit_message_has_the_last_exception(output: str, errors: str, end: str) -> None:
    """It is that of Python, which Spark sends to the standard output, or that of the JVM."""
    assert describe_failure("/x/app.py", 3, output, errors) == f"AlgorithmError: app.py failed with exit code 3{end}"


def test_the_lines_of_a_jar_are_no_reason() -> None:
    """A JVM ends with lines of Spark's own."""
    message = "AlgorithmError: app.jar failed with exit code 3; see the job's log"
    assert describe_failure("/x/app.jar", 3, "x\n", "y\n") == message


def test_the_exit_message_is_cut_between_characters(tmp_path: Path) -> None:
    """The platform reads 1,024 bytes, which have to be UTF-8."""
    write_message(str(tmp_path), "é" * 600 + "\ud800")
    assert (tmp_path / "output/message").read_text(encoding="utf-8") == "é" * 512
    write_message(str(tmp_path), "x" + "é" * 600)
    assert len((tmp_path / "output/message").read_bytes()) == 1023


@pytest.mark.parametrize("text", ["{", "5", "[5]", '{"Classification": "core-site"}', '[{"Properties": {}}]'])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    """A client that is not this package may send any file."""
    path = tmp_path / "configuration.json"
    path.write_text(text)
    with pytest.raises(ConfigurationFileError, match=r"^configuration\.json has no classifications"):
        Classifications.read(path)


def test_later_classifications_win(tmp_path: Path) -> None:
    """Several classifications of one name are merged; a missing file has none."""
    path = tmp_path / "configuration.json"
    pairs = [("core-site", {"a": 1, "b": 2}), ("core-site", {"b": 3}), ("hadoop-env", {})]
    path.write_text(json.dumps([{"Classification": name, "Properties": found} for name, found in pairs]))
    found = Classifications.read(path)
    assert found.properties("core-site") == {"a": "1", "b": "3"}
    assert found.without_effect() == ["hadoop-env"]
    assert Classifications.read(tmp_path / "none.json").properties("core-site") == {}


def test_event_logs_are_published_when_they_change(tmp_path: Path) -> None:
    """A file that has grown is published again, under its final name, and the others are not."""
    target = tmp_path / "out"
    logs = event_logs.EventLogs(tmp_path / "events", [event_logs.copy_to(target)])
    running = tmp_path / "events/app-1.inprogress"
    running.write_text("1")
    logs._publish()
    assert (target / "app-1").read_text() == "1"
    (target / "app-1").write_text("untouched")
    logs._publish()
    assert (target / "app-1").read_text() == "untouched"
    running.write_text("12")
    running.rename(tmp_path / "events/app-1")
    logs.start()
    logs.close()
    assert (target / "app-1").read_text() == "12"
    assert [path.name for path in target.iterdir()] == ["app-1"]


def test_event_logs_that_cannot_be_published_are_an_error(tmp_path: Path) -> None:
    """The last try counts: a failure while the application runs may pass."""
    (tmp_path / "out").write_text("a file, no folder")
    logs = event_logs.EventLogs(tmp_path / "events", [event_logs.copy_to(tmp_path / "out")])
    logs.start()
    (tmp_path / "events/app-1").write_text("1")
    with pytest.raises(event_logs.EventLogError, match=r"^the event log app-1 cannot be published: "):
        logs.close()
