"""The metrics of invocations. Their sums are stored once a second, so that no invocation waits for the store."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from processing.exceptions import ProcessingError
from processing.local.stores.metrics import Metric, MetricStore, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMESPACE = "AWS/SageMaker"
STORE_SECONDS = 1.0
_MICROSECONDS = frozenset({"ModelLatency", "OverheadLatency"})
_recorders: weakref.WeakSet[InvocationMetrics] = weakref.WeakSet()


class _Sum:
    """The sum of the values of a metric, and their extremes."""

    __slots__ = ("_count", "_maximum", "_minimum", "_total")

    def __init__(self, value: float) -> None:
        self._count, self._total, self._minimum, self._maximum = 1, value, value, value

    def add(self, value: float) -> None:
        self._count += 1
        self._total += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)

    def sample(self, now: float) -> Sample:
        return Sample(now, self._count, self._total, self._minimum, self._maximum)


class InvocationMetrics:
    """The metrics of the invocations by this process. Safe for threads and forks.

    Args:
        home: the engine's folder.
    """

    def __init__(self, home: Path) -> None:
        self._store = MetricStore(home)
        self._sums: dict[tuple[str, str], dict[str, _Sum]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        _recorders.add(self)

    def record(self, endpoint: str, variant: str, values: Mapping[str, float]) -> None:
        """Record an invocation.

        Args:
            endpoint: the endpoint's name.
            variant: the variant's name.
            values: the values by the names of metrics, latencies in microseconds.
        """
        self._check_process()
        with self._lock:
            sums = self._sums.setdefault((endpoint, variant), {})
            for name, value in values.items():
                known = sums.get(name)
                if known is None:
                    sums[name] = _Sum(value)
                else:
                    known.add(value)
            if self._thread is None:
                thread = threading.Thread(target=self._store_later, name="invocation-metrics", daemon=True)
                with contextlib.suppress(RuntimeError):  # there are too many threads: the next invocation tries again
                    thread.start()
                    self._thread = thread

    def flush(self) -> None:
        """Store the recorded values. On an error they are dropped: metrics fail no invocation."""
        now = time.time()
        with self._lock:
            sums, self._sums = self._sums, {}
        with contextlib.suppress(ProcessingError, OSError):
            self._store.put(
                (
                    Metric.of(NAMESPACE, name, {"EndpointName": endpoint, "VariantName": variant}),
                    "Microseconds" if name in _MICROSECONDS else "None",
                    [found.sample(now)],
                )
                for (endpoint, variant), names in sums.items()
                for name, found in names.items()
            )

    def _store_later(self) -> None:
        time.sleep(STORE_SECONDS)
        with self._lock:
            self._thread = None
        self.flush()

    def _check_process(self) -> None:
        if self._pid != os.getpid():  # the parent stores what it recorded
            self._pid, self._lock, self._thread, self._sums = os.getpid(), threading.Lock(), None, {}


def _flush_all() -> None:
    for recorder in list(_recorders):
        if recorder._pid == os.getpid():  # noqa: SLF001 - of this module
            recorder.flush()


atexit.register(_flush_all)
