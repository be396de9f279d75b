"""Answers of SageMaker's algorithms as columns, and answers that do not fit their rows: all without Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from processing.local.programs.record import write_record
from processing.local.programs.recordio import encode_answers, frame
from processing.spark import recordio
from processing.spark.ml.deserializers import (
    AnswerError,
    KMeansProtobufResponseRowDeserializer,
    LDAProtobufResponseRowDeserializer,
    LibSVMResponseRowDeserializer,
    LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer,
    LinearLearnerRegressorProtobufResponseRowDeserializer,
    PCAProtobufResponseRowDeserializer,
    XGBoostCSVRowDeserializer,
)

CLUSTERS: dict[str, Any] = {
    "closest_cluster": np.array([1, 0, 2], np.float32),
    "distance_to_cluster": np.array([0.5, 1, 2], np.float64),
}


def elements(column: Any) -> list[list[float]]:
    return [row["values"] for row in column.to_pylist()]


def test_answers_of_kmeans_in_both_shapes() -> None:
    """One record for each row, and one record with the values of all rows, are read alike, as doubles."""
    deserializer = KMeansProtobufResponseRowDeserializer(closestClusterColumnName="cluster")
    tensors = {name: recordio.Tensor(values) for name, values in CLUSTERS.items()}
    for body in (encode_answers(CLUSTERS), frame(write_record(recordio.Record({}, tensors)))):
        found = deserializer.decode(body, 3)
        assert list(found) == ["distance_to_cluster", "cluster"]
        assert found["cluster"].tolist() == [1, 0, 2]
        assert found["cluster"].dtype == np.float64


def test_vectors_stay_vectors() -> None:
    """A projection to one component is a vector with one element, not a number."""
    body = encode_answers({"projection": np.array([[1.5], [2.5]], np.float32)})
    found = PCAProtobufResponseRowDeserializer().decode(body, 2)
    assert elements(found["projection"]) == [[1.5], [2.5]]
    body = encode_answers({"topic_mixture": np.array([[0.25, 0.75]], np.float32)})
    assert elements(LDAProtobufResponseRowDeserializer("mixture").decode(body, 1)["mixture"]) == [[0.25, 0.75]]


def test_scores_of_several_classes() -> None:
    """The scores of a classifier are a vector, and its label is a number."""
    body = encode_answers(
        {"score": np.array([[0.1, 0.7, 0.2]], np.float64), "predicted_label": np.array([1], np.float32)}
    )
    found = LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer().decode(body, 1)
    assert elements(found["score"]) == [[0.1, 0.7, 0.2]]
    assert found["predicted_label"].tolist() == [1]
    with pytest.raises(AnswerError, match="'score' has 3 numbers for each row, and the column holds one"):
        LinearLearnerRegressorProtobufResponseRowDeserializer().decode(body, 1)


@pytest.mark.parametrize("rows", [2, 4])
def test_another_number_of_rows(rows: int) -> None:
    """An answer with more or fewer rows than were sent is an error."""
    with pytest.raises(AnswerError, match=f"the answer has 3 rows, and {rows} were sent"):
        KMeansProtobufResponseRowDeserializer().decode(encode_answers(CLUSTERS), rows)


def test_other_labels_and_other_bytes() -> None:
    """An answer without the label, and one that is no RecordIO, say so."""
    with pytest.raises(AnswerError, match=r"the labels \['closest_cluster', .*\], and no 'projection'"):
        PCAProtobufResponseRowDeserializer().decode(encode_answers(CLUSTERS), 3)
    with pytest.raises(AnswerError, match="the answer is not RecordIO"):
        PCAProtobufResponseRowDeserializer().decode(b"<html>", 1)


@pytest.mark.parametrize("body", [b"0.5,1.5,2", b"0.5\n1.5\n2\n", b"0.5\r\n1.5\r\n2", b"0.5,1.5,2\n"])
def test_predictions_of_old_and_new_images(body: bytes) -> None:
    """XGBoost's numbers are separated by commas or by lines."""
    assert XGBoostCSVRowDeserializer().decode(body, 3)["prediction"].tolist() == [0.5, 1.5, 2]


def test_probabilities_of_classes() -> None:
    """Several numbers in a line are a vector if that was asked for, and an error with the remedy if not."""
    body = b"0.1,0.9\n0.8,0.2\n"
    assert elements(XGBoostCSVRowDeserializer("p", vector=True).decode(body, 2)["p"]) == [[0.1, 0.9], [0.8, 0.2]]
    with pytest.raises(AnswerError, match=r"need XGBoostCSVRowDeserializer\(vector=True\)"):
        XGBoostCSVRowDeserializer().decode(body, 2)
    with pytest.raises(AnswerError, match="the answer is not CSV"):
        XGBoostCSVRowDeserializer().decode(b"no", 1)
    with pytest.raises(AnswerError, match="2 lines with 2 numbers, and 3 rows were sent"):
        XGBoostCSVRowDeserializer().decode(b"1\n2\n", 3)


def test_libsvm_answers() -> None:
    """A label and a sparse vector, whose positions count from 1."""
    found = LibSVMResponseRowDeserializer(dim=3, label_column_name="y", features_column_name="x").decode(
        b"1 3:5\n0\n", 2
    )
    assert found["y"].tolist() == [1, 0]
    assert [row["indices"] for row in found["x"].to_pylist()] == [[2], []]
    with pytest.raises(AnswerError, match="a column of the answer is not from 1 to 2"):
        LibSVMResponseRowDeserializer(2, "y", "x").decode(b"1 3:5\n", 1)
