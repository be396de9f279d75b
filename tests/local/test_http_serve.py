"""The command `serve`, and the server on a socket that a parent process opened."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from processing.local.commands.serve import shell_lines
from processing.local.credentials import install_credentials
from processing.local.endpoint import client_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "processing.local", "serve"]


@contextlib.contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command, and yield the process and the variables that it prints."""
    command = [*COMMAND, "--home", str(home), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            variables: dict[str, str] = {}
            while "no_proxy" not in variables:
                line = process.stdout.readline()
                assert line, process.stderr
                name, _, value = line.removeprefix("export ").partition("=")
                variables[name] = shlex.split(value)[0]
            yield process, variables
        finally:
            process.kill()


def client(service: str, variables: dict[str, str], **options: Any) -> Any:
    """A client of it."""
    make: Any = boto3.client
    return make(
        service,
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        region_name=variables["AWS_REGION"],
        **{"aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"], **options},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """The printed keys work, and a wrong secret gets 403. The command exits with 0 and without output."""
    lines = tmp_path / "environment"
    with serving(tmp_path / "home", "--region", "eu-west-1", "--env-file", str(lines)) as (process, variables):
        with contextlib.closing(client("sts", variables)) as sts:
            assert sts.get_caller_identity()["Account"] == "000000000000"
        with contextlib.closing(client("s3", variables, aws_secret_access_key="wrong")) as s3:
            with pytest.raises(ClientError) as caught:
                s3.list_buckets()
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-west-1"
        assert stat.S_IMODE(lines.stat().st_mode) == 0o600
        assert f"export AWS_ENDPOINT_URL={variables['AWS_ENDPOINT_URL']}\n" in lines.read_text()
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
    assert (tmp_path / "home" / "server.log").read_text() == ""


def test_jobs_go_by_the_commands_settings(tmp_path: Path) -> None:
    """Each option is a setting of the engine."""
    with serving(tmp_path / "home", "--image", "my:image=/nowhere", "--tick", "0.01") as (_, variables):
        request: dict[str, Any] = {
            "ProcessingJobName": "job",
            "RoleArn": "arn:aws:iam::000000000000:role/r",
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "local", "VolumeSizeInGB": 1}
            },
            "AppSpecification": {"ImageUri": "my:image", "ContainerEntrypoint": ["python3"]},
        }
        nowhere = pytest.raises(ClientError, match="/nowhere is neither a Python")
        with contextlib.closing(client("sagemaker", variables)) as sagemaker, nowhere:
            sagemaker.create_processing_job(**request)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "not a port"),
        (["--port", "{taken}"], "in use"),
        (["--home", "/dev/null/x"], "cannot keep its files in /dev/null/x"),
        (["--tick", "-1"], "tick"),
        (["--cpus", "many"], "--cpus"),
        (["--sandbox", "none"], "--sandbox"),
        (["--image", "x"], "URI=PYTHON"),
        (["--program", "x"], "--program: x is not of the form PATTERN=MODULE"),
        (["--program", "*=not a module"], "programs: must be a mapping of patterns of image URIs to modules"),
        (["--env-file", "/dev/null/x"], "--env-file: /dev/null/x cannot be written"),
        (["--s3-endpoint", "localhost:9000"], "s3_endpoint: 'localhost:9000' is not the URL of an S3"),
        (["--what"], "--what"),
        (["more"], "more"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    """On stderr, with exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        filled = [option.format(taken=taken.getsockname()[1]) for option in options]
        home = [] if "--home" in options else ["--home", str(tmp_path / "home")]
        done = subprocess.run([*COMMAND, *home, *filled], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"python -m processing\.local( serve)?: error: .*\n", done.stderr), done.stderr
    assert message in done.stderr


def test_what_would_lead_elsewhere_is_unset(tmp_path: Path) -> None:
    """A shell that evaluates the lines unsets conflicting variables."""
    keys = install_credentials(tmp_path).keys._replace(token="a 'token'")
    ours = client_environment("http://127.0.0.1:1", keys, "us-east-1")
    theirs = {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL_S3": "https://x", "AWS_SESSION_TOKEN": "old", "OTHER": "kept"}
    lines = shell_lines(ours, theirs)
    assert lines.startswith("unset AWS_PROFILE AWS_ENDPOINT_URL_S3\n")
    script = f"{lines}env -0"
    env = {**theirs, "PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    found = dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)
    assert ours.items() <= found.items()
    assert found["AWS_SESSION_TOKEN"] == "a 'token'"
    assert {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3"}.isdisjoint(found)
    assert found["OTHER"] == "kept"


def test_a_proxy_is_not_asked_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own exceptions from the proxy stay."""
    monkeypatch.setenv("NO_PROXY", "example.com,localhost")
    keys = install_credentials(tmp_path).keys
    variables = client_environment("http://127.0.0.1:1", keys, "us-east-1")
    assert variables["NO_PROXY"] == "example.com,127.0.0.1,localhost"
