"""Situations for the shim and for sagemaker-shim 0.8.3: the same tasks, and a short account of each end.

Run as a program, it prints the table of differences for docs/reference/container-shim.md:

    PYTHONPATH=tests/helpers .venv/bin/python tests/helpers/shim_cases.py
"""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from processing import LocalSession
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CLIENTS = Path(os.environ.get("PROCESSING_TEST_CLIENTS", ".venv-clients")).absolute()
THEIRS = CLIENTS / "sagemaker-shim/bin/sagemaker-shim"
OURS = [sys.executable, "-m", "processing.container.shim"]
HEAD = ("situation", "sagemaker-shim 0.8.3", "here")
_RESULT = ".sagemaker_shim/inference_result.json"
_DEADLINE = 120
_VARIABLES = "GRAND_CHALLENGE_COMPONENT_"
_COPY = "import shutil; shutil.copytree(IN, OUT, dirs_exist_ok=True)"


def _zip(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def _tar(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


def _task(pk: str = "a", inputs: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    listed = [{"relative_path": path, "bucket_name": "data", "bucket_key": key} for path, key in (inputs or {}).items()]
    task = {"pk": pk, "inputs": listed, "output_bucket_name": "data", "output_prefix": f"out/{pk}", "timeout": "PT60S"}
    return {**task, **fields}


def _archive_task(key: str, path: str = "in/x.zip") -> dict[str, Any]:
    task = _task(inputs={path: key})
    task["inputs"][0]["decompress"] = True
    return task


@frozen
class Case:
    """One situation.

    Attributes:
        program: a program in Python, which knows its folders as IN and OUT.
        tasks: the tasks; a text in their place is passed as it is.
        variables: variables of the shim, without their prefix.
        entrypoint: the image's entrypoint in place of the program.
        command: the image's command.
        stop: True to send SIGTERM when the program has written `started` beside its folders.
        options: the options of ours; with `--exit-zero` it exits as sagemaker-shim does.
        signature: whether the account tells of signatures; sagemaker-shim signs without a key, too.
    """

    program: str = "pass"
    tasks: Sequence[dict[str, Any]] | str = field(factory=lambda: [_task()])
    variables: Mapping[str, str] = field(factory=dict)
    entrypoint: Any = None
    command: Any = None
    stop: bool = False
    options: Sequence[str] = ("--exit-zero",)
    signature: bool = False


OBJECTS = {
    "a": b"content",
    "two words/ü": b"name",
    "/slash": b"slash",
    "folder.zip": _zip(**{"top/a": "1", "top/b/c": "2", "__MACOSX/x": "3"}),
    "flat.zip": _zip(a="1", b="2"),
    "outside.zip": _zip(**{"../../escaped": "1"}),
    "damaged.zip": b"PK\3\4 damaged",
    "inputs.tar.gz": _tar(a="1"),
    "model.tar.gz": _tar(weights="1"),
    "damaged.tar.gz": b"damaged",
}
_SLOW_END = "open(HERE + '/started', 'w').close(); import time; time.sleep(600)"
CASES: dict[str, Case] = {
    "a task": Case(_COPY, [_task(inputs={"in/a": "a"})]),
    "a name with blanks and umlauts": Case(_COPY, [_task(inputs={"in/x y ü": "two words/ü"})]),
    "two tasks": Case(_COPY, [_task("a", {"x": "a"}), _task("b", {"y": "a"})]),
    "no inputs and no outputs": Case("pass"),
    "empty files and folders": Case("import os; os.makedirs(OUT + '/d/e'); open(OUT + '/d/f', 'w').close()"),
    "lines of stdout and stderr": Case("print('x'); print('y', file=sys.stderr); print('z' * 300, file=sys.stderr)"),
    "more than 100 lines of stderr": Case("for n in range(150): print(n, file=sys.stderr)"),
    "lines of stderr in two tasks": Case("print('line', file=sys.stderr)", [_task("a"), _task("b")]),
    "a program that fails": Case("open(OUT + '/part', 'w').close(); sys.exit(7)"),
    "the exit code after a failure": Case("sys.exit(7)", options=()),
    "a task after a failed one": Case("sys.exit(1)", [_task("a"), _task("b")]),
    "a program that a signal ends": Case("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "output that is not UTF-8": Case("sys.stdout.buffer.write(b'\\xff\\n')"),
    "an input that does not exist": Case(_COPY, [_task(inputs={"x": "absent"})]),
    "`../` in `relative_path`": Case(_COPY, [_task(inputs={"../escaped": "a"})]),
    "a leading `/` in `relative_path`": Case(_COPY, [_task(inputs={"/in/a": "a"})]),
    "a leading `/` in `bucket_key`": Case(_COPY, [_task(inputs={"x": "/slash"})]),
    "`../` in `pk`, with a linked input folder": Case(
        "import os; open(OUT + '/x', 'w').write('inside' if 'linked/' in os.path.realpath(IN) else 'outside')",
        [_task("../p", output_prefix="out/a")],
        {"USE_LINKED_INPUT": "true"},
    ),
    "a linked input folder": Case(
        "import os; open(OUT + '/x', 'w').write(os.path.relpath(os.path.realpath(IN), os.path.realpath(HERE)))",
        [_task(), _task("b")],
        {"USE_LINKED_INPUT": "true"},
    ),
    "a link in the output folder": Case("import os; os.symlink(HERE + '/secret/file', OUT + '/link')"),
    "a program that replaces the output folder by a link": Case(
        "import os; os.rmdir(OUT); os.symlink(HERE + '/secret', OUT)"
    ),
    "a child that outlives the program and holds stdout": Case(
        "import subprocess; subprocess.Popen(['sleep', '4'], start_new_session=True)", [_task(timeout="PT2S")]
    ),
    "a program that exceeds its time": Case("import time; time.sleep(600)", [_task(timeout="PT1S"), _task("b")]),
    # A little more than its reader takes: of a longer line it may log the rest, depending on how the pipe parts it.
    "a line of 66 KB": Case("print('x' * 66_000)"),
    "AWS_SECRET_ACCESS_KEY in the program's environment": Case(
        "import os; open(OUT + '/x', 'w').write(str('AWS_SECRET_ACCESS_KEY' in os.environ))"
    ),
    "variables of Grand Challenge in its environment": Case(
        "import os; open(OUT + '/x', 'w').write(str([n for n in os.environ if n.upper().startswith('GRAND')]))"
    ),
    "a zip file with a common folder": Case(_COPY, [_archive_task("folder.zip")]),
    "a zip file without one": Case(_COPY, [_archive_task("flat.zip")]),
    "a zip file with `../`": Case(_COPY, [_archive_task("outside.zip")]),
    "a damaged zip file": Case(_COPY, [_archive_task("damaged.zip")]),
    "a tar file to decompress": Case(_COPY, [_archive_task("inputs.tar.gz", "in/x.tar.gz")]),
    "a program that does not exist": Case(entrypoint=["/absent"]),
    "a program that may not be executed": Case(entrypoint=["/etc/hostname"]),
    "an entrypoint in the shell form": Case(entrypoint="echo $0 $#; exit 3", command=["ignored"]),
    "a command in the shell form": Case(entrypoint=["/bin/sh", "-c", "exit $#", "0"], command="a b"),
    "a command without an entrypoint": Case(entrypoint=[], command=["/bin/sh", "-c", "exit 5"]),
    "neither entrypoint nor command": Case(entrypoint=[]),
    "a task without `timeout`": Case(tasks=json.dumps([{k: v for k, v in _task().items() if k != "timeout"}])),
    "a comma after the last item": Case(tasks=json.dumps([_task()])[:-2] + ",},]"),
    "one task in place of a list": Case(tasks=json.dumps(_task())),
    "no task": Case(tasks="[]"),
    "no JSON": Case(tasks="{"),
    "a task with an unknown field": Case(tasks=[_task(further=1)]),
    "the ARN of an access point as the bucket": Case(tasks=[_task(output_bucket_name="arn:aws:s3:x")]),
    "a signing key": Case(variables={"SIGNING_KEY_HEX": "c0ffee"}, signature=True),
    "no signing key": Case(signature=True),
    "a model": Case(
        "open(OUT + '/x', 'w').write(open(HERE + '/model/weights').read())",
        variables={"MODEL": "s3://data/model.tar.gz"},
    ),
    "a damaged model": Case(variables={"MODEL": "s3://data/damaged.tar.gz"}),
    "a model that does not exist": Case(variables={"MODEL": "s3://data/absent.tar.gz"}),
    "folders to make and to clean": Case(
        "open(HERE + '/kept/x', 'w').close()",
        variables={"WRITABLE_DIRECTORIES": "{here}/kept", "POST_CLEAN_DIRECTORIES": "{here}/kept"},
    ),
    "no variable for the result of the setup": Case(variables={"RUNTIME_OUTPUT_BUCKET_NAME": ""}),
    "a limit of memory": Case("bytearray(900 << 20)", variables={"MAX_MEMORY_MB": "700"}),
    "a user by number": Case(
        "import os; open(OUT + '/x', 'w').write(f'{os.getuid()}:{os.getgid()} {os.environ[\"HOME\"]}')",
        variables={"USER": "0:0"},
    ),
    "a user who does not exist": Case(variables={"USER": "absent"}),
    "SIGTERM": Case("open(OUT + '/part', 'w').close(); " + _SLOW_END, [_task(), _task("b")], stop=True),
}
"""The situations. All but those in the table of differences end alike."""


class Comparison:
    """A folder and an engine for the situations.

    Args:
        folder: an empty folder, which other users can enter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._session = LocalSession(folder / "engine")
        self._client = self._session.boto_session.client("s3")
        self._client.create_bucket(Bucket="data")
        for key, body in OBJECTS.items():
            self._client.put_object(Bucket="data", Key=key, Body=body)

    def rows(self, names: Sequence[str] = tuple(CASES)) -> Iterator[tuple[str, str, str]]:
        """Yield each situation, and both accounts of its end."""
        with Server(self._session.engine) as server:
            for name in names:
                theirs, ours = (
                    self._account(CASES[name], shim, server.environment()) for shim in ([str(THEIRS)], OURS)
                )
                yield name, theirs, ours

    def _account(self, case: Case, shim: Sequence[str], endpoint: Mapping[str, str]) -> str:
        self._number += 1
        here = self._folder / str(self._number)
        for name in ("output", *(() if case.variables.get("USE_LINKED_INPUT") else ("input",))):
            (here / name).mkdir(parents=True)
        (here / "secret").mkdir()
        (here / "secret/file").write_text("secret")
        for key in self._keys("out/"):
            self._client.delete_object(Bucket="data", Key=key)
        environment = {"PATH": os.environ["PATH"], "HOME": str(here), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        environment |= {**endpoint, "AWS_S3_ENDPOINT_URL": endpoint["AWS_ENDPOINT_URL"], **_variables(case, here)}
        text = case.tasks if isinstance(case.tasks, str) else json.dumps(case.tasks)
        command = [*_confined(), *shim, "invoke", "-t", text, *(case.options if shim is OURS else ())]
        with (
            (here / "log").open("w") as log,
            subprocess.Popen(command, env=environment, cwd=here, stdout=log, stderr=log) as process,
        ):
            if case.stop:
                _wait_for(here / "started", process)
                process.terminate()
            code = process.wait(_DEADLINE)
        return "; ".join([f"exit code {code}", *self._facts(case, here)])

    def _facts(self, case: Case, here: Path) -> Iterator[str]:
        pks = [task["pk"] for task in case.tasks] if not isinstance(case.tasks, str) else ["a"]
        for pk in pks:
            yield self._result(pk, case)
        outputs = {key: self._body(key) for key in self._keys("out/") if ".sagemaker_shim" not in key}
        if outputs:
            shown = [f"`{key[4:]}`" + (f" = {body}" if body else "") for key, body in outputs.items()]
            yield "objects " + ", ".join(shown)
        if (here / "escaped").exists() or (here.parent / "escaped").exists():
            (here / "escaped").unlink(missing_ok=True)
            (here.parent / "escaped").unlink(missing_ok=True)
            yield "a file outside the input folder"
        if case.stop:
            yield from self._stopped(here)
        log = (here / "log").read_text(errors="replace")
        if "x" * 1000 in log or "skipped as it was too long" in log:
            yield "the line is logged" if log.count("x" * 1000) else "the line is not logged"
        if "RUNTIME_OUTPUT_BUCKET_NAME" not in case.variables:
            setup = self._keys("setup/")
            found = json.loads(self._body(setup[0])) if setup else {}
            if found.get("return_code"):
                yield f"setup result {found['return_code']}"
            for key in setup:
                self._client.delete_object(Bucket="data", Key=key)
        if "kept" in str(case.variables):
            yield f"{len(list((here / 'kept').iterdir()))} files in the folder to clean"

    @staticmethod
    def _stopped(here: Path) -> Iterator[str]:
        """Tell whether the program goes on, and end it."""
        for found in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = found.read_bytes()
            except OSError:
                continue
            if str(here).encode() in words and b"time.sleep" in words:
                os.kill(int(found.parent.name), signal.SIGKILL)
                yield "the program goes on"

    def _result(self, pk: str, case: Case) -> str:
        name = pk if "/" not in pk else "a"
        try:
            answer = self._client.get_object(Bucket="data", Key=f"out/{name}/{_RESULT}")
        except self._client.exceptions.NoSuchKey:
            return f"{name}: no result"
        result = json.loads(answer["Body"].read())
        facts = [f"{name}: {result['return_code']}"]
        if result["user_safe_error_message"]:
            facts.append("with a reason")
        lines = result["user_process_last_stderr_lines"]
        if lines:
            shown = [line for line in lines if "Traceback" not in line]
            facts.append(f"{len(lines)} lines of stderr, {shown[0].strip()[:20]!r} to {shown[-1].strip()[:20]!r}")
        if case.signature:
            facts.append("signed" if "signature_hmac_sha256" in answer["Metadata"] else "not signed")
        if result["outputs"]:
            facts.append("outputs " + " ".join(sorted(each["relative_path"] for each in result["outputs"])))
        return ", ".join(facts)

    def _keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def _body(self, key: str) -> str:
        body: bytes = self._client.get_object(Bucket="data", Key=key)["Body"].read()
        return body.decode(errors="replace")


def _confined() -> list[str]:
    """Return the words before a command of root that may not write in the machine's folders, except /tmp.

    0.8.3 writes and removes files outside its folders. Another user than root cannot harm the machine.
    """
    if os.geteuid() != 0:
        return []
    kept = {"/dev", "/proc", "/sys", "/tmp", "/run"}
    folders = [str(path) for path in Path("/").iterdir() if path.is_dir() and not path.is_symlink()]
    mounts = [f"mount --bind {each} {each}; mount -o remount,ro,bind {each}" for each in set(folders) - kept]
    script = "; ".join(["set -e", *mounts, "mkdir -p /in", "mount -t tmpfs none /in", 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def _variables(case: Case, here: Path) -> dict[str, str]:
    prelude = f"import sys; HERE = {str(here)!r}; IN, OUT = HERE + '/input', HERE + '/output'\n"
    entrypoint = [sys.executable, "-c", prelude + case.program] if case.entrypoint is None else case.entrypoint or None
    variables = {
        "ENTRYPOINT_B64J": _encode(entrypoint),
        "CMD_B64J": _encode(case.command),
        "INPUT_PATH": f"{here}/input",
        "OUTPUT_PATH": f"{here}/output",
        "LINKED_INPUT_PARENT": f"{here}/linked",
        "USE_LINKED_INPUT": "false",
        "WRITABLE_DIRECTORIES": "",
        "POST_CLEAN_DIRECTORIES": "",
        "MODEL_DEST": f"{here}/model",
        "RUNTIME_OUTPUT_BUCKET_NAME": "data",
        "RUNTIME_OUTPUT_PREFIX": "setup",
        **{name: value.format(here=here) for name, value in case.variables.items()},
    }
    return {_VARIABLES + name: value for name, value in variables.items() if value or name.endswith("DIRECTORIES")}


def _encode(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not path.exists():
        assert process.poll() is None, "the shim ended before the program started"
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.005)


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Return the rows that differ as a table in Markdown."""
    differing = [row for row in rows if row[1] != row[2]]
    lines = ["| " + " | ".join(row) + " |\n" for row in (HEAD, *differing)]
    return "".join([lines[0], "|---|---|---|\n", *lines[1:]])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        chosen = sys.argv[1:] or list(CASES)
        found = []
        for each in Comparison(Path(place)).rows(chosen):
            found.append(each)
            sys.stderr.write(("  " if each[1] == each[2] else "! ") + " | ".join(each) + "\n")
        sys.stdout.write(table(found))
