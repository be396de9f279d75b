"""The bodies of batches as a column, by a function that Spark's workers import."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def encoded(batches: Any, layout: Any) -> Iterator[Any]:
    """Yield a batch with one body for each batch of rows."""
    import pyarrow as pa

    for batch in batches:
        file = io.BytesIO()
        layout.write(file, batch)
        yield pa.RecordBatch.from_pydict({"body": [file.getvalue()]})
