"""The program of a distributed call: starts the function with `torchrun`, `mpirun` or `smspark-submit`.

The first two start several processes. Each loads the verified call and runs it, and the result is that of rank 0. Spark
runs one process, its application, on one host.
"""

# Paths are plain strings, as in the boot program.
# ruff: noqa: PTH103, PTH105, PTH113, PTH118, PTH120, PTH123, PTH207

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import Any, Dict, List

from . import boot, mpi_agent

PORT = 7777
"""The port at which the processes of torchrun find each other, as in sagemaker."""
SPARK_FILES = "spark"
"""The folder in the bundle with the caller's files for Spark: one folder for each option, and `conf`."""
SPARK_CONFIGURATION = "configuration.json"
_SPARK_CONFIGURATION_FOLDER = os.path.join("processing", "input", "conf")
"""The folder below /opt/ml in which AWS's images look for the configuration."""
_INTERFACES = ("OMPI_MCA_oob_tcp_if_include", "OMPI_MCA_btl_tcp_if_include")
"""The variables of Open MPI with the networks of daemons and of ranks."""
_RANK = "import sys; sys.path[0] = sys.argv[1]; from _processing_remote import launch; launch.run_rank(sys.argv[1:])"


def main(places: Any, manifest: Dict[str, Any], folder: str) -> None:
    """Start the processes of this host, and end with the launcher's exit code.

    Args:
        places: the paths of the call, `boot.Places`.
        manifest: the verified manifest. Its member `launcher` has the kind and the number of processes for each host.
        folder: the folder of the caller's files.
    """
    launcher = manifest["launcher"]
    if launcher["kind"] == "spark":
        sys.exit(run_spark(places, launcher, folder))
    with open(places.resources, encoding="utf-8") as file:
        resources = json.load(file)
    count = launcher["processes"] or len(glob.glob("/dev/nvidia[0-9]*")) or os.cpu_count() or 1
    rank = [sys.executable, "-c", _RANK, *places, folder]
    if launcher["kind"] == "torchrun":
        command = torchrun(resources, count, rank)
        code = subprocess.run(command, check=False).returncode & 0xFF  # noqa: S603 - the image's launcher
    else:
        code = _run_mpi(places, resources, count, rank, folder)
    if code and resources["current_host"] == resources["hosts"][0]:
        _report(places, folder)
    sys.exit(code)


def torchrun(resources: Dict[str, Any], count: int, rank: List[str]) -> List[str]:
    """Return the command of torchrun for this host: all hosts meet at the first one."""
    hosts = resources["hosts"]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", str(len(hosts)), "--nproc_per_node", str(count)),
        *("--node_rank", str(hosts.index(resources["current_host"]))),
        *("--master_addr", hosts[0], "--master_port", str(PORT), "--no_python"),
        *rank,
    ]


def _run_mpi(places: Any, resources: Dict[str, Any], count: int, rank: List[str], folder: str) -> int:
    """Run mpirun on the first host, and what it starts on the others. Return the exit code."""
    hosts, own = resources["hosts"], resources["current_host"]
    line = "cd %s && exec %s" % (shlex.quote(os.getcwd()), " ".join(map(shlex.quote, rank)))  # noqa: PTH109 - as above
    os.environ[mpi_agent.RANK_COMMAND] = line
    if shutil.which("mpirun") is None:
        boot.refuse(places, "the image has no mpirun; use_mpirun needs one with Open MPI")
    try:
        if len(hosts) > 1:
            mpi_agent.check_name(own)
            if mpi_agent.are_local(hosts):  # Open MPI leaves out this network
                # As an option, the first would leave the daemons of Open MPI 5 without any network.
                os.environ.update(dict.fromkeys(_INTERFACES, "127.0.0.0/8"))
        if own != hosts[0]:
            return mpi_agent.serve(own)
        with mpi_agent.watched_by(hosts[1:]) as codes:
            command = mpirun(hosts, count, mpi_agent.agent_command(places.bundle, folder, own))
            codes.append(subprocess.run(command, check=False).returncode & 0xFF)  # noqa: S603 - the image's launcher
    except mpi_agent.HostError as error:
        boot.refuse(places, str(error))
    return codes[0]


def mpirun(hosts: List[str], count: int, agent: str) -> List[str]:
    """Return the command of mpirun for all hosts. The number of processes may be larger than that of processors.

    Args:
        hosts: the hosts of the job.
        count: the processes on each.
        agent: the program that starts Open MPI's daemon on another host.
    """
    words = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(count * len(hosts))]
    if len(hosts) > 1:
        words += ["-H", ",".join("%s:%d" % (host, count) for host in hosts)]
        # Open MPI 5 would begin with as many processes on the first host as fit there.
        words += ["--map-by", "ppr:%d:node:OVERSUBSCRIBE" % count]
        # An attached daemon ends with its connection.
        words += ["--leave-session-attached", "--mca", "plm_rsh_agent", agent, "--mca", "plm_rsh_no_tree_spawn", "1"]
    return [*words, "/bin/sh", "-c", 'eval "$%s"' % mpi_agent.RANK_COMMAND]


def _places_of(places: Any, folder: str, rank: str) -> Any:
    """Return the places of a rank other than 0, whose exception counts only if rank 0 has none."""
    place = os.path.join(folder, "rank-" + rank)
    return places._replace(exception=os.path.join(place, "exception"), message=os.path.join(place, "message"))


def _report(places: Any, folder: str) -> None:
    """Make the first exception of another rank on this host that of the call, unless rank 0 has one."""
    from .call import EXCEPTION

    if os.path.isfile(os.path.join(places.exception, EXCEPTION)):
        return
    messages = sorted(glob.glob(os.path.join(folder, "rank-*", "message")), key=os.path.getmtime)
    if messages:
        os.makedirs(places.exception, exist_ok=True)
        part = places.exception.rstrip("/") + ".part"  # beside the folder, which may be uploaded at any time
        shutil.copy(os.path.join(os.path.dirname(messages[0]), EXCEPTION, EXCEPTION), part)
        os.replace(part, os.path.join(places.exception, EXCEPTION))
        os.makedirs(os.path.dirname(places.message), exist_ok=True)
        shutil.copy(messages[0], places.message)


def run_spark(places: Any, launcher: Dict[str, Any], folder: str) -> int:
    """Run the call as a Spark application, and return the exit code. Each host takes part; one has the application.

    Args:
        places: the paths of the call.
        launcher: `files`, for each option of spark-submit the URIs that Spark reads and the names of local files;
            `events`, the folder for Spark's events or None.
        folder: the folder of the caller's files.
    """
    configuration = os.path.join(folder, SPARK_FILES, "conf", SPARK_CONFIGURATION)
    if os.path.isfile(configuration):
        # The message is at /opt/ml/output/message, wherever /opt/ml is.
        target = os.path.join(os.path.dirname(os.path.dirname(places.message)), _SPARK_CONFIGURATION_FOLDER)
        os.makedirs(target, exist_ok=True)
        shutil.copy(configuration, target)
    application = os.path.join(folder, "remote_function_call.py")
    with open(application, "w", encoding="utf-8") as file:
        file.write(_RANK + "\n")
    # If the application fails, `smspark-submit` writes a text of its own to the exit message.
    message = os.path.join(folder, "message")
    command = [*spark_submit(launcher, folder), application, *places._replace(message=message)]
    code = subprocess.run(command, check=False).returncode & 0xFF  # noqa: S603 - the image's launcher
    if os.path.isfile(message):
        os.makedirs(os.path.dirname(places.message), exist_ok=True)
        shutil.copy(message, places.message)
    return code


def spark_submit(launcher: Dict[str, Any], folder: str) -> List[str]:
    """Return the beginning of the command that starts Spark, without the application."""
    words = ["smspark-submit"]
    for option, (uris, names) in launcher["files"].items():
        directory = os.path.join(folder, SPARK_FILES, option)
        # A directory is expanded only where it is the whole value.
        files = [*uris, *(os.path.join(directory, name) for name in names)] if uris else [directory]
        words += ["--" + option, ",".join(files)]
    if launcher["events"] is not None:
        words += ["--local-spark-event-logs-dir", launcher["events"]]
    return words


def run_rank(arguments: List[str]) -> None:
    """Run the call in one process.

    Args:
        arguments: the paths of `Places`, and the folder of the caller's files for one of several processes.
    """
    from . import call

    places = boot.Places(*arguments[: len(boot.Places._fields)])
    manifest = boot.read_manifest(places.call, os.environ[boot.MANIFEST_DIGEST])
    number = next(
        (os.environ[name] for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if name in os.environ), "0"
    )
    if number == "0":
        call.main(places, manifest, "")
        return
    stage = call.LOADING
    try:
        packed = call.read_packed(places.call, manifest["start"])
        function, args, kwargs = call.load(packed, as_values=manifest["values"])
        stage = ""
        call.collected(function(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - as in rank 0
        call.fail(_places_of(places, arguments[-1], number), error, stage)
