"""Live Tail: a session that streams the new events of log groups, once a second, for at most three hours."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from processing.clock import SYSTEM_CLOCK
from processing.local.errors import ApiError
from processing.local.protocols.event_stream import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from processing.clock import Clock
    from processing.local.stores.logs import LogStore

PERIOD = 1.0
"""Seconds between updates."""
SAMPLE = 500
"""Limit for the events of an update. CloudWatch samples larger updates, too."""
LONGEST = 3 * 3600.0
"""Seconds after which a session ends."""


class LiveTail(Events):
    """A Live Tail session. It contains only events that are written after its start.

    Args:
        store: the log store.
        account: the account's number, which is part of the groups' identifiers.
        params: the parameters of StartLiveTail.
        groups: the names of the log groups.
        matches: a predicate for messages, or None for all messages.
        clock: the clock that ends the session.
        wait: a function that waits for a number of seconds or until the session is closed. By default it waits in real
            time.
    """

    def __init__(
        self,
        store: LogStore,
        account: str,
        params: Mapping[str, Any],
        groups: Sequence[str],
        matches: Callable[[str], bool] | None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._store = store
        self._account = account
        self._params = params
        self._groups = groups
        self._matches = matches
        self._closed = threading.Event()
        self._clock = clock
        self._wait = self._closed.wait if wait is None else wait
        self._last_id = store.last_id()
        self._began = clock.monotonic()
        self._updates = -1

    def __next__(self) -> Mapping[str, Any]:
        """Return the start of the session, then an update every second.

        Raises:
            ApiError: the session has lasted three hours (`SessionTimeoutException`).
        """
        self._updates += 1
        if self._updates > 1:
            self._wait(max(0.0, self._began + (self._updates - 1) * PERIOD - self._clock.monotonic()))
        if self._closed.is_set():
            raise StopIteration
        if self._updates == 0:
            return {"sessionStart": self._start()}
        now = self._clock.monotonic()
        if now - self._began >= LONGEST:
            raise ApiError("SessionTimeoutException", "The session has timed out after three hours.")
        # A client that pauses gets one update for the pause, instead of one for each second.
        self._updates = max(self._updates, int((now - self._began) / PERIOD) + 1)
        return {"sessionUpdate": self._update()}

    def close(self) -> None:
        """End the session, even while it waits."""
        self._closed.set()

    def _start(self) -> dict[str, Any]:
        return {
            "requestId": str(uuid.uuid4()),
            "sessionId": str(uuid.uuid4()),
            "logGroupIdentifiers": self._params["logGroupIdentifiers"],
            "logStreamNames": self._params.get("logStreamNames", []),
            "logStreamNamePrefixes": self._params.get("logStreamNamePrefixes", []),
            "logEventFilterPattern": self._params.get("logEventFilterPattern", ""),
        }

    def _update(self) -> dict[str, Any]:
        events, sampled = downsample(self._new_events(), SAMPLE)
        return {"sessionMetadata": {"sampled": sampled}, "sessionResults": events}

    def _new_events(self) -> Iterable[dict[str, Any]]:
        streams = self._params.get("logStreamNames", ())
        prefixes = self._params.get("logStreamNamePrefixes", ())
        after, self._last_id = self._last_id, max(self._last_id, self._store.last_id())
        written = self._store.events_between(after, self._last_id, self._groups, streams=streams, prefixes=prefixes)
        for group, event in written:
            if self._matches is None or self._matches(event.message):
                yield {
                    "logStreamName": event.stream,
                    "logGroupIdentifier": f"{self._account}:{group}",
                    "message": event.message,
                    "timestamp": event.timestamp,
                    "ingestionTime": event.ingestion,
                }


def downsample(events: Iterable[dict[str, Any]], most: int) -> tuple[list[dict[str, Any]], bool]:
    """Return at most `most` events, and True if some were dropped.

    Of too many events it keeps every second, every fourth, and so on, so that the sample is evenly spread.
    """
    kept: list[dict[str, Any]] = []
    stride = 1
    for number, event in enumerate(events):
        if number % stride == 0:
            kept.append(event)
            if len(kept) > most:
                kept = kept[::2]
                stride *= 2
    return kept, stride > 1
