"""The set of lines: it forgets nothing, takes eight bytes a line, and is the same in every process."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies as st

from processing.watching.logs.dedup import SeenLines, fingerprint

LINES = st.lists(st.tuples(st.integers(-600_000, 600_000), st.integers(0, 3)))


@hypothesis.given(LINES, st.integers(0, 20))
def test_it_is_a_set(lines: list[tuple[int, int]], saved_after: int) -> None:
    """A line is new only the first time, even after the set was written to a checkpoint and read again."""
    seen, model = SeenLines(), set()
    for number, (timestamp, key) in enumerate(lines):
        if number == saved_after:
            seen = SeenLines.from_texts(seen.to_texts())
        assert bool(seen.add([timestamp], [key])) == ((timestamp // 60_000, key) not in model)
        model.add((timestamp // 60_000, key))
    assert len(seen) == len(model)
    assert SeenLines.from_texts(seen.to_texts()).to_texts() == seen.to_texts()


def test_it_is_small() -> None:
    """A line takes about eight bytes after its minute is over."""
    seen = SeenLines()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(60_000):
        seen.add([number * 60], [fingerprint(f"{number:056d}")])
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken / 60_000 < 16
    assert not any(seen.add([number * 60], [fingerprint(f"{number:056d}")]) for number in range(0, 60_000, 7))


def test_omitted_lines_are_not_written() -> None:
    """A line that was read but not delivered is new to the next process."""
    seen = SeenLines()
    assert seen.add([0], [1])
    assert seen.add([0], [2])
    again = SeenLines.from_texts(seen.to_texts(without=[2]))
    assert len(again) == 1
    assert again.add([0], [2])
    assert not again.add([0], [1])


@pytest.mark.parametrize("texts", [{"x": "AAAAAAAAAAA="}, {"1": "?"}, {"1": "AAAA"}])
def test_another_text_is_refused(texts: dict[str, str]) -> None:
    """A text that the set did not write is refused."""
    with pytest.raises(ValueError, match=r"."):
        SeenLines.from_texts(texts)


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Python's own hashes of texts differ between processes; these do not, and unusual texts have one too."""
    texts = ["", "34810311100843586390261359008406652003083034459645739009", "\ud800 \x00 é"]
    program = (
        f"from processing.watching.logs.dedup import fingerprint; print([fingerprint(text) for text in {texts!a}])"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == str([fingerprint(text) for text in texts])
    assert len({fingerprint(f"{number:056d}") for number in range(10_000)}) == 10_000
