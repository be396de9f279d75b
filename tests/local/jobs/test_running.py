"""Running jobs: their files, their outputs and their logs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.jobs.output_files import regular_files
from processing.local.stores.job_kinds import PROCESSING

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT_LIMIT = 262_144 - 26


def test_a_job_reads_its_input_and_its_output_is_uploaded(every_sandbox: Any) -> None:
    """Inputs exist before the program starts, and its outputs are in S3 when the job is completed."""
    jobs = every_sandbox
    jobs.objects.put("data", "in/a.csv", b"1")
    jobs.objects.put("data", "in/sub/b.csv", b"2")
    script = (
        "import pathlib, sys\n"
        "source, target = map(pathlib.Path, sys.argv[1:])\n"
        "names = sorted(p.relative_to(source).as_posix() for p in source.rglob('*') if p.is_file())\n"
        "(target / 'sub').mkdir()\n"
        "(target / 'sub/names.txt').write_text(' '.join(names))\n"
        "(target / 'link').symlink_to('/etc/passwd')\n"
        "print('done', file=sys.stderr)\n"
    )
    described = jobs.run(
        script,
        name="reads",
        arguments=["/opt/ml/processing/input", "/opt/ml/processing/output"],
        inputs={"input": "s3://data/in"},
        outputs={"output": "s3://data/out/"},
    )
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.keys("out") == ["out/sub/names.txt"]
    assert jobs.text("out/sub/names.txt") == "a.csv sub/b.csv"
    assert jobs.lines("reads") == ["done"]
    assert described["CreationTime"] <= described["ProcessingStartTime"] <= described["ProcessingEndTime"]
    jobs.check_nothing_left()


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_a_job_sees_its_own_opt_ml(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """The configuration files are at the paths of the container contract, and every host has its name."""
    jobs = make_jobs(sandbox=sandbox)
    script = (
        "import json, socket\n"
        "print(json.dumps([json.load(open('/opt/ml/config/' + n + '.json')) "
        "for n in ('resourceconfig', 'processingjobconfig')]))\n"
        "print(socket.gethostname(), socket.gethostbyname('algo-2'))\n"
    )
    described = jobs.run(script, name="contract", hosts=2, Environment={"A": "b"})
    assert described["ProcessingJobStatus"] == "Completed", described
    first, second = jobs.lines("contract", host=2)
    resources, config = json.loads(first)
    assert resources == {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    assert config["Environment"] == {"A": "b"}
    assert config["AppSpecification"]["ContainerArguments"] is None
    assert config["ProcessingInputs"][0]["S3Input"]["S3DownloadMode"] == "StartOfJob"
    assert second == "algo-2 127.0.1.2"


def test_a_file_that_the_machine_lends_is_used_in_place(every_sandbox: Any, tmp_path: Path) -> None:
    """`file://` directories and files are read and written in place, with any names."""
    jobs = every_sandbox
    source = tmp_path / "in put%20"
    source.mkdir()
    (source / "x.txt").write_text("from here")
    single = tmp_path / "one.json"
    single.write_text("{}")
    target = tmp_path / "re%20sult"
    script = (
        "import os, sys\n"
        "d, f, o = sys.argv[1:]\n"
        "open(o + '/copy.txt', 'w').write(open(d + '/x.txt').read() + ' ' + ' '.join(os.listdir(f)))\n"
    )
    described = jobs.run(
        script,
        arguments=[f"/opt/ml/processing/{name}" for name in ("dir", "file", "out")],
        inputs={"dir": f"file://{source}", "file": single.as_uri()},
        outputs={"out": f"file://{target}"},
    )
    assert described["ProcessingJobStatus"] == "Completed", described
    assert (target / "copy.txt").read_text() == "from here one.json"
    assert sorted(path.name for path in source.iterdir()) == ["x.txt"]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_inputs_in_place_cannot_be_written(make_jobs: Callable[..., Any], tmp_path: Path, sandbox: str) -> None:
    """An input in place is read-only in the job."""
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "x").write_text("kept")
    jobs = make_jobs(sandbox=sandbox)
    script = "open('/opt/ml/processing/in/x', 'w')\n"
    described = jobs.run(script, inputs={"in": (tmp_path / "lent").as_uri()})
    assert described["ProcessingJobStatus"] == "Failed"
    assert (tmp_path / "lent" / "x").read_text() == "kept"


def test_inputs_within_one_another_are_all_seen(every_sandbox: Any, tmp_path: Path) -> None:
    """A directory of this machine around another input is copied, so that neither hides the other, nor is changed."""
    jobs = every_sandbox
    for name in ("outer/sub", "inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(name)
    script = (
        "import pathlib, sys\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "print(*sorted(p.relative_to(root).as_posix() for p in root.rglob('*') if p.is_file()))\n"
        "(root / 'sub/file').write_text('changed')\n"
        "(root / 'out/new').write_text('new')\n"
    )
    described = jobs.run(
        script,
        name="nested",
        arguments=["/opt/ml/processing/code"],
        inputs={"code/inner": (tmp_path / "inner").as_uri()} | {"code/": (tmp_path / "outer").as_uri()},
        outputs={"code/out": "s3://data/out"},
    )
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("nested") == ["inner/file script.py sub/file"]
    assert jobs.keys("out/") == ["out/new"]
    assert (tmp_path / "outer/sub/file").read_text() == "outer/sub"
    assert not (tmp_path / "outer/inner").exists()


def test_an_output_behind_a_link_is_left_out(jobs: Any, tmp_path: Path) -> None:
    """A link on the way to an output's directory leads to no upload, as a link in it does not."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "file").write_text("x")
    script = (
        "import os, shutil, sys\n"
        "shutil.rmtree('/opt/ml/processing/out')\n"
        "os.symlink(sys.argv[1], '/opt/ml/processing/out')\n"
    )
    arguments = [str(tmp_path / "elsewhere")]
    described = jobs.run(script, arguments=arguments, outputs={"out/deep": "s3://data/out", "out": "s3://data/out"})
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.keys("out/") == []


def test_a_file_that_becomes_a_link_while_it_is_uploaded_is_not_followed(tmp_path: Path) -> None:
    """Neither the file itself, nor the directory that it was found in."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("of this machine")
    (tmp_path / "ml/out/sub").mkdir(parents=True)
    (tmp_path / "ml/out/file").write_text("of the job")
    (tmp_path / "ml/out/sub/file").write_text("of the job")
    files = regular_files(str(tmp_path / "ml"), str(tmp_path / "ml/out"))
    first = next(files)
    (tmp_path / "ml/out/file").unlink()
    (tmp_path / "ml/out/file").symlink_to(tmp_path / "elsewhere/file")
    with pytest.raises(OSError, match="symbolic links"):
        first.open()
    second = next(files)
    (tmp_path / "ml/out/sub").rename(tmp_path / "ml/out/gone")
    (tmp_path / "ml/out/sub").symlink_to(tmp_path / "elsewhere")
    with second.open() as body:
        assert (second.name, body.read()) == ("sub/file", b"of the job")


def test_a_failing_program_gives_its_exit_code_and_its_outputs(every_sandbox: Any) -> None:
    """A non-zero exit fails the job with the exit code in the reason; message and outputs are kept all the same."""
    jobs = every_sandbox
    script = (
        "import os, sys\n"
        "os.makedirs(sys.argv[2], exist_ok=True)\n"
        "open(sys.argv[1] + '/partial', 'w').write('x')\n"
        "open(sys.argv[2] + '/message', 'w').write('no rows')\n"
        "sys.exit(3)\n"
    )
    described = jobs.run(
        script, arguments=["/opt/ml/processing/out", "/opt/ml/output"], outputs={"out": "s3://data/out"}
    )
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == "AlgorithmError: See job logs for more information, exit code: 3"
    assert described["ExitMessage"] == "no rows"
    assert jobs.keys("out") == ["out/partial"]


def test_a_program_ended_by_a_signal_has_the_shells_exit_code(own_programs: Any) -> None:
    """A program that is killed, for example because memory ran out, ends with 128 plus the signal."""
    described = own_programs.run("import os\nos.kill(os.getpid(), 9)\n")
    assert described["FailureReason"].endswith("exit code: 137")


def test_a_message_that_is_not_utf8_fails_the_job(jobs: Any) -> None:
    """The exit message has to be text."""
    described = jobs.run("open('/opt/ml/output/message', 'wb').write(b'\\xff\\xfe')\n")
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: the exit message")


def test_the_exit_messages_of_all_hosts_are_joined(jobs: Any) -> None:
    """ExitMessage holds the hosts' messages one after another, 1,024 characters at most."""
    script = (
        "import json\n"
        "host = json.load(open('/opt/ml/config/resourceconfig.json'))['current_host']\n"
        "open('/opt/ml/output/message', 'w').write(host + '.' * 700)\n"
    )
    message = jobs.run(script, hosts=2)["ExitMessage"]
    assert len(message) == 1024
    assert message.startswith("algo-1...")
    assert ".algo-2." in message


def test_an_input_without_objects_fails_the_job(jobs: Any) -> None:
    """A prefix that matches nothing is the client's error, and the reason names it."""
    described = jobs.run("pass", inputs={"in": "s3://data/nothing/"})
    assert described["ProcessingJobStatus"] == "Failed"
    assert 'No S3 objects found under S3 URL "s3://data/nothing/"' in described["FailureReason"]
    described = jobs.run("pass", inputs={"in": "s3://absent/x"})
    assert described["FailureReason"].startswith("ClientError: The specified bucket does not exist")


def test_a_manifest_names_the_objects(jobs: Any) -> None:
    """Of a ManifestFile, exactly the named objects arrive, under their names."""
    for key in ("a/1.txt", "a/b/2.txt", "a/3.txt"):
        jobs.objects.put("data", key, b"x")
    jobs.objects.put("data", "manifest", json.dumps([{"prefix": "s3://data/a/"}, "1.txt", "b/2.txt"]).encode())
    script = "import os\nprint([(sorted(f)) for _, _, f in os.walk('/opt/ml/processing/in')])\n"
    source = {"S3Uri": "s3://data/manifest", "S3DataType": "ManifestFile"}
    described = jobs.run(script, name="manifest", inputs={"in": source})
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("manifest") == ["[['1.txt'], ['2.txt']]"]
    jobs.objects.put("data", "broken", b"{}")
    broken = {"S3Uri": "s3://data/broken", "S3DataType": "ManifestFile"}
    assert "manifest s3://data/broken" in jobs.run("pass", inputs={"in": broken})["FailureReason"]


@pytest.mark.parametrize(
    "manifest",
    [
        [{"prefix": "s3://data/a/"}, 5],
        [{"prefix": "s3://data/a/"}, None],
        [{"prefix": 5}, "1.txt"],
        [{"prefix": "s3://data/a/"}, "\ud800"],
        [{"prefix": "s3://data/a/"}, "../1.txt"],
        [],
    ],
)
def test_a_manifest_that_says_something_else_is_named(jobs: Any, manifest: list[Any]) -> None:
    """It is the user's error, and the reason names the manifest."""
    jobs.objects.put("data", "manifest", json.dumps(manifest).encode())
    source = {"S3Uri": "s3://data/manifest", "S3DataType": "ManifestFile"}
    reason = jobs.run("pass", inputs={"in": source})["FailureReason"]
    assert reason.startswith("ClientError: the manifest s3://data/manifest is not a list"), reason


def test_shards_are_disjoint_and_complete(jobs: Any) -> None:
    """Under ShardedByS3Key each object goes to exactly one host."""
    for number in range(5):
        jobs.objects.put("data", f"in/{number}", b"x")
    script = "import os\nprint(' '.join(sorted(os.listdir('/opt/ml/processing/in'))))\n"
    source = {"S3Uri": "s3://data/in/", "S3DataDistributionType": "ShardedByS3Key"}
    described = jobs.run(script, name="shards", hosts=2, inputs={"in": source})
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("shards", host=1) == ["0 2 4"]
    assert jobs.lines("shards", host=2) == ["1 3"]


def test_a_directory_of_the_machine_is_sharded_by_copies(every_sandbox: Any, tmp_path: Path) -> None:
    """A `file://` source under ShardedByS3Key gives each host its files, below the same names."""
    jobs = every_sandbox
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tmp_path / "in" / name).write_text(name)
    script = (
        "import os, sys\n"
        "root = sys.argv[1]\n"
        "print(sorted(os.path.relpath(os.path.join(d, n), root) for d, _, f in os.walk(root) for n in f))\n"
    )
    source = {"S3Uri": (tmp_path / "in").as_uri(), "S3DataDistributionType": "ShardedByS3Key"}
    described = jobs.run(script, name="copies", hosts=2, inputs={"in": source}, arguments=["/opt/ml/processing/in"])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("copies", host=1) == ["['a', 'sub/c']"]
    assert jobs.lines("copies", host=2) == ["['b']"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:///no/such/directory", "there is no file or directory /no/such/directory"),
        ("s3://data/up/", "leads out"),
    ],
)
def test_an_input_that_cannot_be_had_is_named(jobs: Any, uri: str, words: str) -> None:
    """The reason is the client's error and names the input."""
    jobs.objects.put("data", "up/../../x", b"x")
    described = jobs.run("pass", inputs={"in": uri})
    assert described["FailureReason"].startswith("ClientError: ")
    assert words in described["FailureReason"]


def test_output_of_any_kind_is_logged_whole(every_sandbox: Any) -> None:
    """Invalid UTF-8 is replaced, NUL kept, empty lines are lines, and a last line needs no newline."""
    jobs = every_sandbox
    script = (
        "import sys\n"
        "sys.stdout.buffer.write(b'bad \\xff\\xfe end\\n' + b'nul \\0 kept\\n' + b'\\n' + 'last \\u00e9'.encode())\n"
    )
    described = jobs.run(script, name="bytes")
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("bytes") == ["bad \ufffd\ufffd end", "nul \0 kept", " ", "last é"]


def test_a_job_without_a_line_has_its_log_group(jobs: Any) -> None:
    """A client that reads the log finds the group, so it does not wait for one that is late."""
    jobs.run("pass", name="silent")
    assert jobs.logs.group(PROCESSING.log_group).name == PROCESSING.log_group
    jobs.logs.delete_group(PROCESSING.log_group)
    jobs.run("pass", name="again")
    assert jobs.logs.group(PROCESSING.log_group).name == PROCESSING.log_group


def test_a_line_of_ten_megabytes_is_split_without_loss(jobs: Any) -> None:
    """A line longer than an event becomes several, cut between characters."""
    script = "print('\\u00e9' * 5_000_000)\nprint('after')\n"
    assert jobs.run(script, name="long")["ProcessingJobStatus"] == "Completed"
    lines = jobs.lines("long")
    assert lines[-1] == "after"
    assert "".join(lines[:-1]) == "é" * 5_000_000
    assert max(len(line.encode()) for line in lines) <= EVENT_LIMIT


def test_lines_arrive_while_the_job_runs(jobs: Any) -> None:
    """A line that was printed can be read before the program ends."""
    name = jobs.create("import time\nprint('early')\ntime.sleep(60)\n")
    jobs.until(lambda: jobs.lines(name) == ["early"])
    assert jobs.describe(name)["ProcessingJobStatus"] == "InProgress"
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"


def test_a_child_that_holds_stdout_does_not_hold_the_end(every_sandbox: Any) -> None:
    """The job ends with its program; a child that goes on is killed, also one in a session of its own."""
    jobs = every_sandbox
    inner, outer = (f"1234.{os.getpid()}{digit}" for digit in "12")  # other tests may run beside this one
    script = (
        "import subprocess, sys\n"
        "for own, seconds in enumerate(sys.argv[1:]):\n"
        "    subprocess.Popen(['sleep', seconds], start_new_session=bool(own))\n"
        "print('over')\n"
    )
    described = jobs.run(script, name=f"child-{os.getpid()}", arguments=[inner, outer])
    assert described["ProcessingJobStatus"] == "Completed"
    assert jobs.lines(f"child-{os.getpid()}") == ["over"]
    gone = [inner] if jobs.settings.sandbox == "rewriting" else [inner, outer]
    jobs.until(lambda: not any(_running("sleep", seconds) for seconds in gone))
    for pid in _running("sleep", outer):
        os.kill(pid, 9)


def test_credentials_of_the_machine_are_out_of_sight(
    every_sandbox: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither variables nor files with the machine's credentials reach a job."""
    jobs = every_sandbox
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("secret-in-home")
    (tmp_path / "elsewhere").write_text("secret-in-file")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-in-variable")
    monkeypatch.setenv("DATABASE_PASSWORD", "secret-of-another-kind")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "elsewhere"))
    script = (
        "import os, sys\n"
        "print(dict(os.environ))\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(open(path).read())\n"
        "    except OSError as error:\n"
        "        print(type(error).__name__)\n"
    )
    files = [str(tmp_path / ".aws" / "credentials"), str(tmp_path / "elsewhere")]
    name = jobs.create(script, arguments=[] if jobs.settings.sandbox == "rewriting" else files)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    said = "\n".join(jobs.lines(name))
    assert "secret" not in said
    assert "'AWS_EC2_METADATA_DISABLED': 'true'" in said
    assert f"'HOME': '{tmp_path}'" not in said


def test_the_environment_of_the_request_wins(jobs: Any) -> None:
    """The program sees the request's variables."""
    script = "import os\nprint(os.environ['AWS_REGION'], os.environ['X'], os.environ['PROCESSING_JOB_ARN'])\n"
    name = jobs.create(script, Environment={"AWS_REGION": "eu-west-1", "X": "a b"})
    jobs.wait(name)
    assert jobs.lines(name) == [f"eu-west-1 a b arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"]


def test_python_means_the_chosen_interpreter(jobs: Any) -> None:
    """`python3` is the interpreter of the settings, also for programs that look on the PATH."""
    script = (
        "import subprocess, sys\n"
        "print(sys.executable)\n"
        "print(subprocess.check_output(['/usr/bin/env', 'python', '-c', 'import sys; print(sys.prefix)']).decode())\n"
    )
    name = jobs.create(script)
    jobs.wait(name)
    first, second, *_ = jobs.lines(name)
    assert first == sys.executable
    assert second == sys.prefix


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_network_isolation_leaves_the_loopback_only(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """With EnableNetworkIsolation there is no interface but `lo`, and that is up."""
    jobs = make_jobs(sandbox=sandbox)
    script = (
        "import socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname())\n"
        "print('connected')\n"
    )
    name = jobs.create(script, NetworkConfig={"EnableNetworkIsolation": True})
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
    assert jobs.lines(name)[-1] == "connected"
    assert "eth" not in jobs.lines(name)[0]


@pytest.mark.parametrize(
    ("entrypoint", "code"),
    [(["no-such-program"], 127), (["/opt/ml/processing/code/absent"], 127), (["/opt/ml/processing/code"], 126)],
)
def test_an_entrypoint_that_cannot_start_is_named(every_sandbox: Any, entrypoint: list[str], code: int) -> None:
    """The reason names the entrypoint, with the exit code that a shell would give."""
    described = every_sandbox.run("pass", entrypoint=entrypoint)
    assert described["ProcessingJobStatus"] == "Failed"
    assert entrypoint[0] in described["FailureReason"]
    assert described["FailureReason"].endswith(f"exit code: {code}")


def test_files_of_a_continuous_output_arrive_early(jobs: Any) -> None:
    """A Continuous output is uploaded while the job runs, and completed at its end."""
    script = "import time\nopen('/opt/ml/processing/out/first', 'w').write('1')\ntime.sleep(60)\n"
    name = jobs.create(script, outputs={"out": "s3://data/flow"}, upload="Continuous")
    jobs.until(lambda: jobs.keys("flow") == ["flow/first"])
    assert jobs.describe(name)["ProcessingJobStatus"] == "InProgress"
    jobs.stop(name)
    jobs.wait(name)


def test_an_output_that_cannot_be_uploaded_fails_the_job(jobs: Any) -> None:
    """A bucket that does not exist is named in the reason."""
    script = "open('/opt/ml/processing/out/x', 'w').write('1')\n"
    described = jobs.run(script, outputs={"out": "s3://no-such-bucket/x"})
    assert described["ProcessingJobStatus"] == "Failed"
    assert "s3://no-such-bucket/x" in described["FailureReason"]


def test_sixteen_jobs_run_at_once(jobs: Any) -> None:
    """Jobs of one folder do not hinder each other: every one is completed with its own lines."""
    names = [jobs.create(f"print({number})\n", name=f"many-{number}") for number in range(16)]
    for number, name in enumerate(names):
        assert jobs.wait(name)["ProcessingJobStatus"] == "Completed"
        assert jobs.lines(name) == [str(number)]


def _running(*command: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if [word.decode(errors="replace") for word in words[:-1]] == list(command):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("sandbox", ["bubblewrap", "namespaces"])
def test_the_temporary_directory_has_a_short_name(make_jobs: Callable[..., Any], sandbox: str) -> None:
    """Programs put Unix sockets into it, as multiprocessing does, whose paths have 107 bytes at most."""
    script = (
        "import multiprocessing, tempfile\n"
        "if __name__ == '__main__':\n"
        "    print(tempfile.gettempdir())\n"
        "    print(multiprocessing.Manager().dict(a=1))\n"
    )
    jobs = make_jobs(sandbox=sandbox)
    name = jobs.create(script, name="a-job-with-a-name-as-long-as-those-that-are-generated-2026")
    assert jobs.wait(name)["ProcessingJobStatus"] == "Completed", jobs.lines(name)
    assert jobs.lines(name) == ["/opt/ml/tmp", "{'a': 1}"]
