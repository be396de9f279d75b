"""The program `smspark-submit` of one host of a job.

The first host starts the cluster and the application, and ends with the application's exit code. The other hosts join
the cluster, and end with the first one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from processing.local.spark import cluster, event_logs
from processing.local.spark.dependencies import Dependencies, DependencyError
from processing.local.spark.failure import describe_failure, write_message
from processing.local.spark.installation import find_java, find_spark, installation_problem
from processing.local.spark.launcher import NAME, LauncherSettings
from processing.local.spark.lines import ExecutorLogs, Tee
from processing.local.spark.options import SubmitOptions, UsageError, parse_options
from processing.local.spark.rendezvous import Master, MeetingError, Rendezvous
from processing.local.spark.settings_files import (
    CONFIGURATION,
    DEFAULTS,
    Classifications,
    ConfigurationFileError,
    s3_properties,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = f"Usage: {NAME} [OPTIONS] APP [ARGUMENTS]..."
_USAGE_CODE, _STOPPED_CODE = 2, 128 + signal.SIGTERM
_PYTHON = "spark-python"
"""The name of the interpreter for executors, the same on every host. The hosts may have different interpreters."""
_EXECUTOR_PART, _DRIVER_PART, _LEAST = 2, 4, 512
"""The parts of a host's memory for an executor (a half) and the driver (a quarter), and the least of either in MiB."""


class StopError(Exception):
    """SIGTERM: the job is being stopped."""


class StartError(Exception):
    """A host on which Spark cannot start."""


class Host(NamedTuple):
    """The host that this program runs on.

    Attributes:
        name: its name, such as `algo-1`.
        hosts: the names of all hosts of the job, the first one first.
    """

    name: str
    hosts: Sequence[str]

    @classmethod
    def read(cls, ml_root: str) -> Host:
        """Return the host that the platform describes below /opt/ml."""
        text = Path(ml_root, "config", "resourceconfig.json").read_text(encoding="utf-8")
        resources = json.loads(text)
        return cls(resources["current_host"], sorted(resources["hosts"]))

    @property
    def number(self) -> int:
        """The number of the host, from 1."""
        return self.hosts.index(self.name) + 1


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the program, and end with its exit code.

    Args:
        arguments: the `LauncherSettings` as JSON, and the command line.
    """
    settings = LauncherSettings(**json.loads(arguments[0]))
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = _SparkSubmit(settings, parse_options(arguments[1:])).run()
    except UsageError as error:
        _say(f"{_USAGE}\n\nError: {error}")
        write_message(settings.ml_root, f"AlgorithmError: {error}")
        code = _USAGE_CODE
    except StopError:
        code = _STOPPED_CODE
    except (
        StartError,
        cluster.ClusterError,
        ConfigurationFileError,
        DependencyError,
        MeetingError,
        event_logs.EventLogError,
        OSError,  # such as a full disk
    ) as error:
        _say(f"{NAME}: {error}")
        write_message(settings.ml_root, f"AlgorithmError: {error}")
        code = 1
    sys.exit(code)


def _on_sigterm(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StopError


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class _SparkSubmit:
    """One run of the program."""

    def __init__(self, settings: LauncherSettings, options: SubmitOptions) -> None:
        self._settings = settings
        self._options = options
        self._host = Host.read(settings.ml_root)
        self._python = _interpreter(settings.python)
        problem = installation_problem(self._python)
        spark = None if problem else find_spark(self._python)
        if spark is None:
            raise StartError(problem or "there is no Spark")
        self._spark, self._version = spark
        self._folder = Path(tempfile.mkdtemp(prefix="spark-"))
        self._address = cluster.host_address(self._host.number)
        self._environment = self._make_environment()
        self._classifications = Classifications.read(Path(settings.ml_root) / CONFIGURATION)
        memory = cluster.own_memory(settings.memory, len(self._host.hosts))
        self._properties = {
            "spark.driver.memory": f"{max(memory // _DRIVER_PART, _LEAST)}m",
            "spark.executor.memory": f"{max(memory // _EXECUTOR_PART, _LEAST)}m",
            **s3_properties(os.environ),
            **self._classifications.properties(DEFAULTS),
        }
        self._share = cluster.worker_share(cluster.own_cores(), memory, self._properties)

    def run(self) -> int:
        """Run the part of this host, and return its exit code."""
        meeting = Rendezvous(Path(self._settings.rendezvous))
        daemons = cluster.Cluster(self._spark, self._folder, self._address, self._environment)
        try:
            if self._host.number == 1:
                return self._lead(meeting, daemons)
            return self._follow(meeting, daemons)
        finally:
            if self._host.number == 1:
                meeting.retire()
            daemons.close()

    def _lead(self, meeting: Rendezvous, daemons: cluster.Cluster) -> int:
        _say(f"{NAME}: {self._description()}")
        secret = secrets.token_hex(32)
        self._write_settings(secret)
        for name in self._classifications.without_effect():
            _say(f"{NAME}: the classification {name} has no effect on the local engine, whose cluster is Spark's own")
        command = self._command()
        master = Master(daemons.start_master(), secret)
        meeting.announce(master)
        self._join(meeting, daemons, master)
        meeting.wait_for(self._host.hosts)
        logs = ExecutorLogs(daemons.work)
        try:
            return self._run_application(["--master", master.url, *command])
        finally:
            logs.close()

    def _description(self) -> str:
        """Return the Spark and the Java that run, and the Spark of AWS's image in whose place they run."""
        config = Path(self._settings.ml_root, "config", "processingjobconfig.json").read_text(encoding="utf-8")
        image = re.search(r"/sagemaker-spark-processing:(\d+\.\d+)", json.loads(config)["AppSpecification"]["ImageUri"])
        java = find_java()
        text = f"Spark {self._version} in {self._spark}, Java {java and java.version}"
        if image is None or (self._version or "").startswith(f"{image[1]}."):
            return text
        return f"{text}; the image, which is not used, has Spark {image[1]}"

    def _follow(self, meeting: Rendezvous, daemons: cluster.Cluster) -> int:
        master = meeting.find_master()
        self._write_settings(master.secret)
        self._join(meeting, daemons, master)
        logs = ExecutorLogs(daemons.work)
        try:
            meeting.wait_for_end()
        finally:
            logs.close()
        return 0

    def _join(self, meeting: Rendezvous, daemons: cluster.Cluster, master: Master) -> None:
        daemons.start_worker(master.url, self._share)
        meeting.join(self._host.name)

    def _run_application(self, words: Sequence[str]) -> int:
        """Run `spark-submit` to its end, publish its events, and describe its failure."""
        logs = self._event_logs()
        driver = subprocess.Popen(  # noqa: S603 - a program of the installed Spark
            [str(Path(self._spark, "bin", "spark-submit")), *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert driver.stdout is not None
        assert driver.stderr is not None
        output, errors = Tee(driver.stdout, 1), Tee(driver.stderr, 2)
        try:
            code = driver.wait()
        except StopError:
            driver.terminate()
            driver.wait()
            _close(logs, required=False)
            raise
        code = code if code >= 0 else 128 - code
        if code:
            text = describe_failure(self._options.application, code, output.tail(), errors.tail())
            write_message(self._settings.ml_root, text)
        _close(logs, required=code == 0)
        return code

    def _command(self) -> list[str]:
        """Return the command line of `spark-submit` behind the master's URL."""
        options, dependencies = self._options, Dependencies(self._folder / "downloads")
        words = ["--deploy-mode", "client", *(["--verbose"] if options.verbose else [])]
        if options.main_class is not None:
            words += ["--class", options.main_class]
        for option, value in (("py-files", options.py_files), ("jars", options.jars), ("files", options.files)):
            if value is not None:
                words += [f"--{option}", dependencies.resolve(option, value)]
        return [*words, options.application, *options.arguments]

    def _event_logs(self) -> event_logs.EventLogs | None:
        """Start to publish the event logs; return None if no option asks for them."""
        options, publishers = self._options, []
        if options.events_folder is not None:
            publishers.append(event_logs.copy_to(Path(options.events_folder)))
        if options.events_uri is not None:
            bucket, _, prefix = options.events_uri.partition("://")[2].partition("/")
            publishers.append(event_logs.upload_to(bucket, prefix))
        if not publishers:
            return None
        logs = event_logs.EventLogs(self._folder / "events", publishers)
        logs.start()
        return logs

    def _write_settings(self, secret: str) -> None:
        """Write Spark's configuration folder."""
        cores = cluster.usable_cores(self._share, len(self._host.hosts), self._properties)
        properties = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": secret,
            "spark.driver.bindAddress": self._address,
            "spark.driver.host": self._address,
            # As with YARN, the first task waits until most executors have started; 0 would leave hosts without work.
            "spark.cores.max": str(cores),
            "spark.scheduler.minRegisteredResourcesRatio": "0.8",
            "spark.ui.port": "0",
            "spark.ui.showConsoleProgress": "false",
        }
        if self._options.events_folder is not None or self._options.events_uri is not None:
            events = (self._folder / "events").as_uri()
            properties |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events}
        write_settings(self._folder / "conf", self._classifications, {**properties, **self._properties})

    def _make_environment(self) -> dict[str, str]:
        """Return the environment of all processes of Spark on this host."""
        programs = self._folder / "bin"
        programs.mkdir()
        python = programs / _PYTHON
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(self._python)} "$@"\n', encoding="utf-8")
        python.chmod(0o700)
        (self._folder / "local").mkdir()
        own = {"PYSPARK_PYTHON": _PYTHON, "PYSPARK_DRIVER_PYTHON": self._python}
        chosen = own if "PYSPARK_PYTHON" not in os.environ else {}
        return {
            **os.environ,
            **chosen,
            "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
            "SPARK_HOME": self._spark,
            "SPARK_CONF_DIR": str(self._folder / "conf"),
            "HADOOP_CONF_DIR": str(self._folder / "conf"),
            "SPARK_LOCAL_IP": self._address,
            "SPARK_LOCAL_DIRS": str(self._folder / "local"),
        }


def _close(logs: event_logs.EventLogs | None, *, required: bool) -> None:
    """Publish the last event logs. The failure of the application, or a stop, is worth more than theirs."""
    with contextlib.nullcontext() if required else contextlib.suppress(event_logs.EventLogError):
        if logs is not None:
            logs.close()


def _interpreter(python: str) -> str:
    """Return the interpreter of the application: the host's own environment, which has the job's requirements."""
    environment = os.environ.get("VIRTUAL_ENV")
    own = Path(environment, "bin", "python3") if environment else None
    return python if own is None or not own.exists() else str(own)
