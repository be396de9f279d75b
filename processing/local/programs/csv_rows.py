"""Rows of numbers from CSV text, as SageMaker's algorithms take it: no header, the label first if there is one."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from processing.local.programs.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DELIMITERS = ",;\t| "
_SHOWN = 40  # characters of a wrong cell in a message


def parse(data: bytes, *, labels: int = 0, weights: int = 0) -> Rows:
    """Parse CSV. An empty cell is a missing value, `nan`.

    Args:
        data: the text, in UTF-8. The delimiter is the first of comma, semicolon, tab, bar and space that is in its
            first line.
        labels: how many columns before the features are labels: 0 or 1.
        weights: how many columns behind the label are weights: 0 or 1.

    Raises:
        ValueError: a cell is not a number, or lines differ in their length; the message names the line.
    """
    first = labels + weights
    matrix = _matrix(data, first)
    if len(matrix) and matrix.shape[1] <= first:
        raise ValueError(f"line 1 has {matrix.shape[1]} columns, and {first} of them are no features")
    features = matrix[:, first:]
    return Rows(features, matrix[:, 0] if labels else None, matrix[:, labels] if weights else None)


def _matrix(data: bytes, width: int) -> NDArray[np.float64]:
    import numpy as np

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    if not text.strip():
        return np.empty((0, width))
    line = text.lstrip("\r\n").split("\n", 1)[0].strip("\r")
    delimiter = next((each for each in _DELIMITERS if each in line), ",")
    try:
        # numpy's parser in C takes whole numbers only: an empty cell is left to the slower one, which names errors.
        return np.loadtxt(io.StringIO(text), delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
    except ValueError:
        return np.array(_rows(text, delimiter))


def _rows(text: str, delimiter: str) -> list[list[float]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows: list[list[float]] = []
    try:
        for cells in reader:
            if not cells:
                continue
            rows.append([_number(cell, reader.line_num) for cell in cells])
            if len(rows[-1]) != len(rows[0]):
                raise ValueError(f"line {reader.line_num} has {len(cells)} columns, and line 1 has {len(rows[0])}")
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return rows


def _number(cell: str, line: int) -> float:
    if not cell.strip():
        return math.nan
    try:
        return float(cell if "_" not in cell else "")  # Python alone takes 1_000
    except ValueError:
        header = "; a file for training has no header" if line == 1 else ""
        raise ValueError(f"line {line}: {cell[:_SHOWN]!r} is not a number{header}") from None


def write(columns: NDArray[Any]) -> bytes:
    """Return a matrix, or a vector as one column, as lines with the shortest text of each number."""
    lines = [",".join(map(repr, row)) for row in columns.reshape(len(columns), -1).tolist()]
    return "".join([f"{line}\n" for line in lines]).encode()
