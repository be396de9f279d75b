"""RecordIO of 784 float32 and a label, beside `sagemaker` 2.x and a copy of the memory; sparse rows beside protobuf.

The peers run in their own Python, on the same values. Each is measured three times, alternating, by the time of its
processor. The best counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from figures import Figure, finish, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, STORED = 784, 150
# A batch of Spark's has up to 10,000 rows. Ours is as large as the peers', repeated.
ROWS, REPEATED = scaled(2_000, 200), scaled(20, 2)

PEER = f"""
import io, json, struct, sys, time
import numpy as np
from sagemaker.amazon.common import write_numpy_to_dense_tensor
from sagemaker.amazon.record_pb2 import Record

rows = int(sys.argv[1])
rng = np.random.default_rng(0)
features = rng.random((rows, {WIDTH}), np.float32)
labels = rng.random(rows).astype(np.float32)
indices = np.sort(np.array([rng.permutation({WIDTH})[:{STORED}] for _ in range(rows)]), axis=1)
values = rng.random((rows, {STORED})).astype(np.float32)


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
    began = time.process_time()
    write(io.BytesIO(), given, labels)
    found.append(rows / (time.process_time() - began))
print(json.dumps(found))
"""


def rate(rows: int, work: Callable[[], object]) -> float:
    """Return the rows that a function handles in a second of the processor."""
    began = time.process_time()
    for _ in range(REPEATED):
        work()
    return rows * REPEATED / (time.process_time() - began)


def peer_rates(python: Any) -> tuple[float, float]:
    """Return the rows a second of `sagemaker` 2.x, and those of protobuf for sparse rows."""
    command = [str(python), "-c", PEER, str(ROWS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env={**os.environ})
    dense, sparse = json.loads(done.stdout.splitlines()[-1])
    return dense, sparse


def main() -> None:
    import numpy as np
    from clients import SAGEMAKER_2

    from processing.spark import recordio

    if not SAGEMAKER_2.exists():
        sys.exit(f"{SAGEMAKER_2} is missing: ./scripts/foreign-clients installs it")
    rng = np.random.default_rng(0)
    features, labels = rng.random((ROWS, WIDTH), np.float32), rng.random(ROWS).astype(np.float32)
    some = ROWS // 4
    indices = np.sort(np.array([rng.permutation(WIDTH)[:STORED] for _ in range(some)]), axis=1).reshape(-1)
    values, starts = rng.random(some * STORED).astype(np.float32), np.arange(some + 1) * STORED
    dense, copied, sparse, peers = [], [], [], []
    for _ in range(3):
        dense.append(rate(ROWS, lambda: recordio.encode_dense(features, labels)))
        copied.append(rate(ROWS, features.tobytes))
        sparse.append(rate(some, lambda: recordio.encode_sparse(starts, indices, values, WIDTH, labels[:some])))
        peers.append(peer_rates(SAGEMAKER_2))
    peer_dense, peer_sparse = max(each[0] for each in peers), max(each[1] for each in peers)
    finish(
        [
            Figure(
                "dense: sagemaker 2.x's rate, of ours",
                peer_dense / max(dense),
                1 / 80,
                note=f"{max(dense):,.0f} rows a CPU second, {max(dense) / peer_dense:.0f} times {peer_dense:,.0f}",
            ),
            Figure("dense: a copy of the memory, of our rate", max(copied) / max(dense), 5, note="a fifth of memcpy"),
            Figure(
                "sparse, 150 of 784: protobuf's rate, of ours",
                peer_sparse / max(sparse),
                1 / 4,
                note=f"{max(sparse):,.0f} rows a CPU second, {max(sparse) / peer_sparse:.1f} times {peer_sparse:,.0f}",
            ),
        ]
    )


if __name__ == "__main__":
    main()
