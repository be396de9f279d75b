"""RecordIO of 784 float32 and a label, beside `sagemaker` 2.x and a copy of the memory; sparse rows beside protobuf.

`sagemaker` 2.x writes to a file, and so does `write_dense`: to one in memory that has the room already, as has the
peer's. `encode_dense` returns bytes, and is compared with a copy that does. Above 32 MB, the C library takes the memory
of such bytes from the system each time, and the system's time for its pages is most of both figures.

The peers run in their own Python, on the same values. Each is measured three times, alternating, by the time of its
processor. The best counts.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from clients import SAGEMAKER_2
from figures import Figure, finish, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, STORED = 784, 150
# A few rows, a batch of Spark's, and an array that no cache holds.
SIZES = [scaled(2_000, 200), scaled(10_000, 400), scaled(40_000, 800)]
ENCODED = scaled(200_000, 1_000)  # rows of a measurement: smaller matrices are encoded several times
ROOM = 3_200  # bytes for a row
QUIET = {"SAGEMAKER_SUPPRESS_V2_WARNING": "1"}

PEER = f"""
import io, json, struct, sys, time
import numpy as np
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sagemaker.amazon.record_pb2 import Record

rows, some = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
features = rng.random((rows, {WIDTH}), np.float32)
labels = rng.random(max(rows, some)).astype(np.float32)
file = io.BytesIO(bytes({ROOM} * rows))
file.write(bytes({ROOM} * rows))
indices = np.sort(np.array([rng.permutation({WIDTH})[:{STORED}] for _ in range(some)]), axis=1)
values = rng.random((some, {STORED})).astype(np.float32)


def write_sparse(file, rows_, labels_):
    for keys, row, label in zip(indices, rows_, labels_):
        record = Record()
        tensor = record.features["values"].float32_tensor
        tensor.values.extend(row)
        tensor.keys.extend(keys)
        tensor.shape.append({WIDTH})
        record.label["values"].float32_tensor.values.append(label)
        data = record.SerializeToString()
        file.write(struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4))


found = []
for write, given in ((write_numpy_to_dense_tensor, features), (write_sparse, values)):
    file.seek(0)
    began = time.process_time()
    write(file, given, labels[: len(given)])
    found.append(len(given) / (time.process_time() - began))
print(json.dumps(found))
"""


def rate(rows: int, work: Callable[[], object]) -> float:
    """Return the rows that a function handles in a second of the processor."""
    repeated = max(1, ENCODED // rows)
    work()
    began = time.process_time()
    for _ in range(repeated):
        work()
    return rows * repeated / (time.process_time() - began)


def peer_rates(rows: int, some: int) -> tuple[float, float]:
    """Return the rows a second of `sagemaker` 2.x, and those of protobuf for sparse rows."""
    command = [str(SAGEMAKER_2), "-c", PEER, str(rows), str(some)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ, **QUIET})
    dense, sparse = json.loads(done.stdout.splitlines()[-1])
    return dense, sparse


def dense_figures(rows: int) -> list[Figure]:
    """Return the figures of dense rows."""
    import numpy as np

    from processing.spark import recordio

    rng = np.random.default_rng(0)
    features, labels = rng.random((rows, WIDTH), np.float32), rng.random(rows).astype(np.float32)
    file = io.BytesIO(bytes(ROOM * rows))
    file.write(bytes(ROOM * rows))

    def written() -> None:
        file.seek(0)
        recordio.write_dense(file, features, labels)

    def copied() -> None:
        file.seek(0)
        file.write(features.data)

    found: dict[str, list[float]] = {name: [] for name in ("write", "copy", "encode", "tobytes", "peer")}
    for _ in range(3):
        found["write"].append(rate(rows, written))
        found["copy"].append(rate(rows, copied))
        found["encode"].append(rate(rows, lambda: recordio.encode_dense(features, labels)))
        found["tobytes"].append(rate(rows, features.tobytes))
        found["peer"].append(peer_rates(rows, 1)[0])
    best = {name: max(values) for name, values in found.items()}
    ours, encoded, size = best["write"], best["encode"], f"{rows:,} rows"
    note = f"{ours:,.0f} rows a CPU second, {ours / best['peer']:.0f} times {best['peer']:,.0f}"
    return [
        Figure(f"dense, {size}: sagemaker 2.x's rate, of write_dense's", best["peer"] / ours, 1 / 80, note=note),
        Figure(f"dense, {size}: a copy into a file, of write_dense's rate", best["copy"] / ours, 5),
        Figure(
            f"dense, {size}: a copy as bytes, of encode_dense's rate",
            best["tobytes"] / encoded,
            5,
            note=f"{encoded:,.0f} rows a CPU second",
        ),
    ]


def sparse_figure(rows: int) -> Figure:
    """Return the figure of sparse rows."""
    import numpy as np

    from processing.spark import recordio

    rng = np.random.default_rng(0)
    indices = np.sort(np.array([rng.permutation(WIDTH)[:STORED] for _ in range(rows)]), axis=1).reshape(-1)
    values, starts = rng.random(rows * STORED).astype(np.float32), np.arange(rows + 1) * STORED
    labels = rng.random(rows).astype(np.float32)
    ours, peers = [], []
    for _ in range(3):
        ours.append(rate(rows, lambda: recordio.encode_sparse(starts, indices, values, WIDTH, labels)))
        peers.append(peer_rates(1, rows)[1])
    note = f"{max(ours):,.0f} rows a CPU second, {max(ours) / max(peers):.1f} times {max(peers):,.0f}"
    return Figure("sparse, 150 of 784: protobuf's rate, of ours", max(peers) / max(ours), 1 / 4, note=note)


def main() -> None:
    if not SAGEMAKER_2.exists():
        sys.exit(f"{SAGEMAKER_2} is missing: ./scripts/foreign-clients installs it")
    finish([*[figure for rows in SIZES for figure in dense_figures(rows)], sparse_figure(scaled(2_000, 200))])


if __name__ == "__main__":
    main()
