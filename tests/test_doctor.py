"""The doctor: what stands in the way of a script, found without a call."""

from __future__ import annotations

import importlib.metadata
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import ConfigurationError
from processing.cli import main
from processing.doctor import Finding, findings
from spark_stand_in import make_spark

if TYPE_CHECKING:
    import pathlib


@pytest.fixture(autouse=True)
def _quiet_machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No config file of this machine, and no call of any kind."""

    def connect(*_: Any) -> None:
        pytest.fail("the doctor makes no call")

    monkeypatch.setattr(socket.socket, "connect", connect)
    (tmp_path / "nothing").mkdir()
    for name in ("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "SAGEMAKER_USER_CONFIG_OVERRIDE"):
        monkeypatch.setenv(name, write(tmp_path / "nothing" / "config.yaml", "SchemaVersion: '1.0'\n"))


def write(path: pathlib.Path, text: str) -> str:
    """Write a file and return its path as text."""
    path.write_text(text)
    return str(path)


def of(topic: str, path: pathlib.Path) -> list[Finding]:
    """The findings of one topic."""
    return [finding for finding in findings(path) if finding.topic == topic]


def test_a_module_beside_the_script(tmp_path: pathlib.Path) -> None:
    """A processing.py beside the script is a problem, and it really hides the package."""
    write(tmp_path / "processing.py", "")
    script = tmp_path / "run.py"
    write(script, "from processing import Session\n")
    (finding,) = of("script's folder", script)
    assert finding.severity == "problem"
    assert finding.text.startswith(str(tmp_path / "processing.py"))
    run = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True)
    assert "cannot import name 'Session' from 'processing'" in run.stderr


def test_a_package_beside_the_script(tmp_path: pathlib.Path) -> None:
    """A folder processing/ is a problem where it is a package, and a warning where it is not one yet."""
    (tmp_path / "processing").mkdir()
    (warning,) = of("script's folder", tmp_path)
    assert warning.severity == "warning"
    write(tmp_path / "processing" / "__init__.py", "")
    (problem,) = of("script's folder", tmp_path)
    assert problem.severity == "problem"
    assert "give it another name" in problem.text


def test_nothing_beside_the_script(tmp_path: pathlib.Path) -> None:
    """Other files are no finding, and neither is this package itself."""
    write(tmp_path / "processing_steps.py", "")
    assert of("script's folder", tmp_path) == []
    (tmp_path / "processing").symlink_to(next(iter(processing.__path__)))
    assert of("script's folder", tmp_path) == []


def test_versions(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions of what matters are there, and each extra says whether it is installed."""
    (versions,) = of("versions", tmp_path)
    assert f"botocore {importlib.metadata.version('botocore')}" in versions.text
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    found = {finding.topic: finding.text for finding in findings(tmp_path)}
    assert found["versions"].startswith("sm-processing 9.9, boto3 9.9, botocore 9.9, Python ")
    assert (found["extra config"], found["extra fast"]) == ("installed", "installed")
    assert found["sagemaker"].startswith("9.9 is installed too")


def test_an_extra_that_is_not_installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is named with the command that installs it, and is not a problem."""
    monkeypatch.setattr(importlib.metadata, "version", missing)
    (finding,) = of("extra fast", tmp_path)
    assert (finding.severity, finding.text) == ("ok", "not installed (obstore): pip install sm-processing[fast]")


@pytest.mark.parametrize(
    ("spark", "java", "severity", "text"),
    [
        ("3.5.9", "17", "warning" if sys.version_info >= (3, 12) else "ok", "3.5.9"),
        ("3.5.9", "21", "warning", "Spark 3.5.9 runs on Java 17 at most, and this is Java 21"),
        ("4.0.1", "11", "warning", "Spark 4.0.1 needs Java 17 or newer, and this is Java 11"),
        ("4.0.1", "21", "ok", "4.0.1 in "),
        ("9.0.0", None, "warning", "no java in JAVA_HOME"),
        ("9.0.0", None, "warning", ": correct or unset JAVA_HOME, or install Java 17"),
    ],
)
def test_spark_and_java(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    spark: str,
    java: str | None,
    severity: str,
    text: str,
) -> None:
    """Both are named with their versions, and what does not fit together is a warning."""
    home = make_spark(tmp_path / "spark", spark, java or "17")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(home / "java" if java else tmp_path))
    (finding,) = of("Spark", tmp_path)
    assert finding.severity == severity
    assert text in finding.text
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    (finding,) = of("Spark", tmp_path)
    assert finding.severity == "problem"


def test_a_java_with_its_program_in_jre(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of Java 8 is found, whose home is one folder above that of its program; without one it is unknown."""
    home = make_spark(tmp_path / "spark", "4.0.1", "8")
    (home / "java/jre").mkdir()
    (home / "java/bin").rename(home / "java/jre/bin")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(home / "java/jre"))
    (finding,) = of("Spark", tmp_path)
    assert finding.text == "Spark 4.0.1 needs Java 17 or newer, and this is Java 8"
    (home / "java/release").unlink()
    (finding,) = of("Spark", tmp_path)
    assert "Java unknown (" in finding.text


def test_two_versions_of_spark(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyspark of another version than `SPARK_HOME` is a warning; Java's absence is named besides."""
    own = tmp_path / "site/pyspark-4.0.1.dist-info"
    own.mkdir(parents=True)
    (own / "METADATA").write_text("Metadata-Version: 2.1\nName: pyspark\nVersion: 4.0.1\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    home = make_spark(tmp_path / "spark", "4.0.0")
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (finding,) = of("Spark", tmp_path)
    assert finding.severity == "warning"
    assert finding.text.startswith("SPARK_HOME has Spark 4.0.0, and this Python's pyspark is 4.0.1, which starts")
    assert "; Spark needs pyspark and Java on this machine, and there is no java in JAVA_HOME" in finding.text
    make_spark(tmp_path / "same", "4.0.1")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "same"))
    monkeypatch.setenv("JAVA_HOME", str(home / "java"))
    (finding,) = of("Spark", tmp_path)
    assert finding.severity == "ok"


def missing(name: str) -> str:
    """The version of a distribution, on a machine that has none."""
    raise importlib.metadata.PackageNotFoundError(name)


def test_no_region_and_no_credentials(tmp_path: pathlib.Path) -> None:
    """Without an AWS configuration both are warnings: jobs on this machine need neither."""
    found = {finding.topic: finding for finding in findings(tmp_path)}
    assert found["AWS region"].severity == found["AWS credentials"].severity == "warning"
    assert "AWS_REGION" in found["AWS region"].text


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("[default]\naws_access_key_id = AK\naws_secret_access_key = S\nregion = eu-west-1\n", "the profile 'default'"),
        ("[default]\nregion = eu-west-1\nsso_session = x\n[sso-session x]\n", "single sign-on"),
        ("[default]\nregion = eu-west-1\ncredential_process = exit 1\n", "a program"),
        ("[default]\nregion = eu-west-1\nrole_arn = arn:aws:iam::1:role/r\n", "a role to assume"),
    ],
)
def test_where_credentials_come_from(
    text: str, source: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is named; no program is started and nobody asked."""
    monkeypatch.setenv("AWS_CONFIG_FILE", write(tmp_path / "aws", text))
    found = {finding.topic: finding.text for finding in findings(tmp_path)}
    assert found["AWS region"] == "eu-west-1"
    assert found["AWS credentials"] == f"from {source}; not tried"


def test_credentials_in_the_environment(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are said to be there, and not shown."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    text = "\n".join(map(str, findings(tmp_path)))
    assert "AWS credentials: from the environment" in text
    assert "sesame" not in text
    assert "AKIDEXAMPLE" not in text


def test_a_profile_that_is_missing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that does not exist is a problem, in botocore's words."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    (finding,) = of("AWS", tmp_path)
    assert finding == Finding("problem", "AWS", "The config profile (nobody) could not be found")


def test_a_config_file_in_s3(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config file in S3 is no problem: it is named, and not read, since that takes a call."""
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "s3://company/config.yaml")
    (finding,) = of("config file", tmp_path)
    assert finding == Finding("ok", "config file", "s3://company/config.yaml, which a run reads; not looked at here")


def test_config_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config files that are read are named, and one that cannot be is a problem."""
    config = write(tmp_path / "config.yaml", "SchemaVersion: '1.0'\nSageMaker: {}\n")
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", config)
    (finding,) = of("config file", tmp_path)
    assert finding.severity == "ok"
    assert config in finding.text
    write(tmp_path / "config.yaml", "SageMaker: [1\n")
    (finding,) = of("config file", tmp_path)
    assert finding.severity == "problem"


def test_a_path_that_is_not_there(tmp_path: pathlib.Path) -> None:
    """A path that does not exist is an error, not a clean bill of health."""
    with pytest.raises(ConfigurationError, match=r"^path: .*missing.py' does not exist"):
        findings(tmp_path / "missing.py")


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command shows a line for each finding; its exit code says whether one is a problem."""
    assert main(["doctor", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ok       versions: sm-processing ")
    assert "jobs on this machine" in shown
    write(tmp_path / "processing.py", "")
    assert main(["doctor", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("problem  script's folder: ")
    odd = tmp_path / "\x1b[2Jodd"
    odd.mkdir()
    write(odd / "processing.py", "")
    assert main(["doctor", str(odd)]) == 1
    assert f"{tmp_path}/\\x1b[2Jodd" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.startswith("processing: error: path: ")


def test_the_command_is_installed() -> None:
    """The distribution brings the console script `processing`."""
    try:
        distribution = importlib.metadata.distribution("sm-processing")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the source tree is tested, and a console script is what an installation makes")
    assert [script.load() for script in distribution.entry_points.select(name="processing")] == [main]


def test_the_module_starts_too() -> None:
    """The module is the command if no script is on the PATH."""
    run = subprocess.run([sys.executable, "-m", "processing.cli", "--help"], check=True, capture_output=True, text=True)
    assert "doctor" in run.stdout
