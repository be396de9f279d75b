"""The joblib backend: scikit-learn's `n_jobs` runs in one processing job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from processing import ConfigurationError
from processing.remote_function import joblib as backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession


@pytest.fixture
def registered(local_session: LocalSession) -> Iterator[LocalSession]:
    """The backend on the engine; its pool is closed after the test."""
    backend.register(instance_type="local", workers=2, sagemaker_session=local_session)
    yield local_session
    backend._registered.pop().shutdown()
    joblib.parallel.BACKENDS.pop(backend.NAME)


def test_a_grid_search_over_a_forest_is_one_job(registered: LocalSession) -> None:
    """All fits of the search, and the trees of the last one, run in one job; the result is that of this machine.

    A step of the pipeline is a lambda over a DataFrame, so each task has to get its own part of the data.
    """
    rows, labels = make_classification(200, 10, random_state=0)
    frame = pd.DataFrame({"id": range(200), "row": list(rows)})

    def search(n_jobs: int) -> GridSearchCV:
        columns = FunctionTransformer(lambda part: np.stack(part.row))
        steps = [("columns", columns), ("forest", RandomForestClassifier(n_estimators=5, random_state=0))]
        return GridSearchCV(Pipeline(steps), {"forest__max_depth": [2, 4]}, cv=2, n_jobs=n_jobs).fit(frame, labels)

    with joblib.parallel_config(backend.NAME):
        remote = search(2)
    local = search(1)
    assert remote.best_params_ == local.best_params_
    assert np.array_equal(remote.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"])
    assert np.array_equal(remote.predict(frame), local.predict(frame))
    jobs = registered.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]
    assert len(jobs) == 1


def test_a_task_s_exception_is_raised(registered: LocalSession) -> None:
    """A loop raises the exception of its task, and the next loop works; one task at a time needs no job."""

    def invert(number: int) -> float:
        return 1 / number

    calls = [joblib.delayed(invert)(number) for number in (1, 2, 0)]
    with joblib.parallel_config(backend.NAME, n_jobs=1):
        assert joblib.Parallel()(calls[:2]) == [1, 0.5]
    jobs = registered.client("sagemaker").list_processing_jobs
    assert not jobs()["ProcessingJobSummaries"]
    with joblib.parallel_config(backend.NAME):
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(calls)
        assert list(joblib.Parallel(return_as="generator")(calls[:2])) == [1, 0.5]
    assert len(jobs()["ProcessingJobSummaries"]) == 1


@pytest.mark.parametrize("option", ["instance_typ", "idle"])
def test_options_are_checked_at_registration(option: str) -> None:
    """A wrong option is refused by its name, and the backend stays as it was."""
    options: dict[str, Any] = {option: -1}
    with pytest.raises(ConfigurationError, match=option):
        backend.register(**options)
    assert backend.NAME not in joblib.parallel.BACKENDS
