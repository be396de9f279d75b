"""The HTTP server of a model, as SageMaker calls it, and wrong requests."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from processing.local.programs.http_server import Answer, Invocation, RefusedError
from program_container import ContainerFolder, ModelClient, served

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo:
    """A model that answers the body."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer the body, or fail."""
        if invocation.body == b"refuse":
            raise RefusedError(HTTPStatus.BAD_REQUEST, "refused: é")
        if invocation.body == b"fail":
            raise RuntimeError("a bug")
        return Answer(invocation.content_type, invocation.body)


@pytest.fixture
def client() -> Iterator[ModelClient]:
    with served(Echo()) as connected:
        yield connected


def test_paths_and_methods(client: ModelClient) -> None:
    """One connection serves the three paths, with the methods of each, and refuses others."""
    assert client.request("GET", "/ping") == (200, b"")
    assert client.request("HEAD", "/ping?x=1") == (200, b"")
    status, parameters = client.request("GET", "/execution-parameters")
    assert status == 200
    assert json.loads(parameters) == {
        "MaxConcurrentTransforms": os.cpu_count(),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 6,
    }
    assert client.invoke(b"body", "text/x") == (200, b"body")
    assert client.invoke(b"") == (204, b"")
    assert client.request("GET", "/invocations") == (405, b"The methods of /invocations are: POST.")
    assert client.request("POST", "/ping", b"x") == (405, b"The methods of /ping are: GET, HEAD.")
    assert client.request("GET", "/other")[0] == 404
    assert client.request("POST", "/other", b"x")[0] == 404
    assert client.request("PUT", "/invocations", b"x")[0] == 405
    assert client.invoke(b"again") == (200, b"again")


def test_answer_has_the_models_type(client: ModelClient) -> None:
    """The answer has the type that the model gave it, and the connection stays open."""
    client.connection.request("POST", "/invocations", b"x", {"Content-Type": "text/csv"})
    response = client.connection.getresponse()
    response.read()
    assert response.headers["Content-Type"] == "text/csv"
    assert response.headers["Connection"] is None


def test_refusals_and_failures(client: ModelClient, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal has its status and text. A bug is status 500, and its trace is in the log."""
    assert client.invoke(b"refuse") == (400, "refused: é".encode())
    assert client.invoke(b"fail") == (500, b"The model failed. The log has the reason.")
    assert "a bug" in caplog.text
    assert client.invoke(b"again") == (200, b"again")


def test_body_in_chunks(client: ModelClient) -> None:
    """A body in chunks is one body."""
    client.connection.request("POST", "/invocations", iter([b"one ", b"two"]), encode_chunked=True)
    assert client.connection.getresponse().read() == b"one two"


@pytest.mark.parametrize("chunked", [False, True])
def test_limit_of_the_body(chunked: bool, client: ModelClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body above MAX_CONTENT_LENGTH is refused with 413, and the connection serves the next one."""
    monkeypatch.setenv("MAX_CONTENT_LENGTH", "1000")
    body = iter([b"x" * 1000, b"x"]) if chunked else b"x" * 1001
    client.connection.request("POST", "/invocations", body, encode_chunked=chunked)
    response = client.connection.getresponse()
    assert (response.status, response.read()) == (413, b"The body has more than 1000 bytes, the limit of this model.")
    assert client.invoke(b"x" * 1000) == (200, b"x" * 1000)


def test_body_of_six_megabytes(client: ModelClient) -> None:
    """The largest body of InvokeEndpoint arrives whole, and one byte more does not."""
    body = os.urandom(6 << 20)
    assert client.invoke(body) == (200, body)
    assert client.invoke(body + b"x")[0] == 413


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /invocations HTTP/1.1\r\n\r\n", 411),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n", 400),
    ],
)
def test_requests_that_are_no_http(head: bytes, status: int, client: ModelClient) -> None:
    """A request without a valid length ends its connection with a status."""
    with socket.create_connection(("127.0.0.1", client.connection.port)) as connection:
        connection.sendall(head)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == status
            response.read()
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"POST /invocations HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ],
)
def test_body_that_ends_early(head: bytes, client: ModelClient) -> None:
    """A connection that ends within a body has no answer, and the server serves others."""
    with socket.create_connection(("127.0.0.1", client.connection.port)) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert client.request("GET", "/ping")[0] == 200


def test_program_as_a_process(container: ContainerFolder) -> None:
    """`python -m` trains and serves with the folder and the port of the command line, and ends at SIGTERM."""
    container.add("train", "text/csv;label_size=0", b"1\n3\n")
    container.configure({"k": 2, "feature_dim": 1})
    program = [sys.executable, "-m", "processing.local.programs.kmeans"]
    root = ["--root", str(container.root)]
    trained = subprocess.run([*program, "train", *root], capture_output=True, text=True, check=True)
    assert "This is a stand-in for AWS's K-Means in numpy." in trained.stdout
    assert "\n#quality_metric: host=algo-1, train msd <loss>=0.0\n" in trained.stdout
    with subprocess.Popen([*program, "serve", *root, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = next(line.split("Port ")[1].split()[0] for line in server.stdout if "Port " in line)
        client = ModelClient(int(port))
        answer = client.predict(b"2.5", "text/csv", "text/csv")
        client.connection.close()
        server.terminate()
    assert answer.endswith(b",0.5\n")
    assert server.returncode == 0


def test_usage() -> None:
    """Without a command, a program shows its usage."""
    command = [sys.executable, "-m", "processing.local.programs.pca"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "{train,serve}" in process.stderr


def test_programs_load_neither_boto3_nor_xgboost() -> None:
    """A program imports its library when it runs, and boto3 never."""
    code = (
        "import sys, processing.local.programs.xgboost, processing.local.programs.linear_learner\n"
        "assert not {'boto3', 'botocore', 'numpy', 'xgboost'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
