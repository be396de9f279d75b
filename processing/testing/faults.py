"""Faults on the wire, by plan or by chance, under real botocore clients.

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
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import attrs

from processing.testing.wire import operation_of, protocol_of, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.testing.wire import Transport

FaultKind: TypeAlias = Literal[
    "throttle",  # refused: too many
    "error500",  # failed, and nothing was done
    "error503",
    "denied",  # refused: no permission
    "unreachable",  # no connection, or no such host
    "reset_before",  # the connection broke before the service saw the request
    "reset_after",  # the service carried it out, then the connection broke
    "timeout_after",  # the service carried it out, and its answer never came
    "truncate",  # carried out; half of the answer came, under its whole Content-Length
]


@attrs.define
class _Plan:
    operation: str
    kind: FaultKind
    times: int | None
    probability: float
    skip: int

    def covers(self, operation: str) -> bool:
        return self.operation in {"*", operation} and self.times != 0


class FaultInjector:
    """Makes calls fail. Safe for threads; the same seed makes the same faults for the same order of calls.

    Attributes:
        calls: the operations that were asked for, in order, those that failed too.
        injected: the operation and the kind of each fault, in order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.calls: list[str] = []
        self.injected: list[tuple[str, FaultKind]] = []
        self._plans: list[_Plan] = []
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
    ) -> FaultInjector:
        """Plan a fault, and return the injector itself. Of several plans for a call the first one that fires counts.

        Args:
            operation: as AWS spells it, such as `PutObject`; `*` for every one.
            kind: what goes wrong.
            times: how often; once where neither this nor a probability is given.
            probability: the chance of it at each call, from 0 to 1.
            skip: calls of the operation that are left alone first.

        Raises:
            ValueError: there is no such kind.
        """
        if kind not in get_args(FaultKind):
            raise ValueError(f"kind: must be one of {', '.join(get_args(FaultKind))}, not {kind!r}")
        if times is None and probability is None:
            times = 1
        with self._lock:
            self._plans.append(_Plan(operation, kind, times, 1.0 if probability is None else probability, skip))
        return self

    def count(self) -> Counter[str]:
        """Return how often each operation was asked for."""
        with self._lock:
            return Counter(self.calls)

    def wrap(self, transport: Transport) -> Transport:
        """Return a transport that hands what does not fail on to `transport`."""
        return _FaultyTransport(self, transport)

    def choose(self, operation: str) -> FaultKind | None:
        """Note a call, and return what is to go wrong with it."""
        with self._lock:
            self.calls.append(operation)
            chosen: FaultKind | None = None
            for plan in self._plans:
                if not plan.covers(operation):
                    continue
                if plan.skip:
                    plan.skip -= 1
                elif chosen is None and self._random.random() < plan.probability:
                    chosen = plan.kind
                    if plan.times is not None:
                        plan.times -= 1
            if chosen:
                self.injected.append((operation, chosen))
            return chosen


class _FaultyTransport:
    def __init__(self, injector: FaultInjector, transport: Transport) -> None:
        self._injector = injector
        self._transport = transport

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        kind = self._injector.choose(operation_of(request))
        if kind is None:
            return self._transport.send(request)
        return _FAULTS[kind](self._transport, request)


def _refusal(status: int, code: str, message: str) -> Callable[[Transport, AWSPreparedRequest], AWSResponse]:
    def refuse(_: Transport, request: AWSPreparedRequest) -> AWSResponse:
        headers, body = _error_body(request, code, message)
        return respond(request, status, headers, body)

    return refuse


def _error_body(request: AWSPreparedRequest, code: str, message: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an error in the protocol that the request was made in."""
    if request.method == "HEAD":
        return {}, b""
    protocol = protocol_of(request)
    if protocol == "json":
        return {"Content-Type": "application/x-amz-json-1.1"}, f'{{"__type":"{code}","message":"{message}"}}'.encode()
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    whole = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>" if protocol == "query" else error
    return {"Content-Type": "text/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>{whole}'.encode()


def _throttle(transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
    if protocol_of(request) == "rest-xml":
        return _refusal(503, "SlowDown", "Please reduce your request rate.")(transport, request)
    return _refusal(400, "ThrottlingException", "Rate exceeded")(transport, request)


def _denied(transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
    if protocol_of(request) == "json":
        return _refusal(400, "AccessDeniedException", "Not authorized.")(transport, request)
    return _refusal(403, "AccessDenied", "Access Denied")(transport, request)


def _unreachable(_: Transport, request: AWSPreparedRequest) -> AWSResponse:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url=request.url, error="injected")


def _reset_before(_: Transport, request: AWSPreparedRequest) -> AWSResponse:
    from botocore.exceptions import ConnectionClosedError

    raise ConnectionClosedError(endpoint_url=request.url, error=ConnectionResetError("injected"), request=request)


def _reset_after(transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
    transport.send(request).content  # noqa: B018 - reads the answer to its end: the service is done with the request
    return _reset_before(transport, request)


def _timeout_after(transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
    from botocore.exceptions import ReadTimeoutError

    transport.send(request).content  # noqa: B018 - as above
    raise ReadTimeoutError(endpoint_url=request.url, error="injected")


def _truncate(transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
    answer = transport.send(request)
    body = answer.content
    if request.method == "HEAD":  # it has no body to be cut; its length is that of the object
        return answer
    headers = {**dict(answer.headers.items()), "Content-Length": str(len(body))}
    return respond(request, answer.status_code, headers, body[: len(body) // 2])


_FAULTS: dict[FaultKind, Callable[[Transport, AWSPreparedRequest], AWSResponse]] = {
    "throttle": _throttle,
    "error500": _refusal(500, "InternalFailure", "The request processing has failed."),
    "error503": _refusal(503, "ServiceUnavailable", "The service is unavailable."),
    "denied": _denied,
    "unreachable": _unreachable,
    "reset_before": _reset_before,
    "reset_after": _reset_after,
    "timeout_after": _timeout_after,
    "truncate": _truncate,
}
