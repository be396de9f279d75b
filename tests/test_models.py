"""The values that users pass to a processor."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath

import pytest

from processing import ProcessingInput, ProcessingOutput


@pytest.mark.parametrize("kind", [PurePath, PurePosixPath, PureWindowsPath])
def test_container_paths_have_forward_slashes(kind: type[PurePath]) -> None:
    """A `pathlib` path of any system becomes a container path; text does not change."""
    path = kind("/opt/ml/processing") / "x"
    assert ProcessingInput("s", path).destination == "/opt/ml/processing/x"
    assert ProcessingOutput(path).source == "/opt/ml/processing/x"
    assert ProcessingInput("s", r"/opt\x").destination == r"/opt\x"


def test_reuse_is_asked_for_by_name() -> None:
    """`reuse` is not part of v2's positional order, and False by default."""
    assert not ProcessingInput("s", "/d").reuse
    assert ProcessingInput("s", "/d", reuse=True) != ProcessingInput("s", "/d")
