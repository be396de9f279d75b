"""The shim as one file for images with Python, run as in an image without boto3."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError, LocalSession
from processing.cli.shim import main
from processing.container.shim import zip_main
from processing.images import zipapp
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = {
    "pk": "one",
    "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": "a"}],
    "output_bucket_name": "data",
    "output_prefix": "out",
}
COPY = ["/bin/sh", "-c", 'cat "$IN/a" > "$OUT/b"']


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim with a botocore."""
    path = tmp_path_factory.mktemp("zipapp") / "sagemaker-shim"
    assert main(["zipapp", "--output", str(path)]) == 0
    return path


@pytest.fixture
def environment(tmp_path: Path, local_session: LocalSession) -> Iterator[dict[str, str]]:
    """The environment of a program with the engine's S3, where `data` has an object `a`."""
    client = local_session.boto_session.client("s3")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a", Body=b"content")
    for name in ("tmp", "work"):
        (tmp_path / name).mkdir()
    with Server(local_session.engine) as server:
        yield {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(tmp_path / "tmp"),
            "IN": str(tmp_path / "in"),
            "OUT": str(tmp_path / "out"),
            "PROCESSING_SHIM_INPUT_PATH": str(tmp_path / "in"),
            "PROCESSING_SHIM_OUTPUT_PATH": str(tmp_path / "out"),
            **server.environment(),
        }


def _run(shim: Path, environment: dict[str, str], *words: str, options: tuple[str, ...] = ("-I", "-S")) -> Any:
    """Run the shim; without site-packages by default, so without the boto3 of this machine."""
    command = [sys.executable, *options, str(shim), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _invoke(shim: Path, environment: dict[str, str], **options: Any) -> Any:
    return _run(shim, environment, "invoke", "-t", json.dumps(TASK), "--", *COPY, **options)


def test_an_image_without_boto3_reaches_s3(
    shim: Path, environment: dict[str, str], local_session: LocalSession
) -> None:
    """The carried botocore downloads and uploads; both folders are unpacked once and compiled once."""
    environment["PROCESSING_SHIM_PLAIN_S3"] = "false"
    done = _invoke(shim, environment)
    assert done.returncode == 0, done.stderr
    client = local_session.boto_session.client("s3")
    assert client.get_object(Bucket="data", Key="out/b")["Body"].read() == b"content"
    folder = Path(environment["TMPDIR"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert any(path.match("botocore/botocore/__pycache__/session.*.pyc") for path in before)
    assert len(list(folder.iterdir())) == 2
    assert _invoke(shim, environment).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", [("run",), ("invoke", "-t", json.dumps(TASK))], ids=["run", "invoke"])
def test_plain_work_unpacks_no_botocore(words: tuple[str, ...], shim: Path, environment: dict[str, str]) -> None:
    """Neither a program without tasks nor a transfer by plain requests needs it."""
    done = _run(shim, environment, *words, "--plain", "--", "echo", "here")
    assert (done.returncode, done.stdout.splitlines().count("here")) == (0, 1)
    assert [path.name.rpartition("-")[2] for path in Path(environment["TMPDIR"]).iterdir()] == ["shim"]


def test_modules_of_the_program_hide_nothing(shim: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """A `processing.py` of the user's, in the working directory, in PYTHONPATH or imported before, is not used."""
    place = tmp_path / "users"
    place.mkdir()
    (place / "processing.py").write_text("MINE = True\n")
    (place / "sitecustomize.py").write_text("import processing\nassert processing.MINE\n")
    environment = {**environment, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, str(shim), "run", "--plain", "--", sys.executable, "-c", "import processing; processing.MINE"],
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # the program finds its own module
    assert list(Path(environment["TMPDIR"]).rglob("*.pyc"))


def test_a_folder_of_another_user_is_not_trusted(shim: Path, environment: dict[str, str]) -> None:
    """A folder that others may write to is left alone; the shim uses one of its own, and removes it."""
    with zipfile.ZipFile(shim) as opened:
        digest = opened.read("digest").decode()[:32]
    place = Path(environment["TMPDIR"], f"processing-shim-{os.geteuid()}-{digest}-shim")
    (place / "shim/processing").mkdir(parents=True)
    (place / "shim/processing/__init__.py").write_text("raise SystemExit('not trusted')")
    place.chmod(0o777)
    done = _run(shim, environment, "run", "--plain", "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")
    assert list(place.parent.iterdir()) == [place]


def test_no_writable_folder_is_needed(shim: Path, environment: dict[str, str]) -> None:
    """Without a folder for temporary files the shim runs from the zip file. It has no botocore to explain errors."""
    start = "import tempfile, runpy, sys; tempfile.tempdir = '/proc/1/none'; sys.argv[:1] = []; sys.argv = sys.argv"
    code = f"{start}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", code, str(shim)]
    run = [*command, "run", "--plain", "--", "echo", "here"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    for key, expected, reason in (("a", 0, ""), ("absent", 1, "a request without it failed: status 404")):
        text = json.dumps({**TASK, "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": key}]})
        invoke = [*command, "invoke", "-t", text, "--", *COPY]
        done = subprocess.run(invoke, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == expected
        assert reason in done.stderr
        assert ("S3 needs boto3 in the image" in done.stderr) == bool(expected)


def test_the_same_source_makes_the_same_file(shim: Path) -> None:
    """The file has no time in it, is small, and its modules are those of the package."""
    assert shim.read_bytes() == zipapp.build_zipapp(carried=zipapp.botocore_for(sys.version_info[:2]))
    assert shim.stat().st_size < 1_600_000
    with zipfile.ZipFile(shim) as opened:
        names = opened.namelist()
    assert "shim/processing/container/shim/tasks.py" in names
    assert "botocore/botocore/cacert.pem" in names
    assert not [name for name in names if "/ec2/" in name or name.endswith(".pyc")]
    assert any("LICENSE" in name for name in names)


def test_any_python_3_parses_the_first_module() -> None:
    """An old Python reaches the sentence that names it, in place of a syntax error."""
    source = Path(str(zip_main.__file__)).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    first = [node for node in tree.body if not isinstance(node, ast.Expr)][:2]
    assert isinstance(first[0], ast.Import)
    assert ast.unparse(first[1]).startswith("if sys.version_info < (3, 8):\n    sys.exit(")


def test_a_version_without_botocore_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    """An old version, and a fetch that fails, are errors that name the option."""
    assert main(["zipapp", "-o", str(tmp_path / "x"), "--python-version", "2.7"]) == 2
    assert "--python-version: must be such as 3.8 or later, not 2.7" in capsys.readouterr().err
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigurationError, match=r"^python_version: pip cannot fetch botocore for Python 3\.8"):
        zipapp.botocore_for((3, 8))


@pytest.mark.complete("pip fetches packages")
def test_an_older_python_gets_an_older_botocore(tmp_path: Path, environment: dict[str, str]) -> None:
    """A botocore for Python 3.8 is the last one, and a newer Python runs it too."""
    shim = tmp_path / "old"
    assert main(["zipapp", "-o", str(shim), "--python-version", "3.8"]) == 0
    with zipfile.ZipFile(shim) as opened:
        assert "__version__ = '1.37.38'" in opened.read("botocore/botocore/__init__.py").decode()
    environment["PROCESSING_SHIM_PLAIN_S3"] = "false"
    assert _invoke(shim, environment).returncode == 0


def test_the_wheel_has_no_command_of_another_package() -> None:
    """A command `sagemaker-shim` would overwrite that of the package of this name; images alone have it."""
    names = {each.name for each in importlib.metadata.distribution("sm-processing").entry_points}
    assert "processing-shim" in names
    assert "sagemaker-shim" not in names
