"""The outputs of a job: those that overlap, and those that the job has locked."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from ordinary_user import run_as_ordinary_user

if TYPE_CHECKING:
    from pathlib import Path

WRITE = (
    "import os, sys\n"
    "for folder in ('o', 'o/d', 'o/d/e'):\n"
    "    place = '/opt/ml/processing/' + folder\n"
    "    os.makedirs(place, exist_ok=True)\n"
    "    open(place + '/f' + str(len(folder)), 'w').write(folder)\n"
)
FOUND = {"o": ["d/e/f5", "d/f3", "f1"], "o/d": ["e/f5", "f3"], "o/d/e": ["f5"]}


def _output(path: str, uri: str, mode: str = "EndOfJob", **members: Any) -> dict[str, Any]:
    s3_output = {"S3Uri": uri, "LocalPath": f"/opt/ml/processing/{path}", "S3UploadMode": mode}
    return {"OutputName": uri.rpartition("/")[2], "S3Output": s3_output, **members}


def _run(jobs: Any, script: str, *outputs: dict[str, Any], **options: Any) -> dict[str, Any]:
    described: dict[str, Any] = jobs.run(script, ProcessingOutputConfig={"Outputs": list(outputs)}, **options)
    return described


def _stored(jobs: Any, name: str) -> list[str]:
    return [key.partition("/")[2] for key in jobs.keys(f"{name}/")]


@pytest.mark.parametrize("modes", [("EndOfJob", "Continuous"), ("Continuous", "EndOfJob")])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_every_output_receives_every_file_below_it(jobs: Any, order: tuple[int, ...], modes: tuple[str, str]) -> None:
    """Three levels, in any order and any mixture of upload modes."""
    outputs = [
        _output("o", "s3://data/outer", modes[0]),
        _output("o/d/", "s3://data/middle", modes[1]),
        _output("o/d/e", "s3://data/inner", modes[0]),
    ]
    described = _run(jobs, WRITE, *(outputs[number] for number in order))
    assert described["ProcessingJobStatus"] == "Completed", described
    found = {name: _stored(jobs, name) for name in ("outer", "middle", "inner")}
    assert found == {"outer": FOUND["o"], "middle": FOUND["o/d"], "inner": FOUND["o/d/e"]}


def test_outputs_within_one_another_survive_a_failure(jobs: Any) -> None:
    """A failed job's outputs are uploaded as those of a completed one."""
    outputs = [_output("o", "s3://data/outer"), _output("o/d", "s3://data/inner", "Continuous")]
    described = _run(jobs, f"{WRITE}sys.exit(1)", *outputs)
    assert described["ProcessingJobStatus"] == "Failed"
    assert (_stored(jobs, "outer"), _stored(jobs, "inner")) == (FOUND["o"], FOUND["o/d"])


def test_outputs_within_one_another_survive_a_stop(jobs: Any) -> None:
    """A stopped job's outputs are uploaded, those that were uploaded while it ran included."""
    outputs = [_output("o", "s3://data/outer", "Continuous"), _output("o/d", "s3://data/inner")]
    script = f"{WRITE}import time\nprint('up', flush=True)\ntime.sleep(600)\n"
    name = jobs.create(script, ProcessingOutputConfig={"Outputs": outputs})
    jobs.until(lambda: _stored(jobs, "outer") == FOUND["o"])
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    assert _stored(jobs, "inner") == FOUND["o/d"]


def test_every_host_fills_outputs_within_one_another(jobs: Any) -> None:
    """Each host's files are in both outputs."""
    script = (
        "import json\n"
        "host = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']\n"
        "open('/opt/ml/processing/o/d/' + host, 'w').write(host)\n"
    )
    described = _run(jobs, script, _output("o", "s3://data/outer"), _output("o/d", "s3://data/inner"), hosts=2)
    assert described["ProcessingJobStatus"] == "Completed", described
    assert (_stored(jobs, "outer"), _stored(jobs, "inner")) == (["d/algo-1", "d/algo-2"], ["algo-1", "algo-2"])


@pytest.mark.parametrize("source", ["s3", "file"])
def test_an_output_within_an_input_and_around_one(jobs: Any, tmp_path: Path, source: str) -> None:
    """Inputs that overlap with outputs are copied; an output receives the files of an input below it as well."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/row").write_text("1")
    jobs.objects.put("data", "in/row", b"1")
    uri = "s3://data/in" if source == "s3" else (tmp_path / "in").as_uri()
    described = _run(
        jobs,
        "open('/opt/ml/processing/a/out/new', 'w')\nopen('/opt/ml/processing/b/new', 'w')\n",
        _output("a/out", "s3://data/inside"),
        _output("b", "s3://data/around"),
        inputs={"a": uri, "b/ref": uri},
    )
    assert described["ProcessingJobStatus"] == "Completed", described
    assert (_stored(jobs, "inside"), _stored(jobs, "around")) == (["new"], ["new", "ref/row"])
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["row"]


@pytest.mark.parametrize("swap", [False, True])
def test_an_output_to_this_machine_within_another_output(own_programs: Any, tmp_path: Path, swap: bool) -> None:
    """Both receive its files, and the folder keeps its own."""
    jobs = own_programs
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/older").write_text("kept")
    outputs = [_output("o", "s3://data/outer"), _output("o/d", (tmp_path / "folder").as_uri())]
    script = (
        "import os, sys\n"
        "os.makedirs(sys.argv[1] + '/d/e')\n"
        "open(sys.argv[1] + '/d/e/f5', 'w').write('x')\n"
        "open(sys.argv[1] + '/f1', 'w')\n"
    )
    described = _run(jobs, script, *(outputs[::-1] if swap else outputs), arguments=["/opt/ml/processing/o"])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert _stored(jobs, "outer") == ["d/e/f5", "f1"]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["e", "older"]
    assert (tmp_path / "folder/e/f5").read_text() == "x"


def test_a_failure_of_one_output_spares_the_others(jobs: Any, tmp_path: Path) -> None:
    """The reason names the output and the file; outputs around it and beside it are whole."""
    (tmp_path / "blocked/f3").mkdir(parents=True)
    outputs = [
        _output("o/d", (tmp_path / "blocked").as_uri()),
        _output("o", "s3://data/outer"),
        _output("other", "s3://data/other"),
    ]
    described = _run(jobs, f"{WRITE}open('/opt/ml/processing/other/x', 'w')\n", *outputs)
    assert described["ProcessingJobStatus"] == "Failed"
    assert f"{tmp_path}/blocked" in described["FailureReason"]
    assert (_stored(jobs, "outer"), _stored(jobs, "other")) == (FOUND["o"], ["x"])
    assert (tmp_path / "blocked/e/f5").read_text() == "o/d/e"


def test_an_output_of_the_job_s_own_is_not_uploaded(jobs: Any) -> None:
    """AppManaged outputs are the program's; the output around one receives its files all the same."""
    outputs = [_output("o/d", "s3://data/own", AppManaged=True), _output("o", "s3://data/outer")]
    assert _run(jobs, WRITE, *outputs)["ProcessingJobStatus"] == "Completed"
    assert (_stored(jobs, "own"), _stored(jobs, "outer")) == ([], FOUND["o"])


def test_a_file_in_the_place_of_an_output_fails_the_job(jobs: Any) -> None:
    """It has no name in S3, so it cannot be uploaded: the reason names the output."""
    script = "import os\nos.rmdir('/opt/ml/processing/o')\nopen('/opt/ml/processing/o', 'w').write('x')\n"
    described = _run(jobs, script, _output("o", "s3://data/outer"))
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == "ClientError: the output /opt/ml/processing/o cannot be read: Not a directory"


LOCKED_JOBS = """
import json, sys
from pathlib import Path
from processing import LocalSession, ProcessingOutput, Processor

folder, sandbox, *orders = sys.argv[1:]
session = LocalSession(Path(folder, "engine"), sandbox=sandbox, tick=0.01)
answers = []
for number, order in enumerate(orders):
    script = 'cd "$0"; mkdir -p d/e; echo 1 > d/e/a; echo 2 > b; ' + order
    entrypoint = ["sh", "-c", script, "/opt/ml/processing/output"]
    processor = Processor("r", "i", 1, "local", entrypoint, sagemaker_session=session)
    job = processor.run(outputs=[ProcessingOutput("/opt/ml/processing/output", output_name="o")], wait=False)
    job.wait(logs=False)
    files = job.outputs["o"].download(Path(folder, str(number)))
    names = [file.relative_to(Path(folder, str(number))).as_posix() for file in files]
    answers.append([job.describe().get("ExitMessage"), names])
print(json.dumps(answers))
"""


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces", "rewriting"])
def test_files_that_the_job_locked_are_uploaded(tmp_path: Path, sandbox: str) -> None:
    """Files and directories of any mode, at any depth, the output's own directory and those above it included."""
    orders = [
        "chmod 644 d",
        "chmod 300 d/e",
        "chmod 000 d/e d",
        "chmod 000 d/e/a d/e d b .",
        "chmod 000 ../../processing; chmod 644 .",
        "umask 0777; echo 3 > c; mkdir f",
        "mkdir -p ../../output; echo done > ../../output/message; chmod 000 ../../output/message ../../output",
    ]
    answers = json.loads(run_as_ordinary_user(LOCKED_JOBS, tmp_path, sandbox, *orders))
    usual = [None, ["b", "d/e/a"]]
    assert answers[:5] == [usual] * 5
    assert answers[5:] == [[None, ["b", "c", "d/e/a"]], ["done\n", ["b", "d/e/a"]]]


WALK = """
import json, os, sys
from processing.local.jobs.output_files import regular_files

ml_root, final = sys.argv[1], sys.argv[2] == "final"
problems, names = [], []
report = (lambda name, error: problems.append([name, error.strerror])) if final else None
for file in regular_files(ml_root, ml_root + "/out", report):
    try:
        with file.open() as body:
            names.append([file.name, body.read().decode()])
    except OSError as error:
        names.append([file.name, error.strerror])
print(json.dumps([names, problems]))
"""


def _locked_tree(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("s")
    out = tmp_path / "ml/out"
    (out / "sub").mkdir(parents=True)
    (out / "sub/file").write_text("1")
    os.link(tmp_path / "elsewhere/secret", out / "hard")
    (out / "soft").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere/secret", tmp_path / "elsewhere", out / "sub"):
        path.chmod(0)
    return out


def test_no_mode_of_the_machine_s_files_changes(tmp_path: Path) -> None:
    """A file with another name outside the job gets its mode back, and the target of a link keeps its mode."""
    out = _locked_tree(tmp_path)
    names, problems = json.loads(run_as_ordinary_user(WALK, tmp_path / "ml", "final"))
    assert (names, problems) == ([["hard", "s"], ["sub/file", "1"]], [])
    assert [(path.stat().st_mode & 0o777) for path in (out / "hard", tmp_path / "elsewhere")] == [0, 0]
    (tmp_path / "elsewhere").chmod(0o700)


def test_a_running_program_keeps_its_modes(tmp_path: Path) -> None:
    """A pass during the run leaves locked entries for the end."""
    out = _locked_tree(tmp_path)
    names, _ = json.loads(run_as_ordinary_user(WALK, tmp_path / "ml", "running"))
    assert names == [["hard", "Permission denied"]]
    assert (out / "sub").stat().st_mode & 0o777 == 0
    for path in (out / "sub", tmp_path / "elsewhere"):
        path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_that_cannot_be_unlocked_is_named(tmp_path: Path) -> None:
    """A directory of another user fails the output by name, and every other file is uploaded."""
    out = tmp_path / "ml/out"
    for name in ("a", "b", "c"):
        (out / name).mkdir(parents=True)
        (out / name / "file").write_text(name)
    os.chown(out / "b", 1234, 1234)
    (out / "b").chmod(0o700)
    names, problems = json.loads(run_as_ordinary_user(WALK, tmp_path / "ml", "final"))
    assert names == [["a/file", "a"], ["c/file", "c"]]
    assert problems == [["b", "Permission denied"]]


READ = """
import sys
from pathlib import Path
from processing.exceptions import StagingError
from processing.local.jobs.data import DataError, _local_tree
from processing.staging.local_copy import copy_tree

source = Path(sys.argv[1])
for read in (lambda: _local_tree(str(source)), lambda: copy_tree(source, Path(sys.argv[2]))):
    try:
        print(read())
    except (DataError, StagingError) as error:
        print(error)
"""


@pytest.mark.parametrize(("locked", "mode"), [("sub", 0), ("sub", 0o644), ("sub/deep", 0)])
def test_a_folder_of_this_machine_that_cannot_be_read_is_named(tmp_path: Path, locked: str, mode: int) -> None:
    """An input's copy and a download fail by name; the modes of the user's folders stay."""
    (tmp_path / "in/sub/deep").mkdir(parents=True)
    (tmp_path / "in/sub/deep/file").write_text("1")
    (tmp_path / "in/sub/file").write_text("1")
    (tmp_path / "in" / locked).chmod(mode)
    read = run_as_ordinary_user(READ, tmp_path / "in", tmp_path / "to")
    assert f"ClientError: {tmp_path}/in/{locked}" in read
    assert "cannot be read: Permission denied" in read
    assert "could not be copied" in read
    assert (tmp_path / "in" / locked).stat().st_mode & 0o777 == mode
    (tmp_path / "in" / locked).chmod(0o700)


def test_a_locked_directory_of_a_container_may_hold_another_user_s_files(tmp_path: Path) -> None:
    """So it counts as one, and its files are made this user's own."""
    (tmp_path / "ml/locked").mkdir(parents=True)
    (tmp_path / "ml/locked").chmod(0)
    program = (
        "import sys\nfrom processing.local.sandboxes.container import _has_foreign_files as f\nprint(f(sys.argv[1]))"
    )
    assert run_as_ordinary_user(program, tmp_path / "ml") == "True\n"
    (tmp_path / "ml/locked").chmod(0o700)
    assert run_as_ordinary_user(program, tmp_path / "ml") == "False\n"
