"""A home of Spark and one of Java whose programs stand in for the real ones: they start in milliseconds.

The master and the worker write the lines of Spark's own. `spark-submit` writes its words, variables and configuration
files as a line of JSON, writes event logs, and runs the application with the interpreter for the driver.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SPARK_CLASS = """\
import pathlib, signal, socket, sys

main, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
if main.endswith("Master"):
    listener = socket.create_server((options["--host"], 0))
    print(f"INFO Master: Starting Spark master at spark://{options['--host']}:{listener.getsockname()[1]}", flush=True)
    while True:
        listener.accept()
executor = pathlib.Path(options["--work-dir"], "app-1", "0")
executor.mkdir(parents=True)
(executor / "stderr").write_text(f"{options['--cores']} cores, {options['--memory']}")
print("INFO Worker: Successfully registered with master", flush=True)
signal.pause()
"""
SPARK_SUBMIT = """\
import json, os, pathlib, subprocess, sys

words, conf = sys.argv[1:], pathlib.Path(os.environ["SPARK_CONF_DIR"])
files = {path.name: path.read_text() for path in conf.iterdir()}
print("SUBMIT", json.dumps({"words": words, "files": files, "variables": dict(os.environ)}), flush=True)
settings = dict(line.split(" ", 1) for line in files["spark-defaults.conf"].splitlines())
if "spark.eventLog.dir" in settings:
    logs = pathlib.Path(settings["spark.eventLog.dir"][len("file://"):])
    (logs / "eventlog_v2_app-2").mkdir()
    for name in ("app-1.inprogress", "eventlog_v2_app-2/events_1_app-2", ".app-1.crc"):
        (logs / name).write_text(name)
applications = (place for place, word in enumerate(words) if word.endswith((".py", ".jar")))
start = next(place for place in applications if not words[place - 1].startswith("-"))
driver = [os.environ["PYSPARK_DRIVER_PYTHON"], *words[start:]]
sys.exit(subprocess.run(driver, stderr=subprocess.STDOUT).returncode)
"""


def make_spark(folder: Path, version: str = "3.5.9", java: str = "17") -> Path:
    """Make the two homes in a folder, and return Spark's. The other one is `java` in it.

    Args:
        folder: the folder.
        version: the version of Spark.
        java: the version of Java.
    """
    programs = {"bin/spark-class": SPARK_CLASS, "bin/spark-submit": SPARK_SUBMIT, "java/bin/java": ""}
    for name, text in programs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
    (folder / "jars").mkdir()
    (folder / "jars" / f"spark-core_2.12-{version}.jar").touch()
    (folder / "java/release").write_text(f'JAVA_VERSION="{java}.0.1"\n')
    return folder
