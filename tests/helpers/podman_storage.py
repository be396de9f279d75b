"""Podman with a storage of its own, apart from that of the user who runs the tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAYS = ((), ("--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"))
"""Options of `podman run`. The second for a machine that itself runs in a container, or allows less than is usual."""


class Podman:
    """Podman, which loads archives and runs them.

    Args:
        folder: the folder of its storage.

    Attributes:
        program: a program that is podman with this storage.
    """

    def __init__(self, folder: Path) -> None:
        storage = f"--root {folder}/root --runroot {folder}/run --storage-driver vfs"
        self.program = folder / "podman"
        self.program.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {storage} "$@"\n')
        self.program.chmod(0o755)
        self._options: tuple[str, ...] | None = None

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run podman."""
        return subprocess.run([self.program, *words], capture_output=True, text=True, check=False)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `run` that worked; empty before the first one."""
        return self._options or ()

    def load(self, archive: Path) -> None:
        """Load an image."""
        done = self.call("load", "--quiet", "--input", str(archive))
        assert done.returncode == 0, done.stderr

    def run(self, image: str, *words: str, variables: dict[str, str] | None = None) -> str:
        """Run an image to its successful end, on the network of this machine, and return its stdout."""
        settings = [f"--env={name}={value}" for name, value in (variables or {}).items()]
        said = ""
        for options in _WAYS if self._options is None else (self._options,):
            done = self.call("run", "--rm", "--network=host", *options, *settings, image, *words)
            if done.returncode == 0:
                self._options = options
                return done.stdout
            said += done.stdout + done.stderr
        raise AssertionError(said)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Podman, or a skip."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pi-", dir="/tmp"))  # podman refuses long paths
    try:
        made = Podman(folder)
        yield made
        made.call("rmi", "--force", "--all")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
