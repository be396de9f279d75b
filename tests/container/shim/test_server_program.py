"""Long-lived programs: a server of the user's that does all tasks."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

SERVER = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self):
        name = open(os.environ["IN"] + "/name").read()
        if name == "slow": time.sleep(60)
        if name == "end": os._exit(5)
        print("does", name, file=sys.stderr, flush=True)
        with open(os.environ["OUT"] + "/pid", "w") as file: file.write(str(os.getpid()))
        self.send_response(500 if name == "bad" else 201)
        self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args): pass

HTTPServer(("127.0.0.1", int(os.environ["SERVER_PORT"])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _server(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has a port of its own, and inputs name the behaviour that a task wants."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for name, value in {
        "IN": shim.input,
        "OUT": shim.output,
        "SERVER_PORT": port,
        "PROCESSING_SHIM_USER_WEBSERVER_PORT": port,
        "PROCESSING_SHIM_API_METHOD": "invoke",
    }.items():
        monkeypatch.setenv(name, str(value))
    for name in ("good", "bad", "slow", "end"):
        shim.put(name, name.encode())


def task(shim: Any, name: str, **fields: Any) -> Any:
    return shim.task(name, inputs={"name": name}, **fields)


def test_one_server_does_all_tasks(shim: Any) -> None:
    """Tasks reach one process; another status than 201 fails a task, and each result has its own lines."""
    assert shim.invoke(SERVER, task(shim, "good"), task(shim, "bad")) == 1
    assert shim.body("out/good/pid") == shim.body("out/bad/pid")
    good, bad = shim.result("good"), shim.result("bad")
    assert (good["return_code"], bad["return_code"]) == (0, 1)
    assert good["exec_duration"] is None
    assert good["invoke_duration"].startswith("PT")
    assert good["user_process_last_stderr_lines"] == ["does good\n"]
    assert bad["user_process_last_stderr_lines"] == ["does bad\n"]


@pytest.mark.parametrize(
    ("name", "message"), [("slow", "Time limit exceeded"), ("end", "The server ended with exit code 5")]
)
def test_a_server_that_hangs_or_ends_gets_no_other_task(name: str, message: str, shim: Any) -> None:
    """The task fails with the reason, and those after it with a result."""
    limit = {"timeout": "PT1S"} if name == "slow" else {}
    tasks = [task(shim, name, **limit), task(shim, "good")]
    assert shim.invoke(SERVER, *tasks, options=("--keep-going",)) == 1
    assert shim.result(name)["user_safe_error_message"] == message
    assert shim.result("good")["failed_phase"] == "start"


def test_a_server_that_does_not_start_ends_the_shim(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of the setup has the exit code of a server that ends before it is healthy."""
    monkeypatch.setenv("PROCESSING_SHIM_RUNTIME_OUTPUT_BUCKET_NAME", "shim")
    monkeypatch.setenv("PROCESSING_SHIM_RUNTIME_OUTPUT_PREFIX", "setup")
    assert shim.invoke("import sys; sys.exit(9)", task(shim, "good")) == 1
    result = json.loads(shim.body("setup/.sagemaker_shim/runtime_setup_result.json"))
    assert result["user_safe_error_message"] == "Could not start server: The server ended with exit code 9"
