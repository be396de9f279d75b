"""The common part of the stand-ins in numpy: their data, their model file and their answers."""

from __future__ import annotations

import json
import logging
import zipfile
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from processing.local.programs import csv_rows, formats, recordio
from processing.local.programs.container import ContainerError
from processing.local.programs.http_server import Answer, Invocation, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from processing.local.programs.container import Channel
    from processing.local.programs.rows import Rows

_logger = logging.getLogger(__name__)

_MODEL_FILE = "model_algo-1"  # the name that AWS's images use; the content is numpy's, not MXNet's
_TRAINING_TYPES = (formats.RECORDIO, formats.CSV)
_REQUEST_TYPES = (formats.CSV, formats.JSON, formats.JSON_LINES, formats.RECORDIO)


def announce(name: str, without_effect: Sequence[str] = ()) -> None:
    """Log that a program is a stand-in, and which of the given hyperparameters have no effect on it."""
    _logger.warning(
        "This is a stand-in for AWS's %s in numpy. It has AWS's formats, not its numerical method: "
        "results on AWS are different numbers.",
        name,
    )
    if without_effect:
        _logger.warning("These hyperparameters have no effect on the stand-in: %s.", ", ".join(sorted(without_effect)))


def examples(channel: Channel, feature_dim: int | None) -> tuple[NDArray[np.float64], Rows]:
    """Return the features of a channel as a matrix, and all of its rows.

    Args:
        channel: the channel.
        feature_dim: the number of features, or None for any.

    Raises:
        ContainerError: the rows have not `feature_dim` features, or a value is missing.
    """
    import numpy as np

    rows = formats.read_channel(channel, _TRAINING_TYPES)
    if feature_dim not in {None, rows.width}:
        hint = ""
        if formats.media_type(channel.content_type)[0] == formats.CSV and rows.labels is not None:
            hint = " beside a label; the ContentType of CSV without labels is text/csv;label_size=0"
        raise ContainerError(
            f"feature_dim is {feature_dim}, and rows of {channel.name} have {rows.width} features{hint}"
        )
    matrix = rows.dense().astype(np.float64)
    if not np.isfinite(matrix).all():
        number = int((~np.isfinite(matrix).all(axis=1)).argmax()) + 1
        raise ContainerError(f"channel {channel.name}: row {number} has a value that is missing or not finite")
    return matrix, rows


def save(folder: Path, **arrays: Any) -> None:
    """Write a model."""
    import numpy as np

    with (folder / _MODEL_FILE).open("wb") as file:
        np.savez(file, **arrays)


def load(folder: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model.

    Raises:
        ContainerError: there is no model, or it is another one.
    """
    import numpy as np

    path = folder / _MODEL_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise ContainerError(f"{path} is missing: the model was trained by another program") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ContainerError(f"{path} is not a model of this stand-in, such as one from AWS: {error}") from error


class StandInModel:
    """A model that answers in the formats of AWS's algorithms.

    Args:
        width: the number of features.
        predict: returns columns of answers by name, for a matrix of features.
        key: the name of the list of answers in JSON.
        has_csv: True if the algorithm answers in CSV, too.
    """

    def __init__(
        self,
        width: int,
        predict: Callable[[NDArray[np.float64]], Mapping[str, NDArray[Any]]],
        *,
        key: str = "predictions",
        has_csv: bool = False,
    ) -> None:
        self._width = width
        self._predict = predict
        self._key = key
        self._types = (formats.JSON, formats.JSON_LINES, formats.RECORDIO, *([formats.CSV] if has_csv else []))

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer an invocation.

        Raises:
            RefusedError: its types are not the algorithm's, or the body is wrong.
        """
        import numpy as np

        accepted = formats.negotiate(invocation.accept, self._types)
        if not invocation.body:
            return Answer(accepted, b"")
        rows = formats.read_request(invocation, _REQUEST_TYPES)
        if rows.width != self._width:
            text = f"The model has {self._width} features, and the rows have {rows.width}."
            raise RefusedError(HTTPStatus.BAD_REQUEST, text)
        matrix = rows.dense().astype(np.float64)
        if not np.isfinite(matrix).all():
            raise RefusedError(HTTPStatus.BAD_REQUEST, "A value is missing or not finite.")
        return Answer(accepted, self._encode(self._predict(matrix), accepted))

    def _encode(self, columns: Mapping[str, NDArray[Any]], accepted: str) -> bytes:
        import numpy as np

        if accepted == formats.RECORDIO:
            return recordio.encode_answers({name: column.astype(np.float32) for name, column in columns.items()})
        if accepted == formats.CSV:
            return csv_rows.write(np.column_stack(list(columns.values())))
        lists = [column.tolist() for column in columns.values()]
        answers = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
        if accepted == formats.JSON:
            return json.dumps({self._key: answers}).encode()
        return "".join([f"{json.dumps(answer)}\n" for answer in answers]).encode()
