"""The program of a distributed call: starts the function in several processes with `torchrun` or `mpirun`.

Each process loads the verified call and runs it. The result is that of rank 0.
"""

# ruff: noqa: PTH123, PTH207

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from typing import Any, Dict, List

PORT = 7777
"""The port at which the processes of torchrun find each other, as in sagemaker."""
_RANK = "import sys; sys.path[0] = sys.argv[1]; from _processing_remote import launch; launch.run_rank(sys.argv[1:])"


def main(places: Any, manifest: Dict[str, Any], _folder: str) -> None:
    """Start the processes of this host, and end with the launcher's exit code.

    Args:
        places: the paths of the call, `boot.Places`.
        manifest: the verified manifest. Its member `launcher` has the kind and the number of processes for each host.
        _folder: the folder of the caller's files.
    """
    launcher = manifest["launcher"]
    with open(places.resources, encoding="utf-8") as file:
        resources = json.load(file)
    count = launcher["processes"] or len(glob.glob("/dev/nvidia[0-9]*")) or os.cpu_count() or 1
    rank = [sys.executable, "-c", _RANK, *places]
    command = torchrun(resources, count, rank) if launcher["kind"] == "torchrun" else mpirun(count, rank)
    sys.exit(subprocess.run(command, check=False).returncode & 0xFF)  # noqa: S603 - the image's launcher


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


def mpirun(count: int, rank: List[str]) -> List[str]:
    """Return the command of mpirun on this host."""
    return ["mpirun", "--allow-run-as-root", "-np", str(count), *rank]


def run_rank(arguments: List[str]) -> None:
    """Run the call in one process.

    Args:
        arguments: the paths of `Places`.
    """
    from . import boot, call

    places = boot.Places(*arguments)
    manifest = boot.read_manifest(places.call, os.environ[boot.MANIFEST_DIGEST])
    number = next(
        (os.environ[name] for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if name in os.environ), "0"
    )
    if number == "0":
        call.main(places, manifest, "")
        return
    function, args, kwargs = call.load(call.read_packed(places.call, manifest["start"]), as_values=manifest["values"])
    call.collected(function(*args, **kwargs))
