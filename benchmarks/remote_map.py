"""Many calls of a remote function: a map beside a pool of processes on this machine, and a warm pool beside a job.

All of it runs on the engine, in one process. A figure is the ratio of medians of alternating measurements, so that a
busy machine changes both sides alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from figures import Figure, finish, scaled

from processing import LocalSession
from processing.remote_function import RemotePool, remote

CALLS = scaled(1000, 50)
ROUNDS = scaled(7, 1)
WORKERS = os.cpu_count() or 1


def increment(number: int) -> int:
    return number + 1


def seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def map_figure(session: LocalSession) -> Figure:
    """`map` beyond a job of one call, beside `ProcessPoolExecutor.map`, its start included."""
    function = remote(instance_type="local", sagemaker_session=session)(increment)

    def local() -> None:
        with ProcessPoolExecutor(WORKERS) as pool:
            assert list(pool.map(increment, range(CALLS))) == list(range(1, CALLS + 1))

    def mapped(calls: int) -> None:
        assert list(function.map(range(calls), workers=WORKERS)) == list(range(1, calls + 1))

    mapped(1)
    times = [(seconds(local), seconds(lambda: mapped(1)), seconds(lambda: mapped(CALLS))) for _ in range(ROUNDS)]
    processes, bare, many = (statistics.median(each) for each in zip(*times, strict=True))
    note = f"job {bare:.2f} s, map {many:.2f} s, processes {processes:.2f} s"
    return Figure(f"map of {CALLS} calls beyond the job, to processes", (many - bare) / processes, 3, note=note)


def pool_figure(session: LocalSession) -> Figure:
    """A call of a warm pool, beside a job of one call."""
    options: Any = {"instance_type": "local", "sagemaker_session": session}
    function = remote(**options)(increment)
    with RemotePool(workers=1, **options) as pool:
        pool.submit(increment, 0).result()
        times = [
            (seconds(lambda: function.submit(1).result()), seconds(lambda: pool.submit(increment, 1).result()))
            for _ in range(ROUNDS)
        ]
        warm = pool.job
    assert warm is not None
    warm.wait(logs=False)  # its files are in the folder that is removed
    job, call = (statistics.median(each) for each in zip(*times, strict=True))
    return Figure("call of a warm pool, to a job", call / job, 0.15, note=f"call {call:.2f} s, job {job:.2f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # the engine may write until the end
        local_session = LocalSession(home, tick=0.01)
        figures = [map_figure(local_session), pool_figure(local_session)]
    finish(figures)
