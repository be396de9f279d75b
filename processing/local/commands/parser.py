"""The parser of command lines."""

from __future__ import annotations

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Write the error, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")
