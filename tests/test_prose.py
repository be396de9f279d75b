"""The language of the docstrings: plain openings, and few of the words that make sentences hard to read."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

import processing

OPENINGS = re.compile(r"(What|Which|Who|Whose|Whom|Where|When|Why|How|Whether|That|Under which|In which|Of which)\b")
WORDS = {
    "what": ({"what", "whatever"}, 15),
    "who": ({"who", "whom", "whoever", "somebody", "someone", "nobody", "anybody"}, 3),
    "say": ({"tell", "tells", "told", "say", "says", "said"}, 10),
}
"""Words, and the most of them per 10,000 words. Comparable packages have 0 to 12, 0 to 1, and 0 to 2."""


PACKAGE = Path(processing.__file__).parent
TESTS = Path(__file__).parent


@functools.cache
def docstrings(root: Path = PACKAGE) -> list[tuple[str, str]]:
    """Return the docstring of each module, class and function below a folder, with its place."""
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    found.append((f"{path.relative_to(root)}:{getattr(node, 'name', '')}", text))
    return found


@pytest.mark.parametrize("root", [PACKAGE, TESTS], ids=["package", "tests"])
def test_no_docstring_opens_with_a_question(root: Path) -> None:
    """A docstring opens with a noun phrase or an imperative; that of a test with its rule."""
    assert [(place, text.splitlines()[0]) for place, text in docstrings(root) if OPENINGS.match(text)] == []


@pytest.mark.parametrize("name", WORDS)
def test_few_words_that_need_a_second_reading(name: str) -> None:
    """Pronouns and verbs of speech are rare: they stand in for a noun or for what the code does."""
    words, most = WORDS[name]
    counts = Counter(word for _, text in docstrings(PACKAGE) for word in re.findall(r"[a-z']+", text.lower()))
    found = sum(counts[word] for word in words)
    assert found * 10_000 / counts.total() <= most


SHARED_NAMES = {
    "Answer",  # the two ends of one message: the program sends what the supervisor's client receives
    "LocalSession",  # compat has the constructors of sagemaker
    "Record",  # one example of the data, in a program and in a transform job
    "ServiceError",  # public in processing and in processing.testing
    "Session",
}


def test_a_class_name_has_one_class() -> None:
    """A reader who searches for a class finds one, except where two public names or two ends of one thing agree."""
    names = Counter(
        node.name
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in names.items() if count > 1} == SHARED_NAMES


_OF_LINE = "# " + "noqa: "
_OF_FILE = "# ruff: " + "noqa: "


def test_a_noqa_has_its_reason() -> None:
    """A `noqa` of a line carries its reason after ` - `. The reason for a file's is a comment above it."""
    root = TESTS.parent
    bare = []
    for path in sorted(each for folder in (PACKAGE, TESTS, root / "benchmarks") for each in folder.rglob("*.py")):
        above = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith(_OF_FILE):
                has_reason = above.startswith("# ")
            else:
                has_reason = _OF_LINE not in line or re.search(_OF_LINE + r"[A-Z0-9, ]+ - \S", line) is not None
            if not has_reason:
                bare.append(f"{path.name}:{number}")
            above = line
    assert bare == []


def test_prose_of_pages_wraps() -> None:
    """A line of prose in the documentation has at most 100 columns, and a line of typed code at most 88.

    Tables, links and the output of programs may be longer.
    """
    root = TESTS.parent
    long = []
    for path in (root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))):
        in_fence = False
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            in_fence ^= line.lstrip().startswith("```")
            if in_fence and len(line) > 88 and line.startswith((">>> ", "... ", "$ ")):
                long.append(f"{path.relative_to(root)}:{number}")
            if not in_fence and len(line) > 100 and not line.lstrip().startswith("|") and "http" not in line:
                long.append(f"{path.relative_to(root)}:{number}")
    assert long == []
