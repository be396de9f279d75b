"""Faults on the wire, by rule or by chance, under real botocore clients.

```python
faults = FaultInjector(seed=7)
faults.on("CreateProcessingJob", "reset_after")  # the first one is carried out, and its answer lost
faults.on("*", "throttle", probability=0.05)
session = LocalSession(transport=faults.wrap)
```

Nothing is pretended above the wire: what botocore raises or parses is what it would on a bad network.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs

from processing.testing.refusals import is_refusal, refusal
from processing.testing.wire import operation_of, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.testing.clock import VirtualClock
    from processing.testing.wire import Transport

FaultKind: TypeAlias = Literal[
    "throttle",  # refused: too many
    "error500",  # failed, and nothing was done
    "error503",
    "denied",  # refused: no permission
    "expired",  # refused: the credentials have run out
    "skew",  # refused: the signature's time is not the server's, whose Date header says so
    "unreachable",  # no connection, or no such host
    "reset_before",  # the connection broke before the service saw the request
    "reset_after",  # the service carried it out, then the connection broke
    "hang",  # nothing came back, and nothing was done
    "timeout_after",  # the service carried it out, and its answer never came
    "slow_body",  # carried out; the answer came whole, but slowly
    "truncate",  # carried out; half of the answer came, under its whole Content-Length
    "double",  # carried out twice, as by a proxy that sends again what it has sent; the second answer came
]
"""What can go wrong. A refusal, or what breaks before, leaves no trace with the service."""

_SECONDS: Final[Mapping[str, float]] = {"hang": 60.0, "timeout_after": 60.0, "slow_body": 30.0, "skew": 600.0}


@attrs.frozen
class Fault:
    """Something that is to go wrong.

    Args:
        kind: what.
        seconds: how long it takes; of `skew`, how far the server's clock is ahead.
    """

    kind: FaultKind
    seconds: float


@attrs.define
class _FaultRule:
    operation: str
    fault: Fault
    times: int | None
    probability: float
    skip: int
    when: Callable[[], bool]

    def applies_to(self, operation: str) -> bool:
        return self.operation in {"*", operation} and self.times != 0 and self.when()


class FaultInjector:
    """Makes calls fail. Safe for threads; the same seed makes the same faults for the same order of calls.

    Args:
        seed: for faults by chance.
        clock: moved on by what takes long, and read for the Date header of refusals. Without one what takes long
            takes no time in process.

    Attributes:
        calls: the operations that were asked for, in order, those that failed too.
        injected: the operation and the kind of each fault, in order.
    """

    def __init__(self, seed: int = 0, *, clock: VirtualClock | None = None) -> None:
        self.clock = clock
        self.calls: list[str] = []
        self.injected: list[tuple[str, FaultKind]] = []
        self._rules: list[_FaultRule] = []
        self._random = random.Random(seed)  # noqa: S311 - chance in a test, not a secret
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
        """Plan a fault, and return the injector itself. Of several plans for a call the first one that fires counts.

        Args:
            operation: as AWS spells it, such as `PutObject`; `*` for every one.
            kind: what goes wrong.
            times: how often; once where neither this nor a probability is given.
            probability: the chance of it at each call, from 0 to 1.
            skip: calls of the operation that are left alone first.
            seconds: how long `hang` and `timeout_after` (60 by default) and `slow_body` (30) take; of `skew`, how far
                the server's clock is ahead (600), or behind where negative.
            when: says at each call whether the rule counts; a call for which it does not is not skipped either.

        Raises:
            ValueError: there is no such kind, or the rule would never fire.
        """
        if kind not in get_args(FaultKind):
            raise ValueError(f"kind: must be one of {', '.join(get_args(FaultKind))}, not {kind!r}")
        if operation != "*" and not operation[:1].isupper():
            raise ValueError(f"operation: must be as AWS spells it, such as PutObject, or *, not {operation!r}")
        if probability is not None and not 0 <= probability <= 1:
            raise ValueError(f"probability: must be between 0 and 1, not {probability!r}")
        _check_not_below("times", times, 1)
        _check_not_below("skip", skip, 0)
        _check_not_below("seconds", None if kind == "skew" else seconds, 0)
        if not callable(when):
            raise TypeError(f"when: must be a function without arguments, not {when!r}")
        if times is None and probability is None:
            times = 1
        with self._lock:
            fault = Fault(kind, _SECONDS.get(kind, 0.0) if seconds is None else seconds)
            self._rules.append(
                _FaultRule(operation, fault, times, 1.0 if probability is None else probability, skip, when)
            )
        return self

    def count(self) -> Counter[str]:
        """Return how often each operation was asked for."""
        with self._lock:
            return Counter(self.calls)

    def wrap(self, transport: Transport) -> Transport:
        """Return a transport that hands what does not fail on to `transport`."""
        return _FaultyTransport(self, transport)

    def clear(self) -> None:
        """Let nothing go wrong any more, until the next rule."""
        with self._lock:
            self._rules.clear()

    def choose(self, operation: str) -> Fault | None:
        """Note a call, and return what is to go wrong with it."""
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
    """Lets things go wrong in process: what a real connection would raise is raised, and time is virtual."""

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
        # The answer is read to its end: the service is done with the request. It may be sent once more.
        self._transport.send(request).content  # noqa: B018 - a property that reads
        request.reset_stream()

    def _server_time(self, fault: Fault) -> float | None:
        clock = self._injector.clock
        ahead = fault.seconds if fault.kind == "skew" else 0.0
        if clock:
            return clock.time() + ahead
        return time.time() + ahead if ahead else None


def _check_not_below(name: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise ValueError(f"{name}: must be at least {least}, not {value!r}")


def _connection_error(kind: FaultKind, request: AWSPreparedRequest) -> Exception:
    """Return what botocore raises where a connection breaks."""
    from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

    if kind == "unreachable":
        return EndpointConnectionError(endpoint_url=request.url, error="injected")
    if kind in {"hang", "timeout_after"}:
        return ReadTimeoutError(endpoint_url=request.url, error="injected")
    return ConnectionClosedError(endpoint_url=request.url, error=ConnectionResetError("injected"), request=request)


def _truncated(request: AWSPreparedRequest, answer: AWSResponse) -> AWSResponse:
    body = answer.content
    if request.method == "HEAD":  # it has no body to be cut; its length is that of the object
        return answer
    headers = {**dict(answer.headers.items()), "Content-Length": str(len(body))}
    return respond(request, answer.status_code, headers, body[: len(body) // 2])
