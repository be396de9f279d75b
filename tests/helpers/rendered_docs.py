"""The documentation as a reader sees it: rendered pages, their code blocks, and a way to follow a page.

A page is rendered first, by Sphinx or (README.md) by markdown-it. Only the text of the rendered page counts. A
reader copies its blocks from top to bottom into an empty folder:

- A block after a paragraph that consists of a file's name in code and a colon is that file.
- A `python` block is executed, all blocks of a page in one namespace. Prompts (`>>>`) make it a doctest.
- A `console` block has commands after `$ `, each with its output. The commands run in the page's folder.
- Other blocks are not run, nor is a block directly after the comment `<!-- not run -->`.
"""

from __future__ import annotations

import doctest
import fcntl
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

OUTPUT_CHECKS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# A command of a page runs jobs or tests: it takes seconds on an idle machine.
COMMAND_TIMEOUT = 300
# Searching the trees of all pages for garbage would take a quarter of the build's time.
SPHINX = "import gc, sys; gc.disable(); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"


class Block(NamedTuple):
    """A code block of a rendered page.

    Attributes:
        language: the language of its fence, or an empty text.
        text: the text that a reader copies.
        file: the file's name if the paragraph before the block consists of it.
        is_run: False for a block that is marked as not run.
    """

    language: str
    text: str
    file: str = ""
    is_run: bool = True


def render_site(docs: Path, target: Path) -> None:
    """Build the documentation with Sphinx. A warning is an error."""
    sphinx = [sys.executable, "-c", SPHINX, "--builder", "html", "--fail-on-warning", "--fresh-env", "--quiet"]
    subprocess.run([*sphinx, str(docs), str(target)], check=True, timeout=600)


def render_site_once(docs: Path, shared: Path) -> Path:
    """Build the documentation unless another process has built it in the shared folder. Return its folder."""
    site, building = shared / "site", shared / "site-building"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not site.exists():
            render_site(docs, building)
            building.rename(site)
    return site


def render_markdown(text: str) -> str:
    """Render a Markdown file as repository hosts do."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


class _Page(HTMLParser):
    """Collects the code blocks of a page, and looks at the paragraph directly before each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self._language = ""
        self._file = ""
        self._is_run = True
        self._paragraph: list[str] | None = None
        self._in_code = False
        self._codes: list[str] = []
        self._pre: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        for name in classes:
            if match := re.fullmatch(r"(?:highlight|language)-(\w+)", name):
                self._language = match[1]
        if tag == "pre":
            self._pre = []
        elif tag == "p":
            self._paragraph, self._codes = [], []
        elif tag == "code" and self._pre is None:
            self._in_code = True
            self._codes.append("")
        elif tag in {"h1", "h2", "h3", "li", "table"}:
            self._file, self._is_run = "", True

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre" and self._pre is not None:
            self.blocks.append(Block(self._language, "".join(self._pre), self._file, self._is_run))
            self._pre, self._language, self._file, self._is_run = None, "", "", True
        elif tag == "p" and self._paragraph is not None:
            text = "".join(self._paragraph).strip()
            is_name = len(self._codes) == 1 and text == f"{self._codes[0]}:"
            self._file, self._is_run = self._codes[0] if is_name else "", True
            self._paragraph = None
        elif tag == "code":
            self._in_code = False

    def handle_data(self, data: str) -> None:
        if self._pre is not None:
            self._pre.append(data)
        elif self._paragraph is not None:
            self._paragraph.append(data)
            if self._in_code:
                self._codes[-1] += data

    def handle_comment(self, data: str) -> None:
        if data.strip() == "not run":
            self._is_run = False


def find_blocks(html: str) -> list[Block]:
    """Return the code blocks of a rendered page, in order."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.blocks


def follow(blocks: list[Block], folder: Path) -> None:
    """Do with the blocks as a reader does, in a folder that is the current one and on `sys.path`."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks, 1):
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.is_run and block.language == "python":
            _run_python(block.text, namespace, f"<block {number}>")
        elif block.is_run and block.language == "console":
            _run_console(block.text, folder)


def _run_python(text: str, namespace: dict[str, object], name: str) -> None:
    if ">>> " not in text:
        exec(compile(text, name, "exec", dont_inherit=True), namespace)
        return
    test = doctest.DocTestParser().get_doctest(text, namespace, name, name, 0)
    test.globs = namespace  # the blocks share one namespace, of which doctest makes a copy
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OUTPUT_CHECKS)
    if runner.run(test, out=report.append, clear_globs=False).failed:
        raise AssertionError("".join(report))


def _run_console(text: str, folder: Path) -> None:
    # The commands find the Python that runs the tests, as in an activated environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    checker = doctest.OutputChecker()
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            command,
            check=False,
            shell=True,
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT,
        )
        if done.returncode or not checker.check_output(expected, done.stdout, OUTPUT_CHECKS):
            raise AssertionError(f"$ {command}\nexpected:\n{expected}\nprinted ({done.returncode}):\n{done.stdout}")
