"""Clients of other people against the served engine: each runs in an environment of its own, as its users run it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from chromium import chromium as run_chromium
from chromium import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chromium import Chromium

CLIENTS = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute()
HELPERS = Path(__file__).parents[1] / "helpers"
DEADLINE = 240
"""Seconds after which a client that has not ended has failed."""


@frozen
class Served:
    """An engine that another process serves.

    Attributes:
        home: its folder.
        environment: what a client of it runs with: the `export` lines of `serve`, nothing of this machine's account.
    """

    home: Path
    environment: Mapping[str, str]


@frozen
class Client:
    """A client in its environment.

    Attributes:
        name: as in clients.txt.
        served: the engine that it talks to.
        folder: where it runs.
    """

    name: str
    served: Served
    folder: Path

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return CLIENTS / self.name / "bin"

    def run(self, program: str, *arguments: str, check: bool = True, **environment: str) -> str:
        """Run one of its programs to the end and return what it printed."""
        done = subprocess.run(
            [self.bin / program, *arguments],
            env={**self.served.environment, "HOME": str(self.folder), **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{program} {shlex.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def script(self, text: str, *arguments: str) -> str:
        """Run a Python script and return what it printed."""
        path = self.folder / "script.py"
        path.write_text(text)
        return self.run("python", str(path), *arguments)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve an engine as a user does, and stop it with SIGTERM."""
    home = tmp_path_factory.mktemp("served") / "engine"
    command = [sys.executable, "-m", "processing.local", "serve", "--home", str(home), "--tick", "0.02", "--grace", "2"]
    command += ["--program", "hosted:*=answering_program"]
    helpers = os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": helpers}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as server:
        assert server.stdout is not None
        environment = {"PATH": os.environ["PATH"]}
        while "no_proxy" not in environment:  # the last of them
            line = server.stdout.readline()
            assert line.startswith("export "), f"not a line for a shell: {line!r}"
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = "".join(shlex.split(value))
        yield Served(home, environment)
        server.terminate()
        assert server.wait(DEADLINE) == 0


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Chromium with playwright and axe-core."""
    modules = CLIENTS / "browser" / "node_modules"
    reason = missing() if modules.exists() else "browser is not installed: ./scripts/test --all does it"
    if reason is not None:
        pytest.skip(reason)
    with run_chromium(modules, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def foreign(request: pytest.FixtureRequest, served: Served, tmp_path: Path) -> Client:
    """The client that the test names as its parameter, or the module as CLIENT."""
    name: str = request.param if hasattr(request, "param") else request.module.CLIENT
    if not (CLIENTS / name / "installed").exists():
        pytest.skip(f"{name} is not installed: ./scripts/test --all does it")
    return Client(name, served, tmp_path)
