"""Fixtures for pytest: an engine for the test alone, a simulated AWS, a virtual clock, and faults for all of them.

In the `conftest.py` at the root of your tests:

```python
pytest_plugins = ["processing.testing.plugin"]
```
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processing.local.session import LocalSession
    from processing.testing.clock import VirtualClock
    from processing.testing.faults import FaultInjector
    from processing.testing.proxy import FaultyEndpoint
    from processing.testing.simulation import SimulatedAws


@pytest.fixture
def processing_clock() -> VirtualClock:
    """A virtual clock, which `processing_aws` shares."""
    from processing.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def processing_faults(processing_clock: VirtualClock) -> FaultInjector:
    """The faults of calls to `processing_session`, `processing_aws` and `processing_fault_proxy`."""
    from processing.testing.faults import FaultInjector

    return FaultInjector(clock=processing_clock)


@pytest.fixture
def processing_session(tmp_path: Path, processing_faults: FaultInjector) -> Iterator[LocalSession]:
    """A session on an embedded engine for the test alone, with short waits.

    Jobs really run, in real time. Jobs that still run at the end of the test are stopped.
    """
    from processing.aws.retry import RetryPolicy
    from processing.local.session import LocalSession

    session = LocalSession(
        tmp_path / "processing-engine",
        tick=0.01,
        grace=1.0,
        retry_policy=RetryPolicy(base=0.001, cap=0.01),
        transport=processing_faults.wrap,
    )
    yield session
    _stop_all(session)


@pytest.fixture
def processing_aws(processing_clock: VirtualClock, processing_faults: FaultInjector) -> SimulatedAws:
    """SageMaker Processing and CloudWatch Logs, simulated on `processing_clock`, without quotas."""
    from processing.testing.simulation import SimulatedAws

    return SimulatedAws(processing_clock, faults=processing_faults)


@pytest.fixture
def processing_fault_proxy(
    processing_session: LocalSession, processing_faults: FaultInjector
) -> Iterator[FaultyEndpoint]:
    """The engine of `processing_session` over HTTP, behind `processing_faults`, for any client."""
    from processing.local.transports.server import Server
    from processing.testing.proxy import FaultProxy, FaultyEndpoint

    with Server(processing_session.engine) as server, FaultProxy(processing_faults, server.endpoint) as proxy:
        yield FaultyEndpoint(proxy.endpoint, {**server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint})


def _stop_all(session: LocalSession) -> None:
    """Stop the running jobs. The calls go to the engine directly, without the test's faults."""
    from processing.local.errors import ApiError

    handle = session.engine.handle
    running = {"StatusEquals": "InProgress"}
    while jobs := handle("sagemaker", "ListProcessingJobs", running)["ProcessingJobSummaries"]:
        for job in jobs:
            with contextlib.suppress(ApiError):  # the job has ended meanwhile
                handle("sagemaker", "StopProcessingJob", {"ProcessingJobName": job["ProcessingJobName"]})
