"""The entry points of every program: `train` and `serve`, as SageMaker starts them in a container."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from processing.local.programs.container import ContainerError, TrainingContainer
from processing.local.programs.http_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processing.local.programs.http_server import Model

_logger = logging.getLogger(__name__)


class Algorithm(NamedTuple):
    """An algorithm.

    Attributes:
        name: its name in log lines.
        packages: the packages that it imports, and what to install for each.
        fit: trains in a container.
        load: returns the model in a folder.
    """

    name: str
    packages: Mapping[str, str]
    fit: Callable[[TrainingContainer], None]
    load: Callable[[Path], Model]

    def train(self, root: str | Path = "/opt/ml") -> None:
        """Train in a container's folder, and write the model.

        Raises:
            SystemExit: the training failed. `output/failure` below the root has the reason.
        """
        container = TrainingContainer(root)
        try:
            _check_packages(self)
            container.model_folder.mkdir(parents=True, exist_ok=True)
            self.fit(container)
        except ValueError as error:
            _logger.error("%s", error)  # noqa: TRY400 - the reason is in the message; a trace would hide it
            container.write_failure(str(error))
            raise SystemExit(1) from error
        except Exception as error:
            _logger.exception("The training failed.")
            container.write_failure(f"{type(error).__name__}: {error}")
            raise SystemExit(1) from error

    def serve(self, root: str | Path = "/opt/ml", port: int = 8080) -> None:
        """Serve the model in a container's folder until SIGTERM.

        Raises:
            SystemExit: the model cannot be loaded.
        """
        try:
            _check_packages(self)
            model = self.load(Path(root) / "model")
        except ValueError as error:
            _logger.error("%s", error)  # noqa: TRY400 - the reason is in the message; a trace would hide it
            raise SystemExit(1) from error
        server = ModelServer(model, port)
        _logger.info("The model is loaded. Port %d answers invocations.", server.port)
        server.run_until_terminated()


def main(algorithm: Algorithm) -> None:
    """Run a program with the arguments of the command line: `train` or `serve`, which have defaults for a container."""
    parser = argparse.ArgumentParser(f"python -m processing.local.programs.{algorithm.name}")
    parser.add_argument("command", choices=["train", "serve"])
    parser.add_argument("--root", default="/opt/ml", help="the container's folder (default: %(default)s)")
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    parser.add_argument("--port", type=int, default=port, help="the port of `serve` (default: %(default)s)")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter("[%(asctime)s:%(levelname)s] %(message)s", "%Y-%m-%d:%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if arguments.command == "train":
        algorithm.train(arguments.root)
    else:
        algorithm.serve(arguments.root, arguments.port)


def is_idle(container: TrainingContainer) -> bool:
    """Return whether another host of the job trains: the first one does, if each has all data.

    Raises:
        ContainerError: the data are spread over several hosts.
    """
    host, hosts = container.hosts()
    if len(hosts) > 1 and container.required_channel("train").is_sharded:
        raise ContainerError(
            "this program trains on one host: use one instance, or FullyReplicated in place of ShardedByS3Key"
        )
    if host != hosts[0]:
        _logger.info("%s trains. This host has nothing to do.", hosts[0])
    return host != hosts[0]


def report(line: str) -> None:
    """Log a line of metrics, which AWS's images write without the time."""
    _logger.info("%s", line, extra={"is_plain": True})


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return record.getMessage() if getattr(record, "is_plain", False) else super().format(record)


def _check_packages(algorithm: Algorithm) -> None:
    for package, installed in algorithm.packages.items():
        _check_package(algorithm.name, package, installed)


def _check_package(program: str, package: str, installed: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ContainerError(f"the program {program} needs {package}: pip install {installed} ({error})") from error
