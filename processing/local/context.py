"""The protocol by which handlers and jobs use the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from processing.local.settings import EngineSettings
    from processing.local.stores.jobs import JobStore
    from processing.local.stores.logs import LogStore
    from processing.local.stores.metrics import MetricStore
    from processing.local.stores.objects import ObjectStore
    from processing.local.stores.queues import QueueStore


class EngineContext(Protocol):
    """The stores and settings of one engine.

    Handlers and jobs depend on this protocol instead of `Engine`, so that they import nothing above them. `Engine`
    satisfies it.

    Attributes:
        home: the engine's folder.
        settings: the settings for jobs.
        account: the account's number.
        region: the AWS region in ARNs.
        chosen_region: the region that images and keys of jobs have to fit; None for any.
        jobs: the processing jobs.
        objects: the object store.
        logs: the log store.
        metrics: the metric store.
        queues: the queue store.
    """

    account: str
    home: Path
    settings: EngineSettings
    region: str
    chosen_region: str | None
    jobs: JobStore
    objects: ObjectStore
    logs: LogStore
    metrics: MetricStore
    queues: QueueStore
