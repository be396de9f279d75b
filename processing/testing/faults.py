"""Faults on the wire under real botocore clients, scripted or random.

```python
faults = FaultInjector(seed=7)
faults.on("CreateProcessingJob", "reset_after")  # the first call is carried out, but its answer is lost
faults.on("*", "throttle", probability=0.05)
session = LocalSession(transport=faults.wrap)
```

Nothing above the wire is replaced. botocore raises and parses what it would on a bad network.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs

from processing._utils.validation import CLOCK, FUNCTION, INTEGER, SECONDS, TEXT, Kind, integer, number, one_of, require
from processing.testing.refusals import is_refusal, refusal
from processing.testing.wire import operation_of, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.testing.clock import VirtualClock
    from processing.testing.wire import Transport

FaultKind: TypeAlias = Literal[
    "throttle",  # refused for too many calls
    "error500",  # an internal failure, before the service did anything
    "error503",
    "denied",  # refused for missing permission
    "expired",  # refused for expired credentials
    "skew",  # refused because the signature's time is not the server's, which the Date header has
    "unreachable",  # no connection, or no such host
    "reset_before",  # the connection breaks before the service sees the request
    "reset_after",  # the service carries the request out, then the connection breaks
    "hang",  # no answer, and the service does not see the request
    "timeout_after",  # the service carries the request out, but its answer never arrives
    "slow_body",  # carried out; the answer arrives whole, but slowly
    "truncate",  # carried out; half of the answer arrives, with the Content-Length of the whole
    "double",  # carried out twice, as by a proxy that repeats requests; the second answer arrives
]
"""The kinds of faults. Refusals, and connections that break before the request, have no effect on the service."""

# Defaults: a hang lasts as long as botocore's read timeout, and a slow body half as long. A clock is 10 minutes off.
_SECONDS: Final[Mapping[str, float]] = {"hang": 60.0, "timeout_after": 60.0, "slow_body": 30.0, "skew": 600.0}


@attrs.frozen
class Fault:
    """One fault of one call.

    Args:
        kind: the kind of fault.
        seconds: its duration. For `skew`, the seconds by which the server's clock is ahead.
    """

    kind: FaultKind
    seconds: float


_OPERATION = Kind(
    "as AWS spells it, such as PutObject, or *",
    lambda value: TEXT.accepts(value) and (value == "*" or value[:1].isupper()),
)


@attrs.define
class _FaultRule:
    """A fault for some of the calls to an operation."""

    operation: str
    fault: Fault
    times: int | None
    probability: float
    skip: int
    when: Callable[[], bool]

    def applies_to(self, operation: str) -> bool:
        """Return whether the rule is in effect for a call now."""
        return self.operation in {"*", operation} and self.times != 0 and self.when()


class FaultInjector:
    """Source of faults for calls. Safe for threads.

    The same seed makes the same faults for the same order of calls.

    Args:
        seed: the seed for random faults.
        clock: the clock that slow faults move on, and the time for the Date header of refusals. Without a clock, slow
            faults take no time in process.

    Attributes:
        calls: the operations of all calls, in order, failed calls included.
        injected: the operation and the kind of each fault, in order.
    """

    def __init__(self, seed: int = 0, *, clock: VirtualClock | None = None) -> None:
        require("seed", seed, INTEGER)
        require("clock", clock, CLOCK, optional=True)
        self.clock = clock
        self.calls: list[str] = []
        self.injected: list[tuple[str, FaultKind]] = []
        self._rules: list[_FaultRule] = []
        self._random = random.Random(seed)  # noqa: S311 - randomness in a test, not a secret
        self._lock = threading.Lock()

    def on(
        self,
        operation: str,
        kind: FaultKind,
        *,
        times: int | None = None,
        probability: float | None = None,
        skip: int = 0,
        seconds: float | None = None,
        when: Callable[[], bool] = lambda: True,
    ) -> FaultInjector:
        """Add a fault, and return the injector itself. If several apply to a call, the first one that fires counts.

        Args:
            operation: the operation as AWS spells it, such as `PutObject`, or `*` for all.
            kind: the kind of fault.
            times: the number of faults. The default is 1, or no limit if there is a probability.
            probability: the probability of the fault at each call, from 0 to 1.
            skip: the number of calls of the operation that pass first.
            seconds: the duration of `hang` and `timeout_after` (60 by default) and of `slow_body` (30). For `skew`, the
                seconds by which the server's clock is ahead (600), or behind if negative.
            when: a function that decides at each call whether the fault applies. Calls to which it does not apply do
                not count for `skip` either.

        Raises:
            ConfigurationError: an argument has a wrong type or value; the message names it.
        """
        require("kind", kind, one_of(*get_args(FaultKind)))
        require("operation", operation, _OPERATION)
        require("probability", probability, number(at_least=0, at_most=1), optional=True)
        require("times", times, integer(at_least=1), optional=True)
        require("skip", skip, integer())
        require("seconds", seconds, number() if kind == "skew" else SECONDS, optional=True)
        require("when", when, FUNCTION)
        if times is None and probability is None:
            times = 1
        with self._lock:
            fault = Fault(kind, _SECONDS.get(kind, 0.0) if seconds is None else seconds)
            self._rules.append(
                _FaultRule(operation, fault, times, 1.0 if probability is None else probability, skip, when)
            )
        return self

    def count(self) -> Counter[str]:
        """Return the number of calls of each operation."""
        with self._lock:
            return Counter(self.calls)

    def wrap(self, transport: Transport) -> Transport:
        """Return a transport that passes calls without a fault on to `transport`."""
        return _FaultyTransport(self, transport)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._rules.clear()

    def choose(self, operation: str) -> Fault | None:
        """Record a call, and return its fault, or None."""
        with self._lock:
            self.calls.append(operation)
            chosen: Fault | None = None
            for rule in self._rules:
                if not rule.applies_to(operation):
                    continue
                if rule.skip:
                    rule.skip -= 1
                elif chosen is None and self._random.random() < rule.probability:
                    chosen = rule.fault
                    if rule.times is not None:
                        rule.times -= 1
            if chosen:
                self.injected.append((operation, chosen.kind))
            return chosen


class _FaultyTransport:
    """A transport with faults in process. It raises the errors of a real connection, and time is virtual."""

    def __init__(self, injector: FaultInjector, transport: Transport) -> None:
        self._injector = injector
        self._transport = transport

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        fault = self._injector.choose(operation_of(request))
        if fault is None:
            return self._transport.send(request)
        if is_refusal(fault.kind):
            return respond(request, *refusal(fault.kind, request, self._server_time(fault)))
        if fault.kind in {"reset_after", "timeout_after", "double"}:
            self._carry_out(request)
        if fault.kind in {"hang", "timeout_after", "slow_body"} and self._injector.clock:
            self._injector.clock.advance(fault.seconds)
        if fault.kind == "truncate":
            return _truncated(request, self._transport.send(request))
        if fault.kind in {"double", "slow_body"}:
            return self._transport.send(request)
        raise _connection_error(fault.kind, request)

    def _carry_out(self, request: AWSPreparedRequest) -> None:
        # Reading the answer to its end makes sure that the service is done. The request may be sent once more.
        self._transport.send(request).content  # noqa: B018 - a property that reads
        request.reset_stream()

    def _server_time(self, fault: Fault) -> float | None:
        clock = self._injector.clock
        ahead = fault.seconds if fault.kind == "skew" else 0.0
        if clock:
            return clock.time() + ahead
        return time.time() + ahead if ahead else None


def _connection_error(kind: FaultKind, request: AWSPreparedRequest) -> Exception:
    """Return botocore's error for a connection that breaks."""
    from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

    if kind == "unreachable":
        return EndpointConnectionError(endpoint_url=request.url, error="injected")
    if kind in {"hang", "timeout_after"}:
        return ReadTimeoutError(endpoint_url=request.url, error="injected")
    return ConnectionClosedError(endpoint_url=request.url, error=ConnectionResetError("injected"), request=request)


def _truncated(request: AWSPreparedRequest, answer: AWSResponse) -> AWSResponse:
    body = answer.content
    if request.method == "HEAD":  # its answer has no body to cut; Content-Length is the object's
        return answer
    headers = {**dict(answer.headers.items()), "Content-Length": str(len(body))}
    return respond(request, answer.status_code, headers, body[: len(body) // 2])
