"""Answers of XGBoost in the forms of AWS's image: scores, or the content that SAGEMAKER_INFERENCE_OUTPUT selects."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from processing.local.programs import csv_rows, formats, recordio
from processing.local.programs.http_server import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_CLASSIFIED = ("predicted_label", "labels", "raw_score", "raw_scores")
_PROBABLE = (*_CLASSIFIED, "probability", "probabilities")
_CONTENT = {
    "reg:squarederror": ("predicted_score",),
    "reg:logistic": ("predicted_score",),
    "reg:gamma": ("predicted_score",),
    "reg:tweedie": ("predicted_score",),
    "binary:logistic": _PROBABLE,
    "binary:logitraw": _CLASSIFIED,
    "binary:hinge": _CLASSIFIED,
    "multi:softmax": _CLASSIFIED,
    "multi:softprob": _PROBABLE,
}
"""The content that can be selected for each objective."""


def objective(config: str) -> tuple[str, int]:
    """Return the objective and the number of classes in the configuration of a booster."""
    learner = json.loads(config)["learner"]
    return learner["objective"]["name"], int(learner["learner_model_param"].get("num_class", 0))


def selected_keys() -> list[str]:
    """Return the selected content, in its order; empty if nothing is selected."""
    return [key for key in os.environ.get("SAGEMAKER_INFERENCE_OUTPUT", "").replace(" ", "").lower().split(",") if key]


def accepted_type(accept: str, keys: Sequence[str]) -> str:
    """Return the type of the answer: for a request without a preference, the default of the model's environment.

    Raises:
        RefusedError: the image does not answer in that type (406).
    """
    types = [formats.CSV, formats.JSON, *([formats.JSON_LINES, formats.RECORDIO] if keys else [])]
    if accept in {"", "*/*"}:
        accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "")
    try:
        return formats.negotiate(accept, types)
    except RefusedError as error:
        if not keys:
            text = f"{error} JSON lines and RecordIO need SAGEMAKER_INFERENCE_OUTPUT in the model's environment."
            raise RefusedError(HTTPStatus.NOT_ACCEPTABLE, text) from error
        raise


def encode(predictions: NDArray[np.float32], accepted: str) -> bytes:
    """Return scores: in CSV one line for each row, in JSON one `score`."""
    if accepted == formats.JSON:
        return json.dumps({"predictions": [{"score": score} for score in predictions.tolist()]}).encode()
    if os.environ.get("SAGEMAKER_BATCH") and predictions.ndim > 1:
        # In transforms the image writes the scores of several classes as a list.
        return "".join([f"{scores}\n" for scores in predictions.tolist()]).encode()
    return csv_rows.write(predictions)


def encode_selected(
    predictions: NDArray[np.float32], keys: Sequence[str], accepted: str, objective: str, classes: int
) -> bytes:
    """Return the selected content of each row.

    Raises:
        RefusedError: the objective has no content to select (500, as in the image).
    """
    if objective not in _CONTENT:
        raise RefusedError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"Objective `{objective}` unsupported for selectable inference predictions.",
        )
    answers = [_select(prediction, keys, objective, classes) for prediction in predictions.tolist()]
    if accepted == formats.JSON:
        return json.dumps({"predictions": answers}).encode()
    if accepted == formats.JSON_LINES:
        return "".join([f"{json.dumps(answer)}\n" for answer in answers]).encode()
    if accepted == formats.RECORDIO:
        return _recordio(answers, keys)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerows([[answer[key] for key in keys] for answer in answers])
    return output.getvalue().encode()


def _recordio(answers: list[dict[str, Any]], keys: Sequence[str]) -> bytes:
    import numpy as np

    return recordio.encode_answers({key: np.array([answer[key] for answer in answers], np.float32) for key in keys})


def _select(prediction: Any, keys: Sequence[str], objective: str, classes: int) -> dict[str, Any]:
    """Return the content of one row. Content that the objective has not is not a number."""
    several = isinstance(prediction, list)
    scores = prediction if several else [1 - prediction, prediction]
    best = max(prediction) if several else prediction
    content = {
        "predicted_score": prediction,
        "predicted_label": _label(prediction, objective),
        "labels": list(range(classes or 2)),
        "probability": best,
        "probabilities": scores,
        "raw_score": best,
        "raw_scores": scores,
    }
    return {key: content[key] if key in _CONTENT[objective] else math.nan for key in keys}


def _label(prediction: Any, objective: str) -> float:
    if isinstance(prediction, list):
        return int(prediction.index(max(prediction)))
    limits = {"binary:logistic": 0.5, "binary:logitraw": 0.0}
    return int(prediction > limits[objective]) if objective in limits else float(prediction)
