"""Variables and arguments beyond the limits of a request: they travel in a file, and arrive unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import (
    ConfigurationError,
    FrameworkProcessor,
    LocalSession,
    NetworkConfig,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
    Session,
)
from processing.container.command import FILE, command_script, parse_script
from processing.local import sandboxes
from processing.processors.oversized_command import Command, RequestLimits, request_limits, spill
from processing.processors.run_arguments import RunArguments

ROLE = "arn:aws:iam::123456789012:role/Processing"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/my-image:1"
FOLDER = "/opt/ml/processing/input/processing-command"
DUMP = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"


@pytest.fixture
def processor() -> Processor:
    session = Session(default_bucket="data", region_name="eu-central-1")
    return Processor(ROLE, IMAGE, 1, "ml.m5.xlarge", ["run"], sagemaker_session=session)


def test_the_limits_are_those_of_the_service_model() -> None:
    """The limits come from botocore, and grow with it."""
    limits = request_limits()
    assert (limits.entries, limits.value, limits.words, limits.word) >= (100, 256, 100, 256)


def test_values_within_the_limits_stay_in_the_request(processor: Processor) -> None:
    """Up to the last character nothing is spilled."""
    limits = request_limits()
    processor.env = {f"V{n}": "x" * limits.value for n in range(limits.entries)}
    request = processor.request(arguments=["y" * limits.word] * limits.words).to_boto()
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["run"]
    assert len(request["Environment"]) == limits.entries
    assert "ProcessingInputs" not in request


def test_the_request_shows_the_file(processor: Processor) -> None:
    """The file is an input below the job's own prefix; what fits of the variables stays, the arguments go together."""
    processor.env = {"SHORT": "s", "LONG": "x" * 257}
    request = processor.request(arguments=["a", "y" * 257], job_name="a-job").to_boto()
    assert request["AppSpecification"] == {
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["/bin/sh", f"{FOLDER}/{FILE}", "run"],
    }
    assert request["Environment"] == {"SHORT": "s"}
    (entry,) = request["ProcessingInputs"]
    assert entry["InputName"] == "processing-command"
    assert entry["S3Input"]["S3Uri"] == f"s3://data/a-job/input/processing-command/{FILE}"
    assert entry["S3Input"]["LocalPath"] == FOLDER
    assert (processor.env["LONG"], processor.entrypoint) == ("x" * 257, ["run"])


def test_the_101st_variable_is_the_first_to_go(processor: Processor) -> None:
    """If there are too many short variables, the last ones travel in the file."""
    processor.env = {f"V{n}": str(n) for n in range(103)}
    assert list(processor.request().to_boto()["Environment"]) == [f"V{n}" for n in range(100)]


def test_the_file_is_encrypted_and_the_runs_own(processor: Processor, caplog: pytest.LogCaptureFixture) -> None:
    """The file may hold secrets: it is encrypted, no other job shares its key, and no text shows it."""
    processor.env = {"SECRET": "correct-horse" * 30}
    processor.output_kms_key = "of-outputs"
    for kms_key, used in (("k", "k"), (None, "of-outputs")):
        plan = processor.plan(kms_key=kms_key, job_name="a-job")
        with caplog.at_level("DEBUG"):
            launch = processor._prepare(RunArguments(kms_key=kms_key, job_name="a-job"))
        (upload,) = launch.staging.uploads
        assert (upload.kms_key, upload.content_addressed) == (used, False)
        assert b"correct-horse" in (upload.body or b"")
        assert "correct-horse" not in f"{launch!r} {launch.staging.uploads!r} {plan} {caplog.text}"


@pytest.mark.parametrize(
    ("env", "arguments", "messages"),
    [
        (None, ["a"] * 101, ["arguments: has 101 entries, at most 100; "]),
        (None, ["a" * 300], ["arguments[0]: has 300 characters, at most 256; "]),
        (None, ["a\nb"], ["arguments[0]: holds a line break"]),
        ({f"V{n}": "" for n in range(101)}, None, ["env: has 101 entries, at most 100; "]),
        ({"A": "b" * 300}, ["c" * 301], ["arguments[0]: has 301 characters", 'env["A"]: has 300 characters']),
    ],
)
def test_without_an_entrypoint_it_is_an_error(
    processor: Processor, env: Any, arguments: Any, messages: list[str]
) -> None:
    """The image's own command cannot be wrapped: the error has the number, and no value."""
    processor.entrypoint, processor.env = None, env
    with pytest.raises(ConfigurationError) as caught:
        processor.request(arguments=arguments)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(message)
        assert line.endswith("give the entrypoint")
        assert "bbb" not in line


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        ({"A": "x" * 131072}, None, r'^env\["A"\]: has 131074 bytes, at most 131071'),
        (None, ["x", "y" * 140000], r"^arguments\[1\]: has 140000 bytes, at most 131071"),
        ({"A": "x" * 300 + "\0"}, None, r'^env\["A"\]: holds a NUL character'),
        ({"A": "x" * 300 + "\ud800"}, None, r"^env\[\"A\"\]: holds '\\ud800', half of a character"),
        (None, ["x" * 100000] * 30, r"^arguments: with env they have 3000030 bytes, at most"),
        ({"a-b": "x" * 300}, None, r'^env\["a-b"\]: '),
        ({"A": 3, "B": "x" * 300}, None, r'^env\["A"\]: must be a string'),
        (None, [3, "x" * 300], r"^arguments\[0\]: must be a string"),
    ],
)
def test_values_that_no_process_accepts_are_refused(
    processor: Processor, env: Any, arguments: Any, message: str
) -> None:
    """The error comes before any upload, and has the number."""
    processor.env = env
    with pytest.raises(ConfigurationError, match=message):
        processor.request(arguments=arguments)


def test_a_long_entrypoint_is_spilled_too(processor: Processor) -> None:
    """A long program in the command line, with more words than a request allows."""
    processor.entrypoint = ["python3", "-c", "x" * 300]
    assert processor.request().entrypoint == ("/bin/sh", f"{FOLDER}/{FILE}")
    processor.entrypoint = ["run", *map(str, range(99))]
    assert len(processor.request().entrypoint or ()) == 100
    processor.entrypoint = ["run", *map(str, range(100))]
    assert processor.request().entrypoint == ("/bin/sh", f"{FOLDER}/{FILE}")


TEXT = st.text(max_size=40).filter(lambda text: "\0" not in text)
WORD = st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text)
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True).map(lambda name: f"X_{name}")


@settings(max_examples=30)
@given(st.dictionaries(NAMES, TEXT, max_size=5), st.lists(TEXT, max_size=5))
def test_everything_arrives_unchanged(environment: dict[str, str], arguments: list[str]) -> None:
    """The shell passes quotes, dollars, line breaks and any bytes unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        path.write_bytes(command_script(environment, arguments))
        command = ["/bin/sh", str(path), sys.executable, "-I", "-S", "-X", "utf8", "-c", DUMP, "first"]
        done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    seen, words = json.loads(done.stdout)
    assert words == ["first", *arguments]
    assert {name: seen[name] for name in environment} == environment


@given(
    st.dictionaries(NAMES, TEXT, max_size=8),
    st.lists(WORD, max_size=8),
    st.lists(WORD, min_size=1, max_size=8),
)
def test_the_remaining_request_fits(env: dict[str, str], arguments: list[str], entrypoint: list[str]) -> None:
    """For any values, the remaining request is within the limits, and nothing is lost or doubled."""
    small = RequestLimits(entries=3, value=10, words=5, word=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("processing.processors.oversized_command.request_limits", lambda: small)
        spilled = spill(Command(entrypoint, arguments, env), "/p")
    left, script = (Command(entrypoint, arguments, env), b"") if spilled is None else spilled
    words = [*left.entrypoint, *(left.arguments or ())]
    assert len(left.env) <= 3
    assert all(len(value) <= 10 for value in left.env.values())
    assert len(left.entrypoint) <= 5
    assert len(left.arguments or ()) <= 5
    assert all(len(word) <= 10 and "\n" not in word for word in words)
    assert script.decode().count("X_") >= len(env) - len(left.env)


@pytest.fixture(params=["bubblewrap", "namespaces", "rewriting"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> LocalSession:
    """An engine with each of the sandboxes that run this machine's programs."""
    try:
        sandboxes.choose(request.param)
    except Exception as error:  # noqa: BLE001 - whatever it is that the machine lacks
        pytest.skip(str(error))
    return LocalSession(tmp_path / "engine", sandbox=request.param, tick=0.01)


def test_a_job_gets_all_of_it(session: LocalSession, tmp_path: Path) -> None:
    """On the engine, without a network, in every sandbox: variables, arguments, and paths below /opt/ml among them."""
    script = tmp_path / "dump.py"
    script.write_text(
        "import json, os, sys\n"
        "with open(sys.argv[-1] + '/seen', 'w') as file:\n"
        "    json.dump([dict(os.environ), sys.argv[1:]], file)\n"
    )
    env = {f"MANY_{n}": f"{n}'\n$HOME" for n in range(120)} | {"LONG": "x" * 5000}
    folder = "/opt/ml/processing/output"
    processor = ScriptProcessor(
        command=["python3"],
        instance_count=1,
        instance_type="local",
        sagemaker_session=session,
        env=env,
        network_config=NetworkConfig(enable_network_isolation=True),
    )
    arguments = [*(f'{n} "\\' for n in range(150)), "two\nlines", folder]
    job = processor.run(script, outputs=[ProcessingOutput(folder, output_name="o")], arguments=arguments, logs=False)
    (file,) = job.outputs["o"].download(tmp_path / "got")
    seen, words = json.loads(file.read_text())
    assert words[:-1] == arguments[:-1]
    assert {name: seen[name] for name in env} == env


def test_code_with_its_files_too(
    local_session: LocalSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file starts the bootstrap, which passes the arguments on. The script's exit code is still the job's."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.py").write_text("import os, sys\nprint(len(sys.argv), len(os.environ['LONG']))\n")
    processor = FrameworkProcessor(
        instance_count=1, instance_type="local", sagemaker_session=local_session, env={"LONG": "x" * 1000}
    )
    processor.run("x.py", str(tmp_path / "src"), arguments=["a"] * 200)
    assert "201 1000" in capsys.readouterr().out


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    ),
    st.lists(st.text(st.sampled_from("ab'\"$ml@\\\n /opt-é")) | st.sampled_from(["", "/opt/ml", "$ml", '"$@"'])),
)
def test_the_file_can_be_read_back(environment: dict[str, str], arguments: list[str]) -> None:
    """The engine runs the command in the file as one that fits. Other files are not taken for one."""
    script = command_script(environment, arguments)
    assert parse_script(script) == (environment, arguments)
    assert parse_script(script + b"echo\n") is None
    assert parse_script(b"#!/bin/sh\n" + script) is None


def test_the_same_runs_however_long_a_variable_is(session: LocalSession, tmp_path: Path) -> None:
    """The Python, its environment and the names of the variables are the same, with each way to exceed the limits."""
    script = tmp_path / "show.py"
    script.write_text(
        "import os, sys\nprint(sys.executable, sys.prefix, os.environ.get('VIRTUAL_ENV'), os.environ['PATH'])\n"
    )
    seen = []
    for env, arguments in (
        ({"V": "x"}, None),
        ({"V": "x" * 300}, None),
        ({f"V{number}": "x" for number in range(101)}, None),
        ({"V": "/opt/ml/processing"}, ["x" * 300]),
        ({}, ["two\nlines", "/opt/ml"]),
    ):
        processor = ScriptProcessor(
            command=["python3"], instance_count=1, instance_type="local", sagemaker_session=session, env=env or None
        )
        job = processor.run(script, arguments=arguments, wait=False)
        job.wait(logs=False)
        (line,) = (line.message for line in job.logs())
        seen.append(re.sub(r"/jobs/[^/]+/", "/jobs/JOB/", line))
    assert len(set(seen)) == 1, seen
    assert seen[0].startswith(sys.executable)
