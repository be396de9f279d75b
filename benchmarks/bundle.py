"""Time for the bundle of a source directory, beside `tar | gzip -6` over the same tree.

Our bundle walks the tree, applies the ignore rules to every file, and hashes the result. Its bytes are the same on any
machine. There are two trees of 5,000 files: source code of 2 KB each, and data of 8 KB.

python benchmarks/bundle.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from figures import Figure, finish, scaled

from processing.staging.bundles import make_bundle
from processing.staging.code_files import code_members

FILES = scaled(5_000, 500)
ROUNDS = scaled(5, 1)
_WORDS = ("def", "return", "import", "self", "for", "in", "if", "else", "None", "path", "value", "name", "row", "frame")

# A short form of GitHub's template for Python.
_IGNORED = """*.py[codz]
*$py.class
*.so
build/
develop-eggs/
dist/
downloads/
eggs/
.eggs/
lib64/
sdist/
var/
wheels/
share/python-wheels/
*.egg-info/
.installed.cfg
*.egg
MANIFEST
*.manifest
*.spec
pip-log.txt
htmlcov/
.coverage
.coverage.*
.cache
nosetests.xml
coverage.xml
*.cover
.hypothesis/
*.log
local_settings.py
instance/
docs/_build/
.scrapy
target/
profile_default/
__pypackages__/
*.sage
.spyderproject
.ropeproject
/site
.idea/
!important.log
"""


def make_tree(directory: Path, size: int) -> None:
    """Write files of one size, a hundred to a folder."""
    random = Random(0)
    directory.mkdir()
    (directory / ".gitignore").write_text(_IGNORED, encoding="utf-8")
    for number in range(FILES):
        folder = directory / f"package{number // 100:03}" / "modules"
        folder.mkdir(parents=True, exist_ok=True)
        text = " ".join(random.choices(_WORDS, k=size // 4))
        (folder / f"module{number:05}.py").write_text(text[:size], encoding="utf-8")


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the quickest of several rounds. The two alternate: a machine is never quite idle."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def compare(size: int) -> Figure:
    """Measure both over one tree."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary, "tree")
        make_tree(tree, size)
        theirs = best(lambda: _tar_and_gzip(tree, Path(temporary, "theirs.tar.gz")))
        ours = best(lambda: make_bundle(code_members(tree, ())).close())
    return Figure(
        f"a bundle of {FILES:,} files of {size // 1000} KB, of tar | gzip -6",
        ours / theirs,
        1.0,
        note=f"{ours:.2f} s and {theirs:.2f} s",
    )


def _tar_and_gzip(tree: Path, to: Path) -> None:
    subprocess.run(["sh", "-c", 'tar -cf - -C "$1" . | gzip -6 > "$2"', "sh", tree, to], check=True)


def main() -> None:
    if shutil.which("tar") is None or shutil.which("gzip") is None:
        sys.exit("this takes tar and gzip")
    finish([compare(2_000), compare(8_000)])


if __name__ == "__main__":
    main()
