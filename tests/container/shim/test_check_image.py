"""The command `check` with images."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.commands import main

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.complete("containers start slowly")


@pytest.fixture
def check(
    containers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Check an image with podman, and return the exit code and the report. No container is left."""
    options = [*containers.options, "--volume", "/usr:/usr:ro"]
    monkeypatch.setenv("PROCESSING_LOCAL_CONTAINER_OPTIONS", shlex.join(options))

    def run(image: str, *words: str) -> tuple[int, str]:
        before = containers.names()
        code = main(["check", "--image", image, "--client", containers.program, *words])
        assert containers.names() == before
        return code, capsys.readouterr().out

    return run


def test_an_image_that_keeps_the_contract(containers: Any, check: Callable[..., Any]) -> None:
    """The image is started with `serve`, and its sockets are those of its own network."""
    code, report = check(containers.MODEL, "--serve")
    assert code == 0, report
    assert f"program     docker run {containers.MODEL} serve\n" in report
    assert "listens     0.0.0.0:8080\n" in report
    assert "GET /ping   status 200" in report
    assert "SIGTERM     did not end it" in report  # it is process 1, without a handler


def test_an_image_trains(containers: Any, check: Callable[..., Any]) -> None:
    """The image is started with `train`, and its outputs are counted."""
    code, report = check(containers.MODEL, "--train")
    assert code == 0, report
    assert "ml/model: 1 files, 7 bytes" in report


def test_an_image_of_a_processing_job(containers: Any, check: Callable[..., Any]) -> None:
    """The image runs with its own entrypoint and command, or with the words after `--`."""
    code, report = check(containers.BUSYBOX)
    assert code == 0, report
    assert "  | entry command" in report
    code, report = check(containers.BUSYBOX, "--", "words")
    assert code == 0, report
    assert "  | entry words" in report


def test_an_image_without_an_entrypoint(containers: Any, check: Callable[..., Any]) -> None:
    """An image without a program `serve` is the most frequent cause, and named."""
    code, report = check(containers.PYTHON, "--serve")
    assert code == 1
    assert "or a program serve on its PATH" in report


def test_an_image_that_does_not_exist(check: Callable[..., Any]) -> None:
    """The client's own reason is among the last lines."""
    code, report = check("127.0.0.1:1/no-such:1", "--serve")
    assert code == 1
    assert "  | Error: " in report
