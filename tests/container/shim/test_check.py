"""The command `check`: what listens where, the first ping, and the likely causes of a failed health check."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.commands import main
from processing.container.shim.listeners import ListeningSocket, listeners_in_network_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if kind == "slow": time.sleep(60)
        if kind == "silent": return
        self.send_response(404 if kind == "without" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args): pass

kind, address, port = sys.argv[1:]
print("\\x1b[2Jloaded", flush=True)
HTTPServer((address, int(port)), Handler).serve_forever()
"""
ANY = "0.0.0.0"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Check a server, and return the exit code and the text."""

    def run(kind: str, address: str, *, wait: float = 30, port: int = 0, other: int = 0) -> tuple[int, str]:
        port = port or free_port()
        words = [sys.executable, "-c", SERVER, kind, address, str(other or port)]
        while True:
            code = main(["check", "--serve", "--wait", str(wait), "--port", str(port), "--", *words])
            written = capsys.readouterr()
            report = written.out + written.err
            late = "listens     nowhere" in report or (f":{port} (" in report and "/ping   no connection" in report)
            if not late or wait > 60:
                return code, report
            wait *= 8  # a busy machine starts the server later

    return run


def test_a_server_that_keeps_the_contract(check: Callable[..., Any]) -> None:
    """The report has the socket, the first ping and the last lines, with control characters as escapes."""
    code, report = check("good", ANY)
    assert code == 0
    assert re.search(r"^listens     0\.0\.0\.0:\d+ \(python.*, pid \d+\)$", report, re.MULTILINE)
    assert re.search(r"^GET /ping   status 200 in \d\.\d\d s", report, re.MULTILINE)
    assert "\n  | \\x1b[2Jloaded\n" in report
    assert report.endswith("AWS would accept it.\n")


@pytest.mark.parametrize(
    ("kind", "address", "reason"),
    [
        ("good", "127.0.0.1", "listen at 0.0.0.0"),
        ("without", ANY, "status 404"),
        ("silent", ANY, "closed the connection without an answer"),
        ("slow", ANY, "no answer within 2 seconds"),
    ],
)
def test_the_reason_of_a_failed_health_check(kind: str, address: str, reason: str, check: Callable[..., Any]) -> None:
    """A loopback address, a missing path and a slow answer are named, and the exit code is 1."""
    code, report = check(kind, address, wait=1)
    assert code == 1
    verdict = report[report.index("AWS would reject it: it does not pass the ping health check.") :]
    assert reason in verdict


def test_another_port_is_named(check: Callable[..., Any]) -> None:
    """The report has the port at which a server listens in place of the right one."""
    other = free_port()
    code, report = check("good", ANY, wait=1, other=other)
    assert code == 1
    assert re.search(
        rf"- It listens at 0\.0\.0\.0:{other} .*, not at 0\.0\.0\.0:\d+\. .*`serve --proxy {other}`", report
    )


def test_a_port_that_is_taken_is_refused(check: Callable[..., Any]) -> None:
    """Another program's answers would be taken for those of the one to check."""
    with socket.socket() as taken:
        taken.bind((ANY, 0))
        taken.listen()
        code, text = check("good", ANY, port=taken.getsockname()[1])
    assert code == 2
    assert "another program listens" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["no-such-program"], "cannot be started"),
        ([sys.executable, "-c", "import no_such_module"], "lacks a library"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "memory is too small"),
        (["sh", "-c", "echo 'OSError: [Errno 98] Address already in use'; exit 1"], "bind to the same port"),
    ],
    ids=range(4),
)
def test_a_server_that_ends_is_rejected(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The likely cause follows from the exit code and the last lines."""
    assert main(["check", "--serve", "--port", str(free_port()), "--", *words]) == 1
    assert reason in capsys.readouterr().out


def test_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A job has to end with 0 and in time; links among the outputs are named."""
    monkeypatch.setenv("PROCESSING_SHIM_OUTPUT_PATH", str(tmp_path))
    source = f"cd {tmp_path}; echo abc > x; ln -s x y; exit "
    assert main(["check", "--", "sh", "-c", source + "0"]) == 0
    assert f"{tmp_path}: 1 files, 4 bytes; not uploaded: y" in capsys.readouterr().out
    assert main(["check", "--", "sh", "-c", "exit 3"]) == 1
    assert "is 0, and this is 3" in capsys.readouterr().out
    assert main(["check", "--wait", "0.1", "--", "sleep", "60"]) == 1
    assert "has not ended within 0.1 seconds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--wait", "0"], "--wait"),
        (["--model", "x"], "--model needs --image"),
        (["--image="], "--image"),
        (["--image", "x", "--client", "no-such-client"], "no-such-client"),
    ],
    ids=range(4),
)
def test_wrong_options_are_named(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An impossible option is refused by its name."""
    assert main(["check", *options, "--", "true"]) == 2
    assert text in capsys.readouterr().err


def test_addresses_of_the_system_are_read(tmp_path: Path) -> None:
    """The tables of Linux have addresses in words of this machine's order; a mapped address is not IPv6's loopback."""
    folder = tmp_path / "1/net"
    folder.mkdir(parents=True)
    rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0"
    loopback = socket.inet_aton("127.0.0.1")[:: -1 if sys.byteorder == "little" else 1].hex().upper()
    (folder / "tcp").write_text(
        f"head\n 0: {loopback}:1F90 {rest} 11 1\n"
        f" 1: 00000000:0016 {rest} 12 1\n 2: 00000000:0017 {rest.replace(' 0A ', ' 01 ')} 13 1\n"
    )
    (folder / "tcp6").write_text(f"head\n 0: {'0' * 32}:1F91 {rest} 14 1\n")
    found = listeners_in_network_of(1, tmp_path)
    assert found == [ListeningSocket(ANY, 22), ListeningSocket("127.0.0.1", 8080), ListeningSocket("::", 8081)]
    assert [each.reachable for each in found] == [True, False, True]
    assert not ListeningSocket("::1", 1).reachable
    assert listeners_in_network_of(2, tmp_path) is None


def test_a_stop_ends_the_program(tmp_path: Path) -> None:
    """SIGTERM ends the check and its program."""
    pid = tmp_path / "pid"
    command = [sys.executable, "-m", "processing.container.shim", "check", "--", "sh", "-c"]
    with subprocess.Popen([*command, f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60"], text=True) as process:
        while not pid.exists():
            assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert subprocess.run(["ps", "-p", pid.read_text().strip()], stdout=subprocess.DEVNULL, check=False).returncode == 1
