"""Job names."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.clock import SYSTEM_CLOCK
from processing.request.job_names import LONGEST_NAME, JobNames, base_name_from_image, sanitize, unique_job_name
from processing.request.service_model import processing_model

if TYPE_CHECKING:
    from collections.abc import Callable

STAMP = re.compile(r"-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-\d{3}$")


T = TypeVar("T")


class FixedClock:
    """A clock that stands still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, condition: threading.Condition, seconds: float) -> None:  # noqa: ARG002 - nobody notifies it
        self.sleep(seconds)

    def within(self, seconds: float, function: Callable[[], T]) -> T:  # noqa: ARG002 - it stands still
        return function()


def is_valid(name: str) -> bool:
    """Return whether the installed service model accepts the name."""
    shape = processing_model().shape_for("ProcessingJobName")
    return len(name) <= shape.metadata["max"] and re.fullmatch(shape.metadata["pattern"], name) is not None


@given(base=st.text(max_size=100), now=st.floats(0, 4e9))
def test_every_name_is_valid(base: str, now: float) -> None:
    """Whatever the base is, the name is one that the service takes, and ends in the time."""
    name = JobNames().new(base, FixedClock(now))
    assert is_valid(name)
    assert STAMP.search(name)
    assert len(name) <= LONGEST_NAME


@given(
    bases=st.lists(st.sampled_from(["a", "a-", "ab", "é"]), min_size=2, max_size=30),
    step=st.sampled_from([0, 0.001, -0.002]),
)
def test_no_name_twice(bases: list[str], step: float) -> None:
    """Names differ, though the clock stands still or goes backwards."""
    names, clock = JobNames(), FixedClock(1_700_000_000.0)
    made = []
    for base in bases:
        made.append(names.new(base, clock))
        clock.now += step
    assert len(set(made)) == len(made)


@given(base=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,30}[a-zA-Z0-9]", fullmatch=True))
def test_a_good_base_stays(base: str) -> None:
    """A base that is valid and short is kept as it is."""
    assert JobNames().new(base, FixedClock(0)) == f"{base}-1970-01-01-00-00-00-000"


def test_form() -> None:
    """The form is v2's: base, date and time in UTC, milliseconds."""
    assert JobNames().new("etl", FixedClock(1_700_000_000.123)) == "etl-2023-11-14-22-13-20-123"


def test_threads_get_different_names() -> None:
    """Threads that ask at once get names of their own."""
    clock = FixedClock(1_700_000_000.0)
    made: list[str] = []

    def ask() -> None:
        made.extend(unique_job_name("threads", clock) for _ in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1600


def test_ten_thousand_in_one_millisecond_are_quick() -> None:
    """A clock that stands still does not make the search for a free moment long."""
    names, clock = JobNames(), FixedClock(1_700_000_000.0)
    started = time.monotonic()
    assert len({names.new("x", clock) for _ in range(10_000)}) == 10_000
    assert time.monotonic() - started < 5


def test_the_system_clock_works() -> None:
    """The machine's own clock gives the current year."""
    assert f"-{time.gmtime().tm_year}-" in unique_job_name("now", SYSTEM_CLOCK)


@pytest.mark.parametrize(
    ("name", "clean"),
    [("my_job.v1@x", "my-job-v1-x"), ("--a--b--", "a--b"), ("äöü", "processing-job"), ("", "processing-job")],
)
def test_sanitize(name: str, clean: str) -> None:
    """Invalid characters become hyphens, and none is left at the ends."""
    assert sanitize(name) == clean


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/etl:1.2", "etl"),
        ("python", "python"),
        ("localhost:5000/my_image", "my-image"),
        ("repo/etl@sha256:0123abcd", "etl"),
        ("repo/etl:1.0@sha256:0123abcd", "etl"),
        ("repo/", "processing-job"),
    ],
)
def test_base_name_from_image(image: str, base: str) -> None:
    """An image's own name is what stands after the last slash, without tag and digest."""
    assert base_name_from_image(image) == base
