"""The code in README.md and in the documentation runs, and gives the output that is shown.

Each document is run from top to bottom in an empty directory, against the embedded engine. A fenced block that begins with
three backticks and then

- `python` is run, all of a document's blocks in one namespace; where it has prompts (`>>>`), its output is compared;
- `python title="clean.py"` (or any other language) is written to that file.

`<!-- skip: next -->` leaves out the block that follows: what needs an AWS account, or is a fragment.
"""

from __future__ import annotations

import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Region, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Document, Example

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
FILE = re.compile(r'^```\w+ title="(?P<name>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def files(document: Document) -> Iterator[Region]:
    """Find the blocks that are files, and write each when its turn comes."""
    for match in FILE.finditer(document.text):
        yield Region(match.start(), match.end(), parsed=match, evaluator=write)


def write(example: Example) -> None:
    """Write one file into the current directory."""
    path = Path(example.parsed["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed["text"], encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block does what the document says."""
    monkeypatch.chdir(tmp_path)
    python = PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)
    document = Sybil([files, python, SkipParser()], path=str(ROOT)).parse(path)
    for example in document.examples():
        example.evaluate()
