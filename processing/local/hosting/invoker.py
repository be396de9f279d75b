"""Invocations of endpoints: the choice of a variant, the call of its program, and the start of a host that has died."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError
from processing.local.hosting.connections import HostConnections
from processing.local.hosting.hosts import EndpointHosts, variants_by_name
from processing.local.hosting.program_client import Answer, Call, NotConnectedError, ProgramTimeoutError
from processing.local.stores.endpoints import FAILED, IN_SERVICE, UPDATING, EndpointState, EndpointStore, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.local.context import EngineContext

_PAUSE = 0.01
"""The seconds between two looks at a host that is starting or ending."""


class HostFailedError(Exception):
    """A host that does not start. The argument is the reason."""


class InvocationTarget(NamedTuple):
    """The part of an endpoint that an invocation reaches.

    Attributes:
        arn: the endpoint's ARN.
        variant: the chosen variant.
        state: the endpoint's state.
    """

    arn: str
    variant: Variant
    state: EndpointState


class EndpointInvoker:
    """Calls of the programs behind endpoints.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._store = EndpointStore(engine.home, f"arn:aws:sagemaker:{engine.region}:{engine.account}")
        self._hosts = EndpointHosts(engine, self._store)
        self._connections = HostConnections()
        self._random = random.SystemRandom()

    def target(self, endpoint: str, variant: str | None = None) -> InvocationTarget:
        """Return the variant for an invocation: the named one, or one by weight.

        Args:
            endpoint: the endpoint's name.
            variant: the variant's name; None for a choice by weight.

        Raises:
            ApiError: there is no such endpoint in service, or no such variant (`ValidationError`).
        """
        record = self._store.find(endpoint)
        state = None if record is None else EndpointState.of(record)
        if record is None or state is None or record.status not in {IN_SERVICE, UPDATING, FAILED} or not state.variants:
            status = "" if record is None else f" Its status is {record.status}."
            raise ApiError(
                "ValidationError", f"Endpoint {endpoint} of account {self._engine.account} not found.{status}"
            )
        if variant is not None:
            named = variants_by_name(state.variants).get(variant)
            if named is None:
                raise ApiError("ValidationError", f"Variant {variant} not found for endpoint {record.arn}.")
            return InvocationTarget(record.arn, named, state)
        weights = [each.weight for each in state.variants]
        if len(weights) == 1 or not any(weights):
            return InvocationTarget(record.arn, state.variants[0], state)
        return InvocationTarget(record.arn, self._random.choices(state.variants, weights)[0], state)

    def ask(self, endpoint: str, target: InvocationTarget, call: Call) -> tuple[Answer, InvocationTarget]:
        """Return the program's answer, and the target that gave it.

        Raises:
            ProgramError: the program did not answer.
            HostFailedError: the variant's host does not start.
            ApiError: the endpoint was deleted meanwhile.
        """
        attempts = _Attempts(self, endpoint, target, call)
        while True:
            try:
                return self._connections.ask(attempts.folder, attempts.call()), attempts.target
            except NotConnectedError:  # noqa: PERF203 - a second attempt, which is rare
                attempts.recover()

    @contextlib.contextmanager
    def stream(self, endpoint: str, target: InvocationTarget, call: Call) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Yield the head of the program's answer, and the pieces of its body as they arrive.

        Raises:
            ProgramError: the program did not answer.
            HostFailedError: the variant's host does not start.
            ApiError: the endpoint was deleted meanwhile.
        """
        attempts = _Attempts(self, endpoint, target, call)
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    answer = stack.enter_context(self._connections.stream(attempts.folder, attempts.call()))
                    break
                except NotConnectedError:
                    attempts.recover()
            yield answer

    def ensure_started(self, endpoint: str, variant: Variant) -> None:
        """Start the host of a variant if it has died. Return at once."""
        if self._hosts.end_of(variant) is not None:
            self._hosts.restart(endpoint, variant)

    def folder(self, variant: Variant) -> str:
        """Return the folder of a variant's host."""
        return self._hosts.folder(variant)

    def recover(self, endpoint: str, variant: Variant, started: set[int]) -> None:
        """Start a host again if it has died, else wait a moment, because it is starting or ending.

        Args:
            endpoint: the endpoint's name.
            variant: the variant whose host was not reached.
            started: the numbers of the hosts that this call has started; a further one is added.

        Raises:
            HostFailedError: the host has ended, and this call had started it.
        """
        reason = self._hosts.end_of(variant)
        if reason is None:
            time.sleep(_PAUSE)
        elif variant.job in started:
            raise HostFailedError(reason)
        else:
            made = self._hosts.restart(endpoint, variant)
            if made is not None:
                started.add(made.job)


class _Attempts:
    """The attempts of one call, which share its time."""

    def __init__(self, invoker: EndpointInvoker, endpoint: str, target: InvocationTarget, call: Call) -> None:
        self._invoker = invoker
        self._endpoint = endpoint
        self._name = target.variant.name
        self._call = call
        self._deadline = time.monotonic() + call.seconds
        self._started: set[int] = set()
        self.target = target

    @property
    def folder(self) -> str:
        """The folder of the host to ask."""
        return self._invoker.folder(self.target.variant)

    def call(self) -> Call:
        """Return the call with the time that is left."""
        return self._call._replace(seconds=max(0.0, self._deadline - time.monotonic()))

    def recover(self) -> None:
        """Find the host that serves the variant now, and start it if it has died.

        Raises:
            ProgramTimeoutError: the time of the call is over.
            HostFailedError: the host has ended, and this call had started it.
            ApiError: the endpoint was deleted meanwhile.
        """
        self._invoker.recover(self._endpoint, self.target.variant, self._started)
        try:
            self.target = self._invoker.target(self._endpoint, self._name)
        except ApiError:
            self.target = self._invoker.target(self._endpoint)  # an update has removed the variant
        # A host that is ending refuses a call at once, so no attempt looks at the time.
        if time.monotonic() >= self._deadline:
            raise ProgramTimeoutError("The program did not answer in time.")
