"""The stand-ins in numpy: results like scikit-learn's, in the formats that AWS documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn.cluster
import sklearn.datasets
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing

from processing.local.programs import csv_rows, kmeans, linear_learner, pca, recordio
from processing.local.programs.rows import SparseRows
from program_container import ContainerFolder, served

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

IRIS, SPECIES = sklearn.datasets.load_iris(return_X_y=True)
DIABETES, PROGRESSION = sklearn.datasets.load_diabetes(return_X_y=True)
CANCER, BENIGN = sklearn.datasets.load_breast_cancer(return_X_y=True)

CSV = "text/csv;label_size=0"
RECORDIO = "application/x-recordio-protobuf"


def answers(program: ModuleType, container: ContainerFolder, rows: NDArray[Any]) -> list[dict[str, Any]]:
    """Return the model's answers to all rows."""
    with served(program._load(container.root / "model")) as client:
        lines = client.predict(csv_rows.write(rows), "text/csv", "application/jsonlines")
    return [json.loads(line) for line in lines.splitlines()]


def trained_kmeans(container: ContainerFolder, **hyperparameters: object) -> None:
    container.configure({"k": 3, "feature_dim": 4, **hyperparameters})
    container.add("train", CSV, csv_rows.write(IRIS))
    container.add("test", CSV, csv_rows.write(IRIS))
    kmeans.train(container.root)


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_kmeans_finds_the_clusters_of_scikit_learn(
    init: str, container: ContainerFolder, caplog: pytest.LogCaptureFixture
) -> None:
    """Each row has the distance to its centre that scikit-learn finds, and the log the sum of squares."""
    with caplog.at_level("INFO"):
        trained_kmeans(
            container, local_lloyd_init_method=init, local_lloyd_num_trials=20, eval_metrics="['msd', 'ssd']"
        )
    model = sklearn.cluster.KMeans(3, n_init=10, random_state=0).fit(IRIS)
    found = answers(kmeans, container, IRIS)
    assert [each["distance_to_cluster"] for each in found] == pytest.approx(model.transform(IRIS).min(axis=1), abs=1e-3)
    pairs = {(each["closest_cluster"], label) for each, label in zip(found, model.labels_, strict=True)}
    assert len(pairs) == 3
    (ssd,) = [
        float(line.split()[-1][:-1]) for line in caplog.messages if line.startswith("#test_score (algo-1) : ('ssd'")
    ]
    assert ssd == pytest.approx(model.inertia_, rel=1e-3)


def test_pca_projects_like_scikit_learn(container: ContainerFolder) -> None:
    """A projection has scikit-learn's components up to their sign, the one with the largest variance last."""
    container.configure({"feature_dim": 4, "num_components": 3, "mini_batch_size": 10})
    container.add("train", CSV, csv_rows.write(IRIS))
    pca.train(container.root)
    expected = sklearn.decomposition.PCA(3).fit_transform(IRIS)[:, ::-1]
    found = np.array([each["projection"] for each in answers(pca, container, IRIS)])
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=1e-5)


def test_pca_without_the_mean(container: ContainerFolder) -> None:
    """With subtract_mean=false the components are those of the uncentred data."""
    container.configure({"feature_dim": 4, "num_components": 2, "mini_batch_size": 10, "subtract_mean": "false"})
    container.add("train", CSV, csv_rows.write(IRIS))
    pca.train(container.root)
    vectors = np.linalg.svd(IRIS)[2][1::-1]
    found = np.array([each["projection"] for each in answers(pca, container, IRIS)])
    assert np.abs(found) == pytest.approx(np.abs(IRIS @ vectors.T), abs=1e-5)


def trained_learner(
    container: ContainerFolder, rows: NDArray[Any], labels: NDArray[Any], **hyperparameters: object
) -> list[dict[str, Any]]:
    """Train the linear learner, and return its answers to the same rows."""
    container.configure({"feature_dim": rows.shape[1], **hyperparameters})
    container.add("train", "text/csv", csv_rows.write(np.column_stack([labels, rows])))
    linear_learner.train(container.root)
    return answers(linear_learner, container, rows)


@pytest.mark.parametrize(("wd", "use_bias"), [("auto", "true"), ("0.5", "true"), ("auto", "false")])
def test_regressor_is_scikit_learns(wd: str, use_bias: str, container: ContainerFolder) -> None:
    """A regressor predicts as least squares, or as ridge regression of normalized features with half the decay."""
    found = trained_learner(container, DIABETES, PROGRESSION, predictor_type="regressor", wd=wd, use_bias=use_bias)
    with_bias = use_bias == "true"
    if wd == "auto":
        model = sklearn.linear_model.LinearRegression(fit_intercept=with_bias).fit(DIABETES, PROGRESSION)
    else:
        ridge = sklearn.linear_model.Ridge(len(DIABETES) * float(wd) / 2)
        model = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), ridge).fit(DIABETES, PROGRESSION)
    assert [each["score"] for each in found] == pytest.approx(model.predict(DIABETES), rel=1e-4)
    assert list(found[0]) == ["score"]


@pytest.mark.parametrize("classes", [2, 3])
def test_classifier_is_scikit_learns(classes: int, container: ContainerFolder) -> None:
    """A classifier has the probabilities of logistic regression of normalized features, with the same decay."""
    rows, labels = (CANCER, BENIGN) if classes == 2 else (IRIS, SPECIES)
    kind = (
        {"predictor_type": "binary_classifier"}
        if classes == 2
        else {"predictor_type": "multiclass_classifier", "num_classes": 3}
    )
    found = trained_learner(container, rows, labels, wd=0.01, **kind)
    regression = sklearn.linear_model.LogisticRegression(C=1 / (len(rows) * 0.01), tol=1e-9, max_iter=5000)
    model = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), regression).fit(rows, labels)
    expected = model.predict_proba(rows)
    scores = np.array([each["score"] for each in found])
    assert scores == pytest.approx(expected[:, 1] if classes == 2 else expected, abs=1e-5)
    assert [each["predicted_label"] for each in found] == model.predict(rows).tolist()


def test_separable_classes_have_a_solution(container: ContainerFolder) -> None:
    """Without any given decay, classes that a line separates are told apart."""
    rows, labels = IRIS[:100], SPECIES[:100]
    found = trained_learner(container, rows, labels, predictor_type="binary_classifier")
    assert [each["predicted_label"] for each in found] == labels.tolist()


FORMATS = {
    "text/csv": b"5.1,3.5,1.4,0.2\n6.2,3.4,5.4,2.3\n",
    "application/json": json.dumps(
        {"instances": [{"features": [5.1, 3.5, 1.4, 0.2]}, {"data": {"features": {"values": [6.2, 3.4, 5.4, 2.3]}}}]}
    ).encode(),
    "application/jsonlines": b'{"features": [5.1, 3.5, 1.4, 0.2]}\n{"data": {"features": {"keys": [0, 1, 2, 3], '
    b'"shape": [4], "values": [6.2, 3.4, 5.4, 2.3]}}}\n',
    RECORDIO: recordio.encode(np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]])),
}


def test_answers_in_the_documented_formats(container: ContainerFolder) -> None:
    """All forms of a request have the same answer, in each of the four formats."""
    trained_kmeans(container)
    with served(kmeans._load(container.root / "model")) as client:
        found = {name: client.predict(body, name) for name, body in FORMATS.items()}
        assert len(set(found.values())) == 1
        predictions = json.loads(found["text/csv"])["predictions"]
        assert [list(each) for each in predictions] == [["closest_cluster", "distance_to_cluster"]] * 2
        body = FORMATS["text/csv"]
        lines = client.predict(body, "text/csv", "application/jsonlines").splitlines()
        assert [json.loads(line) for line in lines] == predictions
        table = client.predict(body, "text/csv", "text/csv").decode()
        assert table == "".join(f"{each['closest_cluster']},{each['distance_to_cluster']}\n" for each in predictions)
        records = recordio.decode_answers(client.predict(body, "text/csv", RECORDIO))
    for name in ("closest_cluster", "distance_to_cluster"):
        assert records[name][:, 0].tolist() == [each[name] for each in predictions]


def test_projections_have_a_list_of_their_own(container: ContainerFolder) -> None:
    """PCA answers `projections` in JSON, and does not answer in CSV."""
    container.configure({"feature_dim": 4, "num_components": 1, "mini_batch_size": 10})
    container.add("train", "", recordio.encode(IRIS.astype(np.float32)))
    pca.train(container.root)
    with served(pca._load(container.root / "model")) as client:
        answer = json.loads(client.predict(FORMATS["text/csv"], "text/csv", "*/*"))
        assert client.invoke(FORMATS["text/csv"], "text/csv", "text/csv")[0] == 406
    assert [len(each["projection"]) for each in answer["projections"]] == [1, 1]


def test_sparse_records_train(container: ContainerFolder) -> None:
    """Sparse records train as the same rows with zeros."""
    rows = SparseRows(np.array([0, 1, 2]), np.array([0, 1]), np.array([3.0, 4.0]), 2)
    container.configure({"k": 2, "feature_dim": 2})
    container.add("train", RECORDIO, recordio.encode_sparse(rows))
    kmeans.train(container.root)
    assert {each["distance_to_cluster"] for each in answers(kmeans, container, np.array([[3.0, 0], [0, 4]]))} == {0.0}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (b"1,2,3", "text/csv", 400, "The model has 4 features, and the rows have 3."),
        (b"1,2,3,", "text/csv", 400, "missing or not finite"),
        (b"1,2,3,x", "text/csv", 400, "line 1: 'x' is not a number"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[1]", "application/json", 400, "expected {'instances': [...]}"),
        (b'{"instances": []}', "application/json", 400, "one instance or more"),
        (b'{"instances": [{"features": [1, "x"]}]}', "application/json", 400, "instance 1: not a list of numbers"),
        (b'{"instances": [{"features": {"a": [1]}}]}', "application/json", 400, "instance 1: not a list"),
        (b'{"instances": [5]}', "application/json", 400, "instance 1: not a list"),
        (b'{"features": [1]}\nx', "application/jsonlines", 400, "line 2: not JSON"),
        (
            b'{"features": {"keys": [4], "values": [1], "shape": [4]}}',
            "application/jsonlines",
            400,
            "a shape that contains all keys",
        ),
        (
            b'{"features": {"keys": [1, 1], "values": [1, 2], "shape": [4]}}',
            "application/jsonlines",
            400,
            "a key is there twice",
        ),
        (b"0:1", "text/libsvm", 415, "is not one of text/csv"),
        (b"1234", RECORDIO, 400, "within the header of a record"),
        (b" ", "text/csv", 400, "The body has no rows."),
    ],
)
def test_refused_invocations(
    body: bytes, content_type: str, status: int, message: str, container: ContainerFolder
) -> None:
    """A wrong request has a status and a reason."""
    trained_kmeans(container, local_lloyd_num_trials=1)
    with served(kmeans._load(container.root / "model")) as client:
        answer = client.invoke(body, content_type)
    assert (answer[0], message in answer[1].decode()) == (status, True), answer


@pytest.mark.parametrize(
    ("program", "hyperparameters", "message"),
    [
        (kmeans, {}, "the hyperparameter k and feature_dim is required"),
        (kmeans, {"k": 0, "feature_dim": 4}, "k: must be an integer of at least 1, not '0'"),
        (kmeans, {"k": 3, "feature_dim": 5}, "feature_dim is 5, and rows of train have 4 features"),
        (kmeans, {"k": 151, "feature_dim": 4}, "k is 151, and there are 150 rows"),
        (kmeans, {"k": 3, "feature_dim": 4, "init_method": "best"}, "init_method: must be one of 'random', 'kmeans++'"),
        (kmeans, {"k": 3, "feature_dim": 4, "eval_metrics": "mse"}, "eval_metrics: must be a list of 'msd' and 'ssd'"),
        (kmeans, {"k": 3, "feature_dim": 4, "extra_center_factor": "x"}, "an integer of at least 1 or 'auto', not 'x'"),
        (pca, {"feature_dim": 4, "num_components": 2}, "the hyperparameter mini_batch_size is required"),
        (pca, {"feature_dim": 4, "num_components": 5, "mini_batch_size": 1}, "num_components: must be at most"),
        (linear_learner, {}, "the hyperparameter predictor_type is required"),
        (linear_learner, {"predictor_type": "multiclass_classifier"}, "the hyperparameter num_classes is required"),
        (linear_learner, {"predictor_type": "regressor"}, "channel train: there are no labels"),
    ],
)
def test_refused_hyperparameters(
    program: ModuleType, hyperparameters: dict[str, object], message: str, container: ContainerFolder
) -> None:
    """A missing or wrong hyperparameter is the reason of the job's failure, by its name."""
    container.add("train", CSV, csv_rows.write(IRIS))
    assert message in container.failure(program.train, **hyperparameters)


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ({"predictor_type": "binary_classifier"}, "2", "must be an integer from 0 to 1, not 2.0"),
        ({"predictor_type": "multiclass_classifier", "num_classes": 3}, "1.5", "from 0 to 2, not 1.5"),
        ({"predictor_type": "regressor"}, "", "the label of row 2 must be a finite number, not nan"),
    ],
)
def test_refused_labels(kind: dict[str, object], label: str, message: str, container: ContainerFolder) -> None:
    """A label that the predictor cannot have is refused with its row."""
    container.add("train", "text/csv", f"1,5\n{label},6\n".encode())
    assert message in container.failure(linear_learner.train, **kind)


def test_missing_values_do_not_train(container: ContainerFolder) -> None:
    """A missing value is refused with its row, and a forgotten label_size with a hint."""
    container.add("train", CSV, b"1,2\n3,\n")
    assert "row 2 has a value that is missing" in container.failure(kmeans.train, k=1, feature_dim=2)
    container.add("train", "text/csv", b"1,2\n3,4\n")
    assert "is text/csv;label_size=0" in container.failure(kmeans.train, k=1, feature_dim=2)


def test_log_names_the_stand_in(container: ContainerFolder, caplog: pytest.LogCaptureFixture) -> None:
    """The log states that the program is a stand-in, and which hyperparameters have no effect."""
    trained_kmeans(container, epochs=3, mini_batch_size=10, local_lloyd_num_trials=1)
    assert "This is a stand-in for AWS's K-Means in numpy." in caplog.text
    assert "no effect on the stand-in: epochs, mini_batch_size." in caplog.text


def test_fewer_different_rows_than_clusters(container: ContainerFolder) -> None:
    """Equal rows have as many centres as are asked for."""
    container.add("train", CSV, b"1,1\n1,1\n2,2\n")
    container.configure({"k": 3, "feature_dim": 2})
    kmeans.train(container.root)
    assert [each["distance_to_cluster"] for each in answers(kmeans, container, np.array([[1, 1], [2, 2]]))] == [0, 0]


def test_features_that_do_not_vary(container: ContainerFolder) -> None:
    """A constant feature has no influence, and no division by its deviation."""
    rows = np.column_stack([np.ones(5), np.arange(5)])
    found = trained_learner(container, rows, 2 * np.arange(5), predictor_type="regressor")
    assert [each["score"] for each in found] == pytest.approx([0, 2, 4, 6, 8], abs=1e-6)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"PK\x05\x06" + bytes(18)])
def test_models_of_other_programs(content: bytes | None, container: ContainerFolder) -> None:
    """A model from AWS, or of another stand-in, is refused by its name."""
    (container.root / "model").mkdir()
    if content is not None:
        (container.root / "model/model_algo-1").write_bytes(content)
    with pytest.raises(ValueError, match="model_algo-1 is"):
        kmeans._load(container.root / "model")
