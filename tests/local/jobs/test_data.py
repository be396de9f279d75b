"""The data of a host, without a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processing.local.jobs import data

if TYPE_CHECKING:
    from pathlib import Path


class _Ended(Exception):  # noqa: N818 - it is no error
    """The host has to end."""


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_large_file_does_not_hold_up_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_kernel: bool) -> None:
    """It is asked for within a file, too, whichever way that is copied."""
    size = 5 << 20
    monkeypatch.setattr(data, "_COPY_BYTES", 1 << 20)
    if not in_kernel:
        monkeypatch.delattr("os.copy_file_range", raising=False)
    (tmp_path / "source").write_bytes(bytes(size))
    asked = []

    def check() -> None:
        asked.append(True)
        if len(asked) == 2:
            raise _Ended

    with (
        (tmp_path / "source").open("rb") as source,
        (tmp_path / "target").open("wb") as target,
        pytest.raises(_Ended),
    ):
        data.copy_body(source.fileno(), target.fileno(), check)
    assert 0 < (tmp_path / "target").stat().st_size < size
