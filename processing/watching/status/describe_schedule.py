"""The jobs that are watched, and when each of them is looked at by itself (DescribeProcessingJob)."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from processing.container.contract import TERMINAL
from processing.watching.status.model import is_step

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Iterable, Mapping

    from processing.watching.polling import Polling

_SAME: Final = 1.0  # seconds by which two answers about one job's creation may differ


@attrs.define(eq=False)
class JobState:
    """One job that is watched.

    Attributes:
        name: the job's name.
        created: when it was created, by AWS's clock in seconds since the epoch; None where that is not known.
        added: the monotonic moment since which it is watched.
        seen: whether AWS has answered anything about it.
        status: the status that is known.
        told: since when, by AWS's clock, a listing of what has changed shows another one; None where that is not known.
        wait: how long a look is to follow a sign of life; None before the first look, and after news.
        pause: the same for the look that is planned, with its jitter; 0 for one that no sign of life puts off.
        alive: the monotonic moment at which it was last known to run.
        due: the monotonic moment of the next look; infinite for none.
    """

    name: str
    created: float | None
    added: float
    seen: bool = False
    status: str | None = None
    told: float | None = None
    wait: float | None = None
    pause: float = 0.0
    alive: float = -math.inf
    due: float = math.inf

    def identify(self, created: float) -> Literal["ours", "older", "newer"]:
        """Return whether an answer is about this job, by its creation, or about another one of the same name."""
        if self.created is not None and abs(created - self.created) > _SAME:
            return "older" if created < self.created else "newer"
        self.created = created
        return "ours"

    def step(self, status: str) -> bool:
        """Take an answered status, and return whether it is a step forward."""
        self.seen = True
        if not is_step(self.status, status):
            return False
        self.status = status
        return True

    @property
    def moment(self) -> float:
        """When it is looked at, if it gives no further sign of life."""
        return max(self.due, self.alive + self.pause) if self.pause else self.due

    @property
    def first(self) -> float | None:
        """A moment, by AWS's clock, before which the job was not there; None where none is known."""
        return self.told if self.created is None else self.created

    @property
    def ended(self) -> bool:
        """Whether its last status is known."""
        return self.status in TERMINAL


def creation(answer: Mapping[str, Any]) -> float:
    """Return the CreationTime of a description or a summary, in seconds since the epoch."""
    return float(answer["CreationTime"].timestamp())


class DescribeSchedule:
    """When jobs are looked at one by one: soon at first, then at growing intervals after each sign of life.

    Args:
        polling: the intervals.
        random: where the jitter comes from.
    """

    def __init__(self, polling: Polling, random: random_module.Random) -> None:
        self._polling = polling
        self._random = random
        self._heap: list[tuple[float, int, JobState]] = []
        self._tickets = itertools.count()

    def plan(self, watched: JobState, due: float, pause: float = 0.0) -> None:
        """Look at a job at that moment, and not when it was planned before.

        Args:
            watched: the job.
            due: the moment.
            pause: the time from the job's last sign of life on in which it need not be looked at.
        """
        watched.due, watched.pause = due, pause
        heapq.heappush(self._heap, (due, next(self._tickets), watched))

    def plan_all(self, jobs: Iterable[JobState], now: float, spacing: float) -> None:
        """Look at jobs from now on, one after the other."""
        for number, watched in enumerate(jobs):
            self.plan(watched, now + number * spacing)

    def cancel(self, watched: JobState) -> None:
        """Do not look at a job until it is planned anew."""
        watched.due = math.inf

    def first(self) -> JobState | None:
        """Return the job that is to be looked at first, at its `due`; None where none is planned."""
        while self._heap:
            due, _, watched = self._heap[0]
            if watched.due == due:
                if watched.moment <= due:
                    return watched
                self.plan_next(
                    watched, watched.alive, at_least=watched.wait or 0.0
                )  # the sign of life was as good as a look
            heapq.heappop(self._heap)
        return None

    def plan_next(self, watched: JobState, now: float, *, at_least: float = 0.0) -> None:
        """Plan the look that follows one, or a sign of life: the job was alive.

        Args:
            watched: the job.
            now: the moment of the look, or of the sign.
            at_least: a bound on the wait from below, where there are too many jobs for the usual one.
        """
        watched.wait = max(at_least, self._polling.after(watched.wait))
        watched.alive = max(watched.alive, now)
        pause = watched.wait * self._random.uniform(1.0 - self._polling.jitter, 1.0)
        self.plan(watched, now + pause, pause)
