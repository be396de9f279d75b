"""A program in place of a user's own image: `train` finds the slope of labels over the first features, `serve` uses it.

`train` reads CSV of label and features from the channel that the hyperparameter `channel` names, and fails with the
reason that the hyperparameter `fail` has. `serve` answers each line's number, times the slope, plus OFFSET.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ML = Path("/opt/ml")


def train() -> None:
    """Write the model, or the reason of a failure."""
    settings = json.loads((ML / "input/config/hyperparameters.json").read_text())
    config = json.loads((ML / "input/config/inputdataconfig.json").read_text())[settings["channel"]]
    host = json.loads((ML / "input/config/resourceconfig.json").read_text())["current_host"]
    assert (host, config["ContentType"]) == ("algo-1", "text/csv")
    assert os.environ["TRAINING_JOB_NAME"]
    if "fail" in settings:
        (ML / "output").mkdir(exist_ok=True)
        (ML / "output/failure").write_text(settings["fail"])
        sys.exit(3)
    files = sorted((ML / "input/data" / settings["channel"]).rglob("*.csv"))
    rows = [tuple(map(float, line.split(",")[:2])) for file in files for line in file.read_text().splitlines()]
    slope = sum(row[0] for row in rows) / sum(row[1] for row in rows)
    (ML / "model/slope").write_text(repr(slope))


class Handler(BaseHTTPRequestHandler):
    """GET /ping and POST /invocations."""

    def do_GET(self) -> None:
        """Answer that the program is ready."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer the numbers."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        slope, offset = float((ML / "model/slope").read_text()), float(os.environ.get("OFFSET", "0"))
        self._answer("".join([f"{slope * float(line) + offset!r}\n" for line in body.split()]).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train()
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
