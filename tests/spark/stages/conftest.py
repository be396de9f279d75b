"""Stages in a real Spark: one JVM for all tests, and one engine with endpoints that really serve.

These files run in environments with Spark: `tests/spark/test_stages.py` starts them there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import LocalSession, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# pytest loads this file in environments without Spark, too.
HAS_SPARK = importlib.util.find_spec("pyspark") is not None
if not HAS_SPARK:
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Let warnings of Spark itself pass: no code of this package can prevent them."""
    for line in (
        "ignore::DeprecationWarning",
        "ignore::ResourceWarning",
        "ignore::UserWarning",
        "ignore::FutureWarning",
    ):
        config.addinivalue_line("filterwarnings", line)
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")
    config.addinivalue_line("markers", "spark_4: a test of what Spark 3 does not have")
    config.addinivalue_line("markers", "spark_context: a test that needs Spark's context, which Connect does not have")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that mean nothing on this Spark; a complete run allows no skipped test."""
    if not HAS_SPARK:
        return
    absent = {"spark_4"} if importlib.metadata.version("pyspark").startswith("3.") else set()
    absent |= {"spark_context"} if os.environ.get("PROCESSING_TEST_CONNECT") else set()
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


ROLE = "arn:aws:iam::000000000000:role/stages"
MASTER = "local[2, 2]"
PATTERN, PROGRAM = "*/own:*", "slope_program"  # in place of an image of the user's own


@pytest.fixture(scope="session")
def spark(session: Session) -> Iterator[Any]:
    """A session of Spark on two cores, which tries each task twice; over Connect if PROCESSING_TEST_CONNECT is set."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    builder = builder.remote(MASTER) if os.environ.get("PROCESSING_TEST_CONNECT") else builder.master(MASTER)
    made = (
        builder.config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .config("spark.python.worker.reuse", "true")
        .getOrCreate()
    )
    yield made
    made.stop()


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """An engine in process; over HTTP, as AWS is reached, if PROCESSING_TEST_HTTP is set. No endpoint is left."""
    home = tmp_path_factory.mktemp("stages") / "engine"
    with contextlib.ExitStack() as stack:
        if os.environ.get("PROCESSING_TEST_HTTP"):
            stack.enter_context(served(home))
            made = Session()
        else:
            made = LocalSession(home, tick=0.05, programs={PATTERN: PROGRAM})
        yield made
        sagemaker: Any = made.boto_session.client("sagemaker")
        for endpoint in sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
            with contextlib.suppress(ClientError):  # it may be on its way out
                sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])


@contextlib.contextmanager
def served(home: Path) -> Iterator[None]:
    """Serve an engine as a user does. Its variables are those of this process, and so of Spark's workers."""
    options = ["--home", str(home), "--tick", "0.05", "--program", f"{PATTERN}={PROGRAM}"]
    command = [sys.executable, "-m", "processing.local", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, pytest.MonkeyPatch.context() as patch:
        assert server.stdout is not None
        name = ""
        while name != "no_proxy":  # the last of them
            name, _, value = server.stdout.readline().removeprefix("export ").partition("=")
            patch.setenv(name, "".join(shlex.split(value)))
        yield
        server.terminate()
        assert server.wait(60) == 0


@pytest.fixture(scope="session")
def instances() -> dict[str, Any]:
    """The required arguments of each estimator."""
    return {
        "sagemakerRole": ROLE,
        "trainingInstanceType": "ml.m5.xlarge",
        "trainingInstanceCount": 1,
        "endpointInstanceType": "ml.m5.xlarge",
        "endpointInitialInstanceCount": 1,
    }


@pytest.fixture
def keys(session: Session) -> Callable[[], set[str]]:
    """Return the keys of all objects in the bucket that the stages create."""
    s3: Any = session.boto_session.client("s3")

    def listed() -> set[str]:
        buckets = {each["Name"] for each in s3.list_buckets()["Buckets"]}
        name = f"{session.account_id()}-sagemaker-{session.boto_region_name}"
        if name not in buckets:
            return set()
        return {each["Key"] for each in s3.list_objects_v2(Bucket=name).get("Contents", [])}

    return listed
