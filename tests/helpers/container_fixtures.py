"""Podman with images of its own, for tests whose programs run in containers."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Containers:
    """Podman with images and containers of its own, apart from those of the user who runs the tests.

    Attributes:
        program: podman's stand-in, which uses that storage.
        options: the options that its `run` needs on this machine.
    """

    BUSYBOX = "busybox:1"
    """An image with an entrypoint, arguments, a user, a directory and a variable of its own."""
    PYTHON = "image"
    """An empty image, onto which the machine's /usr with its Python can be mounted."""
    MODEL = "model:1"
    """An image whose program trains, and serves as `answering_program` does, by a user of its own.

    The machine's /usr has to be mounted onto it.
    """
    APPLETS = ("cat", "echo", "env", "hostname", "id", "kill", "ls", "mkdir", "pwd", "sh", "sleep", "tail", "touch")
    # The second for a machine that itself runs in a container, or allows less than podman asks for.
    _WAYS = ((), ("--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"))

    def __init__(self, folder: Path) -> None:
        podman = shutil.which("podman")
        if podman is None:
            pytest.skip("podman is not installed")
        stand_in = folder / "podman"
        storage = f"--root {folder}/root --runroot {folder}/run --storage-driver vfs"
        stand_in.write_text(f'#!/bin/sh\nexec {podman} {storage} "$@"\n')
        stand_in.chmod(0o755)
        self.program = str(stand_in)
        self._import_busybox(folder)
        self._import_python(folder, self.PYTHON)
        source = Path(__file__).with_name("answering_program.py").read_text()
        entrypoint = 'ENTRYPOINT ["/usr/bin/env", "python3", "/program.py"]'
        self._import_python(folder, self.MODEL, entrypoint, "USER 1234:1234", program=source)
        self.options = self._working_options()

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False)

    def names(self) -> list[str]:
        """Every container's name, whether it runs or not."""
        return self.call("ps", "--all", "--format", "{{.Names}}").stdout.split()

    def _import(self, archive: Path, image: str, *changes: str) -> None:
        options = [word for change in changes for word in ("--change", change)]
        done = self.call("import", *options, str(archive), image)
        if done.returncode:
            pytest.skip(f"podman cannot keep an image: {done.stderr.strip()}")

    def _import_busybox(self, folder: Path) -> None:
        busybox = shutil.which("busybox")
        if busybox is None:
            pytest.skip("busybox is not installed")
        with tarfile.open(folder / "busybox.tar", "w") as archive:
            archive.add(os.path.realpath(busybox), "bin/busybox")
            for name in self.APPLETS:
                _add_link(archive, f"bin/{name}", "busybox")
        self._import(
            folder / "busybox.tar",
            self.BUSYBOX,
            'ENTRYPOINT ["/bin/echo", "entry"]',
            'CMD ["command"]',
            "ENV GREETING=hello",
            "WORKDIR /work",
            "USER 1234:1234",
        )

    def _import_python(self, folder: Path, image: str, *changes: str, program: str = "") -> None:
        with tarfile.open(folder / "python.tar", "w") as archive:
            for name in ("bin", "lib", "lib64", "sbin"):
                if Path("/", name).is_symlink():
                    _add_link(archive, name, f"usr/{name}")
            for name in ("usr", "tmp", "etc"):
                directory = tarfile.TarInfo(name)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o777
                archive.addfile(directory)
            file = tarfile.TarInfo("program.py")
            file.size, file.mode = len(program.encode()), 0o644
            archive.addfile(file, io.BytesIO(program.encode()))
        self._import(folder / "python.tar", image, *changes)

    def _working_options(self) -> tuple[str, ...]:
        said = ""
        for options in self._WAYS:
            done = self.call("run", "--rm", "--network", "host", *options, self.BUSYBOX)
            if done.returncode == 0:
                return options
            said = done.stderr.strip()
        pytest.skip(f"podman cannot run a container: {said}")


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    """Podman, or a skip with the reason."""
    folder = Path(tempfile.mkdtemp(prefix="pc-", dir="/tmp"))  # podman refuses long paths
    try:
        podman = Containers(folder)
        yield podman
        podman.call("rm", "--force", "--all")
        podman.call("rmi", "--force", "--all")
    finally:
        if os.geteuid() != 0 and (folder / "podman").exists():  # files of the users that a user's containers have
            subprocess.run([folder / "podman", "unshare", "rm", "-rf", folder / "root"], check=False)
        shutil.rmtree(folder, ignore_errors=True)
