"""What the measured clients do, each in a process of its own with its own Python: one measurement, printed as JSON.

    PYTHON benchmarks/clients.py CLIENT ACTION ARGUMENT...       # `measure` calls it so

Time, processor and memory are those of this process, from when the client's module has been imported: a client that
imports on when it is used is charged for that. Nothing is needed but the client.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

BUCKET = "bench"
ROLE = "arn:aws:iam::000000000000:role/bench"
SAGEMAKER_2 = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute() / "sagemaker-2/bin/python"
"""The interpreter that has `sagemaker` 2.x: `scripts/foreign-clients` makes it."""

Measured = Mapping[str, Any]


def measure(
    python: Path | str,
    client: str,
    action: str,
    *arguments: object,
    environment: Mapping[str, str],
    script: str = __file__,
) -> dict[str, Any]:
    """Let a client do something in a process of its own, and return what it measured.

    Args:
        python: its interpreter.
        client: `sagemaker`, `processing` or `boto3`.
        action: a function of the script.
        arguments: the function's, after the client.
        environment: all the variables of the process.
        script: what knows how each client does it; this module.
    """
    if not Path(python).exists():
        sys.exit(
            f"{python} is missing: ./scripts/foreign-clients installs it, or say where with PROCESSING_TEST_CLIENTS"
        )
    command = [str(python), script, client, action, *map(str, arguments)]
    done = subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        sys.exit(f"{client} {action} broke\n{done.stdout[-2000:]}")
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


def upload(client: str, source: str) -> Measured:
    """Upload a file or a directory, after something small: botocore is loaded by then, its client made."""
    work: Callable[[], object]
    if client == "boto3":
        work = _boto3_upload(source)
        _boto3_upload(__file__)()
    else:
        session = _session(client, BUCKET)
        session.upload_data(__file__, bucket=BUCKET, key_prefix="code")
        work = lambda: session.upload_data(source, bucket=BUCKET, key_prefix="data")  # noqa: E731
    return _measured(work)


def download(client: str, target: str, *parts: str) -> Measured:
    """Download what `upload` has put there: all of it, or some of its folders one after another."""
    session = _session(client, BUCKET)
    session.upload_data(__file__, bucket=BUCKET, key_prefix="code")

    def work() -> None:
        for part in parts or ("",):
            session.download_data(str(Path(target, part)), bucket=BUCKET, key_prefix=f"data/{part}".rstrip("/"))

    return _measured(work)


def runs(client: str, script: str, data: str, bucket: str, count: str) -> Measured:
    """Start jobs of a script with one input, and return the seconds of each `run`.

    Args:
        client: whose `ScriptProcessor`.
        script: the code.
        data: a local file or directory.
        bucket: the session's default bucket; empty for the one that the client finds by itself.
        count: how many.
    """
    module = _module(client)
    processor = module.ScriptProcessor(
        role=ROLE,
        image_uri="image",
        command=["python3"],
        instance_count=1,
        instance_type="ml.m5.xlarge",
        sagemaker_session=_session(client, bucket),
    )

    def run() -> None:
        # Made anew each time: `sagemaker` writes the URI of what it has uploaded into it, and uploads nothing again.
        given = [module.ProcessingInput(source=data, destination="/opt/ml/processing/input/data")]
        processor.run(code=script, inputs=given, wait=False)

    each = [_measured(run) for _ in range(int(count))]
    return {name: [one[name] for one in each] for name in ("seconds", "cpu_seconds")}


def run_with_code(client: str, source_dir: str, data: str) -> Measured:
    """Start a job of `main.py` and the files beside it, with local data that is to be used again; none if empty."""
    module = _module(client)
    given = []
    if data:
        given = [module.ProcessingInput(source=data, destination="/opt/ml/processing/input/data", reuse=True)]
    processor = module.FrameworkProcessor(
        role=ROLE,
        image_uri="image",
        command=["python3"],
        instance_count=1,
        instance_type="ml.m5.xlarge",
        sagemaker_session=_session(client, BUCKET),
    )
    return _measured(lambda: processor.run(code="main.py", source_dir=source_dir, inputs=given, wait=False))


def _module(client: str) -> Any:
    if client == "sagemaker":
        os.environ["SAGEMAKER_SUPPRESS_V2_WARNING"] = "1"
        # It gives its clients of STS an address of their own, so that no variable leads them elsewhere.
        session = cast("Any", import_module("sagemaker.session"))
        session.sts_regional_endpoint = lambda _region: os.environ["AWS_ENDPOINT_URL"]
        return import_module("sagemaker.processing")
    return import_module(client)


def _session(client: str, bucket: str) -> Any:
    _module(client)
    return import_module(client).Session(default_bucket=bucket or None)


def _boto3_upload(source: str) -> Callable[[], object]:
    boto3 = _module("boto3")
    return lambda: boto3.client("s3").upload_file(source, BUCKET, f"data/{Path(source).name}")


def _measured(work: Callable[[], object]) -> Measured:
    before = peak_mb()
    cpu, start = time.process_time(), time.perf_counter()
    work()
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "cpu_seconds": time.process_time() - cpu,
        "memory_mb": peak_mb() - before,
    }


def peak_mb() -> float:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    name, action, *arguments = sys.argv[1:]
    print(json.dumps(globals()[action](name, *arguments)))
