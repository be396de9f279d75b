"""The code in README.md and in the documentation runs, and gives the output that is shown.

Each document is run from top to bottom in an empty directory, against the embedded engine. A fenced block that begins
with three backticks and then

- `python` is run, all of a document's blocks in one namespace; where it has prompts (`>>>`), its output is compared;
- `python title="clean.py"` (or any other language) is written to that file.

`<!-- skip: next -->` leaves out the block that follows: what needs an AWS account, or is a fragment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Region, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import processing
from processing import exceptions
from processing.local.engine import Engine
from processing.local.jobs.assumptions import ASSUMPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Document, Example

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
ALIASES = {"processing.UnexpectedStatusException"}  # in the tree of errors
PUBLIC_MODULES = ("compat", "config", "images", "testing")
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


def test_the_engine_s_operations_are_listed(tmp_path: Path) -> None:
    """The reference names each operation that the engine has, and no other."""
    engine = Engine(tmp_path)
    text = (ROOT / "docs/reference/engine.md").read_text(encoding="utf-8")
    services = {
        "SageMaker": "sagemaker",
        "S3": "s3",
        "CloudWatch Logs": "logs",
        "CloudWatch": "cloudwatch",
        "SQS": "sqs",
        "Resource Groups Tagging": "resourcegroupstaggingapi",
        "STS": "sts",
        "IAM": "iam",
    }
    for title, service in services.items():
        operations = ", ".join(f"`{name}`" for name in sorted(engine._operations_of(service)))
        assert f"| {title} | {operations} |" in text


def test_the_assumed_behaviours_are_listed() -> None:
    """The reference has the table of what the engine assumes, row for row."""
    text = (ROOT / "docs/reference/container-contract.md").read_text(encoding="utf-8")
    table = text.partition("| topic | the engine |\n|---|---|\n")[2].split("\n\n")[0].rstrip("\n").split("\n")
    assert table == [f"| {each.topic} | {each.behaviour} |" for each in ASSUMPTIONS]


def test_the_tree_of_errors_is_shown() -> None:
    """The reference shows the tree that the module draws."""
    tree = (exceptions.__doc__ or "").split("```")[1].strip()
    assert tree in (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")


@pytest.mark.skipif(os.environ.get("PROCESSING_TEST_COMPLETE") != "1", reason="builds the documentation: --all does")
def test_every_public_name_is_in_the_inventory(tmp_path: Path) -> None:
    """The documentation builds without a warning, and its inventory has each public name and error."""
    sphinx = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--fresh-env", "--quiet"]
    subprocess.run([*sphinx, ROOT / "docs", tmp_path], check=True, timeout=300)
    _, _, _, _, packed = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)
    described = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}
    public = {
        f"{module.__name__}.{name}"
        for module in (processing, *(import_module(f"processing.{name}") for name in PUBLIC_MODULES))
        for name in module.__all__
    }
    assert sorted(public - described - ALIASES) == []


def test_the_clients_that_are_tried_are_listed() -> None:
    """The reference names each of them, in the version that is installed."""
    text = (ROOT / "docs/reference/clients.md").read_text(encoding="utf-8")
    lines = (ROOT / "tests/foreign/clients.txt").read_text(encoding="utf-8").splitlines()
    tried = [line.split()[1] for line in lines if line and not line.startswith("#")]
    assert tried
    assert [requirement for requirement in tried if f"`{requirement}`" not in text] == []
