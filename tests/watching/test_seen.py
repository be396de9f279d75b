"""The set of ids: it forgets nothing, and takes eight bytes each."""

from __future__ import annotations

import sys

import hypothesis
from hypothesis import strategies as st

from processing.watching.seen import Seen


@hypothesis.given(st.lists(st.text(max_size=2)))
def test_it_is_a_set(texts: list[str]) -> None:
    """A text is new the first time, and no other time."""
    seen, model = Seen(), set()
    for text in texts:
        assert seen.add(text) == (text not in model)
        model.add(text)
    assert len(seen) == len(model)


def test_it_is_small() -> None:
    """Fifty thousand ids take less than a tenth of what a set of their texts does, and none is forgotten."""
    seen = Seen()
    ids = [f"{number:056d}" for number in range(50_000)]
    assert all(seen.add(text) for text in ids)
    assert not any(seen.add(text) for text in ids)
    size = sum(sys.getsizeof(run) for run in seen._runs) + sys.getsizeof(seen._fresh)
    assert size < 0.1 * sum(sys.getsizeof(text) for text in ids) + 300_000
