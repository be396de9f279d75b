"""Files of a code directory that are excluded."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import ConfigurationError, StagingError
from processing.staging.code_files import code_members
from processing.staging.ignore_rules import load_ignore_rules
from processing.staging.sources import LocalSource


def make(directory: Path, files: dict[str, str]) -> Path:
    """Write files, each with the folders that it needs."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return directory


def names(directory: Path) -> list[str]:
    """The names in the bundle of a directory."""
    return [member.name for member in code_members(directory, ())]


def test_ignored_files_are_excluded(tmp_path: Path) -> None:
    """Names, wildcards, anchored paths, folders and exceptions mean what they mean in Git."""
    make(
        tmp_path,
        {
            ".gitignore": "# comment\n\n*.log\n!keep.log\n/top.txt\nout/\ndata/*\n!data/small.csv\n**/deep/*.bin\n",
            "a.py": "",
            "a.log": "",
            "sub/keep.log": "",
            "top.txt": "",
            "sub/top.txt": "",
            "out/x": "",
            "sub/out": "a file",
            "data/large.csv": "",
            "data/small.csv": "",
            "x/deep/y.bin": "",
        },
    )
    assert names(tmp_path) == [".gitignore", "a.py", "data/small.csv", "sub/keep.log", "sub/out", "sub/top.txt"]


def test_our_file_takes_the_place_of_git_s(tmp_path: Path) -> None:
    """A .processingignore in the directory disables all .gitignore files, including those further down."""
    files = {".gitignore": "*.csv\n", "a.csv": "", "b.txt": "", "s/.gitignore": "c.csv\n", "s/c.csv": "", "s/d.txt": ""}
    make(tmp_path, files)
    assert names(tmp_path) == [".gitignore", "b.txt", "s/.gitignore", "s/d.txt"]
    make(tmp_path, {".processingignore": "*.txt\n", "s/.processingignore": "!d.txt\n"})
    assert [name for name in names(tmp_path) if "ignore" not in name] == ["a.csv", "s/c.csv", "s/d.txt"]


def test_nested_files_have_the_last_word(tmp_path: Path) -> None:
    """An ignore file speaks of its own folder, and wins there over those above it."""
    make(
        tmp_path,
        {
            ".gitignore": "*.csv\n",
            "a/.gitignore": "!*.csv\n/b/x.txt\n",
            "a/y.csv": "",
            "a/b/x.txt": "",
            "a/c/b/x.txt": "",
            "z.csv": "",
        },
    )
    assert names(tmp_path) == [".gitignore", "a/.gitignore", "a/c/b/x.txt", "a/y.csv"]


def test_an_ignored_folder_is_not_looked_into(tmp_path: Path) -> None:
    """Files in an ignored folder cannot be re-included, as in Git, and are not even listed."""
    make(tmp_path, {".gitignore": "big\n!big/x\n", "big/x": "", "a": ""})
    (tmp_path / "big" / "broken").symlink_to("nowhere")
    assert names(tmp_path) == [".gitignore", "a"]


def test_an_ignored_link_that_leads_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broken link stays behind with a notice that names it, and without one if it is ignored."""
    make(tmp_path, {"a": ""})
    (tmp_path / "broken").symlink_to("nowhere")
    assert names(tmp_path) == ["a"]
    assert "broken (a symbolic link that leads nowhere)" in caplog.text
    caplog.clear()
    make(tmp_path, {".gitignore": "broken\n"})
    assert names(tmp_path) == [".gitignore", "a"]
    assert not caplog.records


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_endings_and_marks(tmp_path: Path, ending: str) -> None:
    """An ignore file may be written on Windows."""
    make(tmp_path, {".gitignore": "\ufeffa.txt" + ending + "b/" + ending, "a.txt": "", "b/c": "", "d": ""})
    assert names(tmp_path) == [".gitignore", "d"]


NEVER = [
    ".git/config",
    ".hg/x",
    ".svn/x",
    ".venv/lib/x.py",
    "sub/.git",
    "a/__pycache__/x.pyc",
    ".pytest_cache/x",
    ".env",
    "sub/.env.production",
    ".envrc",
    ".aws/credentials",
    "sub/credentials",
    "credentials.json",
    ".ssh/known_hosts",
    ".netrc",
    ".pypirc",
    "me_accessKeys.csv",
    "rootkey.csv",
    ".npmrc",
    "keys/service_account.json",
    "client.P12",
    ".DS_Store",
]


def test_always_excluded_files(tmp_path: Path) -> None:
    """Version control, environments, caches and credentials stay behind, even where an ignore file takes them in."""
    make(tmp_path, dict.fromkeys([*NEVER, "a.py", ".env.example", "credentials/a.py", "environment.py"], "x"))
    make(tmp_path, {".processingignore": "!*\n!.env\n!.git/\n!credentials\n"})
    assert names(tmp_path) == [".env.example", ".processingignore", "a.py", "credentials/a.py", "environment.py"]


def test_links_to_always_excluded_files(tmp_path: Path) -> None:
    """A link of another name does not take credentials along, nor does one to a folder of them, or into it."""
    make(tmp_path, {".env": "SECRET=1", ".aws/config": "x", ".aws/cli/cache": "x", "key.pem": "PRIVATE KEY-----"})
    make(tmp_path, {"lib/a.py": "", "b.py": ""})
    source = make(tmp_path / "src", {"x.py": ""})
    for name, target in {
        "settings": ".env",
        "cloud": ".aws",
        "cli": ".aws/cli",
        "config": ".aws/config",
        "certificate": "key.pem",
        "lib": "lib",
        "c.py": "b.py",
    }.items():
        (source / name).symlink_to(tmp_path / target)
    assert names(source) == ["c.py", "lib/a.py", "x.py"]
    with pytest.raises(ConfigurationError, match="may hold credentials"):
        code_members(source / "settings", ())
    (source / "settings").unlink()
    (source / "itself").symlink_to("itself")
    assert names(source) == ["c.py", "lib/a.py", "x.py"]


def test_environments_of_any_name(tmp_path: Path) -> None:
    """A virtual environment is known by what is in it."""
    make(tmp_path, {"env3/pyvenv.cfg": "", "env3/lib/x.py": "", "a.py": "", "venv/a.py": ""})
    assert names(tmp_path) == ["a.py", "venv/a.py"]


def test_private_keys(tmp_path: Path) -> None:
    """A private key is known by its content: a certificate with the same ending travels."""
    key = "-----BEGIN RSA PRIVATE KEY-----\nx\n"
    certificate = "-----BEGIN CERTIFICATE-----\nx\n"
    make(tmp_path, {"a.pem": key, "b.key": key, "id_rsa": key, "ca.pem": certificate, "both.pem": certificate + key})
    assert names(tmp_path) == ["ca.pem"]


def test_dependencies_stand_at_the_root(tmp_path: Path) -> None:
    """A dependency keeps its own name, at the root; each directory has rules of its own."""
    source = make(tmp_path / "src", {"main.py": "", "x.log": ""})
    common = make(tmp_path / "common", {".gitignore": "*.log\n", "__init__.py": "", "x.log": ""})
    single = make(tmp_path, {"single.py": ""}) / "single.py"
    members = code_members(source, [common, single])
    assert [(member.name, member.path) for member in members] == [
        ("main.py", source / "main.py"),
        ("x.log", source / "x.log"),
        ("common/.gitignore", common / ".gitignore"),
        ("common/__init__.py", common / "__init__.py"),
        ("single.py", single),
    ]


def test_the_later_file_wins(tmp_path: Path) -> None:
    """Of two files with one name the dependency is taken, with a warning; the same file twice is one file."""
    source = make(tmp_path / "src", {"lib/a.py": "1"})
    other = make(tmp_path / "lib", {"a.py": "2"})
    with pytest.warns(UserWarning, match=r"dependencies\[0\]: .* replaces .*: both are lib/a.py in the job"):
        (member,) = code_members(source, [other])
    assert member.path == other / "a.py"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(code_members(source, [source / "lib"])) == 1


def test_a_script_alone(tmp_path: Path) -> None:
    """A single file is bundled under its own name, and nothing at all without one."""
    script = make(tmp_path, {"x.py": ""}) / "x.py"
    assert [member.name for member in code_members(script, ())] == ["x.py"]
    assert code_members(None, ()) == []


def test_credentials_named_outright(tmp_path: Path) -> None:
    """A file that never travels is refused where the user names it: leaving it out silently would be a riddle."""
    make(tmp_path, {".env": "SECRET=1", "a.py": ""})
    with pytest.raises(ConfigurationError, match=r"dependencies\[0\]: .*\.env' may hold credentials"):
        code_members(tmp_path / "a.py", [tmp_path / ".env"])


def test_nothing_left(tmp_path: Path) -> None:
    """A directory of which everything stays behind is refused, with the name of the file that says so."""
    make(tmp_path, {".gitignore": "*\n", "a.py": ""})
    with pytest.raises(ConfigurationError, match=r"source_dir: no file of .* is left after \.gitignore"):
        code_members(tmp_path, (), "source_dir")


def test_an_ignore_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ignore file without permission is an error: going on would send what must not be sent."""
    make(tmp_path, {".gitignore": "secret\n", "secret": "x"})

    def denied(self: Path, **_rest: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(StagingError, match="gitignore: Permission denied"):
        names(tmp_path)


def test_data_has_no_rules(tmp_path: Path) -> None:
    """The files of a data input travel whole."""
    make(tmp_path, {".gitignore": "*.csv\n", "a.csv": "", ".env": ""})
    assert [name for _, name in LocalSource(tmp_path, is_dir=True).files()] == [".env", ".gitignore", "a.csv"]


# Git itself as the judge.

# ASCII only: Git takes a letter of two bytes for two, where ? is concerned.
parts = st.sampled_from(["a", "b", "ab", "a.c", "x y", "d"])
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
globs = st.sampled_from(["*", "a*", "?", "**", "[ab]", "*.c", "a", "b", "d", "ab", "x y"])
patterns = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/", "**/"]),
    st.lists(globs, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", "/**", "/*"]),
)
ignore_files = st.lists(patterns, max_size=5).map("\n".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository of Git's."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git on this machine")
    directory = tmp_path_factory.mktemp("repository")
    subprocess.run([git, "init", "-q", directory], check=True)
    return directory


@settings(max_examples=60, deadline=None)
@given(files=st.sets(paths, min_size=1, max_size=8), root=ignore_files, nested=ignore_files)
def test_git_says_the_same(repository: Path, files: set[str], root: str, nested: str) -> None:
    """Whatever the patterns, the files that travel are those that Git would add."""
    for path in repository.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in sorted(files, key=len, reverse=True):
        path = repository / name
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            make(repository, {name: ""})
    make(repository, {".gitignore": root})
    if (repository / "a").is_dir():
        make(repository, {"a/.gitignore": nested})
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    listing = ["git", "-C", str(repository), "ls-files", "-z", "-o", "--exclude-per-directory=.gitignore"]
    found = subprocess.run(listing, check=True, capture_output=True, env=environment).stdout.decode().split("\0")
    expected = sorted(filter(None, found))
    try:
        assert names(repository) == expected
    except ConfigurationError:
        assert expected == []


@pytest.mark.parametrize("name", ["id_rsa", "server.pem", ".processingignore"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    """A pipe with the name of a key or an ignore file has no writer."""
    (tmp_path / "main.py").write_text("1")
    os.mkfifo(tmp_path / name)
    found = LocalSource(tmp_path, is_dir=True).files(load_ignore_rules(tmp_path))
    assert [entry for _, entry in found] == ["main.py"]
