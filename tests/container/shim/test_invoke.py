"""Tasks from their inputs to their results: each defect of sagemaker-shim 0.8.3, and the rules beside it."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.commands import main
from processing.container.shim.logs import Log
from processing.container.shim.tasks import parse_task
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from processing import LocalSession

COPY = """
import os, shutil
source, target = os.environ["IN"], os.environ["OUT"]
shutil.copytree(source, target, dirs_exist_ok=True)
print("copied")
"""


@pytest.fixture(autouse=True)
def _folders(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find their folders in IN and OUT."""
    monkeypatch.setenv("IN", str(shim.input))
    monkeypatch.setenv("OUT", str(shim.output))


def test_inputs_come_and_outputs_go(shim: Any) -> None:
    """A task's inputs are below the input folder, its outputs below its prefix, and the result lists them."""
    shim.put("a/x.txt", b"x")
    shim.put("/b", b"y")
    assert shim.invoke(COPY, shim.task(inputs={"x.txt": "a/x.txt", "/deep/y.txt": "/b"})) == 0
    assert shim.keys() == ["out/one/deep/y.txt", "out/one/x.txt"]
    result = shim.result()
    assert result["return_code"] == 0
    assert result["exec_duration"].startswith("PT")
    assert result["failed_phase"] is None
    assert result["outputs"][1] == {
        "relative_path": "x.txt",
        "bucket_name": "shim",
        "bucket_key": "out/one/x.txt",
        "size": 1,
        "sha256": hashlib.sha256(b"x").hexdigest(),
        "decompress": False,
    }
    assert list(shim.input.iterdir()) == list(shim.output.iterdir()) == []


def test_output_that_is_not_utf_8_leaves_a_result(shim: Any) -> None:
    """Bytes that are not UTF-8 do not end a task."""
    assert shim.invoke("import os; os.write(1, b'\\xff\\n'); os.write(2, b'a\\xfe\\n')") == 0
    assert shim.result()["user_process_last_stderr_lines"] == ["a\ufffd\n"]


def test_a_missing_input_leaves_a_result(shim: Any) -> None:
    """A missing input fails its task, whose result names it; the program does not run."""
    assert shim.invoke(COPY, shim.task(inputs={"x.txt": "absent"})) == 1
    result = shim.result()
    assert (result["return_code"], result["failed_phase"]) == (1, "download")
    assert "'x.txt'" in result["user_safe_error_message"]
    assert result["exec_duration"] is None


@pytest.mark.parametrize("field", ["relative_path", "pk"])
def test_a_path_that_leaves_its_folder_is_refused(field: str, shim: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A relative path or name with `..` is refused by its field, and nothing runs."""
    shim.put("a", b"x")
    task = shim.task(inputs={"x": "a"})
    (task if field == "pk" else task["inputs"][0])[field] = "../../x"
    assert shim.invoke(COPY, task) == 2
    assert field in capsys.readouterr().err
    assert not shim.input.exists()
    assert shim.keys("") == ["a"]


def test_links_in_the_output_are_not_followed(shim: Any) -> None:
    """A link in the output folder is listed as skipped, and neither it nor the files behind it are uploaded."""
    (shim.folder / "secret").mkdir()
    (shim.folder / "secret/key").write_text("k")
    source = """
import os
os.chdir(os.environ["OUT"])
os.symlink("../secret/key", "file"); os.symlink("../secret", "folder"); open("real", "w").close()
"""
    assert shim.invoke(source) == 0
    assert shim.keys() == ["out/one/real"]
    assert shim.result()["skipped_outputs"] == ["file", "folder"]


def test_a_link_in_place_of_the_output_folder_fails_the_upload(shim: Any) -> None:
    """A program that replaces the output folder by a link has no file behind it uploaded, nor removed."""
    (shim.folder / "secret").mkdir()
    (shim.folder / "secret/key").write_text("k")
    source = "import os; os.rmdir(os.environ['OUT']); os.symlink('secret', os.environ['OUT'])"
    assert shim.invoke(source) == 1
    assert shim.keys() == []
    assert shim.result()["failed_phase"] == "upload"
    assert (shim.folder / "secret/key").exists()


def test_an_orphan_that_holds_the_pipe_delays_nothing(shim: Any) -> None:
    """A task ends with its program, although a child in another session holds stdout."""
    source = """
import os, subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
open(os.environ["OUT"] + "/pid", "w").write(str(child.pid))
"""
    assert shim.invoke(source) == 0
    os.kill(int(shim.body("out/one/pid")), signal.SIGKILL)  # it lives


def test_outputs_of_a_failed_program_are_uploaded(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partial outputs are uploaded after a failure, unless a variable forbids it."""
    source = "import os, sys; open(os.environ['OUT'] + '/part', 'w').close(); sys.exit(7)"
    assert shim.invoke(source) == 7
    assert shim.keys() == ["out/one/part"]
    assert (shim.result()["return_code"], shim.result()["failed_phase"]) == (7, "run")
    monkeypatch.setenv("PROCESSING_SHIM_PARTIAL_OUTPUTS", "false")
    assert shim.invoke(source, shim.task("two")) == 7
    assert shim.keys("out/two") == []
    assert shim.invoke(source, options=("--exit-zero",)) == 0


def test_a_line_of_any_length_is_logged(shim: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of 500 KB appears in whole, in lines of JSON below the limit of CloudWatch Logs."""
    assert shim.invoke("print('a' * 500_000)") == 0
    written = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in written]
    ours = [line for line in lines if not line["internal"]]
    assert "".join(line["log"] for line in ours) == "a" * 500_000
    assert max(map(len, written)) < 256 << 10
    assert ours[0]["task"] == "one"
    assert (ours[0]["level"], ours[0]["source"]) == ("INFO", "stdout")


def test_each_result_has_the_lines_of_its_own_task(shim: Any) -> None:
    """The last lines of stderr are those of the task, and at most 100."""
    source = """
import os, sys
name = open(os.environ["IN"] + "/name").read()
for number in range(200 if name == "a" else 1): print(name, number, file=sys.stderr)
"""
    shim.put("a", b"a")
    shim.put("b", b"b")
    assert shim.invoke(source, *(shim.task(each, inputs={"name": each}) for each in "ab")) == 0
    assert shim.result("a")["user_process_last_stderr_lines"] == [f"a {number}\n" for number in range(100, 200)]
    assert shim.result("b")["user_process_last_stderr_lines"] == ["b 0\n"]


def test_tasks_after_a_failure_leave_results(shim: Any) -> None:
    """Tasks after a failed one are not run, and have results that name it; with --keep-going they run."""
    tasks = [shim.task("a", inputs={"x": "absent"}), shim.task("b")]
    assert shim.invoke(COPY, *tasks) == 1
    assert shim.result("b")["user_safe_error_message"] == "Not run, because the task a failed"
    assert shim.invoke(COPY, *tasks, options=("--keep-going",)) == 1
    assert shim.result("b")["return_code"] == 0


def test_secrets_do_not_reach_the_program(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's environment has no credentials and no variables of the shim, unless asked for."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("Grand_Challenge_Component_Signing_Key_Hex", "00")
    monkeypatch.setenv("OF_THE_IMAGE", "1")
    source = "import os, json; json.dump(dict(os.environ), open(os.environ['OUT'] + '/env', 'w'))"
    assert shim.invoke(source) == 0
    seen = json.loads(shim.body("out/one/env"))
    assert seen["OF_THE_IMAGE"] == "1"
    assert [name for name in seen if name.upper().startswith(("AWS_SECRET", "GRAND_", "PROCESSING_SHIM_"))] == []
    monkeypatch.setenv("PROCESSING_SHIM_KEEP_CREDENTIALS", "true")
    assert shim.invoke(source) == 0
    assert json.loads(shim.body("out/one/env"))["AWS_SECRET_ACCESS_KEY"] == "secret"


def test_a_program_that_exceeds_its_time_is_killed(shim: Any) -> None:
    """A task above its timeout fails, with the outputs that it has written."""
    source = "import os, time; open(os.environ['OUT'] + '/x', 'w').close(); time.sleep(600)"
    for seconds in (1, 8, 64):  # a busy machine starts the program later
        assert shim.invoke(source, shim.task(timeout=f"PT{seconds}S")) == 1
        assert shim.result()["user_safe_error_message"] == "Time limit exceeded"
        if shim.keys():
            break
    assert shim.keys() == ["out/one/x"]


def test_a_program_that_cannot_start_leaves_a_result(shim: Any) -> None:
    """A program that does not exist fails its task in the phase "start"."""
    assert main(["invoke", "-t", json.dumps(shim.task()), "--", "no-such-program"], shim.store) == 1
    assert shim.result()["failed_phase"] == "start"


def test_memory_of_the_program_alone_is_limited(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program above the limit of memory fails, and the shim has no limit."""
    monkeypatch.setenv("PROCESSING_SHIM_MAX_MEMORY_MB", "200")
    assert shim.invoke("bytearray(400 << 20)") == 1
    assert shim.result()["user_process_last_stderr_lines"][-1] == "MemoryError\n"
    assert shim.invoke("import resource; assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 200 << 20") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user of a program")
def test_the_program_has_the_user_of_the_image(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs as the user that the variable names, who can write to the output folder."""
    monkeypatch.setenv("PROCESSING_SHIM_USER", "65534:65533")
    # Other users cannot enter the folders of pytest.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("OUT", f"{folder}/output")
        monkeypatch.setenv("PROCESSING_SHIM_OUTPUT_PATH", f"{folder}/output")
        done = main(["invoke", "-t", json.dumps(shim.task()), "--", "/bin/sh", "-c", "id > $OUT/x"], shim.store)
    assert done == 0
    assert b"uid=65534" in shim.body("out/one/x")
    assert b"gid=65533" in shim.body("out/one/x")


def test_a_result_is_signed(shim: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a key, the metadata of the result has its HMAC; --signed refuses to start without a key."""
    assert shim.invoke(COPY, options=("--signed",)) == 2
    assert "SIGNING_KEY_HEX" in capsys.readouterr().err
    monkeypatch.setenv("GRAND_CHALLENGE_COMPONENT_SIGNING_KEY_HEX", "c0ffee")
    monkeypatch.setenv("PROCESSING_SHIM_USE_LINKED_INPUT", "false")
    monkeypatch.setenv("PROCESSING_SHIM_WRITABLE_DIRECTORIES", "")
    monkeypatch.setenv("PROCESSING_SHIM_POST_CLEAN_DIRECTORIES", "")
    assert shim.invoke(COPY, options=("--signed",)) == 0
    answer = shim.client.get_object(Bucket="shim", Key="out/one/.sagemaker_shim/inference_result.json")
    signature = hmac.new(bytes.fromhex("c0ffee"), answer["Body"].read(), hashlib.sha256).hexdigest()
    assert answer["Metadata"] == {"signature_hmac_sha256": signature}


def test_the_input_folder_is_a_link_if_asked(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A linked input folder leads to a folder of the task, which is gone at the end."""
    monkeypatch.setenv("PROCESSING_SHIM_USE_LINKED_INPUT", "true")
    monkeypatch.setenv("PROCESSING_SHIM_LINKED_INPUT_PARENT", str(shim.folder / "data"))
    shim.put("a", b"a")
    source = "import os; print(os.path.realpath(os.environ['IN']), file=open(os.environ['OUT'] + '/x', 'w'))"
    assert shim.invoke(source, shim.task("p", inputs={"a": "a"}), shim.task("q")) == 0
    assert shim.body("out/q/x").decode().strip() == str((shim.folder / "data/q-input").resolve())
    assert list((shim.folder / "data").iterdir()) == []


def test_archives_are_unpacked(shim: Any) -> None:
    """A zip file is unpacked beside its relative path, without its common folder and files of operating systems."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("top/a", "top/b/c", "__MACOSX/x"):
            archive.writestr(name, name)
    shim.put("z", packed.getvalue())
    task = shim.task(inputs={"in/z.zip": "z"})
    task["inputs"][0]["decompress"] = True
    assert shim.invoke(COPY, task) == 0
    assert shim.keys() == ["out/one/in/a", "out/one/in/b/c"]


def test_the_model_comes_before_the_first_task(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is missing ends the shim, and the result of the setup has the reason."""
    monkeypatch.setenv("PROCESSING_SHIM_MODEL", "s3://shim/model.tar.gz")
    monkeypatch.setenv("PROCESSING_SHIM_MODEL_DEST", str(shim.folder / "model"))
    monkeypatch.setenv("PROCESSING_SHIM_RUNTIME_OUTPUT_BUCKET_NAME", "shim")
    monkeypatch.setenv("PROCESSING_SHIM_RUNTIME_OUTPUT_PREFIX", "setup")
    assert shim.invoke(COPY) == 1
    result = json.loads(shim.body("setup/.sagemaker_shim/runtime_setup_result.json"))
    assert result["return_code"] == 1
    assert result["user_safe_error_message"].startswith("Could not set up model")


SETUPS = {
    "a model that does not exist": ({"MODEL": "s3://shim/absent.tar"}, "Could not set up model"),
    "a user who does not exist": ({"USER": "no-such-user"}, "The image has no user 'no-such-user'"),
    "a server that ends": ({"API_METHOD": "invoke"}, "Could not start server"),
}


@pytest.mark.parametrize("case", SETUPS)
def test_tasks_have_results_if_the_setup_fails(case: str, shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task runs after a failed setup, and the result of each has the reason."""
    variables, reason = SETUPS[case]
    monkeypatch.setenv("PROCESSING_SHIM_MODEL_DEST", str(shim.folder / "model"))
    for name, value in variables.items():
        monkeypatch.setenv(f"PROCESSING_SHIM_{name}", value)
    assert shim.invoke("raise SystemExit(1)", shim.task("a"), shim.task("b")) == 1
    for pk in ("a", "b"):
        result = shim.result(pk)
        assert (result["return_code"], result["failed_phase"]) == (1, "setup")
        assert result["user_safe_error_message"].startswith(reason)


def test_a_name_that_is_not_utf_8_fails_its_file_alone(shim: Any) -> None:
    """A file whose name cannot be a key fails the upload by its name; the others are uploaded."""
    source = "import os; os.chdir(os.environ['OUT']); open(b'\\xff', 'w').close(); open('x', 'w').close()"
    assert shim.invoke(source) == 1
    assert shim.keys() == ["out/one/x"]
    assert "'\\udcff'" in shim.result()["user_safe_error_message"]


def test_a_result_that_cannot_be_stored_fails_its_task(shim: Any) -> None:
    """A bucket that does not exist is the reason of a failure, not a traceback."""
    done = shim.runner("pass").run(parse_task(json.dumps(shim.task(output_bucket_name="absent"))))
    assert done.result.return_code == 1
    assert "absent" in json.loads(done.body)["user_safe_error_message"]


def test_a_log_without_a_reader_ends_no_task(shim: Any, tmp_path: Path) -> None:
    """A closed log does not end a task."""
    with (tmp_path / "log").open("w") as closed:
        pass
    done = shim.runner("print(1)", Log(stdout=closed, stderr=closed)).run(parse_task(json.dumps(shim.task())))
    assert done.result.return_code == 0


def test_run_needs_no_task_and_no_s3(shim: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` runs a program with the folders as they are, and exits with its code."""
    shim.input.mkdir()
    (shim.input / "x").write_text("here")
    source = "import os, sys; print(open(os.environ['IN'] + '/x').read()); sys.exit(3)"
    assert main(["run", "--plain", "--", sys.executable, "-c", source]) == 3
    assert capsys.readouterr().out == "here\n"


def test_a_stop_ends_the_program_and_leaves_results(shim: Any, local_session: LocalSession, tmp_path: Path) -> None:
    """SIGTERM ends the program, its outputs and its result are stored, and the tasks after it have results."""
    os.mkfifo(tmp_path / "started")
    source = f"""
import os, time
open(os.environ["OUT"] + "/part", "w").close()
with open({str(tmp_path / "started")!r}, "w") as pipe:
    pipe.write(str(os.getpid()))
time.sleep(60)
"""
    with Server(local_session.engine) as server:
        tasks = json.dumps([shim.task("a"), shim.task("b")])
        command = [sys.executable, "-m", "processing.container.shim", "invoke", "-t", tasks, "--", sys.executable, "-c"]
        environment = {**os.environ, **server.environment()}
        with subprocess.Popen([*command, source], env=environment, stdout=subprocess.DEVNULL) as process:
            pid = int((tmp_path / "started").read_text())
            process.terminate()
            assert process.wait(timeout=60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert shim.result("a")["user_safe_error_message"] == "The shim was stopped"
    assert shim.keys() == ["out/a/part"]
    assert shim.result("b")["failed_phase"] == "setup"
