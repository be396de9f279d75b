"""A stand-in for AWS's K-Means: Lloyd's algorithm over all rows.

`python -m processing.local.programs.kmeans train` and `... serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.programs import program, stand_in
from processing.local.programs.hyperparameters import boolean, integer, items, one_of, real, validate

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from processing.local.programs.container import TrainingContainer

_TRIALS = 10  # for local_lloyd_num_trials=auto
_CHUNK_VALUES = 1 << 22  # distances that are in memory at once

_INIT = one_of("random", "kmeans++")
_RULES = {
    "k": integer(1).needed(),
    "feature_dim": integer(1).needed(),
    "epochs": integer(1),
    "eval_metrics": items({"msd", "ssd"}.__contains__, "a list of 'msd' and 'ssd'").or_else(["msd"]),
    "extra_center_factor": integer(1).or_auto(),
    "force_dense": boolean(),
    "half_life_time_size": integer(0),
    "init_method": _INIT,
    "local_lloyd_init_method": _INIT.or_else("kmeans++"),
    "local_lloyd_max_iter": integer(1).or_else(300),
    "local_lloyd_num_trials": integer(1).or_auto(),
    "local_lloyd_tol": real(0, 1).or_else(0.0001),
    "mini_batch_size": integer(1),
}
_WITHOUT_EFFECT = {"epochs", "extra_center_factor", "half_life_time_size", "init_method", "mini_batch_size"}


def _fit(container: TrainingContainer) -> None:
    import numpy as np

    given = container.hyperparameters()
    values = validate(_RULES, given)
    stand_in.announce("K-Means", sorted(_WITHOUT_EFFECT & given.keys()))
    if program.is_idle(container):
        return
    matrix, _ = stand_in.examples(container.required_channel("train"), values["feature_dim"])
    if len(matrix) < values["k"]:
        raise ValueError(f"k is {values['k']}, and there are {len(matrix)} rows")
    random = np.random.default_rng(0)
    trials = [
        _lloyd(
            matrix,
            _initial(matrix, values["k"], values["local_lloyd_init_method"], random),
            values["local_lloyd_max_iter"],
            values["local_lloyd_tol"],
        )
        for _ in range(values.get("local_lloyd_num_trials") or _TRIALS)
    ]
    centers, total = min(trials, key=lambda trial: trial[1])
    program.report(f"#quality_metric: host=algo-1, train msd <loss>={total / len(matrix)}")
    if (test := container.channel("test")) is not None:
        rows, _ = stand_in.examples(test, values["feature_dim"])
        squares = float((_nearest(rows, centers)[1]).sum())
        for metric in values["eval_metrics"]:
            score = squares / len(rows) if metric == "msd" else squares
            program.report(f"#test_score (algo-1) : ('{metric}', {score})")
    stand_in.save(container.model_folder, centers=centers)


def _initial(matrix: NDArray[np.float64], k: int, method: str, random: np.random.Generator) -> NDArray[np.float64]:
    """Choose rows as the first centres: at random, or far from one another."""
    import numpy as np

    if method == "random":
        return matrix[random.choice(len(matrix), k, replace=False)]
    centers = matrix[random.integers(len(matrix), size=1)]
    distances = _nearest(matrix, centers)[1]
    while len(centers) < k:
        # With fewer different rows than centres, all distances are 0, and any row serves.
        chances = distances / distances.sum() if distances.sum() else None
        center = matrix[random.choice(len(matrix), 1, p=chances)]
        centers = np.concatenate([centers, center])
        distances = np.minimum(distances, _nearest(matrix, center)[1])
    return centers


def _lloyd(
    matrix: NDArray[np.float64], centers: NDArray[np.float64], most: int, tolerance: float
) -> tuple[NDArray[np.float64], float]:
    """Move centres to the means of their rows until the sum of squares stays. Return them and the sum."""
    import numpy as np

    closest, distances = _nearest(matrix, centers)
    total = float(distances.sum())
    for _ in range(most):
        sizes = np.bincount(closest, minlength=len(centers))
        sums = np.stack([np.bincount(closest, column, len(centers)) for column in matrix.T], axis=1)
        # A centre without rows moves to the row that is farthest from its own.
        means = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], matrix[distances.argmax()])
        closest, distances = _nearest(matrix, means)
        centers, before, total = means, total, float(distances.sum())
        if before - total <= tolerance * before and (sizes > 0).all():
            break
    return centers, total


def _nearest(
    matrix: NDArray[np.float64], centers: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the closest centre of each row, and the square of its distance."""
    import numpy as np

    closest = np.empty(len(matrix), np.int64)
    lengths = (centers**2).sum(axis=1)
    step = max(1, _CHUNK_VALUES // len(centers))
    for start in range(0, len(matrix), step):
        closest[start : start + step] = (lengths - 2 * matrix[start : start + step] @ centers.T).argmin(axis=1)
    # From the differences themselves: the formula with products loses digits.
    return closest, ((matrix - centers[closest]) ** 2).sum(axis=1)


def _load(folder: Path) -> stand_in.StandInModel:
    import numpy as np

    stand_in.announce("K-Means")
    centers = stand_in.load(folder, ["centers"])["centers"]

    def predict(matrix: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        closest, squares = _nearest(matrix, centers)
        distance = np.sqrt(squares).astype(np.float32)
        return {"closest_cluster": closest.astype(np.float32), "distance_to_cluster": distance}

    return stand_in.StandInModel(centers.shape[1], predict, has_csv=True)


_ALGORITHM = program.Algorithm("kmeans", {"numpy": "numpy"}, _fit, _load)
train, serve = _ALGORITHM.train, _ALGORITHM.serve

if __name__ == "__main__":
    program.main(_ALGORITHM)
