"""The container shim beside sagemaker-shim 0.8.3: its start, 10,000 small files in and out, and its memory.

`run -- true` needs no S3. A task needs it: by plain requests, with the boto3 of the image, or as a zip file with the
botocore that it carries. sagemaker-shim has no command without a task. Both use a stand-in for S3 that adds latency to
each answer. Modules of both are compiled before. The kinds alternate, and medians count. Memory is the most that the
shim's process had, while it moved the files.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import boto3
import standin
from figures import Figure, finish, scaled
from standin_services import REGION

STARTS = scaled(11, 2)
MOVES = scaled(3, 1)
FILES = scaled(10_000, 100)
CONTENT = b"x" * 1_000
THEIRS = (
    Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute() / "sagemaker-shim/bin/sagemaker-shim"
)
OURS = [sys.executable, "-m", "processing.container.shim"]
COPY = 'cp -r "$IN/." "$OUT"'


@attrs.frozen
class Measured:
    """One run: seconds of the clock, seconds of processor time, and MB of memory."""

    seconds: float
    cpu: float
    memory: float


def run(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Measured:
    """Run a shim to its successful end."""
    began = time.monotonic()
    peak = 0
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak = max(peak, _peak_memory(process.pid))
            time.sleep(0.005)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed:\n{log.read_text()[-2000:]}")
    return Measured(time.monotonic() - began, usage.ru_utime + usage.ru_stime, peak / 1000)


def _peak_memory(pid: int) -> int:
    """Return the most KB that a process had since its exec. `ru_maxrss` has those of this process before it, too."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return 0 if found is None else int(found[1])


def make_environment(folder: Path, server: standin.StandIn, program: Sequence[str]) -> dict[str, str]:
    """Return the environment of either shim, for a program."""
    for name in ("in", "out", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    variables = {
        "ENTRYPOINT_B64J": b64encode(json.dumps(program).encode()).decode(),
        "INPUT_PATH": str(folder / "in"),
        "OUTPUT_PATH": str(folder / "out"),
        "USE_LINKED_INPUT": "false",
        "WRITABLE_DIRECTORIES": "",
        "POST_CLEAN_DIRECTORIES": "",
        "RUNTIME_OUTPUT_BUCKET_NAME": "data",
        "RUNTIME_OUTPUT_PREFIX": "setup",
    }
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    # A run pays for no compilation: modules of both are compiled to a folder here, by a first run that does not count.
    endpoint = {name: value for name, value in server.environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **own,
        **endpoint,
        "AWS_S3_ENDPOINT_URL": endpoint["AWS_ENDPOINT_URL"],
        "IN": str(folder / "in"),
        "OUT": str(folder / "out"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        **{f"GRAND_CHALLENGE_COMPONENT_{name}": value for name, value in variables.items()},
    }


def make_tasks(files: int) -> str:
    """Return one task with that number of inputs."""
    inputs = [{"relative_path": f"f{n}", "bucket_name": "data", "bucket_key": f"in/f{n}"} for n in range(files)]
    place = {"output_bucket_name": "data", "output_prefix": "out"}
    return json.dumps([{"pk": "one", "inputs": inputs, **place, "timeout": "PT1H"}])


def measure_starts(folder: Path, server: standin.StandIn) -> list[Figure]:
    """Compare the time from the start to the end of a program that does nothing."""
    environment = make_environment(folder, server, ["true"])
    small, whole = folder / "sagemaker-shim", folder / "sagemaker-shim-with-botocore"
    make = "import sys; from processing.cli.shim import main; sys.exit(main())"
    for words in ([small, "--without-botocore"], [whole]):
        subprocess.run([sys.executable, "-c", make, "zipapp", "--output", *words], check=True)
    task = ["invoke", "-t", make_tasks(0)]
    kinds: dict[str, list[str | Path]] = {
        "theirs": [THEIRS, *task],
        "run -- true, the package": [*OURS, "run", "--", "true"],
        "run -- true, the zip file": [sys.executable, "-I", small, "run", "--", "true"],
        "a task": [sys.executable, "-I", small, *task],
        "a task by the image's boto3 alone": [sys.executable, "-I", small, *task],
        "a task by the carried botocore alone": [sys.executable, "-I", "-S", whole, *task],
    }
    # What the image's or the carried botocore costs if a task needs it, as for an access point or a profile.
    without = {**environment, "PROCESSING_SHIM_PLAIN_S3": "false"}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(STARTS + 1):
        for kind, command in kinds.items():
            found = run(command, without if "boto" in kind else environment, folder / "log")
            if number:  # the first compiles modules and unpacks the zip file
                times[kind].append(found.seconds)
    middle = {kind: statistics.median(found) for kind, found in times.items()}
    limits = {"a task by the image's boto3 alone": 0.5, "a task by the carried botocore alone": 0.6}
    return [
        Figure(f"{kind}, of its start time", middle[kind] / middle["theirs"], limits.get(kind, 0.3), note=note)
        for kind in kinds
        if kind != "theirs"
        for note in [f"{middle[kind]:.2f} s beside {middle['theirs']:.2f} s"]
    ]


def measure_files(folder: Path, server: standin.StandIn) -> list[Figure]:
    """Compare the time and the memory of a task with many small files."""
    environment = make_environment(folder, server, ["/bin/sh", "-c", COPY])
    tasks = folder / "tasks.json"
    tasks.write_text(make_tasks(FILES))
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="k",
        aws_secret_access_key="s",
        region_name=REGION,
    )
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: client.put_object(Bucket="data", Key=f"in/f{n}", Body=CONTENT), range(FILES)))
    client.put_object(Bucket="data", Key="tasks.json", Body=tasks.read_bytes())
    kinds: dict[str, list[str | Path]] = {"theirs": [THEIRS], "ours": list(OURS)}
    found: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    for _ in range(MOVES):
        for kind, command in kinds.items():
            server.count_anew()
            found[kind].append(run([*command, "invoke", "-f", "s3://data/tasks.json"], environment, folder / "log"))
            print(f"{kind}: {found[kind][-1]}; {server.count_anew()}", flush=True)
    theirs, ours = (
        Measured(
            *(statistics.median(getattr(one, name) for one in found[kind]) for name in ("seconds", "cpu", "memory"))
        )
        for kind in ("theirs", "ours")
    )
    return [
        Figure(
            f"{FILES} small files in and out, of its time",
            ours.seconds / theirs.seconds,
            0.8,
            note=f"{ours.seconds:.1f} s beside {theirs.seconds:.1f} s; CPU {ours.cpu:.1f} s beside {theirs.cpu:.1f} s",
        ),
        Figure(
            "memory meanwhile, of its own",
            ours.memory / theirs.memory,
            0.5,
            note=f"{ours.memory:.0f} MB beside {theirs.memory:.0f} MB",
        ),
    ]


def main() -> None:
    if not THEIRS.exists():
        sys.exit(f"{THEIRS} is missing: ./scripts/foreign-clients installs it, and needs Python 3.12")
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        for kind in ("starts", "files"):
            Path(name, kind).mkdir()
        figures = measure_starts(Path(name, "starts"), server)
        figures += measure_files(Path(name, "files"), server)
    finish(figures)


if __name__ == "__main__":
    main()
