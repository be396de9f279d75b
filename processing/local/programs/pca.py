"""A stand-in for AWS's PCA: the eigenvectors of the covariance matrix.

`python -m processing.local.programs.pca train` and `... serve`. The last number of a projection is that of the
component with the largest variance, as in the answers of AWS's image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.programs import program, stand_in
from processing.local.programs.hyperparameters import boolean, integer, one_of, validate

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from processing.local.programs.container import TrainingContainer

_RULES = {
    "feature_dim": integer(1).needed(),
    "mini_batch_size": integer(1).needed(),
    "num_components": integer(1).needed(),
    "algorithm_mode": one_of("regular", "randomized"),
    "extra_components": integer(-1),
    "force_dense": boolean(),
    "subtract_mean": boolean().or_else(default=True),
}
_WITHOUT_EFFECT = {"algorithm_mode", "extra_components", "mini_batch_size"}


def _fit(container: TrainingContainer) -> None:
    import numpy as np

    given = container.hyperparameters()
    values = validate(_RULES, given)
    count = values["num_components"]
    if count > values["feature_dim"]:
        raise ValueError(f"num_components: must be at most feature_dim, {values['feature_dim']}, not {count}")
    stand_in.announce("PCA", sorted(_WITHOUT_EFFECT & given.keys()))
    if program.is_idle(container):
        return
    matrix, _ = stand_in.examples(container.required_channel("train"), values["feature_dim"])
    mean = matrix.mean(axis=0) if values["subtract_mean"] else np.zeros(matrix.shape[1])
    centered = matrix - mean
    variances, vectors = np.linalg.eigh(centered.T @ centered)  # in ascending order
    # The sign of a component is free: its largest entry is positive here.
    components = vectors[:, -count:].T
    signs = np.sign(components[np.arange(count), np.abs(components).argmax(axis=1)])
    components = components * signs[:, None]
    if (test := container.channel("test")) is not None:
        centered = stand_in.examples(test, values["feature_dim"])[0] - mean
        rebuilt = centered @ components.T @ components
        program.report(f"#test_score (algo-1) : ('rmse', {np.sqrt(((centered - rebuilt) ** 2).mean())})")
    stand_in.save(
        container.model_folder,
        mean=mean,
        components=components,
        singular_values=np.sqrt(np.maximum(variances[-count:], 0)),
    )


def _load(folder: Path) -> stand_in.StandInModel:
    import numpy as np

    stand_in.announce("PCA")
    model = stand_in.load(folder, ["mean", "components"])

    def predict(matrix: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        return {"projection": ((matrix - model["mean"]) @ model["components"].T).astype(np.float32)}

    return stand_in.StandInModel(len(model["mean"]), predict, key="projections")


_ALGORITHM = program.Algorithm("pca", {"numpy": "numpy"}, _fit, _load)
train, serve = _ALGORITHM.train, _ALGORITHM.serve

if __name__ == "__main__":
    program.main(_ALGORITHM)
