"""An S3 to stage to: moto's, in this process, with every request on the wire seen and, where wanted, spoilt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import boto3
import moto
import pytest
from moto.core.models import botocore_stubber

from processing.retrying import RetryPolicy
from processing.session import Session
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "a-users-bucket"


class Moto:
    """moto as a transport."""

    def send(self, request: Any) -> Any:
        """Answer a request."""
        return botocore_stubber("before-send.s3", request)


class Wire:
    """What goes over the wire. `faults` spoils it by kind, `instead` puts something in the place of an answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults = FaultInjector()
        self._transport = self.faults.wrap(Moto())
        self._instead: list[tuple[str, Callable[[Any], Any]]] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> list[str]:
        """The operations, in the order in which they were sent."""
        return [operation for operation, _ in self.requests]

    def instead(self, operation: str, act: Callable[[Any], Any], times: int = 1) -> None:
        """Let the next requests of an operation be answered by what `act` returns or raises; None is moto's answer."""
        self._instead += [(operation, act)] * times

    def error(self, operation: str, status: int, code: str, times: int = 1, **headers: str) -> None:
        """Let the next requests of an operation be answered with an error of S3's."""
        error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        body = b"" if operation.startswith("Head") else error
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.instead(operation, lambda request: respond(request, status, sent, body), times)

    def hook(self, request: Any, event_name: str, **_rest: object) -> Any:
        """Answer a request: botocore calls it before sending."""
        operation = event_name.rpartition(".")[2]
        with self._lock:
            headers = {name.lower(): _text(value) for name, value in request.headers.items()}
            self.requests.append((operation, headers))
            found = next((planned for planned in self._instead if planned[0] == operation), None)
            if found is not None:
                self._instead.remove(found)
        answer = found[1](request) if found is not None else None
        return answer if answer is not None else self._transport.send(request)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def wire() -> Wire:
    """What the test's session sends."""
    return Wire()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, wire: Wire) -> Iterator[Session]:
    """A session whose S3 is moto's, with a bucket of the user's in it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with moto.mock_aws():
        boto_session = boto3.Session(region_name="eu-west-1")
        where: Any = {"LocationConstraint": "eu-west-1"}
        boto_session.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
        # botocore calls every handler of the event: moto's own would answer, and carry out, a second time.
        boto_session.events.unregister("before-send", cast("Any", botocore_stubber))
        boto_session.events.register("before-send", wire.hook)
        policy = RetryPolicy(attempts=3)
        yield Session(boto_session, default_bucket=BUCKET, clock=VirtualClock(), retry_policy=policy)
