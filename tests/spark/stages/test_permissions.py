"""The calls that stages make, those of Spark's workers among them, compared with the table of permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyspark.ml.linalg import Vectors

from processing import LocalSession, Session
from processing.clock import SystemClock
from processing.export.permissions import FEATURES
from processing.spark.ml import KMeansSageMakerEstimator
from recorded_calls import RecordingServer

if TYPE_CHECKING:
    from pathlib import Path


class InterruptedClock(SystemClock):
    """A clock under which Ctrl-C ends the next wait, once it is armed."""

    armed = False

    def sleep(self, seconds: float) -> None:
        """Sleep, or be interrupted."""
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        super().sleep(seconds)


@pytest.mark.spark_context
def test_the_table_has_the_calls_of_stages(
    spark: Any, instances: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit, predictions by an endpoint and by a batch transform job, its interruption, and the end of all of it."""
    rows = [(number, Vectors.dense(number % 2 * 5.0, 1.0)) for number in range(12)]
    frame = spark.createDataFrame(rows, ["id", "features"]).coalesce(2)
    with RecordingServer(LocalSession(tmp_path / "engine", tick=0.05)) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
            monkeypatch.setitem(spark.sparkContext.environment, name, value)  # for the workers
        clock = InterruptedClock()
        session = Session(clock=clock)
        for way in ("endpoint", "batch"):
            estimator: Any = KMeansSageMakerEstimator(**instances, session=session, transformBy=way).setK(2)
            with estimator.fit(frame) as model:
                assert model.transform(frame).count() == 12
                if way == "batch":
                    clock.armed = True
                    with pytest.raises(KeyboardInterrupt):
                        model.transform(frame)
    allowed = {action for grant in FEATURES["spark-ml"].caller for action in grant.actions}
    assert (sorted(server.calls.actions - allowed), sorted(allowed - server.calls.actions)) == ([], [])
