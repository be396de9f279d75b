"""The submission of 150 jobs against a create quota of ten a second, on virtual time.

`sagemaker` 2.x is measured with a thread for each job, and with one job after another. The bucket of the simulated
server holds the calls of one second, so the ideal time is 14 s.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import clients
import watchers
from botocore.exceptions import ClientError
from figures import Figure, finish
from turns import Turns

from processing.testing.clock import VirtualClock

JOBS = 150
QUOTA = 10.0
IDEAL = (JOBS - QUOTA) / QUOTA


def submit(client: str, way: str) -> dict[str, Any]:
    """Create the jobs, and return their number, the calls, the refused calls, and the seconds.

    Args:
        client: `processing` or `sagemaker`.
        way: for ours `rate` (given) or `adaptive`; for the other `threads` or `loop`.
    """
    world = watchers.World(Turns() if way == "threads" else VirtualClock(), quotas={"CreateProcessingJob": QUOTA})
    WAYS[client](world, way)
    operation = "CreateProcessingJob"
    found = world.client("sagemaker").get_paginator("list_processing_jobs").paginate(MaxResults=100)
    created = sum(len(page["ProcessingJobSummaries"]) for page in found)
    calls, refused = world.calls[operation], world.throttled[operation]
    return {"created": created, "calls": calls, "refused": refused, "seconds": world.now}


def _ours(world: watchers.World, way: str) -> None:
    processing = import_module("processing")
    session = world.session(default_bucket=clients.BUCKET)
    session.client("s3").create_bucket(Bucket=clients.BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "prep.py")
        script.write_text("print('hello')")
        processor = processing.ScriptProcessor(
            clients.ROLE, "image", ["python3"], 1, "ml.m5.large", sagemaker_session=session
        )
        runs = [{"code": script, "arguments": [str(number)]} for number in range(JOBS)]
        processing.submit_all(processor, runs, name="bench", rate=QUOTA if way == "rate" else None, quiet=True)


def _theirs(world: watchers.World, way: str) -> None:
    logging.disable()
    session = watchers.sagemaker_session(world)
    processor = import_module("sagemaker.processing").Processor(
        role=clients.ROLE, image_uri="image", instance_count=1, instance_type="ml.m5.large", sagemaker_session=session
    )

    def run(number: int) -> None:
        with contextlib.suppress(ClientError):  # refused permanently: the others are submitted all the same
            processor.run(job_name=f"bench-{number}", wait=False, logs=False)

    if way == "threads":
        assert isinstance(world.clock, Turns)
        world.clock.run([functools.partial(run, number) for number in range(JOBS)])
    else:
        for number in range(JOBS):
            run(number)


WAYS = {"processing": _ours, "sagemaker": _theirs}


def measured(python: Path | str, client: str, way: str) -> dict[str, Any]:
    found = watchers.watch(python, client, "submit", way, script=__file__)
    print(
        f"{client:<10} {way:<8}: {found['created']} of {JOBS} created, {found['calls']} calls, "
        f"{found['refused']} refused, {found['seconds']:.1f} s"
    )
    return found


def main() -> None:
    rate, adaptive = (measured(sys.executable, "processing", way) for way in ("rate", "adaptive"))
    threads, loop = (measured(clients.SAGEMAKER_2, "sagemaker", way) for way in ("threads", "loop"))
    note = ", ".join(
        f"{way}: {found['created']} created, {found['calls']} calls, {found['seconds']:.1f} s"
        for way, found in (("sagemaker 2.x in threads", threads), ("in a loop", loop))
    )
    what = f"{JOBS} jobs at {QUOTA:g} a second"
    finish(
        [
            Figure(f"{what}: not created", JOBS - rate["created"], 0, note=note),
            Figure(f"{what}: time against the ideal", rate["seconds"] / IDEAL, 1.02),
            Figure(f"{what}: calls refused", rate["refused"], 0),
            Figure(f"{what}, rate not known: not created", JOBS - adaptive["created"], 0),
            Figure(f"{what}, rate not known: calls for each job", adaptive["calls"] / JOBS, 1.1),
            Figure(f"{what}, rate not known: time against the ideal", adaptive["seconds"] / IDEAL, 3),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, action, *arguments = sys.argv[1:]
        print(json.dumps(globals()[action](name, *arguments)))
    else:
        main()
