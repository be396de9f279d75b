"""Rules of every test: the wheel is tested, the machine's AWS account is out of reach, and skips are seen.

`PROCESSING_TEST_INSTALLED=1`: refuse to test anything but an installed package (`./scripts/test` sets it).
`PROCESSING_TEST_COMPLETE=1`: tests with the marker `complete` run, too, and a skipped test fails the run
(`./scripts/test --all` sets it).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import processing
from botocore_fixtures import (  # noqa: F401 - used by every test
    clients_share_models,
    handlers_inspected_fast,
    service_models_read_once,
    simulations_see_no_signatures,
    timestamps_parsed_once,
)
from seaweedfs_fixtures import (  # noqa: F401 - fixtures of several folders
    _seaweedfs_process,
    empty_buckets,
    seaweedfs,
    seaweedfs_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession


IS_COMPLETE = os.environ.get("PROCESSING_TEST_COMPLETE") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Stop at once where the source tree would be tested instead of the wheel; let hypothesis judge by no clock.

    A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that they start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Each session of boto3 makes enough objects to have the large heap of all tests searched: a quarter of the time.
    gc.set_threshold(20_000, 10, 10)
    config.addinivalue_line("markers", "complete(reason): a test of complete runs alone, and why")
    unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("unhurried", parent=unhurried)
    settings.load_profile("unhurried")
    origin = Path(processing.__file__)
    if os.environ.get("PROCESSING_TEST_INSTALLED") == "1" and "site-packages" not in origin.parts:
        pytest.exit(f"the built wheel is what has to be tested, but `processing` is {origin}", returncode=4)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let hypothesis find the characters of UTF-8 once, before the workers start.

    It tries every character, which takes seconds, and keeps a file of them. Workers that start together find none.
    """
    if session.config.getoption("tx", None) and not hasattr(session.config, "workerinput"):
        st.characters(codec="utf-8").validate()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of complete runs in other runs."""
    if IS_COMPLETE:
        return
    left_out = [item for item in items if item.get_closest_marker("complete")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("complete")]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Make a skipped test a failure where every test has to run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not IS_COMPLETE:
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(skipped)} skipped, and every test has to run here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _no_account_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees this machine's AWS credentials, settings, config files or engine folder, or asks for a role."""
    empty = tmp_path_factory.mktemp("no-account")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "SAGEMAKER_")) or (
                name.startswith("PROCESSING_") and not name.startswith("PROCESSING_TEST_")
            ):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", str(empty / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PROCESSING_LOCAL_HOME", str(empty / "engine"))
        patch.setenv("PROCESSING_CACHE_HOME", str(empty / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(empty / "user"))  # where a SageMaker config file would be
        patch.setenv("XDG_CONFIG_DIRS", str(empty / "site"))
        yield


@pytest.fixture(autouse=True)
def _no_session_of_another_test() -> Iterator[None]:
    """No test gets boto3's default session, which the first `boto3.client()` makes, with another test's keys in it."""
    yield
    boto3: Any = sys.modules.get("boto3")
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None


@pytest.fixture
def local_session(tmp_path: Path) -> LocalSession:
    """An embedded engine of the test's own, with short waits."""
    return processing.LocalSession(tmp_path / "engine", tick=0.01, grace=1.0)
