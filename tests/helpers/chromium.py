"""Chromium for tests: pages drawn with fixed fonts, and compared with kept pictures."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRIVER: Final = Path(__file__).with_name("chromium.js")
_FONTS: Final = Path("/usr/share/fonts/truetype/dejavu")
_FONT_SETTINGS: Final = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{_FONTS}</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>ui-monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <match target="pattern">
    <edit name="family" mode="append_last"><string>DejaVu Sans</string></edit>
  </match>
</fontconfig>
"""
_OWN: Final = re.compile(r"[/ .](google|googleapis|gvt1)\.com[:/]")
"""Chromium's own requests for its updates. A page's requests to these hosts are in `seen`, as all of the page's are."""
TOLERANCE: Final = 0.02
"""The share of a picture that may differ: other releases of Chromium draw the edges of letters differently."""
KEEP: Final = os.environ.get("PROCESSING_TEST_KEEP_PICTURES") == "1"
"""True to keep the pictures that are drawn now. Look at them before you commit them."""


def missing() -> str | None:
    """Return what the tests need and this machine lacks; None if it has everything."""
    if shutil.which("chromium") is None or not (_FONTS / "DejaVuSans.ttf").exists():
        return "Chromium or its font is missing: scripts/install-chromium installs them"
    return None


class Chromium:
    """A browser with one page at a time.

    Attributes:
        asked: the first lines of requests that would have left this machine.
    """

    def __init__(self, process: subprocess.Popen[str], asked: list[str]) -> None:
        self._process = process
        self.asked = asked

    def __call__(self, order: str, **details: Any) -> Any:
        """Return the result of an order; `chromium.js` has them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"order": order, **details}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the browser has ended"}')
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def compare_with(self, kept: Path, *, keep: bool = KEEP) -> float:
        """Return the share of the present page's picture that differs from a kept one.

        Args:
            kept: the file of the kept picture.
            keep: True to keep the present picture in its place.
        """
        drawn = self("draw")
        if keep:
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(base64.b64decode(drawn))
        share: float = self("compare", one=base64.b64encode(kept.read_bytes()).decode(), two=drawn)
        return share


@contextlib.contextmanager
def chromium(modules: Path, folder: Path) -> Iterator[Chromium]:
    """Run Chromium within the block. A proxy that answers nothing records every request to another machine.

    Args:
        modules: the folder of Node's modules with playwright-core and axe-core.
        folder: a folder for its files.
    """
    (folder / "fonts.conf").write_text(_FONT_SETTINGS)
    (folder / "node_modules").symlink_to(modules.resolve())
    driver = shutil.copy(_DRIVER, folder)
    asked: list[str] = []
    program = shutil.which("chromium")
    environment = {
        **os.environ,
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder),
    }
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=_record, args=(proxy, asked), daemon=True).start()
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        words = ["node", driver, str(program), address]
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            try:
                yield Chromium(process, asked)
            finally:
                process.stdin.close()
                process.wait(60)
        with contextlib.suppress(OSError):
            proxy.shutdown(socket.SHUT_RDWR)  # ends the thread


def _record(proxy: socket.socket, asked: list[str]) -> None:
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            first = connection.recv(1000).decode("latin-1").partition("\r\n")[0]
            if not _OWN.search(first):
                asked.append(first)
