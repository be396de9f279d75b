"""`processing export`: the request of a job, or of a script that is not run, for another tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processing
from processing import ScriptProcessor
from processing.cli import main

if TYPE_CHECKING:
    from processing import LocalSession

AWS = ("--image", "1/i:1", "--role", "arn:aws:iam::111122223333:role/x", "-t", "ml.m5.large", "--region", "eu-west-1")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSession:
    """The engine that the command uses, in a folder with a script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    Path("clean.py").write_text("print('hello')\n")
    return processing.LocalSession()


def test_a_job_for_each_tool(session: LocalSession, capsys: pytest.CaptureFixture[str]) -> None:
    """The request of a job, with its tags, in each form; the first script starts the job again."""
    processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, tags={"team": "etl"})
    processor.run("clean.py", arguments=["{{day}}"], job_name="clean", quiet=True)
    texts = {}
    for form in ("boto3", "python", "airflow", "stepfunctions", "pipeline"):
        placeholder = () if form in ("boto3", "python") else ("--placeholder", "day=$states.input.day")
        assert main(["export", "clean", "--local", "--to", form, *placeholder]) == 0
        texts[form] = capsys.readouterr().out
        assert "etl" in texts[form]
    exec(texts["python"], {})
    assert {job.job_name for job in processing.jobs(session=session)} == {"clean", "clean-2"}
    capsys.readouterr()
    assert json.loads(texts["airflow"])["task_id"] == json.loads(texts["pipeline"])["Name"] == "clean"
    state = json.loads(texts["stepfunctions"])["States"]["clean"]
    assert state["Arguments"]["AppSpecification"]["ContainerArguments"] == ["{% $states.input.day %}"]
    assert main(["export", "clean", "--local", "--to", "stepfunctions", "--policy"]) == 0
    assert json.loads(capsys.readouterr().out)["Version"] == "2012-10-17"


@pytest.mark.usefixtures("session")
def test_a_script_that_is_not_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The options are those of `run`. No call is made, and the files are not uploaded without `--upload`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "invalid")
    words = ["export", "clean.py", "-i", "raw=s3://b/raw/", *AWS, "--to", "boto3"]
    assert main([*words, "--name", "a", "-o", "x=s3://b/x"]) == 0
    assert "s3://sagemaker-eu-west-1-111122223333/code/" in capsys.readouterr().out
    assert main(["export", "clean.py", "--local", "--to", "boto3"]) == 0
    out, err = capsys.readouterr()
    assert "s3://" in out
    assert err == "the files of the script are not uploaded; --upload does it\n"
    assert main(["export", "clean.py", "--local", "--to", "boto3", "--upload"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("session")
def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    """An error names the option as it was typed."""
    for words, text in (
        (["clean.py", "--local", "--to", "boto3", "--policy"], "--policy: is for --to stepfunctions"),
        (["clean.py", "--local", "--to", "python", "--placeholder", "a=b"], "--placeholder: is not for --to python"),
        (["clean.py", "--local", "--to", "airflow", "--placeholder", "a=b"], "--placeholder a: the request has no"),
        (["absent", "--local", "--to", "airflow"], "no processing job 'absent'"),
        (["clean.py", "--local", "--to", "airflow", "-n", "0"], "-n: "),
    ):
        assert main(["export", *words]) == 2, words
        assert text in capsys.readouterr().err
