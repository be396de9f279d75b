"""What every test stands on: the installed wheel, a clean environment, and an engine of the test's own."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

import processing

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_report_header() -> str:
    """Say which build of the package is under test."""
    return f"processing: {pathlib.Path(processing.__file__).parent}"


@pytest.fixture(scope="session", autouse=True)
def no_host_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the machine's AWS settings and credentials, and its engine folder, out of every test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "PROCESSING_", "SAGEMAKER_"))]:
            patch.delenv(name)
        empty = tmp_path_factory.mktemp("home")
        patch.setenv("AWS_CONFIG_FILE", str(empty / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(empty / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("PROCESSING_LOCAL_HOME", str(empty / "engine"))
        yield


@pytest.fixture
def local_session(tmp_path: pathlib.Path) -> processing.LocalSession:
    """A session on an engine of the test's own, quick to notice a stop."""
    return processing.LocalSession(tmp_path / "engine", tick=0.02, grace=1)
