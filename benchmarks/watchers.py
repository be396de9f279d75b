"""Actions of the measured clients on simulated jobs, each in a process of its own with its own Python.

    PYTHON benchmarks/watchers.py CLIENT ACTION ARGUMENT...       # started by `watch`

All time is virtual: an hour passes as fast as the clients make calls. Each client is the real one, with real botocore
clients. The same `SimulatedAws` answers their requests in process. Its processor time is measured, and not counted for
the client.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import math
import random
import re
import resource
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import clients
from turns import Turns

from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultKind
from processing.testing.simulation import PUBLISHED_QUOTAS, SimulatedAws, SimulatedLine

ROOT = Path(__file__).resolve().parent.parent
HOUR = 3600.0
FAULTS: tuple[FaultKind, ...] = ("throttle", "error500", "error503", "reset_before", "reset_after", "truncate")
"""The random faults, all with the same probability."""
ENDS_OVER = 56.0
"""Seconds over which the ends of the jobs are spread evenly: several times the longest interval of status calls."""
EVENT_DELAY = 0.5, 1.0
"""The least and the most seconds from a job's end to its event: an assumption, on the slow side."""
_MARK = re.compile(r"#\d+/\d+ ")  # the mark that distinguishes a job's lines


def watch(python: Path | str, client: str, action: str, *arguments: object, script: str = __file__) -> dict[str, Any]:
    """Run a client's action, of this module or another, in a process of its own; return its measurement."""
    variables = {
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "PYTHONPATH": str(ROOT),  # the simulation, also for the Python of the other client
        "PATH": "/usr/bin:/bin",
    }
    return clients.measure(python, client, action, *arguments, environment=variables, script=script)


# Worlds


class World(SimulatedAws):
    """A simulated AWS with jobs that proceed by themselves.

    Attributes:
        ends: by name, when the job's terminal state becomes visible, in seconds since the world began.
        lines: by name, the number of the job's own lines; they are marked `#<host>/<number>`.
        own_cpu: the processor time of the answers, in seconds.
    """

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        super().__init__(clock, **options)
        self.ends: dict[str, float] = {}
        self.lines: Counter[str] = Counter()
        self.own_cpu = 0.0

    def send(self, request: Any) -> Any:
        begun = time.thread_time()
        try:
            return super().send(request)
        finally:
            self.own_cpu += time.thread_time() - begun

    def add(
        self,
        name: str,
        ends: float,
        moments: Sequence[float],
        dice: random.Random,
        hosts: int = 1,
        created: float = 0.0,
    ) -> None:
        """Add an existing job; each host writes a line at these moments, which CloudWatch delays a little."""
        self.ends[name] = self.now + ends
        self.lines[name] = hosts * len(moments)
        lines = (
            SimulatedLine(
                moment, f"#{host}/{number} of {name}: step {number % 100} is done", host, dice.uniform(0.2, 1.8)
            )
            for host in range(1, hosts + 1)
            for number, moment in enumerate(moments)
        )
        self.add_job(name, starts=self.now + created, ends=self.ends[name], hosts=hosts, lines=lines)

    def inject(self, share: float) -> None:
        """Let a share of all calls fail."""
        for kind in FAULTS if share else ():
            self.faults.on("*", kind, probability=share / len(FAULTS))


def _chatty(ends: float, _: random.Random) -> list[float]:
    return [float(second) for second in range(10, int(ends))]


def _sparse(ends: float, dice: random.Random) -> list[float]:
    moments = [150.0]
    while moments[-1] < ends - 300:
        moments.append(moments[-1] + dice.uniform(60, 300))
    return moments


def _silent(_: float, __: random.Random) -> list[float]:
    return [150.0]


def _bursty(ends: float, dice: random.Random) -> list[float]:
    return [burst + dice.random() * 2 for burst in range(150, int(ends) - 10, 600) for _ in range(300)]


PACES: Mapping[str, Callable[[float, random.Random], list[float]]] = {
    "chatty": _chatty,  # one line a second
    "sparse": _sparse,  # one line in one to five minutes
    "silent": _silent,  # one line at the beginning
    "bursty": _bursty,  # three hundred lines at a time, every ten minutes
}
"""The ways to log, mostly after minutes in which the instance starts; the last line is written at the job's end."""


# Actions


def hour(client: str, pace: str, hosts: str, count: str) -> dict[str, Any]:
    """Wait, with logs, for jobs of about one hour, one after another, that end at different moments.

    Returns:
        For each job the calls, the seconds from the terminal state to the return, the lost lines and the doubled ones.
    """
    found: list[dict[str, Any]] = []
    for turn in range(int(count)):
        dice = random.Random(f"{pace}/{hosts}/{turn}")
        world = World(VirtualClock(), seed=dice.randrange(1 << 32))
        ends = HOUR + ENDS_OVER * ((turn + 0.5) / int(count) - 0.5)
        last = ends - dice.uniform(0.2, 3)  # the container ends before its end is visible
        moments = sorted([*(moment for moment in PACES[pace](ends, dice) if moment < last), last])
        world.add("hour", ends, moments, dice, int(hosts))
        follow = FOLLOWERS[client](world)
        with _shown() as lines:
            follow("hour")
        shown = lines()
        found.append(
            {
                "calls": world.calls.total(),
                "delay": world.now - world.ends["hour"],
                "missing": world.lines["hour"] - len(shown),
                "doubled": shown.total() - len(shown),
            }
        )
    return {name: [each[name] for each in found] for name in found[0]}


def log_lines(client: str, mode: str, count: str) -> dict[str, float]:
    """Show the lines of two hosts of a job that has ended (`ended`), or while it runs for some minutes (`60`).

    A job of one line comes first, so that modules and clients are loaded when the measurement begins.

    The lines are written to a file, as by a program whose output is kept. The data of the simulation is excluded from
    garbage collection, which would otherwise traverse it repeatedly at the client's expense.

    Returns:
        The missing and the doubled lines, the processor seconds without those of the simulation, and the memory in MB.
    """
    world = World(VirtualClock(), seed=1)
    follow = FOLLOWERS[client](world)
    world.add("first", 2, [1.0], random.Random(1))
    world.clock.advance(24 * HOUR)
    with contextlib.redirect_stdout(io.StringIO()):
        follow("first")
    each = int(count) // 2
    ended = mode == "ended"
    seconds = 600.0 if ended else 60.0 * int(mode)
    world.add("lines", seconds, [seconds * number / each for number in range(each)], random.Random(1), hosts=2)
    if ended:
        world.clock.advance(24 * HOUR)
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        cpu, memory = time.process_time() - world.own_cpu, clients.peak_mb()
        with contextlib.redirect_stdout(out):
            follow("lines")
            out.flush()
        cpu, memory = time.process_time() - world.own_cpu - cpu, clients.peak_mb() - memory
        out.seek(0)
        shown = Counter(_MARK.findall(out.read()))
    return {
        "missing": world.lines["lines"] - len(shown),
        "doubled": shown.total() - len(shown),
        "cpu_seconds": cpu,
        "memory_mb": memory,
    }


def many(client: str, count: str, seconds: str, faults: str) -> dict[str, Any]:
    """Wait for many running jobs, without logs, until the last one has ended.

    They were created one a second, the limit of AWS, and the last one when the wait begins.

    Args:
        client: the client that waits.
        count: the number of jobs.
        seconds: the time over which their ends are spread.
        faults: the share of calls that fail, from 0 to 1.

    Returns:
        The lag of each end that was seen, the calls by operation and those of the busiest minute, the number of
        throttled calls, the simulated seconds, those of the processor, and the memory in MB.
    """
    world = World(Turns(), seed=int(count), quotas=PUBLISHED_QUOTAS)
    world.inject(float(faults))
    dice = random.Random(count)
    for number in range(int(count)):
        world.add(f"fleet-{number:05d}", dice.uniform(1, float(seconds)), [], dice, created=number - float(count))
    lags: dict[str, float] = {}
    wait = WAITERS[client](world, lags)
    cpu, memory = time.process_time() - world.own_cpu, clients.peak_mb()
    wait()
    return {
        "lags": list(lags.values()),
        "calls": world.calls,
        "busiest_minute": max(by_minute(world.per_minute).values()),
        "throttled": world.throttled.total(),
        "seconds": world.now,
        "cpu_seconds": time.process_time() - world.own_cpu - cpu,
        "memory_mb": clients.peak_mb() - memory,
    }


def by_minute(calls: Mapping[tuple[str, int], int]) -> Counter[int]:
    """Return the calls of each minute, of all operations."""
    found: Counter[int] = Counter()
    for (_, minute), number in calls.items():
        found[minute] += number
    return found


def soak(client: str, count: str, seconds: str, faults: str) -> dict[str, Any]:
    """Follow many jobs with all their logs by one stream of events.

    Args:
        client: `processing`; there is no other client to compare.
        count: the number of jobs.
        seconds: the time over which their ends are spread.
        faults: the share of calls that fail, from 0 to 1.

    Returns:
        The missing and doubled lines, the missing and doubled ends, the lags of the ends, and the memory by simulated
        minute in MB.
    """
    processing = import_module(client)
    world = World(VirtualClock(), seed=5, quotas=PUBLISHED_QUOTAS)
    world.inject(float(faults))
    dice = random.Random(count)
    for number in range(int(count)):
        ends = dice.uniform(30, float(seconds))
        moments = sorted(dice.uniform(5, ends) for _ in range(dice.randint(0, 60)))
        world.add(f"soak-{number:04d}", ends, moments, dice)
    session = world.session()
    jobs = [processing.ProcessingJob(session, name) for name in world.ends]
    shown: Counter[tuple[str, str]] = Counter()
    ends_seen: Counter[str] = Counter()
    lags: list[float] = []
    memory: list[float] = []
    for event in processing.events(jobs, logs=True):
        if hasattr(event, "message"):
            shown[event.job_name, event.message] += 1
        elif event.status == "Completed":
            ends_seen[event.job_name] += 1
            lags.append(world.now - world.ends[event.job_name])
        while world.now > 60 * len(memory):
            memory.append(resident_mb())
    return {
        "lines": world.lines.total(),
        "lines_missing": world.lines.total() - len(shown),
        "lines_doubled": shown.total() - len(shown),
        "ends_missing": len(world.ends) - len(ends_seen),
        "ends_doubled": ends_seen.total() - len(ends_seen),
        "lags": lags,
        "memory_mb": memory,
        "calls": world.calls,
        "throttled": world.throttled.total(),
        "seconds": world.now,
    }


def resident_mb() -> float:
    """Return the present memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[], Counter[str]]]:
    """Capture the printed output; the yielded function counts each of a job's lines in it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        yield lambda: Counter(_MARK.findall(out.getvalue()))


# Clients


def _ours(world: World) -> Callable[[str], object]:
    processing = import_module("processing")
    session = world.session()
    return lambda name: processing.ProcessingJob(session, name).wait()


def _ours_told(world: World) -> Callable[[str], object]:
    processing = import_module("processing")
    session = world.session(event_source=Events(world))
    return lambda name: processing.ProcessingJob(session, name).wait()


class Events:
    """An event source that reports each job's end once, as late as EventBridge and a queue under a constant long poll.

    Args:
        world: the world of the jobs.
    """

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        dice = random.Random("events")
        self._due = {name: end + dice.uniform(*EVENT_DELAY) for name, end in world.ends.items()}

    def wait(self, condition: threading.Condition, seconds: float) -> list[str]:
        """Wait at most until the next event, and return the jobs with events."""
        until = min(self._due.values(), default=math.inf) - self._clock.monotonic()
        self._clock.wait(condition, min(seconds, max(0.0, until)))
        told = [name for name, moment in self._due.items() if moment <= self._clock.monotonic()]
        for name in told:
            del self._due[name]
        return told


def _theirs(world: World) -> Callable[[str], object]:
    session = sagemaker_session(world)
    return lambda name: session.logs_for_processing_job(name, wait=True)


FOLLOWERS: Mapping[str, Callable[[World], Callable[[str], object]]] = {
    "processing": _ours,
    "processing with events": _ours_told,
    "sagemaker": _theirs,
}
"""By client, a factory of functions that wait for a job and show its lines."""


def _wait_for_many(world: World, lags: dict[str, float]) -> Callable[[], object]:
    processing = import_module("processing")
    session = world.session()
    jobs = [processing.ProcessingJob(session, name) for name in world.ends]

    def wait() -> None:
        for job in processing.as_completed(jobs):
            lags[job.name] = world.now - world.ends[job.name]

    return wait


def _wait_for_each(world: World, lags: dict[str, float]) -> Callable[[], object]:
    """Start a thread for each job, the only way of this client. Some threads end by errors of AWS."""
    session = sagemaker_session(world)
    clock = world.clock
    assert isinstance(clock, Turns)

    def wait(name: str) -> None:
        with contextlib.suppress(Exception):
            session.wait_for_processing_job(name)
            lags[name] = world.now - world.ends[name]

    def wait_for_all() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            clock.run([functools.partial(wait, name) for name in world.ends])

    return wait_for_all


WAITERS: Mapping[str, Callable[[World, dict[str, float]], Callable[[], object]]] = {
    "processing": _wait_for_many,
    "sagemaker": _wait_for_each,
}
"""By client, a factory of functions that wait for all jobs of a world and record the lag of each end."""


def sagemaker_session(world: World) -> Any:
    """Return a session of `sagemaker` 2.x in a world: its calls go there, and its time is the world's."""
    theirs = types.SimpleNamespace(**{**vars(time), "sleep": world.clock.sleep, "time": world.clock.time})
    for name in ("sagemaker.session", "botocore.endpoint"):
        vars(import_module(name))["time"] = theirs
    boto = world.boto_session()
    client = boto.client("sagemaker")
    return import_module("sagemaker.session").Session(boto, sagemaker_client=client, sagemaker_config={})


if __name__ == "__main__":
    name, action, *arguments = sys.argv[1:]
    print(json.dumps(globals()[action](name, *arguments)))
