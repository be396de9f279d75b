"""The metrics of invocations. They are stored once a second, so that no invocation waits for the store."""

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


class InvocationMetrics:
    """The metrics of the invocations by this process. Safe for threads and forks.

    Args:
        home: the engine's folder.
    """

    def __init__(self, home: Path) -> None:
        self._store = MetricStore(home)
        self._samples: dict[Metric, list[Sample]] = {}
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
        now = time.time()
        dimensions = {"EndpointName": endpoint, "VariantName": variant}
        with self._lock:
            for name, value in values.items():
                metric = Metric.of(NAMESPACE, name, dimensions)
                self._samples.setdefault(metric, []).append(Sample.of(now, value))
            if self._thread is None:
                self._thread = threading.Thread(target=self._store_later, name="invocation-metrics", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Store what was recorded. On an error it is dropped: metrics fail no invocation."""
        with self._lock:
            samples, self._samples = self._samples, {}
        with contextlib.suppress(ProcessingError, OSError):
            self._store.put(
                (metric, "Microseconds" if metric.name in _MICROSECONDS else "None", found)
                for metric, found in samples.items()
            )

    def _store_later(self) -> None:
        time.sleep(STORE_SECONDS)
        with self._lock:
            self._thread = None
        self.flush()

    def _check_process(self) -> None:
        if self._pid != os.getpid():  # the parent stores what it recorded
            self._pid, self._lock, self._thread, self._samples = os.getpid(), threading.Lock(), None, {}


def _flush_all() -> None:
    for recorder in list(_recorders):
        if recorder._pid == os.getpid():  # noqa: SLF001 - of this module
            recorder.flush()


atexit.register(_flush_all)
