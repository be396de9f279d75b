"""The engine on a full disk: reads answer, cleaning makes room, and then jobs run again. The disk is a small tmpfs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from processing.local.reserve import FILE, RESERVE_BYTES, keep_reserve, released_reserve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a small file system of its own")

COMMON = """
import contextlib, gc, json, os, pathlib, subprocess, sys, warnings
from processing import LocalSession, ProcessingError, ScriptProcessor
place = pathlib.Path(sys.argv[1])
home = place / "engine"
report = {}


def free():
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize


def fill():
    with open(place / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def run(*command):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr]


READ = '''
import json, sys
from processing import LocalSession
client = LocalSession(sys.argv[1]).boto_session.client
print(json.dumps([
    len(client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"]),
    len(client("s3").list_objects_v2(Bucket="data").get("Contents", ())),
    len(client("logs").describe_log_groups()["logGroups"]),
    len(client("cloudwatch").list_metrics()["Metrics"]),
]))
'''


def clean():
    return run("-m", "processing.local", "clean", "--home", home, "--older-than", "0s")


def make_processor(code):
    (place / "script.py").write_text(code)
    session = LocalSession(home, tick=0.02, grace=0.5)
    return ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )
"""

FILLED = """
kind, kept = sys.argv[2:]
make_processor("print('again')")  # while there is room for the script
session = LocalSession(home)
session.engine.check()
engine = session.engine
engine.objects.create_bucket("data")
if kept == "without":
    (home / "reserve").unlink()
writes = {
    "logs": lambda n: engine.logs.append("group", f"stream-{n // 100}", [(n, "x" * 200)] * 50),
    "objects": lambda n: engine.objects.put("data", f"k{n}", bytes(100_000)),
    "small objects": lambda n: engine.objects.put("data", f"k{n}" + "y" * 500, b"x"),
    "metrics": lambda n: engine.metrics.append(
        f"job{n}", [(1.7e9 + n * 1000 + m, {"CPUUtilization": 1.0}) for m in range(500)]
    ),
}
with contextlib.suppress(ProcessingError):
    for number in range(1_000_000):
        writes[kind](number)
for store in (engine.objects.database, engine.logs._database, engine.metrics._database):
    store.close()
fill()
report["free"] = free()
report["read"] = run("-c", READ, home)
report["cleaned"] = clean()
report["freed"] = free()
report["reserve"] = (home / "reserve").exists()
processor = make_processor("print('again')")
report["lines"] = [event.message for event in processor.run(str(place / "script.py"), logs=False).logs()]
print(json.dumps(report))
"""

JOB = """
processor = make_processor("for number in range(200_000):\\n    print('line', number, 'x' * 200)\\n")
session = processor.sagemaker_session
LocalSession(home).engine.objects.create_bucket("data")
job = processor.run(str(place / "script.py"), wait=False)
(place / "script.py").write_text("print('again')")
try:
    job.wait(logs=False)
except ProcessingError as error:
    report["error"] = [type(error).__name__, str(error)]
report["status"] = job.describe()["ProcessingJobStatus"]
fill()
report["read"] = run("-c", READ, home)
report["line"] = next(iter(job.logs())).message[:6]
report["cleaned"] = clean()
report["freed"] = free()
report["lines"] = [event.message for event in processor.run(str(place / "script.py"), logs=False).logs()]
print(json.dumps(report))
"""


def on_small_disk(place: Path, megabytes: int, code: str, *arguments: str) -> dict[str, Any]:
    """Run a program with a tmpfs at `place` and return the JSON that it prints."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = [shutil.which("unshare") or "unshare", *user, "-m"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a file system of its own")
    script = f'mount -t tmpfs -o size={megabytes}m none "$1" && exec "$2" -c "$3" "$1" "$4" "$5"'
    command = [*unshare, "sh", "-c", script, "sh", str(place), sys.executable, COMMON + code, *arguments, "", ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["logs", "objects", "small objects", "metrics"])
def test_cleaning_makes_room_where_nothing_is_free(tmp_path: Path, kind: str) -> None:
    """New processes read and clean although no byte is free. Then a job runs."""
    found = on_small_disk(tmp_path, 12, FILLED, kind, "with")
    assert found["free"] == 0
    code, output, errors = found["read"]
    assert (code, errors) == (0, "")
    assert sum(json.loads(output)) > 0
    code, output, errors = found["cleaned"]
    assert (code, errors) == (0, "")
    assert output.startswith("removed ")
    assert found["freed"] > 4 << 20
    assert found["reserve"]
    assert found["lines"] == ["again"]


def test_bodies_of_objects_make_room_without_a_reserve(tmp_path: Path) -> None:
    """A folder of an older version has no reserve: the files go before their rows, whose deletion needs space."""
    found = on_small_disk(tmp_path, 12, FILLED, "objects", "without")
    assert (found["free"], found["read"][0], found["cleaned"][0]) == (0, 0, 0)
    assert found["reserve"]
    assert found["lines"] == ["again"]


def test_a_job_that_fills_the_disk_with_lines(tmp_path: Path) -> None:
    """It fails with the reason, its status and lines can be read, cleaning makes room, and the next job runs."""
    found = on_small_disk(tmp_path, 16, JOB)
    kind, text = found["error"]
    assert kind == "JobFailedError"
    assert "There is no space left on the disk" in text
    assert found["status"] == "Failed"
    assert found["line"] == "line 0"
    code, output, errors = found["read"]
    assert (code, errors, json.loads(output)[0]) == (0, "", 1)
    assert found["cleaned"][0] == 0, found["cleaned"]
    assert found["freed"] > 8 << 20
    assert found["lines"] == ["again"]


def test_the_reserve_stays_while_there_is_plenty_of_space(tmp_path: Path) -> None:
    """It is made once, takes its space, and comes back after cleaning."""
    keep_reserve(tmp_path)
    before = (tmp_path / FILE).stat()
    assert before.st_size == RESERVE_BYTES
    with released_reserve(tmp_path):
        assert (tmp_path / FILE).stat().st_ino == before.st_ino
    (tmp_path / FILE).unlink()
    with released_reserve(tmp_path):
        assert not (tmp_path / FILE).exists()
    assert (tmp_path / FILE).stat().st_size == RESERVE_BYTES
