"""Plans: the preview of a run."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from processing import (
    ConfigurationError,
    FrameworkProcessor,
    LocalSession,
    ProcessingInput,
    Processor,
    ScriptProcessor,
    Session,
    SubmissionError,
)
from processing.job.plan import PlannedUpload, RunPlan
from processing.staging.bundles import MEMORY_LIMIT

if TYPE_CHECKING:
    import pathlib

ROLE = "arn:aws:iam::123456789012:role/etl"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/etl:1"


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No prices of an earlier refresh on this machine."""
    monkeypatch.setenv("PROCESSING_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of any kind is a failure."""

    def connect(*_: Any) -> None:
        pytest.fail("a plan makes no call")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def script(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "clean.py"
    path.write_text("pass\n")
    return path


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.csv").write_bytes(b"1" * 1500)
    (folder / "deep" / "b.csv").write_bytes(b"2" * 500)
    return folder


def processor(**changes: Any) -> ScriptProcessor:
    """A processor for AWS with these changes."""
    given = {
        "role": ROLE,
        "image_uri": IMAGE,
        "command": ["python3"],
        "instance_count": 2,
        "instance_type": "ml.m5.xlarge",
        "sagemaker_session": Session(region_name="us-east-1"),
        **changes,
    }
    return ScriptProcessor(**given)


@pytest.mark.usefixtures("no_calls")
def test_the_whole_plan(script: pathlib.Path, data: pathlib.Path) -> None:
    """A plan has the request, the uploads of each input and of the code, and no problem, without a call."""
    plan = processor().plan(
        script,
        [ProcessingInput(data, "/opt/ml/processing/input/data", "data")],
        ["/opt/ml/processing/out"],
        job_name="clean",
    )
    assert plan.request is not None
    sources = [str(entry.source) for entry in plan.request.inputs]
    assert plan.uploads == (
        PlannedUpload("data", sources[0], files=2, size=2000, only_if_missing=False),
        PlannedUpload("code", sources[1], files=1, size=5, only_if_missing=True),
    )
    assert (plan.files, plan.size) == (3, 2005)
    assert (plan.problems, plan.warnings) == ((), ())
    assert plan.request.to_boto()["ProcessingInputs"][0]["S3Input"]["S3Uri"] == (
        "s3://sagemaker-us-east-1-123456789012/clean/input/data"
    )


@pytest.mark.usefixtures("no_calls")
def test_the_text_of_a_plan_has_no_control_characters(script: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A file's name, an argument or a problem cannot move the cursor. The attributes have the raw text."""
    (tmp_path / "\x1b]0;name").write_text("1")
    plan = processor().plan(
        script,
        [ProcessingInput(tmp_path / "\x1b]0;name", "/opt/ml/processing/input/\x1b[A")],
        arguments=["--text=a\x1b[2J"],
        job_name="\x1b[1m",
    )
    assert plan.problems
    assert plan.request is not None
    assert plan.request.arguments == ("--text=a\x1b[2J",)
    shown = str(plan)
    assert [line for line in shown.splitlines() if not line.isprintable()] == []
    assert "arguments   --text=a\\x1b[2J" in shown.splitlines()


def test_the_request_is_the_one_that_is_sent(local_session: LocalSession, script: pathlib.Path) -> None:
    """A plan shows the request that run sends, and planning does not change the run."""
    local = ScriptProcessor(
        command=["python3"], instance_count=1, instance_type="local", sagemaker_session=local_session
    )
    plan = local.plan(script, outputs=["/opt/ml/processing/out"], arguments=["a"], job_name="clean")
    job = local.run(script, outputs=["/opt/ml/processing/out"], arguments=["a"], job_name="clean", logs=False)
    assert plan.request is not None
    described = job.describe()
    for member, value in plan.request.to_boto().items():
        assert described[member] == value
    assert plan.problems == ()


@pytest.mark.usefixtures("no_calls")
def test_every_problem_is_in_it(script: pathlib.Path) -> None:
    """The plan lists every finding for which run would raise, and raises nothing."""
    broken = processor(instance_count=0, max_runtime_in_seconds=10**9, extra={"RoleArn": ROLE})
    plan = broken.plan(script, outputs=["/tmp/out"])
    fields = [problem.partition(":")[0] for problem in plan.problems]
    assert fields == ["outputs[0].source", "instance_count", "max_runtime_in_seconds", "extra.RoleArn"]
    assert plan.request is not None


@pytest.mark.usefixtures("no_calls")
@pytest.mark.parametrize("code", ["missing.py", "."])
def test_no_request_at_all(code: str, tmp_path: pathlib.Path) -> None:
    """Without a script there is no request, and the plan has the problem."""
    plan = processor().plan(os.path.join(tmp_path, code))  # noqa: PTH118 - a directory's own name is kept
    assert plan.request is None
    assert plan.problems[0].startswith("code ")
    assert "problems" in str(plan)


@pytest.mark.usefixtures("no_calls")
def test_no_region_is_a_problem(script: pathlib.Path) -> None:
    """A missing region is a problem in the plan, not an error."""
    plan = ScriptProcessor("MyRole", IMAGE, ["python3"], 1, "ml.m5.xlarge", sagemaker_session=Session()).plan(script)
    assert plan.problems[0].startswith("region_name: no AWS region is set")


@pytest.mark.usefixtures("no_calls")
def test_a_bundle_is_one_upload(script: pathlib.Path, data: pathlib.Path) -> None:
    """Code that travels as a bundle, and the script that starts it, are counted as they are sent."""
    script.rename(data / script.name)
    session = Session(region_name="us-east-1")
    plan = FrameworkProcessor(IMAGE, ROLE, 1, "ml.m5.xlarge", sagemaker_session=session).plan(script.name, data)
    assert [(upload.name, upload.files) for upload in plan.uploads] == [("code", 1), ("entrypoint", 1)]
    assert plan.uploads[0].size > 2005
    assert plan.problems == ()


def test_no_bundle_is_left_behind(
    local_session: LocalSession, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a plan, a request or a run ends, the temporary file of a large bundle is gone, not just forgotten."""
    source, temporary = tmp_path / "src", tmp_path / "temporary"
    source.mkdir()
    temporary.mkdir()
    (source / "clean.py").write_text("pass\n")
    with (source / "large").open("wb") as file:
        file.truncate(MEMORY_LIMIT + 1)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    here = FrameworkProcessor(instance_count=1, instance_type="local", sagemaker_session=local_session)
    kept: list[Any] = []
    bad: list[Any] = ["/opt/ml/processing/out", 5]
    kept += [here.plan("clean.py", source, job_name="a"), here.request("clean.py", source, job_name="a")]
    kept += [here.plan("clean.py", source, outputs=bad), here.plan("clean.py", source, outputs=["/tmp"])]
    for outputs in (bad, ["/tmp"]):
        with pytest.raises(ConfigurationError) as refused:
            here.run("clean.py", source, outputs=outputs)
        kept.append(refused)
    kept.append(here.run("clean.py", source, job_name="a", logs=False))
    kept.append(here.run("clean.py", source, job_name="a", if_exists="attach", logs=False))
    with pytest.raises(SubmissionError) as taken:
        here.run("clean.py", source, job_name="a")
    kept.append(taken)
    here.env = {f"NAME_{number}": "v" for number in range(200)}
    with pytest.raises(ConfigurationError) as spilled:
        here.run("clean.py", source, outputs=["/tmp"])
    assert [*kept, spilled]
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("no_calls")
def test_data_to_be_used_again_is_sent_if_it_is_missing(script: pathlib.Path, data: pathlib.Path) -> None:
    """The plan marks such an input as sent only if it is missing; it does not ask S3 for the missing part."""
    plan = processor().plan(script, [ProcessingInput(data, "/opt/ml/processing/input/data", reuse=True)])
    assert (plan.uploads[0].files, plan.uploads[0].size, plan.uploads[0].only_if_missing) == (2, 2000, True)


@pytest.mark.usefixtures("no_calls")
def test_a_spilled_command_is_uploaded(script: pathlib.Path) -> None:
    """Variables that a request has no room for are among the uploads, and no problem."""
    plan = processor(env={f"NAME_{number}": "v" for number in range(200)}).plan(script)
    assert plan.problems == ()
    assert len(plan.uploads) == 2


def test_files_that_cannot_be_read_are_problems(tmp_path: pathlib.Path, script: pathlib.Path) -> None:
    """Files that cannot be staged are listed one by one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ("n" * 200)).mkdir()
    for depth in range(6):
        (folder / ("n" * 200)).joinpath(*["d" * 200] * depth).mkdir(exist_ok=True)
    (folder / ("n" * 200)).joinpath(*["d" * 200] * 5, "file").write_text("x")
    plan = processor().plan(script, [ProcessingInput(folder, "/opt/ml/processing/input/data")])
    assert plan.request is None
    assert "its key would have" in "\n".join(plan.problems)


@pytest.mark.usefixtures("no_calls")
def test_warnings_are_in_the_plan(script: pathlib.Path) -> None:
    """The plan has the warnings that run would log, and logs none."""
    plan = processor(instance_type="ml.m5.xlurge").plan(script)
    assert plan.warnings == (
        "instance_type: 'ml.m5.xlurge' is not known to the installed botocore; did you mean 'ml.m5.xlarge'?",
    )


@pytest.mark.usefixtures("no_calls")
def test_a_role_by_name_is_assumed(script: pathlib.Path) -> None:
    """AWS is not asked for a role's ARN or the account: the plan shows a made-up one, with a warning."""
    named = processor(role="MyRole")
    plan = named.plan(script)
    assert plan.request is not None
    assert plan.request.role_arn == "arn:aws:iam::000000000000:role/MyRole"
    assert plan.uploads[0].uri.startswith("s3://sagemaker-us-east-1-000000000000/code/")
    assert plan.problems == ()
    (warning,) = plan.warnings
    assert warning.startswith("role: 'MyRole' is looked up")
    assert named.role == "MyRole"


@pytest.mark.usefixtures("no_calls")
def test_the_price_ceiling() -> None:
    """The ceiling is instances times the longest time that they can run; a day if there is no maximum."""
    image = Processor(ROLE, IMAGE, 2, "ml.m5.xlarge", sagemaker_session=Session(region_name="us-east-1"))
    plan = image.plan()
    assert plan.price == pytest.approx(2 * 24 * 0.23)
    assert plan.price_note == "2 x ml.m5.xlarge x 24 h at 0.23 USD an hour (as of 2026-07-30)"
    image.max_runtime_in_seconds = 1800
    assert image.plan().price == pytest.approx(2 * 0.5 * 0.23)


@pytest.mark.usefixtures("no_calls")
def test_the_price_of_preferences_is_that_of_the_dearest() -> None:
    """AWS's choice among preferences is not known: the price is that of the most expensive one, by its own count."""
    preferences: list[Any] = [
        {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        {"InstanceType": "ml.m5.large", "InstanceCount": 3},
    ]
    image = Processor(
        ROLE,
        IMAGE,
        sagemaker_session=Session(region_name="us-east-1"),
        max_runtime_in_seconds=3600,
        instance_preferences=preferences,
    )
    plan = image.plan()
    assert plan.problems == ()
    assert plan.price == pytest.approx(3 * 0.115)


@pytest.mark.usefixtures("no_calls")
@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"instance_type": "ml.p5.48xlarge"}, "no price is known for ml.p5.48xlarge in us-east-1; processing.pricing"),
        ({"instance_type": None, "instance_preferences": ["ml.m5.large", "ml.c5.4xlarge"]}, "known for ml.c5.4xlarge"),
        ({"instance_type": None}, "the instances are not known"),
        *[({"instance_count": count}, "the instances are not known") for count in (None, 0, -1, True, 1.5, 10**400)],
        *[({"max_runtime_in_seconds": limit}, "how long it may run is not known") for limit in (0, -5, "60", 10**400)],
    ],
)
def test_an_unknown_price_blocks_nothing(changes: Any, note: str, script: pathlib.Path) -> None:
    """If a price is not known, the plan has the reason, and is otherwise complete."""
    plan = processor(**changes).plan(script)
    assert plan.price is None
    assert note in plan.price_note
    assert "price       not known" in str(plan)
    assert plan.uploads


def test_this_machine_costs_nothing(local_session: LocalSession, script: pathlib.Path) -> None:
    """A job of the embedded engine has a price: none."""
    local = ScriptProcessor(
        command=["python3"], instance_count=1, instance_type="local", sagemaker_session=local_session
    )
    assert local.plan(script).price == 0


def test_a_job_that_the_engine_cannot_run_is_a_problem(tmp_path: pathlib.Path, script: pathlib.Path) -> None:
    """A job that the engine cannot run on this machine has a problem in its plan."""
    session = LocalSession(tmp_path / "engine", python="/no/such/python")
    local = ScriptProcessor(
        image_uri="local/etl", command=["python3"], instance_count=1, instance_type="local", sagemaker_session=session
    )
    assert "/no/such/python" in "\n".join(local.plan(script).problems)


@pytest.mark.usefixtures("no_calls")
def test_it_is_made_for_reading(script: pathlib.Path, data: pathlib.Path) -> None:
    """The text shows each part on lines of its own, and of the environment the names only."""
    plan = processor(env={"TOKEN": "secret"}, max_runtime_in_seconds=3600).plan(
        script,
        [ProcessingInput(data, "/opt/ml/processing/input/data", "data")],
        [],
        arguments=["--n", "1"],
        job_name="clean",
    )
    lines = str(plan).splitlines()
    bucket = "s3://sagemaker-us-east-1-123456789012"
    assert lines[:8] == [
        "job         clean",
        f"role        {ROLE}",
        f"image       {IMAGE}",
        "instances   2 x ml.m5.xlarge, 30 GB each, at most 3,600 s",
        "entrypoint  python3 /opt/ml/processing/input/code/clean.py",
        "arguments   --n 1",
        "env         TOKEN",
        "inputs",
    ]
    assert f"  data: {bucket}/clean/input/data to /opt/ml/processing/input/data" in lines
    assert "uploads     3 files, 2.0 kB" in lines
    assert f"  data: 2 files, 2.0 kB to {bucket}/clean/input/data" in lines
    assert any(
        line.startswith("  code: 1 file, 5 bytes") and line.endswith("only if it is not there") for line in lines
    )
    assert lines[-3] == ("price       at most 0.46 USD: 2 x ml.m5.xlarge x 1 h at 0.23 USD an hour (as of 2026-07-30)")
    assert lines[-2:] == ["warnings    none", "problems    none"]
    assert "secret" not in str(plan)


def test_an_empty_plan_has_a_text() -> None:
    """The text of a plan without a request has the problems and nothing else."""
    assert str(RunPlan(problems=("code: missing",))) == "warnings    none\nproblems\n  code: missing"
