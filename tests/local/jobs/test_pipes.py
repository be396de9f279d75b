"""Inputs in Pipe mode: named pipes, fed while the job reads."""

from __future__ import annotations

import gzip
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.jobs.data import InputFile, PipeInput
from processing.local.jobs.pipes import Pipes

if TYPE_CHECKING:
    from pathlib import Path

READ = "import sys\nprint(open(sys.argv[1] + '_0').read())\n"
PATH = "/opt/ml/processing/in"


def _pipe(uri: str, **others: Any) -> dict[str, Any]:
    return {"S3Uri": uri, "S3InputMode": "Pipe", **others}


def _put(jobs: Any, **bodies: bytes) -> None:
    for name, body in bodies.items():
        jobs.objects.put("data", f"in/{name}", body)


def test_objects_come_through_the_pipe_one_after_another(every_sandbox: Any) -> None:
    """All objects of the prefix are one stream, in the order of their keys; nothing is copied."""
    jobs = every_sandbox
    _put(jobs, b=b"2\n", a=b"1\n", c=b"3\n")
    script = READ + "import os\nprint(sorted(os.listdir(os.path.dirname(sys.argv[1]))))\n"
    described = jobs.run(script, name="pipe", inputs={"in": _pipe("s3://data/in/")}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("pipe")[:3] == ["1", "2", "3"]
    assert "'in_0'" not in jobs.lines("pipe")[-1]


def test_each_pass_has_a_pipe_of_its_own(every_sandbox: Any) -> None:
    """The next pipe is there when the one before has been read to its end, and the one before is gone."""
    jobs = every_sandbox
    _put(jobs, a=b"x" * 300_000)
    script = (
        "import os, sys\n"
        "for epoch in range(3):\n"
        "    print(len(open(f'{sys.argv[1]}_{epoch}').read()), os.path.exists(f'{sys.argv[1]}_{epoch + 1}'))\n"
        "print(os.path.exists(sys.argv[1] + '_0'))\n"
    )
    described = jobs.run(script, name="epochs", inputs={"in": _pipe("s3://data/in/")}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("epochs") == ["300000 True"] * 3 + ["False"]


def test_a_reader_may_close_early(jobs: Any) -> None:
    """The rest of the data is dropped, and the next pass begins anew."""
    _put(jobs, a=b"first" + b"x" * 3_000_000)
    script = (
        "import os, sys, time\n"
        "with open(sys.argv[1] + '_0', 'rb') as pipe:\n"
        "    print(pipe.read(5))\n"
        "while not os.path.exists(sys.argv[1] + '_1'):\n"
        "    time.sleep(0.001)\n"
        "with open(sys.argv[1] + '_1', 'rb') as pipe:\n"
        "    print(pipe.read(5), len(pipe.read()))\n"
    )
    described = jobs.run(script, name="early", inputs={"in": _pipe("s3://data/in/")}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("early") == ["b'first'", "b'first' 3000000"]


def test_a_pipe_that_nobody_opens_holds_nothing(jobs: Any) -> None:
    """The job ends as if the input were not there."""
    _put(jobs, a=b"x")
    described = jobs.run("print('over')", name="ignored", inputs={"in": _pipe("s3://data/in/")})
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("ignored") == ["over"]


def test_a_job_is_stopped_while_it_reads(every_sandbox: Any) -> None:
    """A reader that sits on an open pipe, with the feeder waiting, ends like any other program."""
    jobs = every_sandbox
    _put(jobs, a=b"x" * 8_000_000)
    script = (
        "import sys, time\n"
        "pipe = open(sys.argv[1] + '_0', 'rb')\n"
        "pipe.read(1)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    name = jobs.create(script, inputs={"in": _pipe("s3://data/in/")}, arguments=[PATH])
    jobs.until(lambda: jobs.lines(name) == ["up"])
    jobs.stop(name)
    assert jobs.wait(name)["ProcessingJobStatus"] == "Stopped"
    jobs.check_nothing_left()


def test_gzip_is_inflated_object_by_object(jobs: Any) -> None:
    """Each object is inflated, also one of several members and an empty one, and the results follow each other."""
    _put(jobs, a=gzip.compress(b"1\n") + gzip.compress(b"2\n"), b=b"", c=gzip.compress(b"3\n"))
    source = _pipe("s3://data/in/", S3CompressionType="Gzip")
    described = jobs.run(READ, name="gzip", inputs={"in": source}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("gzip")[:3] == ["1", "2", "3"]


@pytest.mark.parametrize("body", [b"plain text", gzip.compress(os.urandom(5000))[:3000]])
def test_what_is_not_gzip_fails_the_job(jobs: Any, body: bytes) -> None:
    """The reason names the object; the program does not take the break for the end of the data."""
    _put(jobs, a=body)
    source = _pipe("s3://data/in/", S3CompressionType="Gzip")
    described = jobs.run(READ.replace(".read()", ".buffer.read()"), inputs={"in": source}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: in/a cannot be inflated as gzip")


def test_an_object_that_has_gone_fails_the_job(jobs: Any) -> None:
    """An object that is deleted before its turn is the client's error, and the reason names it."""
    _put(jobs, a=b"1", b=b"2")
    script = (
        "import os, sys, time\n"
        "print('up')\n"
        "while not os.path.exists(sys.argv[2] + '/go'):\n"
        "    time.sleep(0.001)\n" + READ
    )
    name = jobs.create(
        script,
        inputs={"in": _pipe("s3://data/in/"), "gate": "s3://data/code/"},
        arguments=[PATH, "/opt/ml/processing/gate"],
    )
    jobs.until(lambda: jobs.lines(name) == ["up"])
    jobs.objects.delete("data", "in/b")
    (gate,) = jobs.home.glob("jobs/*/algo-1/ml/processing/gate")
    (gate / "go").touch()
    described = jobs.wait(name)
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"] == "ClientError: The specified key does not exist. (data/in/b)"


def test_shards_and_manifests_go_through_pipes_too(jobs: Any) -> None:
    """Each host gets its share of the objects; a manifest gives the order itself."""
    _put(jobs, a=b"a", b=b"b", c=b"c")
    jobs.objects.put("data", "manifest", json.dumps([{"prefix": "s3://data/in/"}, "c", "a"]).encode())
    sharded = _pipe("s3://data/in/", S3DataDistributionType="ShardedByS3Key")
    listed = _pipe("s3://data/manifest", S3DataType="ManifestFile")
    script = READ + "print(open(sys.argv[1] + '/deep/er_0').read())\n"
    described = jobs.run(script, name="two", hosts=2, inputs={"in": sharded, "in/deep/er": listed}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("two", host=1) == ["ac", "ca"]
    assert jobs.lines("two", host=2) == ["b", "ca"]


def test_files_of_this_machine_go_through_pipes_too(every_sandbox: Any, tmp_path: Path) -> None:
    """A `file://` source is read where it is, in the order of the paths."""
    jobs = every_sandbox
    (tmp_path / "in/sub").mkdir(parents=True)
    for name in ("b", "a", "sub/c"):
        (tmp_path / "in" / name).write_text(name)
    described = jobs.run(READ, name="local", inputs={"in": _pipe((tmp_path / "in").as_uri())}, arguments=[PATH])
    assert described["ProcessingJobStatus"] == "Completed", described
    assert jobs.lines("local") == ["absub/c"]


def test_a_pipe_without_objects_fails_the_job(jobs: Any) -> None:
    """As in File mode, before the program starts."""
    described = jobs.run("print('never')", name="none", inputs={"in": _pipe("s3://data/nothing/")})
    assert "No S3 objects found" in described["FailureReason"]
    assert jobs.lines("none") == []


def test_a_pipe_whose_place_is_taken_fails_the_job(jobs: Any) -> None:
    """Another input that arrives under the pipe's name is found before the program starts."""
    _put(jobs, a=b"x")
    jobs.objects.put("data", "other/in_0", b"y")
    described = jobs.run("pass", inputs={"all": "s3://data/other/", "all/in": _pipe("s3://data/in/")})
    assert described["FailureReason"].startswith("ClientError: the pipe ")


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """A feeder holds a chunk at a time, however large the object is, inflated or not."""
    import tracemalloc

    big = tmp_path / "big.gz"
    with gzip.open(big, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    pipes = Pipes()
    read = []

    def count() -> None:
        with open(tmp_path / "pipe_0", "rb") as pipe:  # noqa: PTH123 - a path as text
            while chunk := pipe.read(1 << 16):
                read.append(len(chunk))

    tracemalloc.start()
    try:
        pipes.open([PipeInput(str(tmp_path / "pipe"), [InputFile("big", None, str(big))], inflate=True)], None)  # type: ignore[arg-type]
        reader = threading.Thread(target=count)
        reader.start()
        reader.join()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pipes.close()
    assert sum(read) == 64 << 20
    assert peak < 16 << 20
