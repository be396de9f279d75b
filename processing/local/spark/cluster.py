"""A standalone cluster of Spark over the hosts of a job: a master on the first host, and a worker on each."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_MASTER_READY = re.compile(r"Starting Spark master at (spark://\S+)")
_WORKER_READY = re.compile(r"Successfully registered with master")
_START_SECONDS = 300.0  # a JVM on a busy machine takes about 20
_POLL = 0.05
_LAST_LINES = 10
# A stop signals the whole group of the job. The cluster has to outlive the application, which then ends in order.
_DEAF = 'trap "" TERM; exec "$@"'
_LOGGING = """\
rootLogger.level=info
rootLogger.appenderRef.stdout.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%p %c{1}: %m%n%ex
"""
_UNITS = {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}


class ClusterError(Exception):
    """A process of the cluster that does not start."""


class Share(NamedTuple):
    """The resources that a worker offers.

    Attributes:
        cores: the number of tasks at a time.
        memory: the memory for executors, in MiB.
    """

    cores: int
    memory: int


def host_address(number: int) -> str:
    """Return the address of a host on the loopback interface: one for each where the system has them."""
    own = f"127.0.1.{number}"
    with socket.socket() as probe:
        try:
            probe.bind((own, 0))
        except OSError:  # macOS has 127.0.0.1 alone
            return "127.0.0.1"
    return own


def own_memory(limit: int | None, hosts: int) -> int:
    """Return the memory of a host in MiB.

    Args:
        limit: the bytes that it may use; None for its part of the machine's.
        hosts: the number of hosts of the job.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // hosts if limit is None else limit
    return total >> 20


def own_cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_share(cores: int, memory: int, properties: Mapping[str, str]) -> Share:
    """Return the share of a worker: that of its host, or an executor's if the job asks for larger executors.

    A configuration for large instances then runs on a small machine too. Without room for one executor, the application
    would wait for ever.

    Args:
        cores: the processors of the host.
        memory: the memory of the host, in MiB.
        properties: the properties of Spark.
    """
    wanted = properties.get("spark.executor.cores", "")
    return Share(
        max(cores, int(wanted) if wanted.isdecimal() else 0),
        max(memory, mebibytes(properties.get("spark.executor.memory", ""))),
    )


def usable_cores(share: Share, hosts: int, properties: Mapping[str, str]) -> int:
    """Return the cores of all executors that have room on the workers.

    Args:
        share: the share of each worker.
        hosts: the number of workers.
        properties: the properties of Spark.
    """
    wanted = properties.get("spark.executor.cores", "")
    cores = int(wanted) if wanted.isdecimal() and int(wanted) else share.cores
    memory = max(1, mebibytes(properties.get("spark.executor.memory", "1g")))
    return hosts * cores * min(share.cores // cores, share.memory // memory)


def mebibytes(text: str) -> int:
    """Return the memory that a property such as `4g` names, in MiB and rounded up; 0 if it is none."""
    found = re.fullmatch(r"(\d+)([kmgt]?)b?", text.strip().lower())
    return 0 if found is None else -(-(int(found[1]) << _UNITS[found[2]]) >> 20)


class Cluster:
    """The processes of the cluster on one host.

    Args:
        spark: the folder of Spark.
        folder: the folder for their files.
        address: the address of this host.
        environment: their environment.
    """

    def __init__(self, spark: str, folder: Path, address: str, environment: Mapping[str, str]) -> None:
        self._spark = spark
        self._folder = folder
        self._address = address
        logging = folder / "cluster-log4j2.properties"
        logging.write_text(_LOGGING, encoding="utf-8")
        options = f"-Dlog4j2.configurationFile={logging.as_uri()} -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        self._environment = {**environment, "SPARK_DAEMON_JAVA_OPTS": options, "SPARK_DAEMON_MEMORY": "512m"}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.work = folder / "work"

    def start_master(self) -> str:
        """Start the master, and return its URL.

        Raises:
            ClusterError: it does not start.
        """
        arguments = ["--host", self._address, "--port", "0", "--webui-port", "0"]
        return self._start("master", _MASTER, arguments, _MASTER_READY)[1]

    def start_worker(self, master: str, share: Share) -> None:
        """Start the worker of this host, and wait until it has joined.

        Raises:
            ClusterError: it does not start, or the master cannot be reached.
        """
        host, _, port = master.partition("://")[2].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_START_SECONDS).close()
        except OSError as error:
            raise ClusterError(f"this host cannot reach the master at {master}: {error}") from error
        resources = ["--cores", str(share.cores), "--memory", f"{share.memory}M", "--work-dir", str(self.work)]
        arguments = ["--host", self._address, "--port", "0", "--webui-port", "0", *resources, master]
        self._start("worker", _WORKER, arguments, _WORKER_READY)

    def close(self) -> None:
        """Kill the processes: they have nothing to save."""
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()

    def _start(self, name: str, main: str, arguments: list[str], ready: re.Pattern[str]) -> re.Match[str]:
        """Start a process, and return the match of the line by which it says that it is ready."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - a program of the installed Spark
                ["/bin/sh", "-c", _DEAF, "sh", str(Path(self._spark, "bin", "spark-class")), main, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            found = ready.search(log.read_text(encoding="utf-8", errors="replace"))
            if found is not None:
                return found
            time.sleep(_POLL)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        raise ClusterError("\n".join([f"the {name} of Spark's cluster does not start; its last lines:", *lines]))
