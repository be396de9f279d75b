"""Hosts that train one XGBoost model together, each with its share of the data.

The first host runs the library's tracker, by which the hosts find each other. Afterwards every host has the same model.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
import zlib
from typing import TYPE_CHECKING

from processing.local.programs.container import JOB_KEY, ContainerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.local.programs.container import TrainingContainer

_FIRST_PORT, _PORTS = 20_000, 10_000
"""The ports of trackers, below those that the system gives away. Jobs that run at one time share their addresses, and
the system keeps a port for a minute after its use. So each job has a port of its own, by the key of the job."""
_REACH_SECONDS = 90
"""The time in which the tracker has to start: the first host may be the last one that has its data."""
_PAUSE_SECONDS = 0.05
"""The pause between attempts to reach the tracker. The library waits for seconds, and its second attempt fails."""
_SECONDS = 300
"""The time in which the hosts have to meet, which includes the download of their data."""


def is_shared(container: TrainingContainer) -> bool:
    """Return whether each host of the job has a share of the data, so that all have to train."""
    return len(container.hosts()[1]) > 1 and container.required_channel("train").is_sharded


class HostGroup:
    """The hosts of a job.

    Args:
        container: the container of this host.

    Attributes:
        leads: whether this host is the first one, which logs and saves.
    """

    def __init__(self, container: TrainingContainer) -> None:
        self._name, self._names = container.hosts()
        self.leads = self._name == self._names[0]

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Meet the other hosts, and train with them within the block.

        Raises:
            ContainerError: the first host cannot be reached.
        """
        from xgboost import collective, core
        from xgboost.tracker import RabitTracker

        address, port = self._tracker_address()
        group = collective.CommunicatorContext(
            dmlc_communicator="rabit",
            dmlc_retry=1,
            dmlc_tracker_uri=address,
            dmlc_tracker_port=port,
            dmlc_task_id=self._name,
        )
        try:
            tracker = None
            if self.leads:
                tracker = RabitTracker(len(self._names), address, port, sortby="task", timeout=_SECONDS)
                tracker.start()
            with contextlib.ExitStack() as stack:
                _enter(stack, group, f"{address}:{port}")
                yield
            if tracker is not None:
                tracker.wait_for(_SECONDS)
        except core.XGBoostError as error:
            raise ContainerError(f"the hosts of the job cannot train together: {error}") from error

    def widest(self, width: int) -> int:
        """Return the largest of the widths that all hosts give."""
        import numpy as np
        from xgboost import collective

        return int(collective.allreduce(np.array([width]), collective.Op.MAX)[0])

    def _tracker_address(self) -> tuple[str, int]:
        try:
            address = socket.gethostbyname(self._names[0])
        except OSError as error:
            raise ContainerError(
                f"{self._names[0]} has no address here, so that the hosts cannot train together: use one instance, or "
                "a sandbox with names of hosts, such as bubblewrap"
            ) from error
        return address, _FIRST_PORT + zlib.crc32(os.environ.get(JOB_KEY, "").encode()) % _PORTS


def _enter(stack: contextlib.ExitStack, group: contextlib.AbstractContextManager[object], tracker: str) -> None:
    """Enter a group whose tracker, at this address, may start later."""
    from xgboost import core

    deadline = time.monotonic() + _REACH_SECONDS
    while True:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*Failed to connect", UserWarning)
                stack.enter_context(group)
                return
        except core.XGBoostError as error:
            if f"connect to {tracker}" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)
