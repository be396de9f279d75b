"""A stand-in for AWS's linear learner: least squares, and logistic or softmax regression by L-BFGS.

`python -m processing.local.programs.linear_learner train` and `... serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.programs import program, stand_in
from processing.local.programs.hyperparameters import Hyperparameter, boolean, integer, one_of, real, validate
from processing.local.programs.lbfgs import minimize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from processing.local.programs.container import Channel, TrainingContainer

_WEIGHT_DECAY = 1e-4  # of a classifier for wd=auto: without any, separable classes have no finite solution

_SWITCH = boolean().or_auto()
_SHARE = real(0, 1)
_POSITIVE = real(above=0)
_RULES: dict[str, Hyperparameter] = {
    "feature_dim": integer(1).or_auto(),
    "predictor_type": one_of("binary_classifier", "multiclass_classifier", "regressor").needed(),
    "num_classes": integer(3, 1_000_000),
    "accuracy_top_k": integer(1),
    "balance_multiclass_weights": boolean(),
    "beta_1": _SHARE.or_auto(),
    "beta_2": _SHARE.or_auto(),
    "bias_lr_mult": _POSITIVE.or_auto(),
    "bias_wd_mult": real(0).or_auto(),
    "binary_classifier_model_selection_criteria": one_of(
        "accuracy",
        "f1",
        "f_beta",
        "precision_at_target_recall",
        "recall_at_target_precision",
        "cross_entropy_loss",
        "loss_function",
    ),
    "early_stopping_patience": integer(1),
    "early_stopping_tolerance": _POSITIVE,
    "epochs": integer(1),
    "f_beta": _POSITIVE,
    "force_dense": boolean(),
    "huber_delta": _POSITIVE,
    "init_bias": real(),
    "init_method": one_of("uniform", "normal"),
    "init_scale": _POSITIVE,
    "init_sigma": _POSITIVE,
    "l1": real(0).or_auto(),
    "learning_rate": _POSITIVE.or_auto(),
    "loss": one_of(
        "auto",
        "logistic",
        "squared_loss",
        "absolute_loss",
        "hinge_loss",
        "eps_insensitive_squared_loss",
        "eps_insensitive_absolute_loss",
        "quantile_loss",
        "huber_loss",
        "softmax_loss",
    ),
    "loss_insensitivity": _POSITIVE,
    "lr_scheduler_factor": _SHARE.or_auto(),
    "lr_scheduler_minimum_lr": _POSITIVE.or_auto(),
    "lr_scheduler_step": integer(1).or_auto(),
    "margin": _POSITIVE,
    "mini_batch_size": integer(1),
    "momentum": _SHARE.or_auto(),
    "normalize_data": _SWITCH.or_else(default=True),
    "normalize_label": _SWITCH,
    "num_calibration_samples": integer(1).or_auto(),
    "num_models": integer(1).or_auto(),
    "num_point_for_scaler": integer(1),
    "optimizer": one_of("auto", "adam", "sgd", "rmsprop"),
    "positive_example_weight_mult": _POSITIVE.or_auto("balanced"),
    "quantile": real(above=0, below=1),
    "target_precision": _SHARE,
    "target_recall": _SHARE,
    "unbias_data": _SWITCH,
    "unbias_label": _SWITCH,
    "use_bias": boolean().or_else(default=True),
    "use_lr_scheduler": boolean(),
    "wd": real(0).or_auto(),
}
_EFFECTIVE = {"feature_dim", "predictor_type", "num_classes", "normalize_data", "use_bias", "wd", "force_dense"}


class _Weights(NamedTuple):
    """A linear function of the features: one column for each output."""

    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs."""
        return rows @ self.matrix + self.bias


def _fit(container: TrainingContainer) -> None:
    import numpy as np

    given = container.hyperparameters()
    values = validate(_RULES, given)
    kind = values["predictor_type"]
    if kind == "multiclass_classifier" and "num_classes" not in values:
        raise ValueError("the hyperparameter num_classes is required for predictor_type multiclass_classifier")
    without_effect = {name for name, value in given.items() if name not in _EFFECTIVE and value != "auto"}
    stand_in.announce("linear learner", sorted(name for name in without_effect if not name.startswith("_")))
    if program.is_idle(container):
        return
    rows, labels = _examples(container.required_channel("train"), values)
    scale = rows.std(axis=0) if values["normalize_data"] else np.ones(rows.shape[1])
    scale[scale == 0] = 1
    # Without a bias the mean stays: there is nothing that could make up for it.
    shift = rows.mean(axis=0) if values["use_bias"] and values["normalize_data"] else np.zeros(rows.shape[1])
    normal = (rows - shift) / scale
    if kind == "regressor":
        fitted = _least_squares(normal, labels, values)
    else:
        fitted = _classify(normal, labels, 1 if kind == "binary_classifier" else values["num_classes"], values)
    weights = fitted.matrix / scale[:, None]
    model = _Weights(weights, fitted.bias - shift @ weights)
    _report(container, model, values)
    stand_in.save(container.model_folder, weights=model.matrix, bias=model.bias, predictor_type=np.array(kind))


def _examples(channel: Channel, values: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features and the labels of a channel.

    Raises:
        ValueError: labels are missing, or a label is not a class.
    """
    import numpy as np

    matrix, rows = stand_in.examples(channel, values.get("feature_dim"))
    if rows.labels is None:
        raise ValueError(f"channel {channel.name}: there are no labels")
    labels = rows.labels.astype(np.float64)
    classes = {"binary_classifier": 2, "multiclass_classifier": values.get("num_classes")}.get(values["predictor_type"])
    wrong = ~np.isfinite(labels)
    if classes is not None:
        wrong |= ~np.isin(labels, np.arange(classes))
    if wrong.any():
        valid = "a finite number" if classes is None else f"an integer from 0 to {classes - 1}"
        number = int(wrong.argmax())
        raise ValueError(f"channel {channel.name}: the label of row {number + 1} must be {valid}, not {labels[number]}")
    return matrix, labels


def _least_squares(rows: NDArray[np.float64], labels: NDArray[np.float64], values: Mapping[str, Any]) -> _Weights:
    """Minimize the mean of squared errors, and half the weight decay times the squares of the weights."""
    import numpy as np

    decay = values.get("wd") or 0
    offset = labels.mean() if values["use_bias"] else 0.0
    centre = rows.mean(axis=0) if values["use_bias"] else np.zeros(rows.shape[1])
    # Decay as more rows: the problem stays one of least squares, and singular ones have a solution.
    more = np.sqrt(decay * len(rows) / 2) * np.eye(rows.shape[1])
    system = np.concatenate([rows - centre, more]) if decay else rows - centre
    target = np.concatenate([labels - offset, np.zeros(len(system) - len(rows))])
    weights = np.linalg.lstsq(system, target)[0]
    return _Weights(weights[:, None], np.array([offset - centre @ weights]))


def _classify(
    rows: NDArray[np.float64], labels: NDArray[np.float64], outputs: int, values: Mapping[str, Any]
) -> _Weights:
    """Minimize the mean cross entropy, and half the weight decay times the squares of the weights."""
    import numpy as np

    decay = values["wd"] if values.get("wd") is not None else _WEIGHT_DECAY
    wanted = labels[:, None] if outputs == 1 else np.eye(outputs)[labels.astype(np.int64)]
    use_bias = float(values["use_bias"])

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = _Weights(flat[:-outputs].reshape(-1, outputs), use_bias * flat[-outputs:])
        scores = weights(rows)
        error = _probabilities(scores) - wanted
        gradient = rows.T @ error / len(rows) + decay * weights.matrix
        value = _cross_entropy(scores, wanted) + decay / 2 * float((weights.matrix**2).sum())
        return value, np.concatenate([gradient.reshape(-1), use_bias * error.mean(axis=0)])

    flat = minimize(loss, np.zeros((rows.shape[1] + 1) * outputs))
    return _Weights(flat[:-outputs].reshape(-1, outputs), use_bias * flat[-outputs:])


def _probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function of one output, or the softmax of several."""
    import numpy as np

    if scores.shape[1] == 1:
        return np.exp(-np.logaddexp(0, -scores))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _cross_entropy(scores: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    import numpy as np

    if scores.shape[1] == 1:
        return float((np.logaddexp(0, scores) - wanted * scores).mean())
    highest = scores.max(axis=1)
    totals = highest + np.log(np.exp(scores - highest[:, None]).sum(axis=1))
    return float((totals - (wanted * scores).sum(axis=1)).mean())


def _report(container: TrainingContainer, model: _Weights, values: Mapping[str, Any]) -> None:
    """Log the error of a regressor, or the accuracy of a classifier, on each channel."""
    is_regressor = values["predictor_type"] == "regressor"
    for name in ("train", "validation", "test"):
        if (channel := container.channel(name)) is None:
            continue
        rows, labels = _examples(channel, values)
        if is_regressor:
            metric, score = "mse", float(((model(rows)[:, 0] - labels) ** 2).mean())
        else:
            binary = model.matrix.shape[1] == 1
            accuracy = float((_labels(_probabilities(model(rows))) == labels).mean())
            metric, score = "binary_classification_accuracy" if binary else "multiclass_accuracy", accuracy
        if name == "test":
            program.report(f"#test_score (algo-1) : ('{metric}', {score})")
        else:
            program.report(
                f"#quality_metric: host=algo-1, {name} {metric} <{'loss' if is_regressor else 'score'}>={score}"
            )


def _labels(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > 0.5).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1))


def _load(folder: Path) -> stand_in.StandInModel:
    import numpy as np

    stand_in.announce("linear learner")
    arrays = stand_in.load(folder, ["weights", "bias", "predictor_type"])
    model, is_regressor = _Weights(arrays["weights"], arrays["bias"]), str(arrays["predictor_type"]) == "regressor"

    def predict(matrix: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        outputs = model(matrix)
        if is_regressor:
            return {"score": outputs[:, 0].astype(np.float32)}
        probabilities = _probabilities(outputs)
        score = probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities
        return {"score": score.astype(np.float32), "predicted_label": _labels(probabilities)}

    return stand_in.StandInModel(len(model.matrix), predict)


_ALGORITHM = program.Algorithm("linear_learner", {"numpy": "numpy"}, _fit, _load)
train, serve = _ALGORITHM.train, _ALGORITHM.serve

if __name__ == "__main__":
    program.main(_ALGORITHM)
