"""Continuous uploads beside the program."""

from __future__ import annotations

import threading

import pytest

from processing.local.jobs.continuous_upload import ContinuousUploads

PATIENCE = 60.0


def test_nobody_waits_for_an_upload_but_its_end() -> None:
    """While a large file is uploaded the block goes on; its end waits until that file is whole."""
    began, may_end = threading.Event(), threading.Event()
    done = []

    def upload() -> None:
        began.set()
        assert may_end.wait(PATIENCE)
        done.append(True)

    with ContinuousUploads(upload, 0.01):
        assert began.wait(PATIENCE)
        assert not done
        may_end.set()
    assert done


def test_what_an_upload_raises_is_raised_at_the_end() -> None:
    """It is not lost in the thread."""
    failed = threading.Event()

    def upload() -> None:
        failed.set()
        raise LookupError("the index is gone")

    with pytest.raises(LookupError, match="the index is gone"), ContinuousUploads(upload, 0.01):
        assert failed.wait(PATIENCE)


def test_an_error_of_the_block_goes_first() -> None:
    """An error of an upload does not replace the error of the block itself."""
    failed = threading.Event()

    def upload() -> None:
        failed.set()
        raise LookupError("the index is gone")

    def fail_meanwhile() -> None:
        with ContinuousUploads(upload, 0.01):
            assert failed.wait(PATIENCE)
            raise KeyError("block")

    with pytest.raises(KeyError, match="block"):
        fail_meanwhile()
