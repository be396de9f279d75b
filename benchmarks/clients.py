"""Actions of the measured clients. Each runs in a process of its own and prints one measurement as JSON.

    PYTHON benchmarks/clients.py CLIENT ACTION ARGUMENT...       # started by `measure`

Time, processor and memory are those of this process since the import of the client's module. Later imports by the
client are counted. The script needs only the client.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

BUCKET = "bench"
ROLE = "arn:aws:iam::000000000000:role/bench"
SAGEMAKER_2 = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute() / "sagemaker-2/bin/python"
"""The interpreter with `sagemaker` 2.x, made by `scripts/foreign-clients`."""

Measured = Mapping[str, Any]


def measure(
    python: Path | str,
    client: str,
    action: str,
    *arguments: object,
    environment: Mapping[str, str],
    script: str = __file__,
) -> dict[str, Any]:
    """Run an action of a client in a process of its own, and return the measurement.

    Args:
        python: the interpreter of the client.
        client: `sagemaker`, `processing` or `boto3`.
        action: a function of the script.
        arguments: the arguments of the function after the client.
        environment: all variables of the process.
        script: the script with the client's actions, by default this module.
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


def upload(client: str, source: str, start: str = "warm") -> Measured:
    """Upload a file or a directory: after a small upload that loads the modules and makes the client, or at once."""
    if start == "cold":
        return _measured(lambda: _transfers(client)[0](source, "data"))
    send, _ = _transfers(client)
    send(__file__, "code")
    return _measured(lambda: send(source, "data"))


def download(client: str, target: str, *parts: str) -> Measured:
    """Download the files of `upload`, after a small upload: all of them, or some folders one after another."""
    send, fetch = _transfers(client)
    send(__file__, "code")

    def work() -> None:
        for part in parts or ("",):
            fetch(str(Path(target, part)), f"data/{part}".rstrip("/"))

    return _measured(work)


def runs(client: str, script: str, data: str, bucket: str, count: str) -> Measured:
    """Start jobs of a script with one input, and return the seconds of each `run`.

    Args:
        client: the package of the `ScriptProcessor`.
        script: the code.
        data: a local file or directory.
        bucket: the session's default bucket; empty for the client's own choice.
        count: the number of jobs.
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
        # A new input for each run: `sagemaker` writes the URI of the upload into it, and does not upload it again.
        given = [module.ProcessingInput(source=data, destination="/opt/ml/processing/input/data")]
        processor.run(code=script, inputs=given, wait=False)

    return _measured_each(run, count)


def runs_by_hand(client: str, script: str, data: str, bucket: str, count: str) -> Measured:
    """Start the jobs of `runs` with the calls that a user of boto3 writes, and return the seconds of each."""
    boto3 = _module(client)
    s3 = boto3.client("s3")

    def upload(uploads: Sequence[tuple[str, Path]]) -> None:
        for key, file in uploads:
            s3.upload_file(str(file), bucket, key)

    return _create_jobs(boto3, upload, script, data, bucket, count)


def runs_with_threads(client: str, script: str, data: str, bucket: str, count: str) -> Measured:
    """Start the jobs of `runs_by_hand` with the fewest round trips, and return the seconds of each.

    Two threads that wait already send the files, without `Expect: 100-continue`. Nothing is checked. So this is the
    least time in which botocore makes these requests.
    """
    from concurrent.futures import ThreadPoolExecutor  # here, as the clients' own imports count

    from botocore.handlers import add_expect_header

    boto3 = _module(client)
    s3 = boto3.client("s3")
    s3.meta.events.unregister("before-call.s3", add_expect_header)

    def put(upload: tuple[str, Path]) -> None:
        s3.put_object(Bucket=bucket, Key=upload[0], Body=upload[1].read_bytes())

    with ThreadPoolExecutor(2) as pool:
        return _create_jobs(boto3, lambda uploads: list(pool.map(put, uploads)), script, data, bucket, count)


def _create_jobs(
    boto3: Any,
    upload: Callable[[Sequence[tuple[str, Path]]], object],
    script: str,
    data: str,
    bucket: str,
    count: str,
) -> Measured:
    """Create the jobs of `runs` with boto3, and return the seconds of each.

    Args:
        boto3: the module.
        upload: sends files, each given with its key, before the job is created.
        script: the code.
        data: a directory with one file.
        bucket: the bucket of the uploads.
        count: the number of jobs.
    """
    sagemaker = boto3.client("sagemaker")
    names = (f"by-hand-{time.time_ns()}" for _ in range(int(count)))
    (file,) = Path(data).iterdir()

    def given(name: str, key: str) -> dict[str, Any]:
        place = {"S3Uri": f"s3://{bucket}/{key}", "LocalPath": f"/opt/ml/processing/input/{name}"}
        return {"InputName": name, "S3Input": {**place, "S3DataType": "S3Prefix", "S3InputMode": "File"}}

    def run() -> None:
        job = next(names)
        code = Path(script)
        keys = {"code": f"{job}/code/{code.name}", "data": f"{job}/data/{file.name}"}
        upload([(keys["code"], code), (keys["data"], file)])
        entrypoint = ["python3", f"/opt/ml/processing/input/code/{code.name}"]
        cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
        sagemaker.create_processing_job(
            ProcessingJobName=job,
            RoleArn=ROLE,
            AppSpecification={"ImageUri": "image", "ContainerEntrypoint": entrypoint},
            ProcessingResources={"ClusterConfig": cluster},
            ProcessingInputs=[given(name, key) for name, key in keys.items()],
        )

    return _measured_each(run, count)


def run_with_code(client: str, source_dir: str, data: str) -> Measured:
    """Start a job of `main.py` with the files beside it, and with local data to be reused, if there is any."""
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
        # `sagemaker` sets the address of its STS clients, so that no variable can change it.
        session = cast("Any", import_module("sagemaker.session"))
        session.sts_regional_endpoint = lambda _region: os.environ["AWS_ENDPOINT_URL"]
        return import_module("sagemaker.processing")
    return import_module(client)


def _session(client: str, bucket: str) -> Any:
    _module(client)
    return import_module(client).Session(default_bucket=bucket or None)


def _transfers(client: str) -> tuple[Callable[[str, str], object], Callable[[str, str], object]]:
    """Return the functions of a client that upload to a prefix, and download from one."""
    if client in {"processing", "sagemaker"}:
        session = _session(client, BUCKET)
        return (
            lambda source, prefix: session.upload_data(source, bucket=BUCKET, key_prefix=prefix),
            lambda target, prefix: session.download_data(target, bucket=BUCKET, key_prefix=prefix),
        )
    peer = import_module("transfer_peers").PEERS[client](BUCKET)
    return peer.upload, peer.download


def _measured_each(run: Callable[[], object], count: str) -> Measured:
    each = [_measured(run) for _ in range(int(count))]
    return {name: [one[name] for one in each] for name in ("seconds", "cpu_seconds")}


def _measured(work: Callable[[], object]) -> Measured:
    before = peak_mb()
    cpu, start = time.process_time(), time.perf_counter()
    work()
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "cpu_seconds": time.process_time() - cpu,
        "memory_mb": peak_mb() - before,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    name, action, *arguments = sys.argv[1:]
    print(json.dumps(globals()[action](name, *arguments)), flush=True)
    if name == "obstore":
        os._exit(0)  # after coroutines of obstore, the end of the interpreter crashes once in a while
