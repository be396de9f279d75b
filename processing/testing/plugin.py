"""Fixtures for pytest: an engine for the test alone, a simulated AWS, a virtual clock, and faults for all of them.

In the `conftest.py` at the root of your tests:

```python
pytest_plugins = ["processing.testing.plugin"]
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from processing.local.session import LocalSession
    from processing.testing.clock import VirtualClock
    from processing.testing.endpoints import EndpointMaker
    from processing.testing.faults import FaultInjector
    from processing.testing.proxy import FaultyEndpoint
    from processing.testing.simulation import SimulatedAws
    from processing.testing.training import TrainingJobMaker


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
def processing_programs() -> Mapping[str, str]:
    """The modules that stand in for images in `processing_session`, by patterns of image URIs; none by default.

    Define a fixture of this name in your own `conftest.py` or test module to train and host models with your programs.
    """
    return {}


@pytest.fixture
def processing_session(
    tmp_path: Path, processing_faults: FaultInjector, processing_programs: Mapping[str, str]
) -> Iterator[LocalSession]:
    """A session on an embedded engine for the test alone, with short waits.

    Jobs and endpoints really run, in real time. At the end of the test, jobs that still run are stopped, and endpoints
    are deleted.
    """
    from processing.aws.retry import RetryPolicy
    from processing.local.session import LocalSession
    from processing.testing.endpoints import stop_all

    session = LocalSession(
        tmp_path / "processing-engine",
        tick=0.01,
        grace=1.0,
        programs=processing_programs,
        retry_policy=RetryPolicy(base=0.001, cap=0.01),
        transport=processing_faults.wrap,
    )
    yield session
    stop_all(session)


@pytest.fixture
def processing_endpoints(processing_session: LocalSession) -> EndpointMaker:
    """A maker of endpoints on `processing_session`."""
    from processing.testing.endpoints import EndpointMaker

    return EndpointMaker(processing_session)


@pytest.fixture
def processing_training_jobs(processing_session: LocalSession) -> TrainingJobMaker:
    """A maker of training jobs on `processing_session`."""
    from processing.testing.training import TrainingJobMaker

    return TrainingJobMaker(processing_session)


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
