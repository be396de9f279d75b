"""XGBoost itself, with the channels, hyperparameters, metrics and formats of AWS's image.

`python -m processing.local.programs.xgboost train` and `... serve`. The library is imported when it is used:
`pip install xgboost-cpu`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from processing.local.programs import formats, program, xgboost_answers
from processing.local.programs.container import ContainerError
from processing.local.programs.http_server import Answer, Invocation, RefusedError
from processing.local.programs.hyperparameters import Hyperparameter, integer, items, one_of, real, text, validate
from processing.local.programs.rows import Rows, SparseRows
from processing.local.programs.xgboost_hosts import HostGroup, is_shared

if TYPE_CHECKING:
    from pathlib import Path

    from processing.local.programs.container import TrainingContainer

_logger = logging.getLogger(__name__)

_MODEL_FILE = "xgboost-model"
_CHECKPOINT = "xgboost-checkpoint"
_KEPT_CHECKPOINTS = 5  # as many as AWS's image keeps
_TYPES = (formats.LIBSVM, formats.CSV, formats.RECORDIO, formats.PARQUET)
_REQUEST_TYPES = (formats.CSV, formats.LIBSVM, formats.RECORDIO)

_SHARE = real(0, 1)
_POSITIVE_SHARE = real(above=0, most=1)
_FLAG = integer(0, 1)
_SWITCH = one_of("true", "false")
_RULES: dict[str, Hyperparameter] = {
    "num_round": integer(1).needed(),
    "aft_loss_distribution": one_of("normal", "logistic", "extreme"),
    "aft_loss_distribution_scale": real(0),
    "alpha": real(0),
    "base_score": real(0),
    "booster": one_of("gbtree", "gblinear", "dart"),
    "colsample_bylevel": _POSITIVE_SHARE,
    "colsample_bynode": _POSITIVE_SHARE,
    "colsample_bytree": _POSITIVE_SHARE,
    "csv_weights": _FLAG,
    "deterministic_histogram": _SWITCH,
    "dsplit": one_of("row", "col"),
    "early_stopping_rounds": integer(1),
    "eta": _SHARE,
    "eval_metric": items(re.compile(r"[a-z0-9-]+(@\S+)?").fullmatch, "a list of XGBoost's metrics"),
    "gamma": real(0),
    "grow_policy": one_of("depthwise", "lossguide"),
    "interaction_constraints": text(),
    "lambda": real(0),
    "lambda_bias": _SHARE,
    "learning_rate": _SHARE,
    "max_bin": integer(0),
    "max_delta_step": real(0),
    "max_depth": integer(0),
    "max_leaves": integer(0),
    "min_child_weight": real(0),
    "min_split_loss": real(0),
    "monotone_constraints": text(),
    "normalize_type": one_of("tree", "forest"),
    "nthread": integer(1),
    "num_class": integer(2),
    "num_parallel_tree": integer(1),
    "objective": text(),
    "one_drop": _FLAG,
    "predictor": one_of("auto", "cpu_predictor", "gpu_predictor"),
    "process_type": one_of("default", "update"),
    "rate_drop": _SHARE,
    "refresh_leaf": _FLAG,
    "reg_alpha": real(0),
    "reg_lambda": real(0),
    "sample_type": one_of("uniform", "weighted"),
    "sampling_method": one_of("uniform", "gradient_based"),
    "save_model_on_termination": _SWITCH,
    "scale_pos_weight": real(above=0),
    "seed": integer(-(1 << 31), (1 << 31) - 1),
    "silent": _FLAG,
    "single_precision_histogram": _SWITCH,
    "sketch_eps": real(above=0, below=1),
    "skip_drop": _SHARE,
    "subsample": _POSITIVE_SHARE,
    "tree_method": one_of("auto", "exact", "approx", "hist", "gpu_hist"),
    "tweedie_variance_power": real(above=1, below=2),
    "updater": text(),
    "verbosity": integer(0, 3),
}
# Those of the image, not of the library, and those that no present version of the library has.
_NOT_FOR_THE_LIBRARY = {
    "csv_weights",
    "deterministic_histogram",
    "dsplit",
    "early_stopping_rounds",
    "num_round",
    "predictor",
    "save_model_on_termination",
    "silent",
    "single_precision_histogram",
    "sketch_eps",
}


def _fit(container: TrainingContainer) -> None:
    given = container.hyperparameters()
    if "_kfold" in given:
        raise ContainerError("_kfold: cross-validation is not in this program")
    values = validate(_RULES, given)
    if values.get("objective", "").startswith("multi:") and "num_class" not in values:
        raise ContainerError("the hyperparameter num_class is required for the objective " + values["objective"])
    if not is_shared(container):
        if not program.is_idle(container):
            _boost(container, values, _channels(container, values))
        return
    group = HostGroup(container)
    channels = _channels(container, values)
    with group.joined():
        _boost(container, values, channels, group)


def _channels(container: TrainingContainer, values: dict[str, Any]) -> dict[str, Rows]:
    """Return the rows of each channel."""
    train_rows = formats.read_channel(
        container.required_channel("train"), _TYPES, weights=values.get("csv_weights") == 1
    )
    validation = container.channel("validation")
    channels = {"train": train_rows}
    if validation is not None:
        channels["validation"] = formats.read_channel(validation, _TYPES)
    for name, rows in channels.items():
        if rows.labels is None:
            raise ContainerError(f"channel {name}: there are no labels")
        _logger.info("%s matrix has %d rows", name.capitalize(), rows.height)
    return channels


def _boost(
    container: TrainingContainer, values: dict[str, Any], channels: dict[str, Rows], group: HostGroup | None = None
) -> None:
    """Run the rounds, together with the hosts of a group, and save the model on its first host."""
    import xgboost

    width = max(rows.width for rows in channels.values())
    leads = group is None or group.leads
    if group is not None:
        width = group.widest(width)
    matrices = [(_matrix(rows, width), name) for name, rows in channels.items()]
    folder = container.checkpoint_folder()
    checkpoint, done = _last_checkpoint(folder)
    parameters = {name: value for name, value in values.items() if name not in _NOT_FOR_THE_LIBRARY}
    try:
        booster = xgboost.train(
            parameters,
            matrices[0][0],
            max(0, values["num_round"] - done),
            evals=matrices,
            early_stopping_rounds=values.get("early_stopping_rounds"),
            callbacks=[_callback(done, folder, leads=leads, stoppable=_is_saved_when_stopped(values))],
            xgb_model=checkpoint,
            verbose_eval=False,
        )
    except xgboost.core.XGBoostError as error:
        raise ContainerError(f"XGBoost: {_reason(error)}") from error
    if leads:
        (container.model_folder / _MODEL_FILE).write_bytes(bytes(booster.save_raw("ubj")))


def _is_saved_when_stopped(values: dict[str, Any]) -> bool:
    return bool(values.get("save_model_on_termination") == "true")


def _reason(error: Exception) -> str:
    """Return the message of an error of the library without its stack, its time and its place in the source."""
    return re.sub(r"\[[0-9:]+\] \S+:\d+: ", "", str(error).split("Stack trace", 1)[0], count=1).strip()


def _matrix(rows: Rows, width: int) -> Any:
    """Return the library's matrix. Rows that are narrower have missing values at their end, if they are sparse."""
    import scipy.sparse
    import xgboost

    features: Any = rows.features
    if isinstance(features, SparseRows):
        shape = (rows.height, width)
        features = scipy.sparse.csr_matrix((features.values, features.indices, features.starts), shape=shape)
        features.sort_indices()
    return xgboost.DMatrix(features, label=rows.labels, weight=rows.weights, qid=rows.queries)


def _callback(done: int, folder: Path | None, *, leads: bool, stoppable: bool) -> Any:
    """Return a callback that logs the metrics of each round, keeps checkpoints, and ends the training at SIGTERM.

    Hosts that train together have the same metrics, and the first one logs them.
    """
    import xgboost

    stopped = threading.Event()
    if stoppable and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    class Rounds(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, dict[str, list[Any]]]) -> bool:
            scores = [
                f"{data}-{metric}:{values[-1]:.5f}"
                for data, metrics in evals_log.items()
                for metric, values in metrics.items()
            ]
            number = done + epoch
            # CloudWatch shows the image's tab as #011, and metric definitions search for that.
            if leads:
                program.report("#011".join([f"[{number}]", *scores]))
            if folder is not None:
                _write_checkpoint(folder, number, bytes(model.save_raw("ubj")))
            return stopped.is_set()

    return Rounds()


def _write_checkpoint(folder: Path, number: int, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{_CHECKPOINT}.{number}.part"  # a copy in the middle of a write must not find half of one
    temporary.write_bytes(content)
    temporary.rename(folder / f"{_CHECKPOINT}.{number}")
    (folder / f"{_CHECKPOINT}.{number - _KEPT_CHECKPOINTS}").unlink(missing_ok=True)


def _last_checkpoint(folder: Path | None) -> tuple[Any, int]:
    """Return the model of the last checkpoint and the rounds that are done, or None and 0."""
    import xgboost

    names = [] if folder is None else [path.name for path in folder.glob(f"{_CHECKPOINT}.*")]
    numbers = [int(name.rpartition(".")[2]) for name in names if name.rpartition(".")[2].isdigit()]
    if folder is None or not numbers:
        return None, 0
    path = folder / f"{_CHECKPOINT}.{max(numbers)}"
    _logger.info("Checkpoint loaded from %s", path)
    return xgboost.Booster(model_file=bytearray(path.read_bytes())), max(numbers) + 1


class _XGBoostModel:
    """A trained booster."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._width = int(booster.num_features())
        best = booster.attr("best_iteration")
        self._rounds = {} if best is None else {"iteration_range": (0, int(best) + 1)}
        self._objective, self._classes = xgboost_answers.objective(booster.save_config())

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer an invocation.

        Raises:
            RefusedError: its types are not the algorithm's, or the body is wrong.
        """
        keys = xgboost_answers.selected_keys()
        accepted = xgboost_answers.accepted_type(invocation.accept, keys)
        if not invocation.body:
            return Answer(accepted, b"")
        predictions = self._predict(_request_rows(invocation))
        if keys:
            return Answer(
                accepted,
                xgboost_answers.encode_selected(predictions, keys, accepted, self._objective, self._classes),
            )
        return Answer(accepted, xgboost_answers.encode(predictions, accepted))

    def _predict(self, rows: Rows) -> Any:
        sparse = isinstance(rows.features, SparseRows)
        if rows.width > self._width or (rows.width < self._width and not sparse):
            found = f"a row has the column {rows.width - 1}, counted from 0" if sparse else f"rows have {rows.width}"
            text = f"The model has {self._width} features, and {found}."
            raise RefusedError(HTTPStatus.BAD_REQUEST, text)
        matrix = _matrix(Rows(rows.features), self._width)
        return self._booster.predict(matrix, validate_features=False, **self._rounds)


def _request_rows(invocation: Invocation) -> Rows:
    """Return the rows of a request. Wrong data are an unsupported media type, with the words of AWS's image."""
    try:
        return formats.read_request(invocation, _REQUEST_TYPES)
    except RefusedError as error:
        if error.status != HTTPStatus.BAD_REQUEST:
            raise
        name = (invocation.content_type or _REQUEST_TYPES[0]).partition(";")[0].rpartition("/")[2].removeprefix("x-")
        text = f"Loading {name} data failed with Exception, please ensure data is in {name} format: {error}"
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text) from error


def _load(folder: Path) -> _XGBoostModel:
    import xgboost

    files = [path for path in sorted(folder.glob("*")) if path.is_file() and path.name[0] != "."]
    path = folder / _MODEL_FILE
    if path not in files:
        if len(files) != 1:
            raise ContainerError(f"{path} is missing, and there are {len(files)} other files")
        path = files[0]
    try:
        booster = xgboost.Booster(model_file=bytearray(path.read_bytes()))
        booster.set_param({"nthread": 1})  # as the image does: several requests are predicted at once
        return _XGBoostModel(booster)
    except xgboost.core.XGBoostError as error:
        raise ContainerError(
            f"{path} is not a model in JSON or UBJSON: save it with Booster.save_model ({_reason(error)})"
        ) from error


_ALGORITHM = program.Algorithm("xgboost", {"numpy": "numpy", "scipy": "scipy", "xgboost": "xgboost-cpu"}, _fit, _load)
train, serve = _ALGORITHM.train, _ALGORITHM.serve

if __name__ == "__main__":
    # The library imports scikit-learn where it can. That takes longer than all the rest, and is of no use here.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    # Hosts and jobs share this machine's processors, which a thread that waits must not keep from the others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    program.main(_ALGORITHM)
