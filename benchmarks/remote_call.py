"""A call of a remote function: its time beside a script of the same job, its calls to S3, and the delay of its result.

`add(1, 1)` on the engine alternates with a ScriptProcessor that prints 2, after one round that does not count. Both
show their log lines. The calls to S3 are those of the caller, bundle and bucket known, and those of the job, which
has no network. The delay is measured on the simulated AWS. The loop of sagemaker-core 2.27 looks every 25 s on
average, as it waits 10 s and polls every 30 s; its mean delay is that of a fixed schedule.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Figure, finish, scaled

from processing import LocalSession, NetworkConfig, ScriptProcessor
from processing.container.remote import packing
from processing.remote_function import remote
from processing.request.s3_uri import S3Uri
from processing.testing import SimulatedAws, VirtualClock
from processing.testing.jobs import Life

ROUNDS = scaled(20, 3)
JOBS = scaled(40, 5)


def add(x: int, y: int) -> int:
    return x + y


class Recorder:
    """A transport that counts the requests to S3."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._inner: Any = None

    def wrap(self, inner: Any) -> Recorder:
        self._inner = inner
        return self

    def send(self, request: Any) -> Any:
        if "X-Amz-Target" not in request.headers and request.url.count("/") > 3:
            self.requests[request.method] += 1
        return self._inner.send(request)


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return time.perf_counter() - start


def on_the_engine(folder: Path) -> list[Figure]:
    script = folder / "two.py"
    script.write_text("print(2)\n")
    session = LocalSession(folder / "engine")
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
    function = remote(add, instance_type="local", sagemaker_session=session)
    kinds: dict[str, Callable[[], object]] = {"script": lambda: processor.run(script), "call": lambda: function(1, 1)}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS + 1):
        for kind, run in kinds.items():
            elapsed = seconds_of(run)
            if number:
                times[kind].append(elapsed)
    median = {kind: statistics.median(values) for kind, values in times.items()}
    note = f"medians of {ROUNDS}: {median['call']:.3f} s and {median['script']:.3f} s"
    return [Figure("add(1, 1) on the engine, beside a script", median["call"] / median["script"], 1.4, "", note)]


def calls_to_s3(folder: Path) -> list[Figure]:
    recorder = Recorder()
    session = LocalSession(folder / "counted", transport=recorder.wrap)
    network = NetworkConfig(enable_network_isolation=True)
    function = remote(add, instance_type="local", sagemaker_session=session, network_config=network)
    figures = []
    for name in ("the first call", "a further call"):
        recorder.requests.clear()
        function(1, 1)
        note = ", ".join(f"{count} {method}" for method, count in sorted(recorder.requests.items()))
        figures.append(Figure(f"requests to S3 by the caller, {name}", recorder.requests.total(), 4, "", note))
    return figures


def delay_of_results() -> list[Figure]:
    clock = VirtualClock()
    ends = iter([60 + number * 7 / JOBS for number in range(JOBS)])

    def life(request: dict[str, Any]) -> Life:
        (uri,) = (
            each["S3Output"]["S3Uri"]
            for each in request["ProcessingOutputConfig"]["Outputs"]
            if each["OutputName"] == "remote-result"
        )
        place, packed = S3Uri.parse(uri) / "result", packing.pack(2)
        session.boto_session.client("s3").put_object(Bucket=place.bucket, Key=place.key, Body=packed.to_bytes())
        message = json.dumps({"slot": "result", "sha256": packed.sha256, "size": packed.size})
        return Life(next(ends), exit_message=message)

    aws = SimulatedAws(clock, life=life)
    session = aws.session()
    role = "arn:aws:iam::000000000000:role/processing"
    function = remote(add, instance_type="ml.m5.large", image_uri="mine:1", role=role, sagemaker_session=session)
    delays = []
    for number in range(JOBS):
        future = function.submit(1, 1)
        started = clock.monotonic()
        future.result()
        delays.append(clock.monotonic() - started - (60 + number * 7 / JOBS))
    note = f"mean of {JOBS} jobs on the simulated AWS; the loop of sagemaker-core takes 25 s"
    return [Figure("the result after the end of the job", statistics.fmean(delays), 1.1, "s", note)]


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # the engine may write until the end
        folder = Path(name)
        figures = [*on_the_engine(folder), *calls_to_s3(folder)]
    finish([*figures, *delay_of_results()])


if __name__ == "__main__":
    main()
