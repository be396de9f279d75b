"""Sources of code and data."""

from __future__ import annotations

import os
import socket
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import CodeNotFoundError, ConfigurationError, StagingError
from processing.request.s3_uri import S3Uri
from processing.staging.sources import (
    LocalSource,
    file_uri,
    file_uri_path,
    local_target,
    make_directory,
    resolve_code,
    resolve_source,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with files at several depths."""
    for name in ("b/2.txt", "b/1.txt", "a.txt", "b.txt", "b-c/3.txt", ".hidden", "b/c/d/4.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def names(path: Path) -> list[str]:
    """The relative names of the files of a source."""
    source = resolve_source(path, "f")
    assert isinstance(source, LocalSource)
    return [name for _, name in source.files()]


def test_files_are_sorted_as_s3_lists_them(tree: Path) -> None:
    """The order is that of the whole names, so that it is the same on every machine."""
    assert names(tree) == sorted(names(tree))
    assert names(tree) == [".hidden", "a.txt", "b-c/3.txt", "b.txt", "b/1.txt", "b/2.txt", "b/c/d/4.txt"]


def test_a_single_file(tree: Path) -> None:
    """A file is a source of one file, under its own name."""
    source = resolve_source(tree / "a.txt", "f")
    assert source == LocalSource(tree / "a.txt", is_dir=False)
    assert isinstance(source, LocalSource)
    assert list(source.files()) == [(tree / "a.txt", "a.txt")]


@pytest.mark.parametrize("form", [str, Path, Path.as_uri, lambda path: f"file://localhost{path}"])
def test_every_form_of_a_path(tree: Path, form: object) -> None:
    """A string, a pathlib path and a URI mean the same directory."""
    assert callable(form)
    assert resolve_source(form(tree), "f") == LocalSource(tree, is_dir=True)


def test_relative_paths(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are read from the current directory, in a URI too, and become absolute."""
    monkeypatch.chdir(tree)
    for text in ("b", "./b", "file://b", "file://./b"):
        source = resolve_source(text, "f")
        assert isinstance(source, LocalSource)
        assert source.path.is_absolute()
        assert source.path.samefile(tree / "b")


def test_a_percent_sign_is_a_letter(tmp_path: Path) -> None:
    """A URI is read as it is written, as in 2.x, even beside a file with the decoded name."""
    for name in ("a b#c?d", "a%20b#c?d", "50%", "100%25"):
        (tmp_path / name).write_text("x")
    for name in ("a b#c?d", "a%20b#c?d", "50%", "100%25"):
        found = LocalSource(tmp_path / name, is_dir=False)
        assert resolve_source(f"file://{tmp_path}/{name}", "f") == found
        assert resolve_code(f"file://{tmp_path}/{name}") == found
        assert resolve_source(str(tmp_path / name), "f") == found


def test_the_uri_of_pathlib(tmp_path: Path) -> None:
    """A source that exists under its decoded name alone is found, because pathlib encodes URIs."""
    (tmp_path / "a b").write_text("x")
    assert resolve_source((tmp_path / "a b").as_uri(), "f") == LocalSource(tmp_path / "a b", is_dir=False)
    assert resolve_code((tmp_path / "a b").as_uri()) == LocalSource(tmp_path / "a b", is_dir=False)
    with pytest.raises(ConfigurationError, match=f"looked for {tmp_path}/a%20c"):
        resolve_source((tmp_path / "a c").as_uri(), "f")


letters = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")


@given(parts=st.lists(st.text(letters, min_size=1), min_size=1))
def test_uri_round_trip(parts: list[str]) -> None:
    """`file_uri_path` reads every URI that `file_uri` writes."""
    path = Path("/", *parts)
    assert file_uri_path(file_uri(path), windows=False) == path


def test_a_target_is_a_path_or_a_uri(tmp_path: Path) -> None:
    """A directory for downloads may be a URI too, and a percent sign is a letter."""
    assert local_target(f"file://{tmp_path}/a%20b") == local_target(tmp_path / "a%20b") == tmp_path / "a%20b"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///C:/data/x%20y.csv", "C:/data/x%20y.csv"),
        ("file:///c|/data", "c:/data"),
        ("file://server/share/x", "//server/share/x"),
        ("file://localhost/C:/x", "C:/x"),
        ("file://C:/data/x%20y.csv", "C:/data/x%20y.csv"),
        (r"file://C:\data\x.csv", "C:/data/x.csv"),
        (r"file:///C:\data\x.csv", "C:/data/x.csv"),
    ],
)
def test_windows_uris(uri: str, path: str) -> None:
    """On Windows a URI may name a drive or a share."""
    assert str(file_uri_path(uri, windows=True)) == path


@pytest.mark.parametrize("form", [str, PureWindowsPath, lambda text: PureWindowsPath(text) / "."])
def test_paths_as_windows_writes_them(tree: Path, monkeypatch: pytest.MonkeyPatch, form: object) -> None:
    r"""A path with `\` means the same files here, in a source and in code."""
    assert callable(form)
    monkeypatch.chdir(tree)
    assert resolve_source(form(r"b\c"), "f") == LocalSource(tree / "b" / "c", is_dir=True)
    assert resolve_code(form(r".\b\1.txt")) == LocalSource(tree / "b" / "1.txt", is_dir=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_with_a_backslash(tmp_path: Path) -> None:
    r"""A file whose very name holds `\` is that file, also where there is another with `/`."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    (tmp_path / r"a\b").write_text("")
    assert resolve_source(str(tmp_path / r"a\b"), "f") == LocalSource(tmp_path / r"a\b", is_dir=False)


def test_a_drive_is_no_scheme() -> None:
    """`C:\\data` is a path that does not exist here, and not a URI of the scheme `c`."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        resolve_source("C:\\data\\x", "f")
    with pytest.raises(CodeNotFoundError, match="wasn't found"):
        resolve_code("C:\\code\\x.py")


def test_s3_uris() -> None:
    """An S3 URI is a place in S3."""
    assert resolve_source("s3://b/k/", "f") == S3Uri("b", "k/")
    assert resolve_code("s3://b/k/x.py") == S3Uri("b", "k/x.py")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("https://example.org/x", r"inputs\[0\].source: .* url scheme https is not recognized"),
        ("no/such/file", r"inputs\[0\].source: 'no/such/file' does not exist"),
        ("s3://", r"inputs\[0\].source: .* names no bucket"),
        (Path("s3://b/k"), r"inputs\[0\].source: a pathlib path cannot hold an S3 URI"),
        (5, r"inputs\[0\].source: must be a path or a URI, not int"),
        (b"x", r"inputs\[0\].source: must be a path or a URI, not bytes"),
        ("", r"inputs\[0\].source: '' is not a path"),
        ("file://", r"inputs\[0\].source: 'file://' is not a path"),
        ("a\0b", r"inputs\[0\].source: .* is not a path"),
        ("file:///a\0b", r"inputs\[0\].source: .* is not a path"),
    ],
)
def test_invalid_sources(given_: object, message: str) -> None:
    """An invalid source is refused with the field's name."""
    with pytest.raises(ConfigurationError, match=message):
        resolve_source(given_, "inputs[0].source")


def test_empty_directories(tmp_path: Path) -> None:
    """A directory without a file anywhere in it is refused: the job would find nothing."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="is a directory without a file in it"):
        resolve_source(tmp_path, "f")


def test_code_messages(tmp_path: Path) -> None:
    """The messages are those of v2, word for word."""
    with pytest.raises(CodeNotFoundError) as missing:
        resolve_code("none.py")
    assert str(missing.value) == "code none.py wasn't found. Please make sure that the file exists."
    with pytest.raises(CodeNotFoundError) as directory:
        resolve_code(str(tmp_path))
    assert str(directory.value) == f"code {tmp_path} must be a file, not a directory. Please pass a path to a file."
    with pytest.raises(ConfigurationError) as scheme:
        resolve_code("https://example.org/x.py")
    assert str(scheme.value) == (
        "code https://example.org/x.py url scheme https is not recognized. Please pass a file path or S3 url"
    )
    with pytest.raises(CodeNotFoundError, match="must be a file, not a directory"):
        resolve_code("s3://b/folder/")


@pytest.mark.parametrize("form", [str, Path, Path.as_uri])
def test_code_in_every_form(tmp_path: Path, form: object) -> None:
    """A script may be a string, a pathlib path or a URI."""
    assert callable(form)
    (tmp_path / "x.py").write_text("")
    assert resolve_code(form(tmp_path / "x.py")) == LocalSource(tmp_path / "x.py", is_dir=False)


def test_symbolic_links(tree: Path, tmp_path: Path) -> None:
    """Links are followed, to files and directories; a loop ends."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.txt").write_text("o")
    (tree / "link").symlink_to(outside)
    (tree / "file-link").symlink_to(outside / "o.txt")
    (tree / "b" / "up").symlink_to(tree)
    found = names(tree)
    assert {"link/o.txt", "file-link"} <= set(found)
    assert not [name for name in found if name.startswith("b/up")]
    assert len(found) == len(set(found))


def test_two_links_to_one_directory_are_two_copies(tree: Path) -> None:
    """Only a loop is cut; a directory that is linked to twice is there twice."""
    (tree / "again").symlink_to(tree / "b")
    assert {"b/1.txt", "again/1.txt"} <= set(names(tree))


@pytest.mark.parametrize("name", [".#a.txt", "z.lnk", "b/m", b"bad-\xff"])
@pytest.mark.parametrize("target", ["me@host.1234:1", "{name}", "a.txt/below", "../../gone"])
def test_a_link_to_nothing_stays_behind(
    tree: Path, name: str | bytes, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Editors lock files with such links. One notice names it, wherever it is in the order."""
    (tree / os.fsdecode(name)).symlink_to(target.format(name=Path(os.fsdecode(name)).name))
    expected = [".hidden", "a.txt", "b-c/3.txt", "b.txt", "b/1.txt", "b/2.txt", "b/c/d/4.txt"]
    assert names(tree) == expected
    shown = r"bad-\udcff" if isinstance(name, bytes) else name
    notice = f"{tree}: 1 entry stays behind: {shown} (a symbolic link that leads nowhere)"
    assert [record.getMessage() for record in caplog.records] == [notice]


def test_sockets_and_pipes_stay_behind(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sockets and pipes have no content to upload."""
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "s"))
        assert not {"pipe", "s"} & set(names(tree))
    assert "2 entries stay behind: pipe (a socket, a pipe or a device); s (a socket" in caplog.text


def test_a_notice_names_ten_entries(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tree of another tool may have thousands of such links."""
    for number in range(1000):
        (tree / f"link-{number}").symlink_to("gone")
    names(tree)
    assert "1000 entries stay behind" in caplog.text
    assert caplog.text.count("leads nowhere") == 10
    assert "and 990 more" in caplog.text


def test_a_pipe_as_a_source(tmp_path: Path) -> None:
    """A pipe alone is refused, and not waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        resolve_source(tmp_path / "pipe", "f")


def test_no_permission(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is found before anything is sent."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(ConfigurationError, match="f: no permission to read"):
        resolve_source(tree / "a.txt", "f")


def test_many_files_and_depth(tmp_path: Path) -> None:
    """A deep tree and a wide one are walked to the end."""
    deep = tmp_path.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    for index in range(3000):
        (tmp_path / f"{index}").touch()
    (deep / "x").touch()
    assert len(names(tmp_path)) == 3001


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_relative_path_without_a_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Another process may remove the working directory. Absolute paths work on."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "a.txt").write_text("1")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for resolve in (resolve_source, resolve_code, local_target):
        with pytest.raises(ConfigurationError, match=r"^f: .*a.txt' is relative, and the working directory"):
            resolve(form.format("a.txt"), "f")
    assert resolve_source(tmp_path / "a.txt", "f") == LocalSource(tmp_path / "a.txt", is_dir=False)
    monkeypatch.chdir(tmp_path)  # later teardowns need one


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "must be a path or a URI, not NoneType"),
        (3, "must be a path or a URI, not int"),
        (b"x", "must be a path or a URI, not bytes"),
        ("", "'' is not a path"),
        ("a\0b", "is not a path"),
        ("s3://bucket/key", "must be a directory of this machine"),
        ("{file}", "file.txt' is not a directory"),
        ("{file}/below", "file.txt' is not a directory"),
        ("file://{file}", "file.txt' is not a directory"),
        ("{link}", "link' is not a directory"),
    ],
)
def test_a_target_that_is_no_directory_is_named(tmp_path: Path, value: object, message: str) -> None:
    """Downloads name their parameter before any call."""
    (tmp_path / "file.txt").write_text("1")
    (tmp_path / "link").symlink_to("gone")
    if isinstance(value, str):
        value = value.format(file=tmp_path / "file.txt", link=tmp_path / "link")
    with pytest.raises(ConfigurationError, match=f"^local_path: .*{message}"):
        local_target(value, "local_path")  # type: ignore[arg-type]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The file system may refuse it."""
    with pytest.raises(StagingError, match=r"the directory for the files cannot be created\n  .*x{300}"):
        make_directory(tmp_path / ("x" * 300))
