"""A process whose very first call to S3 is one on a bucket."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("call", ["head_bucket", "list_objects_v2", "delete_bucket", "create_bucket"])
def test_any_call_may_be_the_first(call: str, tmp_path: Path) -> None:
    """The client changes the shared service model when it first calls an operation; the engine still knows it."""
    program = f"""
import sys
from processing import LocalSession
session = LocalSession(sys.argv[1])
session.engine.objects.create_bucket("other" if "{call}" == "create_bucket" else "mine")
session.boto_session.client("s3").{call}(Bucket="mine")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
