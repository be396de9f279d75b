"""The places of tensors in many records at once: records of one layout are found together, without a parser for each.

The tags and lengths of a record tell where its numbers are. Records whose tags, lengths and names are equal have their
numbers at the same places, so that one of them is parsed and the others are compared with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.programs.record import (
    FEATURES,
    INT32,
    KEYS,
    LABEL,
    LENGTH,
    SHAPE,
    VALUES,
    VARINT,
    Buffer,
    Location,
    fields,
    locate,
    read_numbers,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

_FEW = 16
"""The number of records below which a comparison takes longer than parsers."""
_MISSES = 4
"""The number of layouts of few records each after which records of one length are parsed one by one."""
_CHUNK_BYTES = 1 << 22
"""The bytes that are compared at a time."""


class Group(NamedTuple):
    """Records of one layout.

    Attributes:
        records: their numbers, from 0.
        shifts: the distance of each from the first one, in bytes.
        maps: the tensors of the first one: by `FEATURES` or `LABEL`, and by name.
    """

    records: list[int]
    shifts: list[int]
    maps: Mapping[int, Mapping[str, Location]]


def groups(data: Buffer, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[Group]:
    """Yield records by their layout, each record once.

    Args:
        data: the bytes.
        starts: the first byte of each record.
        ends: the byte after the last one of each.

    Raises:
        RecordIOError: the bytes are not a record, or a value is not a tensor.
    """
    import numpy as np

    raw = np.frombuffer(data, np.uint8)
    lengths = ends - starts
    order = np.argsort(lengths, kind="stable")
    changes = np.flatnonzero(np.diff(lengths[order])) + 1
    for records in np.split(order, changes):
        misses = 0
        while len(records) >= _FEW and misses < _MISSES:
            first, end = int(starts[records[0]]), int(ends[records[0]])
            maps = locate(data, first, end)
            equal = _equal(raw, starts[records], np.flatnonzero(_fixed_bytes(data, first, end, maps)))
            found, records = records[equal], records[~equal]  # noqa: PLW2901 - the records that are left
            misses += len(found) < _FEW
            yield Group(found.tolist(), (starts[found] - first).tolist(), maps)
        for record in records.tolist():
            yield Group([record], [0], locate(data, int(starts[record]), int(ends[record])))


def _fixed_bytes(data: Buffer, start: int, end: int, maps: Mapping[int, Mapping[str, Location]]) -> NDArray[np.bool_]:
    """Return which bytes of a record tell its layout. The others are numbers and texts."""
    import numpy as np

    fixed = np.ones(end - start, bool)
    for field, wire, first, last in fields(data, start, end):
        if wire == LENGTH and field not in {FEATURES, LABEL}:
            fixed[first - start : last - start] = False
    for location in (each for found in maps.values() for each in found.values()):
        for wire, first, last in (part for parts in location.lists.values() for part in parts):
            if wire != VARINT:  # the length of such a number is in its bytes
                fixed[first - start : last - start] = False
    return fixed


def _equal(raw: NDArray[np.uint8], starts: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which records have the bytes of the first one in certain columns."""
    import numpy as np

    expected = raw[starts[0] + columns]
    step = max(1, _CHUNK_BYTES // max(1, len(columns)))
    chunks = (starts[first : first + step] for first in range(0, len(starts), step))
    return np.concatenate([(raw[chunk[:, None] + columns] == expected).all(axis=1) for chunk in chunks])


class _ListParts(NamedTuple):
    """The parts of one list of several records: record, wire type, first byte, end."""

    records: list[int]
    wires: list[int]
    firsts: list[int]
    lasts: list[int]


class Places:
    """The places of one tensor in each of several records.

    Args:
        count: the number of records.
    """

    def __init__(self, count: int) -> None:
        import numpy as np

        self._kinds = np.zeros(count, np.int64)
        self._parts = {which: _ListParts([], [], [], []) for which in (VALUES, KEYS, SHAPE)}

    @classmethod
    def choose(cls, count: int, found: Iterable[Group], choice: Callable[[Group], Location | None]) -> Places:
        """Return the places of the tensor that a function chooses of each group.

        Args:
            count: the number of records.
            found: the groups.
            choice: returns the tensor; None for a group without one.
        """
        made = cls(count)
        for group in found:
            location = choice(group)
            if location is not None:
                made._add(group, location)
        return made

    def _add(self, group: Group, location: Location) -> None:
        self._kinds[group.records] = location.kind
        for which, parts in location.lists.items():
            to = self._parts[which]
            for wire, first, last in parts:
                to.records.extend(group.records)
                to.wires.extend([wire] * len(group.records))
                to.firsts.extend([first + shift for shift in group.shifts])
                to.lasts.extend([last + shift for shift in group.shifts])

    @property
    def present(self) -> NDArray[np.bool_]:
        """True for each record that has the tensor."""
        present: NDArray[np.bool_] = self._kinds != 0
        return present

    def has(self, which: int) -> NDArray[np.bool_]:
        """Return which records have one of the lists `VALUES`, `KEYS` and `SHAPE`."""
        import numpy as np

        present = np.zeros(len(self._kinds), bool)
        present[self._parts[which].records] = True
        return present

    def numbers(self, data: Buffer, which: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Parse one list of all records at once.

        Args:
            data: the bytes.
            which: `VALUES`, `KEYS` or `SHAPE`.

        Returns:
            All numbers, in the order of the records, and how many of them each record has.

        Raises:
            RecordIOError: the bytes are not a list of that type.
        """
        import numpy as np

        kinds = np.unique(self._kinds[self.has(which)]).tolist() if which == VALUES else [INT32]
        if len(kinds) <= 1:
            return self._numbers_of_kind(data, which, kinds[0] if kinds else INT32)
        each = [self._numbers_of_kind(data, which, kind) for kind in kinds]
        counts = np.sum([counts for _, counts in each], axis=0)
        numbers = np.empty(counts.sum(), np.result_type(*(numbers for numbers, _ in each)))
        owners = np.repeat(np.arange(len(counts)), counts)
        for kind, (of_kind, _) in zip(kinds, each, strict=True):
            numbers[(self._kinds == kind)[owners]] = of_kind
        return numbers, counts

    def _numbers_of_kind(self, data: Buffer, which: int, kind: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Parse the lists of the records of one kind. The others count as empty."""
        import numpy as np

        parts = self._parts[which]
        records = np.array(parts.records, np.int64)
        order = np.argsort(records, kind="stable")
        if which == VALUES:
            order = order[self._kinds[records[order]] == kind]
        wires, firsts, lasts = (np.array(each, np.int64)[order] for each in parts[1:])
        sizes = np.bincount(records[order], lasts - firsts, len(self._kinds)).astype(np.int64)
        spans = list(zip(wires.tolist(), firsts.tolist(), lasts.tolist(), strict=True))
        numbers, counts = read_numbers(data, kind, spans, sizes)
        return (signed(numbers) if which == VALUES and kind == INT32 else numbers), counts
