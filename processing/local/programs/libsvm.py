"""Rows of numbers from libsvm text: `label[:weight] [qid:query] column:value ... [# comment]`.

Columns are counted from 0, XGBoost's default. A file that counts from 1 has one more column, which is always missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from processing.local.programs.rows import Rows, SparseRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_COLUMN = (1 << 31) - 2  # consumers have 32-bit indices
_SHOWN = 40  # characters of a wrong item in a message


class _Line(NamedTuple):
    label: float | None
    weight: float | None
    query: int | None
    columns: list[int]
    values: list[float]


def parse(data: bytes, *, training: bool = True) -> Rows:
    """Parse libsvm.

    Args:
        data: the text, in UTF-8.
        training: True if each line begins with a label, and blank lines mean nothing. False for lines to predict: the
            label may be missing, and a line without features is a row, too.

    Raises:
        ValueError: a line is not libsvm; the message names it.
    """
    import numpy as np

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    lines = text.split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    rows = _parse_plain(lines, training=training) or _parse_each(lines, training=training)
    if not isinstance(rows.features, SparseRows):
        return rows
    columns = rows.features.indices
    if len(columns) and not 0 <= columns.min() <= columns.max() <= _MAX_COLUMN:
        row = int(np.searchsorted(rows.features.starts, ((columns < 0) | (columns > _MAX_COLUMN)).argmax(), "right"))
        raise ValueError(f"row {row}: a column must be from 0 to {_MAX_COLUMN}")
    if (twice := rows.features.repeated()) is not None:
        raise ValueError(f"row {twice}: a column is there twice")
    return rows


def _parse_plain(lines: list[str], *, training: bool) -> Rows | None:
    """Parse lines of a label and features, all at once. Return None if there is anything else."""
    import numpy as np

    if training:
        lines = [line for line in lines if line and not line.isspace()]
    counts = np.array([line.count(":") for line in lines], np.int64)
    items = np.array([len(line.split()) for line in lines], np.int64)
    if (items != counts + 1).any():
        return None
    text = "\n".join(lines)
    try:
        numbers = np.array(text.replace(":", " ").split(), np.float64)
    except ValueError:
        return None
    starts = np.cumsum([0, *counts])
    if len(numbers) != len(lines) + 2 * starts[-1] or "_" in text:
        return None
    is_label = np.zeros(len(numbers), bool)
    is_label[starts[:-1] * 2 + np.arange(len(lines))] = True
    pairs = numbers[~is_label].reshape(-1, 2)
    with np.errstate(invalid="ignore"):  # a column that is no integer is found below
        columns = pairs[:, 0].astype(np.int64)
    if (columns != pairs[:, 0]).any():
        return None
    features = _sparse(starts, columns, np.ascontiguousarray(pairs[:, 1]))
    return Rows(features, numbers[is_label] if training else None)


def _parse_each(lines: list[str], *, training: bool) -> Rows:
    import numpy as np

    parsed = []
    for number, line in enumerate(lines, 1):
        items = line.split("#", 1)[0].split()
        if not items and training:
            continue
        try:
            parsed.append(_parse_line(items, training=training))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    features = _sparse(
        np.cumsum([0, *(len(line.columns) for line in parsed)]),
        np.array([column for line in parsed for column in line.columns], np.int64),
        np.array([value for line in parsed for value in line.values], np.float64),
    )
    if not training:
        return Rows(features)
    weights, queries = [line.weight for line in parsed], [line.query for line in parsed]
    if len({query is None for query in queries}) > 1:
        raise ValueError("some lines have a qid and some have none")
    has_weights, has_queries = any(each is not None for each in weights), any(each is not None for each in queries)
    return Rows(
        features,
        np.array([line.label for line in parsed], np.float64),
        np.array([1 if each is None else each for each in weights], np.float64) if has_weights else None,
        np.array(queries, np.int64) if has_queries else None,
    )


def _sparse(starts: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float64]) -> SparseRows:
    return SparseRows(starts, columns, values, int(columns.max(initial=-1)) + 1)


def _parse_line(items: list[str], *, training: bool) -> _Line:
    label = weight = query = None
    if items and (training or ":" not in items[0]):
        first, colon, second = items[0].partition(":")
        label, weight = _real(first, "a label"), _real(second, "a weight") if colon else None
        items = items[1:]
    if items and items[0].startswith("qid:"):
        query = _whole(items[0][len("qid:") :], "a qid")
        items = items[1:]
    pairs = [item.partition(":") for item in items]
    for (_, colon, _), item in zip(pairs, items, strict=True):
        if not colon:
            raise ValueError(f"{item[:_SHOWN]!r} is not column:value")
    columns = [_whole(column, "a column") for column, _, _ in pairs]
    return _Line(label, weight, query, columns, [_real(value, "a value") for _, _, value in pairs])


def _real(text: str, kind: str) -> float:
    try:
        return float(text if "_" not in text else "")  # Python alone takes 1_000
    except ValueError:
        raise ValueError(f"{text[:_SHOWN]!r} is not a number, and {kind} is one") from None


def _whole(text: str, kind: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # digits of 64 bits
        raise ValueError(f"{text[:_SHOWN]!r} is not a whole number, and {kind} is one")
    return int(text)


def write(rows: SparseRows, labels: NDArray[np.float64] | None = None) -> bytes:
    """Return sparse rows as libsvm, with the shortest text of each number. Rows without labels have none."""
    starts, columns, values = rows.starts.tolist(), rows.indices.tolist(), rows.values.tolist()
    first = [] if labels is None else labels.tolist()
    lines = []
    for row in range(len(starts) - 1):
        chosen = slice(starts[row], starts[row + 1])
        items = [f"{column}:{value!r}" for column, value in zip(columns[chosen], values[chosen], strict=True)]
        lines.append(" ".join([*map(repr, first[row : row + 1]), *items]))
    return "".join([f"{line}\n" for line in lines]).encode()
