"""The schedule of the calls about single jobs: no job falls out of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from processing.watching.polling import Polling
from processing.watching.status.describe_schedule import DescribeSchedule, JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

POLLING = Polling(jitter=0.5)  # so wide that any order of calls is tried


class _Draws(random.Random):
    """Jitter of given amounts, one after the other: 0 for the shortest interval, 1 for the longest."""

    def __init__(self, draws: Sequence[float]) -> None:
        super().__init__(0)
        self._draws = iter(draws)

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * next(self._draws, 1.0)


def test_a_sign_of_life_just_before_a_call_keeps_the_next_one() -> None:
    """The next call has a jitter of its own, and may even come up before the postponed one."""
    schedule = DescribeSchedule(POLLING, _Draws([1.0, 0.0]))
    job = JobState("run", None, 0.0, interval=POLLING.longest)
    schedule.schedule_next(job, 0.0)
    job.alive = 0.1  # so soon that the next interval ends before this one
    following = schedule.next_job()
    assert following is job
    assert job.due == 0.1 + POLLING.longest * (1.0 - POLLING.jitter)


@given(
    draws=st.lists(st.floats(0, 1), max_size=40),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["alive", "describe"]), st.floats(0, 30)), max_size=40),
)
def test_every_job_is_described_at_some_time(draws: list[float], steps: list[tuple[int, str, float]]) -> None:
    """Whatever signs of life and answers come, each job is called again."""
    schedule = DescribeSchedule(POLLING, _Draws(draws))
    jobs = [JobState(str(number), None, 0.0) for number in range(3)]
    schedule.schedule_all(jobs, 0.0, 0.1)
    now = 0.0
    for number, step, later in steps:
        now += later
        if step == "alive":
            jobs[number].alive = now
            schedule.next_job()
        else:
            following = schedule.next_job()
            assert following is not None
            schedule.schedule_next(following, max(now, following.due))
    described = set()
    for _ in range(100):
        following = schedule.next_job()
        assert following is not None
        described.add(following.name)
        schedule.schedule_next(following, max(now, following.due))
    assert described == {"0", "1", "2"}
