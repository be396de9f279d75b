"""`processing run` as a user runs it: exit codes, outputs, errors in the words that were typed, Ctrl-C."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import processing
from command_line import COMMAND, InTerminal, run
from processing.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession

CLEAN = """
import pathlib, sys
print("arguments", sys.argv[1:], flush=True)
folder = pathlib.Path("/opt/ml/processing/output/clean")
for path in pathlib.Path("/opt/ml/processing/input/raw").iterdir():
    (folder / path.name).write_text(path.read_text().upper())
"""
FILES = {
    "clean.py": CLEAN,
    "fail.py": "import sys\nprint('the reason', flush=True)\nsys.exit(3)\n",
    "sleep.py": "import time\nprint('asleep', flush=True)\ntime.sleep(600)\n",
    "hello.py": "print('hello')\n",
    "data/a.csv": "one\n",
    "src/main.py": "import helper\n",
    "src/helper.py": "print('from the helper')\n",
}


@pytest.fixture
def session(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> LocalSession:
    """The engine that the command uses, in a folder with scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return processing.LocalSession()


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in this process, which takes a fraction of the time."""

    def run_here(*words: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    return run_here


def test_a_script_with_data(session: LocalSession) -> None:
    """Inputs and outputs are found by their names; local outputs are downloaded; words after -- reach the program."""
    done = run(
        *("run", "clean.py", "-i", "raw=data/", "-o", "clean=out/", "-t", "local", "--name", "first"),
        *("--", "--min-rows", "10"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "arguments ['--min-rows', '10']\n"
    assert pathlib.Path("out/a.csv").read_text() == "ONE\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "processing job first: on this machine"
    assert lines[-1] == "downloaded 1 file to out"
    assert "first: Completed after" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "fail.py"], 1, "processing: error: processing job fail-"),
        (["run", "missing.py"], 2, "error: missing.py wasn't found"),
        (
            ["run", "hello.py", "--source-dir", ".", "--requirements", "no.txt"],
            2,
            "error: --requirements no.txt wasn't",
        ),
        (["run", "hello.py", "-i", "raw=nowhere/"], 2, "-i raw=nowhere/: "),
        (["run", "hello.py", "-n", "0"], 2, "-n: must be at least 1, not 0"),
        (["run", "hello.py", "--instance-count=0"], 2, "--instance-count: must be at least 1, not 0"),
        (["run", "hello.py", "--env", "A"], 2, "'A' is not of the form NAME=VALUE"),
        (["run", "hello.py", "--max-prise", "5"], 2, "'--max-price'"),
        (["runn", "hello.py"], 2, "No such command 'runn'; did you mean 'run'?"),
        (["run", "sleep.py", "--timeout", "0.5", "--name", "late"], 4, "has not ended in time"),
        (["run", "hello.py", "--image", "sklearn:9.9"], 2, "--image: "),
        (["run"], 2, "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes_and_errors(
    words: list[str], code: int, message: str, session: LocalSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake is named as it was typed, with a suggestion where one is close; each kind of end has its code."""
    ended = main([*words, *(["-t", "local"] if words[0] == "run" and len(words) > 1 else [])])
    errors = capsys.readouterr().err
    assert (ended, message in errors) == (code, True), errors
    if "late" in words:
        processing.attach("late", session).stop()


def test_a_failed_job_repeats_no_lines(
    session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The lines were shown, so the error has the reason alone; without lines it has the last of them."""
    shown = here("run", "fail.py", "-t", "local")
    assert (shown.stdout, "the reason" in shown.stderr) == ("the reason\n", False)
    hidden = here("run", "fail.py", "-t", "local", "--no-logs")
    assert (hidden.stdout, "the reason" in hidden.stderr) == ("", True)
    quiet = here("run", "hello.py", "-t", "local", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_the_price_is_checked_before_an_upload(
    session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A job that may cost more is refused, and one with an unknown price needs an option. No call is made."""
    aws = (
        *("run", "hello.py", "--role", "arn:aws:iam::111122223333:role/x", "--region", "us-east-1"),
        *("--image", "sklearn:1.2-1", "--max-price", "5"),
    )
    dear = here(*aws, "-t", "ml.m5.xlarge", "--max-runtime", "360000")
    assert dear.returncode == 2
    assert "--max-price 5: the job may cost 23.00 USD" in dear.stderr
    unknown = here(*aws, "-t", "ml.c5.18xlarge")
    assert unknown.returncode == 2
    assert "the price is not known" in unknown.stderr
    assert "--price-unknown-ok" in unknown.stderr
    allowed = here(*aws, "-t", "ml.c5.18xlarge", "--price-unknown-ok")
    assert "CredentialsError" in allowed.stderr or "redentials" in allowed.stderr
    assert here("run", "hello.py", "-t", "local", "--max-price", "0").returncode == 0


def test_a_plan_makes_nothing(session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """`--plan` shows the plan of Python, and its exit code is that of its problems."""
    done = here("run", "hello.py", "--local", "--plan", "--name", "planned")
    assert done.returncode == 0
    assert done.stdout.startswith("job         planned\n")
    assert list(processing.jobs(session=session)) == []
    bad = here("run", "hello.py", "-t", "m5.xlarge", "--region", "us-east-1", "--image", "1/i:1", "--plan")
    assert (bad.returncode, "problems" in bad.stdout) == (2, True)


def test_detached_jobs(session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The name is the only output of --detach; a name that is taken attaches on request."""
    first = here("run", "hello.py", "-t", "local", "--detach", "--name", "taken")
    assert (first.returncode, first.stdout) == (0, "taken\n")
    again = here("run", "hello.py", "-t", "local", "--name", "taken")
    assert again.returncode == 1
    assert "--name: a job named 'taken' exists; give another name, or --if-exists attach or suffix" in again.stderr
    attached = here("run", "hello.py", "-t", "local", "--name", "taken", "--if-exists", "attach")
    assert (attached.returncode, attached.stdout) == (0, "hello\n")


def test_code_with_files_beside_it(session: LocalSession) -> None:
    """`--source-dir` packs a folder; a target by variable needs no option; -n starts several hosts."""
    done = run(
        *("run", "main.py", "--source-dir", "src", "-n", "2", "--tag", "team=etl", "-e", "A=1"),
        environment={"PROCESSING_TARGET": "local"},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[algo-1] from the helper", "[algo-2] from the helper"]


def test_a_job_file(session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A file has the parameters by their names in Python; options have priority; a wrong name has a suggestion."""
    pathlib.Path("job.yaml").write_text(
        "code: clean.py\ninstance_type: local\njob_name: from-file\narguments: [a]\n"
        "inputs:\n  - {source: data, destination: /opt/ml/processing/input/raw}\n"
        "outputs:\n  - {source: /opt/ml/processing/output/clean, output_name: clean}\nenv: {N: 5}\n"
    )
    done = here("run", "job.yaml", "--", "b")
    assert (done.returncode, done.stdout) == (0, "arguments ['b']\n"), done.stderr
    pathlib.Path("job.json").write_text('{"code": "hello.py", "instance_typ": "local"}')
    wrong = here("run", "job.json")
    assert (
        wrong.returncode,
        "job.json: instance_typ is not a parameter; did you mean 'instance_type'?" in wrong.stderr,
    ) == (2, True)
    pathlib.Path("job.json").write_text('{"code": "hello.py", "instance_type": "local", "instance_count": 0}')
    assert "job.json: instance_count: must be at least 1, not 0" in here("run", "job.json").stderr
    assert "error: -n: must be at least 1, not -1" in here("run", "job.json", "-n", "-1").stderr
    pathlib.Path("job.yml").write_text("a: [")
    assert "job.yml: is not valid" in here("run", "job.yml").stderr
    assert "absent.yaml: the job file cannot be read" in here("run", "absent.yaml").stderr


def test_warnings_have_the_command_s_form(session: LocalSession, tmp_path: pathlib.Path) -> None:
    """A warning has no line of code, which is not the user's, and comes once; `-W` of Python holds for it."""
    config = tmp_path / "config.yaml"
    config.write_text("SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {RemoteFunction: {Other: x}}}}\n")
    words = ("run", "hello.py", "-t", "local", "-o", "nothing=out")
    environment = {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(config)}
    done = run(*words, "--name", "warned", environment=environment)
    warned = [line for line in done.stderr.splitlines() if "warning" in line]
    assert warned == [
        f"processing: warning: SageMaker.PythonSDK.Modules.RemoteFunction.Other: no such key (in {config})",
        "processing: warning: processing job warned: the output nothing is empty: the job wrote no file there",
    ]
    ignored = run(*words, environment={**environment, "PYTHONWARNINGS": "ignore"})
    assert "no such key" not in ignored.stderr


def test_a_live_line_in_a_terminal(session: LocalSession) -> None:
    """A terminal has log lines above one live line, of which nothing stays."""
    terminal = InTerminal("run", "clean.py", "-i", "raw=data", "-o", "clean=out", "-t", "local", "--name", "live")
    assert terminal.end() == 0
    lines = terminal.lines()
    assert lines[0] == "processing job live: on this machine"
    assert "arguments []" in lines
    assert lines[-3].startswith("live: Completed after")
    assert lines[-1] == "downloaded 1 file to out"
    assert b"\r\x1b[K" in terminal.written
    assert not any("InProgress" in line for line in lines)


def test_twenty_columns(session: LocalSession) -> None:
    """The live line of a narrow terminal is cut, not wrapped."""
    terminal = InTerminal("run", "sleep.py", "-t", "local", "--name", "narrow", columns=20)
    terminal.wait_for("asleep")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    drawn = [part.split(b"\r")[0] for part in terminal.written.split(b"\x1b[K")[1:]]
    assert any(part.startswith(b"running") for part in drawn)
    processing.attach("narrow", session).stop()


def test_ctrl_c_leaves_the_job(session: LocalSession) -> None:
    """The first Ctrl-C ends the command; its last lines are the commands that attach to the job and stop it."""
    terminal = InTerminal("run", "sleep.py", "-t", "local", "--name", "left")
    terminal.wait_for("asleep")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert terminal.lines()[-3:] == [
        "Detached: left goes on.",
        "  attach: processing attach left --local",
        "  stop:   processing stop left --local",
    ]
    assert "Traceback" not in terminal.written.decode()
    job = processing.attach("left", session)
    assert job.status == "InProgress"
    assert run("stop", "left", "--local").returncode == 0
    assert run("attach", "left", "--local").returncode == 3
    assert job.status == "Stopped"


@pytest.mark.parametrize("command", ["wait", "logs -f", "attach"])
def test_ctrl_c_leaves_the_job_of_a_watching_command(session: LocalSession, command: str) -> None:
    """Ctrl-C shows how to go on with the same command, once, and nothing of Python."""
    run("run", "sleep.py", "-t", "local", "--name", "left", "--detach")
    terminal = InTerminal(*command.split(), "left", "--local")
    terminal.wait_for("1 job: 1 InProgress" if command == "wait" else "asleep")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert terminal.lines()[-3:] == [
        "Detached: left goes on.",
        f"  {command.split(maxsplit=1)[0] + ':':7} processing {command} left --local",
        "  stop:   processing stop left --local",
    ]
    text = terminal.written.decode()
    assert text.count("Detached") == 1
    assert "Traceback" not in text
    processing.attach("left", session).stop()


def test_ctrl_c_stops_the_job_on_request(session: LocalSession) -> None:
    """With --stop-on-interrupt the job is stopped, and the exit code is that of a stopped job."""
    terminal = InTerminal("run", "sleep.py", "-t", "local", "--name", "stopped", "--stop-on-interrupt")
    terminal.wait_for("asleep")
    terminal.press_ctrl_c()
    assert terminal.end() == 3
    assert terminal.lines()[-1] == "stopped: Stopped"
    assert processing.attach("stopped", session).status == "Stopped"


# The command, whose uploads are not over before Ctrl-C has come: the report of the first file waits for it.
UPLOADING_UNTIL_CTRL_C = """
import signal, sys, time
from processing.cli import main
from processing.watching.render.run_display import RunDisplay

show_upload = RunDisplay.show_upload

def wait_for_ctrl_c(*progress):
    show_upload(*progress)
    while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:  # what a second Ctrl-C meets
        time.sleep(0.01)

RunDisplay.show_upload = wait_for_ctrl_c
sys.exit(main())
"""


def test_ctrl_c_before_the_submission(session: LocalSession) -> None:
    """The run ends, no job exists, and the uploads of this run are taken back."""
    large = pathlib.Path("large")
    large.mkdir()
    for number in range(100):
        (large / f"{number}.txt").write_text(str(number))
    command = (sys.executable, "-c", UPLOADING_UNTIL_CTRL_C)
    terminal = InTerminal("run", "hello.py", "-i", "raw=large", "-t", "local", command=command)
    terminal.wait_for("uploading")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert terminal.lines()[-1] == "Interrupted: no job was created."
    assert list(processing.jobs(session=session)) == []
    bucket = session.default_bucket()
    keys = session.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [entry["Key"] for entry in keys if not entry["Key"].startswith("code/")] == []


def test_the_second_ctrl_c_ends_at_once(session: LocalSession, tmp_path: pathlib.Path) -> None:
    """While a job that ignores SIGTERM is being stopped, another Ctrl-C leaves it."""
    lines = (
        "import signal, time",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "print('hears nothing', flush=True)",
    )
    pathlib.Path("deaf.py").write_text("\n".join([*lines, "time.sleep(600)\n"]))
    terminal = InTerminal("run", "deaf.py", "-t", "local", "--name", "deaf", "--stop-on-interrupt")
    terminal.wait_for("hears nothing")
    terminal.press_ctrl_c()
    terminal.wait_for("Ctrl-C again")
    terminal.press_ctrl_c()
    assert terminal.end() == -2


def test_a_closed_pipe(session: LocalSession) -> None:
    """`| head` ends the lines, not the job or its exit code; a reading command ends as by SIGPIPE."""
    pathlib.Path("many.py").write_text("for number in range(20000): print(number)\n")
    line = f"{' '.join(COMMAND)} run many.py -t local --name many | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["0", "0"], done.stderr
    assert "Traceback" not in done.stderr
    line = f"{' '.join(COMMAND)} logs many --local | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["0", "141"], done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["doctor"], ["images"], ["ls", "--local"], ["run", "hello.py", "--local", "--plan"]])
def test_nobody_reads(words: list[str], session: LocalSession) -> None:
    """A command whose output is closed ends as by SIGPIPE, without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run([*COMMAND, *words], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "code"),
    [("run hello.py --local", 0), ("doctor", 1), ("ls --local", 1), ("images", 1), ("config show -o json", 1)],
)
def test_without_an_output(session: LocalSession, words: str, code: int) -> None:
    """A result that cannot be written is an error in one line. A job runs all the same."""
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(COMMAND)} {words} >&-"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert ("standard output" in done.stderr) == (code == 1)


def test_a_full_disk_is_an_error_of_a_reading_command(session: LocalSession) -> None:
    """A result that cannot be written is no success."""
    run("run", "hello.py", "-t", "local", "--quiet")
    with pathlib.Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "ls", "--local"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "standard output" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_home(session: LocalSession) -> None:
    """Without HOME the engine's folder comes from the variable, and the command works."""
    environment = {name: value for name, value in os.environ.items() if name not in {"HOME", "XDG_DATA_HOME"}}
    done = subprocess.run(
        [*COMMAND, "run", "hello.py", "-t", "local"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_two_at_once(session: LocalSession) -> None:
    """Two commands at the same moment run two jobs."""
    both = [
        subprocess.Popen(
            [*COMMAND, "run", "hello.py", "-t", "local"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in both] == ["hello\n"] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert len(list(processing.jobs(session=session))) == 2


def test_a_job_cannot_forge_a_line(session: LocalSession) -> None:
    """Its output can neither move the cursor nor erase the live line."""
    pathlib.Path("forge.py").write_text(r"print('\r\x1b[K\x1b[5Aforge: Completed\x1b]0;x\x07', flush=True)" "\n")
    terminal = InTerminal("run", "forge.py", "-t", "local", "--name", "forge")
    assert terminal.end() == 0
    assert r"\r\x1b[K\x1b[5Aforge: Completed\x1b]0;x\x07" in terminal.lines()


def test_an_exit_message_cannot_forge_a_line(
    session: LocalSession, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The lines of a job's own message are indented below the error."""
    pathlib.Path("forge.py").write_text(
        "open('/opt/ml/output/message', 'w').write('bad\\nforge: Completed after 1 s')\nraise SystemExit(1)\n"
    )
    done = here("run", "forge.py", "-t", "local", "--name", "forge")
    assert done.stderr.splitlines()[-2:] == ["exit message: bad", "  forge: Completed after 1 s"]
    assert processing.attach("forge", session).describe()["ExitMessage"] == "bad\nforge: Completed after 1 s"


def test_tables_in_a_narrow_terminal(session: LocalSession) -> None:
    """A table becomes a list of rows in a narrow terminal, and is whole in a pipe."""
    pathlib.Path("reason.py").write_text("import sys\nsys.exit(1)\n")
    run("run", "reason.py", "-t", "local", "--name", "a-rather-long-name", "-q")
    terminal = InTerminal("ls", "--local", columns=20)
    assert terminal.end() == 0
    assert terminal.lines()[:2] == ["a-rather-long-name", "  status Failed"]
    terminal = InTerminal("ls", "--local")
    assert terminal.end() == 0
    assert terminal.lines()[0].split() == ["NAME", "STATUS", "CREATED", "REASON"]
    assert "a-rather-long-name" in run("ls", "--local").stdout


def test_top_follows_a_job_in_a_terminal(session: LocalSession) -> None:
    """The screen is drawn again until Ctrl-C or the job's end."""
    assert run("run", "hello.py", "-t", "local", "--name", "ended", "-q").returncode == 0
    terminal = InTerminal("top", "ended", "--local")
    assert terminal.end() == 0
    assert terminal.lines()[0] == "ended  Completed"
