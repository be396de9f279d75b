"""Rows of numbers with their labels, dense or sparse: the common value of all readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class SparseRows(NamedTuple):
    """Rows with only some values stored, in the layout of a CSR matrix.

    Attributes:
        starts: the position of each row's first value, and the number of values at the end.
        indices: the column of each value, from 0.
        values: the values.
        width: the number of columns.
    """

    starts: NDArray[np.int64]
    indices: NDArray[np.int64]
    values: NDArray[Any]
    width: int

    def to_dense(self) -> NDArray[Any]:
        """Return all values as a matrix, with 0 for those that are not stored."""
        import numpy as np

        dense = np.zeros((len(self.starts) - 1, self.width), dtype=self.values.dtype)
        dense[np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts)), self.indices] = self.values
        return dense

    def repeated(self) -> int | None:
        """Return the number of the first row, from 1, that has a column twice, or None."""
        import numpy as np

        inner = self.starts[(self.starts > 0) & (self.starts < len(self.indices))]
        rising = self.indices[1:] > self.indices[:-1]
        rising[inner - 1] = True  # from one row to the next
        if rising.all():  # as in nearly all sources
            return None
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        order = np.lexsort((self.indices, rows))
        rows, indices = rows[order], self.indices[order]
        twice = np.flatnonzero((np.diff(indices) == 0) & (np.diff(rows) == 0))
        return int(rows[twice[0]]) + 1 if len(twice) else None


class Rows(NamedTuple):
    """Rows of features, with the labels and other columns of their source.

    Attributes:
        features: one row for each example.
        labels: one label for each row, if the source has labels.
        weights: one weight for each row, if the source has weights.
        queries: the query of each row, if the source groups rows for ranking.
    """

    features: NDArray[Any] | SparseRows
    labels: NDArray[Any] | None = None
    weights: NDArray[Any] | None = None
    queries: NDArray[Any] | None = None

    @property
    def height(self) -> int:
        """The number of rows."""
        return len(self.features.starts) - 1 if isinstance(self.features, SparseRows) else len(self.features)

    @property
    def width(self) -> int:
        """The number of features."""
        return self.features.width if isinstance(self.features, SparseRows) else int(self.features.shape[1])

    def dense(self) -> NDArray[Any]:
        """Return the features as a matrix."""
        return self.features.to_dense() if isinstance(self.features, SparseRows) else self.features


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several sources as one.

    Raises:
        ValueError: dense sources differ in their width, or only some sources have labels, weights or queries.
    """
    if len(parts) == 1:
        return parts[0]
    return Rows(
        _features([part.features for part in parts]),
        _optional("labels", [part.labels for part in parts]),
        _optional("weights", [part.weights for part in parts]),
        _optional("query ids", [part.queries for part in parts]),
    )


def _features(parts: Sequence[NDArray[Any] | SparseRows]) -> NDArray[Any] | SparseRows:
    import numpy as np

    if any(isinstance(part, SparseRows) for part in parts):
        sparse = [part if isinstance(part, SparseRows) else from_dense(part) for part in parts]
        ends = np.cumsum([0, *(len(part.values) for part in sparse)])
        return SparseRows(
            np.concatenate([ends[:1], *(part.starts[1:] + end for part, end in zip(sparse, ends, strict=False))]),
            np.concatenate([part.indices for part in sparse]),
            np.concatenate([part.values for part in sparse]),
            max(part.width for part in sparse),
        )
    dense = [part for part in parts if not isinstance(part, SparseRows)]
    widths = {part.shape[1] for part in dense}
    if len(widths) > 1:
        raise ValueError(f"the files have rows of different widths: {sorted(widths)}")
    return np.concatenate(dense)


def from_dense(matrix: NDArray[Any]) -> SparseRows:
    """Return a matrix as sparse rows that store every value, zeros too."""
    import numpy as np

    count, width = matrix.shape
    starts = np.arange(count + 1, dtype=np.int64) * width
    return SparseRows(starts, np.tile(np.arange(width, dtype=np.int64), count), matrix.reshape(-1), width)


def sparse_row(keys: Sequence[int], values: NDArray[Any], shape: Sequence[int] | None) -> SparseRows:
    """Return a sparse vector as one row.

    Raises:
        ValueError: the sizes of keys and values differ, or the shape does not contain all keys.
    """
    import numpy as np

    indices = np.array(keys)
    width = int(np.prod(shape)) if shape else 0
    if indices.dtype.kind != "i" or indices.shape != values.shape:
        raise ValueError(f"{len(values)} values and {indices.size} keys, which must be whole numbers")
    if indices.min() < 0 or indices.max() >= width:
        raise ValueError("a shape that contains all keys is required")
    row = SparseRows(np.array([0, len(values)]), indices.astype(np.int64), values, width)
    if row.repeated():
        raise ValueError("a key is there twice")
    return row


def _optional(name: str, parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    import numpy as np

    present = [part for part in parts if part is not None]
    if present and len(present) < len(parts):
        raise ValueError(f"some files have {name} and some have none")
    return np.concatenate(present) if present else None
