"""XGBoost as AWS's image runs it: the same predictions as the library's, whatever the format."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
import xgboost as library

from processing.local.programs import csv_rows, libsvm, recordio, xgboost, xgboost_answers
from processing.local.programs.rows import SparseRows, from_dense
from program_container import ContainerFolder, served

FEATURES, TARGETS = sklearn.datasets.load_diabetes(return_X_y=True)
HYPERPARAMETERS = {"num_round": 5, "objective": "reg:squarederror", "max_depth": 3, "eta": 0.3}


def sparse() -> SparseRows:
    """Return some of the features, so that rows differ in their length."""
    rows = from_dense(FEATURES)
    kept = rows.values > -0.02
    counts = np.add.reduceat(kept, rows.starts[:-1])
    return SparseRows(np.cumsum([0, *counts]), rows.indices[kept], rows.values[kept], rows.width)


def labelled(content_type: str) -> bytes:
    """Return the data set as the content of a channel."""
    if content_type == "text/csv":
        return csv_rows.write(np.column_stack([TARGETS, FEATURES]))
    if content_type == "text/libsvm":
        return libsvm.write(sparse(), TARGETS)
    return recordio.encode(FEATURES, TARGETS)


def matrix(content_type: str) -> Any:
    if content_type != "text/libsvm":
        return library.DMatrix(FEATURES, TARGETS)
    rows = sparse()
    shape = (len(TARGETS), rows.width)
    return library.DMatrix(scipy.sparse.csr_matrix((rows.values, rows.indices, rows.starts), shape), TARGETS)


def body(content_type: str) -> bytes:
    """Return the features as a request."""
    if content_type == "text/csv":
        return csv_rows.write(FEATURES)
    return libsvm.write(sparse()) if content_type == "text/libsvm" else recordio.encode(FEATURES)


@pytest.mark.parametrize("content_type", ["text/csv", "text/libsvm", "application/x-recordio-protobuf"])
def test_predictions_are_the_librarys(content_type: str, container: ContainerFolder) -> None:
    """A model trained and invoked in one format predicts what the library predicts from the same numbers."""
    container.configure(HYPERPARAMETERS)
    container.add("train", content_type, labelled(content_type))
    xgboost.train(container.root)
    data = matrix(content_type)
    parameters = {name: value for name, value in HYPERPARAMETERS.items() if name != "num_round"}
    expected = library.train(parameters, data, 5).predict(data)
    with served(xgboost._load(container.root / "model")) as client:
        lines = client.predict(body(content_type), content_type).decode().splitlines()
        scores = json.loads(client.predict(body(content_type), content_type, "application/json"))["predictions"]
    assert np.array(lines, np.float32).tolist() == expected.tolist()
    assert [score["score"] for score in scores] == expected.tolist()


def test_metrics_are_in_the_images_form(container: ContainerFolder, caplog: pytest.LogCaptureFixture) -> None:
    """Each round logs its metrics of both channels, as CloudWatch shows them of the image."""
    container.configure({**HYPERPARAMETERS, "eval_metric": "rmse,mae"})
    container.add("train", "csv", labelled("text/csv"))
    container.add("validation", "text/csv;label_size=1", labelled("text/csv"))
    with caplog.at_level("INFO"):
        xgboost.train(container.root)
    found = [line for line in caplog.messages if line.startswith("[")]
    number = r"\d+\.\d{5}"
    for round_number, line in enumerate(found):
        names = "#011".join(f"{data}-{name}:{number}" for data in ("train", "validation") for name in ("rmse", "mae"))
        assert re.fullmatch(rf"\[{round_number}\]#011{names}", line)
    assert len(found) == 5
    assert "Train matrix has 442 rows" in caplog.messages


def train_small(container: ContainerFolder, **hyperparameters: object) -> None:
    """Train on four rows: classes 0 to 3 by the first of two features."""
    container.configure({"num_round": 2, "min_child_weight": 0, **hyperparameters})
    container.add("train", "text/csv", b"0,0,5\n1,1,5\n0,2,5\n1,3,5\n")
    xgboost.train(container.root)


def test_classes_have_one_score_each(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probabilities of several classes are one line in CSV, and a list in JSON and in transforms."""
    train_small(container, objective="multi:softprob", num_class=3)
    with served(xgboost._load(container.root / "model")) as client:
        (line,) = client.predict(b"0,5", "text/csv").decode().splitlines()
        (answer,) = json.loads(client.predict(b"0,5", "text/csv", "application/json"))["predictions"]
        monkeypatch.setenv("SAGEMAKER_BATCH", "true")
        assert json.loads(client.predict(b"0,5", "text/csv")) == answer["score"]
    assert [float(score) for score in line.split(",")] == answer["score"]
    assert len(answer["score"]) == 3


def test_selected_content(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAGEMAKER_INFERENCE_OUTPUT selects the content of all four formats, in its order."""
    train_small(container, objective="binary:logistic")
    monkeypatch.setenv("SAGEMAKER_INFERENCE_OUTPUT", "predicted_label, probabilities,predicted_score")
    with served(xgboost._load(container.root / "model")) as client:
        (answer,) = json.loads(client.predict(b"1,5", "text/csv", "application/json"))["predictions"]
        lines = client.predict(b"1,5\n0,5", "text/csv", "application/jsonlines").splitlines()
        table = client.predict(b"1,5", "text/csv", "text/csv").decode()
        records = recordio.decode_answers(client.predict(b"1,5", "text/csv", "application/x-recordio-protobuf"))
    first, second = answer["probabilities"]
    assert answer["predicted_label"] == int(second > 0.5)
    assert first + second == 1
    assert np.isnan(answer["predicted_score"])  # a classifier has none
    assert [list(json.loads(line)) for line in lines] == [list(answer)] * 2
    assert table == f'{answer["predicted_label"]},"[{first}, {second}]",nan\n'
    assert records["probabilities"].tolist() == np.array([[first, second]], np.float32).tolist()


@pytest.mark.parametrize(
    ("objective", "prediction", "classes", "expected"),
    [
        ("multi:softprob", [0.2, 0.5, 0.3], 3, [1, [0, 1, 2], 0.5, [0.2, 0.5, 0.3], 0.5]),
        ("binary:logitraw", -0.5, 0, [0, [0, 1], None, None, -0.5]),
        ("binary:hinge", 1.0, 0, [1, [0, 1], None, None, 1.0]),
        ("multi:softmax", 2.0, 3, [2, [0, 1, 2], None, None, 2.0]),
        ("reg:squarederror", 7.5, 0, [None, None, None, None, None]),
    ],
)
def test_content_of_each_objective(objective: str, prediction: Any, classes: int, expected: list[Any]) -> None:
    """Each objective has its content, and nan in place of other content."""
    keys = ["predicted_label", "labels", "probability", "probabilities", "raw_score"]
    content = xgboost_answers._select(prediction, keys, objective, classes)
    assert [None if isinstance(value, float) and np.isnan(value) else value for value in content.values()] == expected


def test_objective_without_content(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective whose content cannot be selected is an error of the server, as in the image."""
    train_small(container, objective="count:poisson")
    monkeypatch.setenv("SAGEMAKER_INFERENCE_OUTPUT", "predicted_label")
    with served(xgboost._load(container.root / "model")) as client:
        status, text = client.invoke(b"1,5", "text/csv")
    assert (status, text) == (500, b"Objective `count:poisson` unsupported for selectable inference predictions.")


def test_refused_invocations(container: ContainerFolder) -> None:
    """Wrong types, bodies and widths have the status of AWS's image, and a reason."""
    train_small(container)
    with served(xgboost._load(container.root / "model")) as client:
        for status, part, body, *types in (
            (415, "is not one of text/csv, text/libsvm", b"{}", "application/json"),
            (415, "Loading csv data failed with Exception", b"1,two", "text/csv"),
            (415, "Loading libsvm data failed", b"1,2", "text/libsvm"),
            (415, "Loading recordio-protobuf data failed", b"12345678", "application/x-recordio-protobuf"),
            (406, "is not one of", b"1,2", "text/csv", "image/png"),
            (406, "SAGEMAKER_INFERENCE_OUTPUT", b"1,2", "text/csv", "application/jsonlines"),
            (400, "The model has 2 features, and rows have 3", b"1,2,3", "text/csv"),
            (400, "The model has 2 features, and rows have 1", b"1", "text/csv"),
            (400, "a row has the column 2, counted from 0", b"0:1 2:1", "text/libsvm"),
        ):
            answer = client.invoke(body, *types)
            assert (answer[0], part in answer[1].decode()) == (status, True), answer
        assert client.invoke(b"", "text/csv") == (204, b"")
        assert client.invoke(b"1,")[0] == 200  # CSV without a type; an empty cell is a missing value


def test_default_type_of_the_environment(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a preference has the type that the model's environment names, if the image has it."""
    train_small(container)
    with served(xgboost._load(container.root / "model")) as client:
        monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        assert json.loads(client.predict(b"1,5", "text/csv"))["predictions"]
        assert client.predict(b"1,5", "text/csv", "text/csv").count(b"\n") == 1
        monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/jsonlines")
        assert client.invoke(b"1,5", "text/csv")[0] == 406


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-recordio-protobuf"])
def test_data_of_a_pipe(content_type: str, container: ContainerFolder) -> None:
    """The data of a channel in Pipe mode are those of its first epoch. libsvm has no Pipe mode, as in the image."""
    container.configure(HYPERPARAMETERS)
    container.add("train", content_type, TrainingInputMode="Pipe")
    pipe = container.root / "input/data/train_0"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(labelled(content_type),))
    writer.start()
    xgboost.train(container.root)
    writer.join()
    from_pipe = model_bytes(container)
    container.add("train", content_type, labelled(content_type))
    xgboost.train(container.root)
    assert model_bytes(container) == from_pipe
    container.add("train", "text/libsvm", TrainingInputMode="Pipe")
    assert "text/libsvm needs the input mode File" in container.failure(xgboost.train, num_round=1)


def test_model_of_a_stopped_job(container: ContainerFolder) -> None:
    """With save_model_on_termination, SIGTERM ends the training after a round, and the model is saved."""
    container.configure({"num_round": 1_000_000, "save_model_on_termination": "true"})
    container.add("train", "text/csv", b"5,1\n6,2\n")
    command = [sys.executable, "-m", "processing.local.programs.xgboost", "train", "--root", str(container.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("[0]#011train-rmse:"))
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0
    booster = library.Booster(model_file=bytearray(model_bytes(container)))
    assert 0 < booster.num_boosted_rounds() < 1_000_000


def test_rows_without_features_have_an_answer(container: ContainerFolder) -> None:
    """Each line of libsvm has an answer, also the last ones without features: AWS's image drops them."""
    train_small(container)
    with served(xgboost._load(container.root / "model")) as client:
        assert len(client.predict(b"0:1 1:5\n1\n\n0\n", "text/libsvm").splitlines()) == 4


def test_model_of_the_best_round_predicts(container: ContainerFolder) -> None:
    """After early stopping the model predicts with its best round."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 3))
    noise = random.normal(size=60)
    container.add("train", "text/csv", csv_rows.write(np.column_stack([noise[:30], rows[:30]])))
    container.add("validation", "text/csv", csv_rows.write(np.column_stack([noise[30:], rows[30:]])))
    container.configure({"num_round": 50, "early_stopping_rounds": 3})
    xgboost.train(container.root)
    booster = library.Booster(model_file=bytearray(model_bytes(container)))
    best = int(booster.attr("best_iteration") or 0)
    assert best + 1 < booster.num_boosted_rounds()
    expected = booster.predict(library.DMatrix(rows), iteration_range=(0, best + 1))
    with served(xgboost._load(container.root / "model")) as client:
        lines = client.predict(csv_rows.write(rows), "text/csv").decode().splitlines()
    assert np.array(lines, np.float32).tolist() == expected.tolist()


def test_training_continues_from_a_checkpoint(container: ContainerFolder, caplog: pytest.LogCaptureFixture) -> None:
    """A job with checkpoints continues after the last one, and ends with the model of an uninterrupted job."""
    train_small(container, num_round=8)
    whole = (container.root / "model/xgboost-model").read_bytes()
    container.write("checkpointconfig", {"S3Uri": "s3://bucket/x", "LocalPath": "/opt/ml/checkpoints"})
    train_small(container, num_round=6)
    kept = sorted(path.name for path in (container.root / "checkpoints").iterdir())
    assert kept == [f"xgboost-checkpoint.{number}" for number in range(1, 6)]
    caplog.clear()
    with caplog.at_level("INFO"):
        train_small(container, num_round=8)
    assert [line[:3] for line in caplog.messages if line.startswith("[")] == ["[6]", "[7]"]
    models = [library.Booster(model_file=bytearray(content)) for content in (whole, model_bytes(container))]
    assert models[0].get_dump() == models[1].get_dump()


def model_bytes(container: ContainerFolder) -> bytes:
    return (container.root / "model/xgboost-model").read_bytes()


def test_weights(container: ContainerFolder) -> None:
    """Weights in the second column of CSV, and those behind a label of libsvm, are the library's."""
    models = []
    for content_type, content in (
        ("text/csv", b"0,1,0\n1,3,1\n0,2,2\n1,1,3\n"),
        ("text/libsvm", b"0:1 0:0\n1:3 0:1\n0:2 0:2\n1:1 0:3\n"),
    ):
        container.configure({"num_round": 1, "csv_weights": int(content_type == "text/csv")})
        container.add("train", content_type, content)
        xgboost.train(container.root)
        models.append(library.Booster(model_file=bytearray(model_bytes(container))).get_dump(with_stats=True))
    data = library.DMatrix(np.arange(4.0).reshape(-1, 1), [0, 1, 0, 1], weight=[1, 3, 2, 1])
    assert models == [library.train({}, data, 1).get_dump(with_stats=True)] * 2


def test_ranking_by_queries(container: ContainerFolder) -> None:
    """Query ids of libsvm group the rows of a ranking objective."""
    container.configure({"num_round": 1, "objective": "rank:pairwise"})
    container.add("train", "text/libsvm", b"0 qid:1 0:0\n1 qid:1 0:1\n", b"1 qid:2 0:2\n0 qid:2 0:3\n")
    xgboost.train(container.root)
    assert model_bytes(container)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({}, "the hyperparameter num_round is required"),
        ({"num_round": 0}, "num_round: must be an integer of at least 1, not '0'"),
        ({"num_round": 1, "eta": 2}, "eta: must be a number from 0 to 1, not '2'"),
        ({"num_round": 1, "max_dept": 2}, "max_dept: this algorithm has no such hyperparameter"),
        ({"num_round": 1, "objective": "multi:softmax"}, "num_class is required"),
        ({"num_round": 1, "objective": "reg:nothing"}, "XGBoost: .*Unknown objective function"),
        ({"num_round": 1, "eval_metric": "nothing"}, "XGBoost: .*Unknown metric function"),
        ({"num_round": 1, "_kfold": 3}, "cross-validation is not in this program"),
        ({"num_round": 1, "objective": "binary:logistic"}, "for the logistic loss"),
    ],
)
def test_refused_hyperparameters(hyperparameters: dict[str, object], message: str, container: ContainerFolder) -> None:
    """A wrong hyperparameter is the reason of the job's failure, by its name, without a stack."""
    container.add("train", "text/csv", b"5,1\n6,2\n")
    failure = container.failure(xgboost.train, **hyperparameters)
    assert re.search(message, failure, re.DOTALL)
    assert "Stack trace" not in failure


@pytest.mark.parametrize(
    ("content_type", "content", "message"),
    [
        ("text/csv", b"a,b\n1,2\n", "channel train: line 1: 'a' is not a number; a file for training has no header"),
        ("text/csv;label_size=0", b"1,2\n", "channel train: there are no labels"),
        ("text/csv;label_size=2", b"1,2\n", "label_size must be 0 or 1"),
        ("text/csv", b"1,2\n1,2,3\n", "line 2 has 3 columns, and line 1 has 2"),
        ("", b"1,2\n", "channel train: line 1: '1,2' is not a number, and a label is one"),
        ("image/png", b"1,2\n", "ContentType image/png is not one of text/libsvm, text/csv"),
        ("text/csv", b"", "there are no data in the channel train"),
        ("text/csv", b"\n\n", "there are no data in the channel train"),
        ("application/x-recordio-protobuf", b"1,2\n", "the file ends within the header of a record"),
        ("application/x-recordio-protobuf", recordio.encode(np.ones((1, 1))), "there are no labels"),
    ],
)
def test_refused_channels(content_type: str, content: bytes, message: str, container: ContainerFolder) -> None:
    """Wrong data are the reason of the job's failure, with the channel and the place."""
    container.add("train", content_type, content)
    assert message in container.failure(xgboost.train, num_round=1)


def test_missing_channel_and_configuration(container: ContainerFolder) -> None:
    """A job without the channel train, and a folder without a job, are refused."""
    assert container.failure(xgboost.train, num_round=1) == "the channel train is required"
    (container.root / "input/config/hyperparameters.json").unlink()
    with pytest.raises(SystemExit):
        xgboost.train(container.root)
    assert "this program runs in a training job" in (container.root / "output/failure").read_text()


def test_hosts(container: ContainerFolder) -> None:
    """With all data on each host, the first host trains and others do nothing. Spread data are refused."""
    container.add("train", "text/csv", b"5,1\n6,2\n", S3DistributionType="FullyReplicated")
    container.configure({"num_round": 1}, hosts=2, host=2)
    xgboost.train(container.root)
    assert list((container.root / "model").iterdir()) == []
    container.configure({"num_round": 1}, hosts=2)
    xgboost.train(container.root)
    assert model_bytes(container)


def test_hosts_with_shares_have_to_find_each_other(container: ContainerFolder) -> None:
    """Spread data on hosts without names, as where paths are rewritten, are refused with a remedy."""
    container.add("train", "text/csv", b"5,1\n6,2\n", S3DistributionType="ShardedByS3Key")
    container.configure({"num_round": 1}, hosts=2)
    with pytest.raises(SystemExit):
        xgboost.train(container.root)
    assert "algo-1 has no address here" in (container.root / "output/failure").read_text()


def parquet(**columns: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_parquet_channels(container: ContainerFolder) -> None:
    """The first column is the label. The model is that of the same CSV, missing values included."""
    container.add("train", "text/csv", b"5,1,0.5\n6,2,\n7,3,1.5\n")
    container.configure({"num_round": 3})
    xgboost.train(container.root)
    expected = model_bytes(container)
    container.add("train", "application/x-parquet", parquet(y=[5, 6, 7], a=[1, 2, 3], b=[0.5, None, 1.5]))
    xgboost.train(container.root)
    assert model_bytes(container) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5,1\n", "channel train: the content is not Parquet: "),
        (parquet(y=[1.0], name=["x"]), "channel train: the column name has the type string, and no numbers"),
        (parquet(y=[1.0]), "channel train: a label and features need two columns, and there are 1"),
    ],
    ids=["csv", "text", "label alone"],
)
def test_refused_parquet(content: bytes, message: str, container: ContainerFolder) -> None:
    """Wrong data are the reason of the job's failure."""
    container.add("train", "application/x-parquet", content)
    assert message in container.failure(xgboost.train, num_round=1)


def test_parquet_needs_pyarrow(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the reason of the job's failure says what to install."""
    container.add("train", "application/x-parquet", parquet(y=[1.0], a=[1]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert container.failure(xgboost.train, num_round=1) == "Parquet needs pyarrow: pip install pyarrow"


def test_files_that_are_no_data(container: ContainerFolder) -> None:
    """Files below folders are data, and those whose name begins with a dot or an underscore are none."""
    container.add("train", "text/csv", b"5,1\n")
    folder = container.root / "input/data/train"
    (folder / "_SUCCESS").write_bytes(b"no data")
    (folder / ".hidden").write_bytes(b"no data")
    (folder / "deep").mkdir()
    (folder / "deep/more").write_bytes(b"6,2\n")
    container.configure({"num_round": 1})
    xgboost.train(container.root)
    assert model_bytes(container)


@pytest.mark.parametrize("name", ["xgboost-model", "model.json"])
def test_model_of_another_program(name: str, container: ContainerFolder) -> None:
    """A model that the library saved itself is served, whatever its name. Anything else is refused."""
    folder = container.root / "model"
    folder.mkdir()
    data = library.DMatrix([[1.0], [2.0]], [1, 2])
    booster = library.train({}, data, 1)
    (folder / name).write_bytes(bytes(booster.save_raw("json")))
    with served(xgboost._load(folder)) as client:
        assert np.float32(client.predict(b"1", "text/csv")) == booster.predict(data)[0]
    (folder / name).write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"save it with Booster\.save_model"):
        xgboost._load(folder)


def test_folder_without_a_model(container: ContainerFolder) -> None:
    """A folder without a model is refused before the server starts."""
    with pytest.raises(SystemExit) as caught:
        xgboost.serve(container.root, 0)
    assert caught.value.code == 1


def test_missing_library(container: ContainerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the failure names the package to install."""
    monkeypatch.setitem(sys.modules, "xgboost", None)
    assert "pip install xgboost-cpu" in container.failure(xgboost.train, num_round=1)
