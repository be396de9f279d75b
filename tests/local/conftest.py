"""The engine's services through each of its transports: the same tests, the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession


@pytest.fixture(params=["in process"])
def client(request: pytest.FixtureRequest, local_session: LocalSession) -> Callable[..., Any]:
    """Makes boto3 clients of one engine, through each of its transports: `client("s3")`."""
    assert request.param == "in process"
    make: Callable[..., Any] = local_session.boto_session.client
    return make
