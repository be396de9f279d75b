"""A container's folder for programs, and a client of a model's server."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.programs.http_server import Model, ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class ContainerFolder:
    """A training container's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.channels: dict[str, dict[str, str]] = {}
        self.configure({})

    def configure(self, hyperparameters: Mapping[str, object], hosts: int = 1, host: int = 1) -> None:
        """Write hyperparameters and hosts."""
        names = [f"algo-{number + 1}" for number in range(hosts)]
        self.write("hyperparameters", {name: str(value) for name, value in hyperparameters.items()})
        self.write("resourceconfig", {"current_host": f"algo-{host}", "hosts": names})
        self.write("inputdataconfig", self.channels)

    def write(self, name: str, content: Any) -> None:
        """Write a file of the configuration."""
        path = self.root / f"input/config/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def add(self, name: str, content_type: str, *files: bytes, **config: str) -> None:
        """Add a channel with files."""
        folder = self.root / "input/data" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(files):
            (folder / f"part-{number}").write_bytes(content)
        self.channels[name] = {"TrainingInputMode": "File", "ContentType": content_type, **config}
        self.write("inputdataconfig", self.channels)

    def failure(self, train: Callable[[Path], None], **hyperparameters: object) -> str:
        """Train, which fails, and return the reason."""
        self.configure(hyperparameters)
        with pytest.raises(SystemExit) as caught:
            train(self.root)
        assert caught.value.code == 1
        return (self.root / "output/failure").read_text()


class ModelClient:
    """A client of a model's server, on one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request, and return the status and the body."""
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        return response.status, response.read()

    def invoke(self, body: bytes, content_type: str = "", accept: str = "") -> tuple[int, bytes]:
        """Invoke the model."""
        headers = {name: value for name, value in (("Content-Type", content_type), ("Accept", accept)) if value}
        return self.request("POST", "/invocations", body, headers)

    def predict(self, body: bytes, content_type: str, accept: str = "") -> bytes:
        """Invoke the model, which answers, and return the answer."""
        status, answer = self.invoke(body, content_type, accept)
        assert status == 200, answer
        return answer


@contextmanager
def served(model: Model) -> Iterator[ModelClient]:
    """Serve a model on a free port."""
    with ModelServer(model, 0, host="127.0.0.1") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = ModelClient(server.port)
        yield client
        client.connection.close()
        server.shutdown()
        thread.join()
