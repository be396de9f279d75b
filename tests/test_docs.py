"""The documentation can be followed: each rendered page does what it shows, and the reference is complete.

The rules by which a page is followed are in `rendered_docs`.
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processing.compat
from processing import exceptions
from processing.local.engine import Engine
from processing.local.jobs.assumptions import ASSUMPTIONS, TRAINING_ASSUMPTIONS
from rendered_docs import Block, find_blocks, follow, render_markdown, render_site, render_site_once

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("**/*.md"))
ALIASES = {
    "processing.UnexpectedStatusException",  # in the tree of errors
    "processing.remote_function.RemoteExecutor",  # described as names of `processing`
    "processing.remote_function.remote",
}
PUBLIC_MODULES = (
    "compat",
    "config",
    "images",
    "remote_function",
    "remote_function.serialization",
    "spark",
    "spark.ml",
    "spark.recordio",
)


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation. The workers of pytest-xdist share one build."""
    if hasattr(request.config, "workerinput"):
        return render_site_once(DOCS, tmp_path_factory.getbasetemp().parent)
    target = tmp_path_factory.mktemp("site")
    render_site(DOCS, target)
    return target


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder: the current directory, and first on `sys.path` as for a script in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    environment = dict(os.environ)
    yield tmp_path
    processing.compat.uninstall()
    os.environ.clear()
    os.environ.update(environment)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_reader_can_follow_the_page(page: str, site: Path, reader: Path) -> None:
    """Every block that is visible on the page does what the page says."""
    follow(find_blocks((site / f"{page}.html").read_text(encoding="utf-8")), reader)


def test_a_reader_can_follow_the_readme(reader: Path) -> None:
    """README.md works from the top, in an empty folder."""
    follow(find_blocks(render_markdown((ROOT / "README.md").read_text(encoding="utf-8"))), reader)


def test_the_readme_opens_with_five_lines_that_work_alone(reader: Path) -> None:
    """The first block of README.md needs no file and no other block."""
    first = find_blocks(render_markdown((ROOT / "README.md").read_text(encoding="utf-8")))[0]
    assert (first.language, first.file) == ("python", "")
    assert len([line for line in first.text.splitlines() if line]) <= 5
    follow([first], reader)


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_no_code_is_hidden(page: str) -> None:
    """Comments in the sources hold no code, and no fence hides a file's name in its title."""
    path = ROOT / "README.md" if page == "README" else DOCS / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"<!--.*?-->", text, re.DOTALL)) <= {"<!-- not run -->"}
    assert re.findall(r"^```\w+ .*", text, re.MULTILINE) == []


NAMED = """`pipeline.py`:

```python
WORD = "shown"
```

```python
>>> from pipeline import WORD
>>> WORD
'shown'
```
"""


def test_a_named_file_is_found(reader: Path) -> None:
    """A paragraph with a name in code and a colon names the block after it."""
    blocks = find_blocks(render_markdown(NAMED))
    assert blocks[0] == Block("python", 'WORD = "shown"\n', "pipeline.py")
    follow(blocks, reader)


@pytest.mark.parametrize(
    "hidden",
    [
        NAMED.replace("`pipeline.py`:\n", "<!-- `pipeline.py`: -->\n"),
        NAMED.replace("`pipeline.py`:\n\n```python", '```python title="pipeline.py"'),
        NAMED.replace("`pipeline.py`:", "Write a file like `pipeline.py`:"),
        "<!--\n" + NAMED.replace("```\n\n```", "```\n-->\n\n```", 1),
    ],
    ids=["name in a comment", "name in the fence", "name in a sentence", "file in a comment"],
)
def test_a_page_that_hides_a_file_fails(hidden: str, reader: Path) -> None:
    """A reader cannot know the name, or does not see the file."""
    with pytest.raises(AssertionError, match="No module named 'pipeline'"):
        follow(find_blocks(render_markdown(hidden)), reader)


def test_a_block_that_is_not_run_is_left_out() -> None:
    """The comment counts for the block directly after it, and for no other."""
    page = "<!-- not run -->\n```python\n1\n```\n\n```python\n2\n```\n\n<!-- not run -->\n\ntext\n\n```python\n3\n```\n"
    assert [block.is_run for block in find_blocks(render_markdown(page))] == [False, True, True]


def test_the_output_of_a_command_is_compared(reader: Path) -> None:
    """A console block fails if its command prints something else or fails."""
    follow([Block("console", "$ echo one two\none ...\n$ true\n")], reader)
    with pytest.raises(AssertionError, match="expected"):
        follow([Block("console", "$ echo one\ntwo\n")], reader)
    with pytest.raises(AssertionError, match="printed"):
        follow([Block("console", "$ exit 3\n")], reader)


def test_the_architecture_page_lists_the_rooms() -> None:
    """The page names each folder of the package, and each module of the folders that it describes in full."""
    package = Path(processing.__file__).parent
    described = ["", "job", "local", "processors", "request", "staging", "watching"]
    modules = [path.stem for folder in described for path in (package / folder).glob("*.py") if path.stem != "__init__"]
    folders = [path.parent.relative_to(package).as_posix() for path in package.glob("**/__init__.py")]
    text = (DOCS / "explanation/architecture.md").read_text(encoding="utf-8")
    named = {name.strip("/").rpartition("/")[2] for name in re.findall(r"`([\w/]+)`", text)}
    rooms = {*modules, *(folder.rpartition("/")[2] for folder in folders if folder != ".")}
    assert sorted(rooms - named) == []


def test_the_engine_s_operations_are_listed(tmp_path: Path) -> None:
    """The reference names each operation that the engine has, and no other."""
    engine = Engine(tmp_path)
    text = (ROOT / "docs/reference/engine.md").read_text(encoding="utf-8")
    services = {
        "SageMaker": "sagemaker",
        "SageMaker Runtime": "sagemaker-runtime",
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


def test_the_assumed_behaviours_of_training_are_listed() -> None:
    """The reference has the table of what the engine assumes about training jobs, row for row."""
    text = (ROOT / "docs/reference/training.md").read_text(encoding="utf-8")
    table = text.rpartition("| topic | the engine |\n|---|---|\n")[2].split("\n\n")[0].rstrip("\n").split("\n")
    assert table == [f"| {each.topic} | {each.behaviour} |" for each in TRAINING_ASSUMPTIONS]


def test_the_tree_of_errors_is_shown() -> None:
    """The reference shows the tree that the module draws."""
    tree = (exceptions.__doc__ or "").split("```")[1].strip()
    assert tree in (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_inventory(site: Path) -> None:
    """The built documentation has each public name and error in its inventory."""
    _, _, _, _, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
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
    installed = [line.split()[1] for line in lines if line and not line.startswith("#")]
    tried = [
        each
        for requirement in installed
        for each in requirement.removeprefix("npm:").split(",")
        if "==" in each or "@" in each
    ]
    assert tried
    assert [requirement for requirement in tried if f"`{requirement}`" not in text] == []
