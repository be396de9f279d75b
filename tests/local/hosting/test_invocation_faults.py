"""Faults on the wire between a client and an endpoint."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from processing import LocalSession
from processing.testing import FaultInjector, FaultKind, VirtualClock

CARRIED_OUT = {"reset_after": 1, "timeout_after": 1, "slow_body": 1, "truncate": 1, "double": 2}
"""The times that the program sees an invocation, for the faults with which it sees any."""
ANSWERED = {"slow_body", "double"}


def _count(hosting: Any) -> int:
    return int(hosting.invoke("shared", b"count"))


@pytest.mark.parametrize("kind", get_args(FaultKind))
def test_a_fault_is_seen_by_the_client_alone(shared: Any, kind: FaultKind) -> None:
    """The client has an error or the answer, the program sees the invocation as often as documented, and goes on."""
    faults = FaultInjector(clock=VirtualClock()).on("InvokeEndpoint", kind)
    session = LocalSession(shared.home, transport=faults.wrap)
    runtime: Any = session.boto_session.client("sagemaker-runtime")
    before = _count(shared)
    try:
        answer = runtime.invoke_endpoint(EndpointName="shared", Body=b"count")["Body"].read()
    except (ClientError, BotoCoreError):
        assert kind not in ANSWERED
    else:
        assert kind in ANSWERED | {"truncate"}
        assert int(answer or b"0") in {before + CARRIED_OUT[kind], 0}
    assert _count(shared) == before + CARRIED_OUT.get(kind, 0) + 1
    assert faults.injected == [("InvokeEndpoint", kind)]


def test_retries_of_a_client_reach_the_endpoint(shared: Any) -> None:
    """A client that retries gets its answer through refusals and broken connections."""
    from botocore.config import Config

    faults = FaultInjector().on("InvokeEndpoint", "error503").on("InvokeEndpoint", "reset_before")
    session = LocalSession(shared.home, transport=faults.wrap)
    patient = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    runtime: Any = session.boto_session.client("sagemaker-runtime", config=patient)
    assert runtime.invoke_endpoint(EndpointName="shared", Body=b"x")["Body"].read() == b"x"
    assert faults.count()["InvokeEndpoint"] == 3
