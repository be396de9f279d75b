"""The command `python -m processing.compat`: an unchanged script runs, on the engine too, and its changes are shown."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processing
from processing.compat.changes import changed_text, unified_diff

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., subprocess.CompletedProcess[str]]

SCRIPTS = Path(__file__).with_name("v2_scripts")
INSTALL = "import processing.compat\n\nprocessing.compat.install()\n\n"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """A function that runs the command in an empty folder, without an account."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment = {
            **kept,
            "HOME": str(tmp_path / "home"),
            "PROCESSING_LOCAL_HOME": str(tmp_path / "engine"),
            "PYTHONPATH": str(Path(processing.__file__).parent.parent),
        }
        return subprocess.run(
            [sys.executable, "-m", "processing.compat", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def write(folder: Path, text: str, name: str = "etl.py") -> Path:
    """Write a script."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def results(printed: str) -> list[str]:
    """The results that a script prints."""
    return ["RESULT" + line.partition("RESULT")[2] for line in printed.splitlines() if "RESULT" in line]


def expected(script: Path) -> list[str]:
    """The results of `sagemaker` 2.x, with the instance type that `--local` gives to jobs."""
    text = script.with_suffix(".expected").read_text()
    return text.replace('"InstanceType": "ml.m5.large"', '"InstanceType": "local"').splitlines()


class TestRunning:
    def test_a_script_runs_as_python_runs_it(self, command: Command, tmp_path: Path) -> None:
        """Its name, arguments, import path, module and exit code are those of `python script.py`."""
        write(tmp_path, "WORD = 'beside'\n", "jobs/helper.py")
        script = """
            import pickle, sys
            import helper
            from sagemaker.processing import ScriptProcessor

            class Own: pass

            print(__name__, __file__, sys.argv, sys.path[0], helper.WORD, ScriptProcessor.__module__)
            print(type(pickle.loads(pickle.dumps(Own()))) is Own, sys.modules["__main__"].Own is Own)
            sys.exit(7)
        """
        write(tmp_path, script, "jobs/etl.py")
        done = command("jobs/etl.py", "--local", "x y")
        assert done.returncode == 7, done.stderr
        lines = done.stdout.splitlines()
        folder = os.path.realpath(tmp_path / "jobs")
        arguments = ["jobs/etl.py", "--local", "x y"]
        assert lines[0] == f"__main__ jobs/etl.py {arguments} {folder} beside processing.processors.script"
        assert lines[1] == "True True"

    @pytest.mark.parametrize(
        ("statement", "code", "end"),
        [
            ("1 / 0", 1, "ZeroDivisionError: division by zero"),
            ("raise SystemExit('stop')", 1, "stop"),
            ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
            ("from sagemaker.estimator import Estimator", 1, "For it, install sagemaker itself"),
            ("x = = 1", 1, "SyntaxError: invalid syntax"),
            ("try: 1 / 0\n    except Exception: import sagemaker.tuner", 1, "For it, install sagemaker itself"),
            ("import atexit; atexit.register(print, 'bye'); raise ValueError('no')", 1, "ValueError: no"),
        ],
    )
    def test_a_traceback_shows_the_script_only(
        self, command: Command, tmp_path: Path, statement: str, code: int, end: str
    ) -> None:
        """An error has the exit code and the text of Python itself, without frames of the command."""
        write(tmp_path, f"def main():\n    {statement}\n\n\nmain()\n")
        done = command("etl.py")
        assert done.returncode == code
        assert done.stderr.rstrip().endswith(end)
        assert "processing/compat" not in done.stderr
        assert "runpy" not in done.stderr
        assert ("bye" in done.stdout) == ("bye" in statement)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: script"),
            (["none.py"], "none.py: No such file or directory"),
            (["."], ".: Is a directory"),
            (["--nothing", "etl.py"], "unrecognized arguments: --nothing"),
            (["--loc", "etl.py"], "unrecognized arguments: --loc"),
            (["--local", "--diff", "etl.py"], "argument --diff: not allowed with argument --local"),
            (["--diff", "etl.py", "x"], "unrecognized arguments: x (--diff runs nothing)"),
            (["--diff", "broken.py"], "broken.py: line 1: "),
            (["--diff", "binary.py"], "binary.py: "),
            (["nb.ipynb"], "jupyter nbconvert --to script"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self, command: Command, tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        """Wrong usage ends with exit code 2 and a message, and nothing runs."""
        write(tmp_path, "print('ran')\n")
        write(tmp_path, "x = = 1\n", "broken.py")
        (tmp_path / "binary.py").write_bytes(b"\xff\x00")
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_an_engine_that_cannot_serve_is_one_line(self, command: Command, tmp_path: Path) -> None:
        """A folder that the engine cannot use ends the command as wrong usage does, and the script does not run."""
        write(tmp_path, "print('ran')\n")
        (tmp_path / "engine").write_text("a file in the place of the engine's folder")
        done = command("--local", "etl.py")
        assert (done.returncode, done.stdout) == (2, "")
        assert "the engine cannot keep its files in" in done.stderr
        assert len(done.stderr.splitlines()) == 1


class TestOnTheEngine:
    def test_a_script_for_aws_runs_without_an_account(self, command: Command, tmp_path: Path) -> None:
        """Instance type, role, buckets and boto3's own calls need no account, and the log says so.

        Its session asks as often as one of the engine.
        """
        copy = "shutil.copy('/opt/ml/processing/in/a.txt', '/opt/ml/processing/out/')"
        write(tmp_path, f"import shutil; {copy}\n", "job.py")
        script = """
            import boto3, sagemaker
            from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor
            from sagemaker.s3 import S3Downloader

            session = sagemaker.Session()
            print(session.boto_region_name, session.polling.longest, session.polling.grace)
            print(sagemaker.get_execution_role(), sagemaker.get_execution_role(session))
            boto3.client("s3").put_object(Bucket="our-raw-data", Key="in/a.txt", Body=b"abc")
            processor = ScriptProcessor(
                role="EtlRole", image_uri="123456789012.dkr.ecr.us-west-2.amazonaws.com/etl:1", command=["python3"],
                instance_count=1, instance_type="ml.m5.4xlarge", sagemaker_session=session)
            inputs = [ProcessingInput("s3://our-raw-data/in", "/opt/ml/processing/in")]
            outputs = [ProcessingOutput("/opt/ml/processing/out", "s3://our-clean-data/out")]
            processor.run("job.py", inputs=inputs, outputs=outputs, job_name="nightly")
            print(S3Downloader.read_file("s3://our-clean-data/out/a.txt"))
            print(processor.latest_job.describe()["ProcessingResources"]["ClusterConfig"]["InstanceType"])
        """
        write(tmp_path, script)
        done = command("--local", "etl.py")
        assert done.returncode == 0, done.stderr
        role = "arn:aws:iam::000000000000:role/processing-local"
        assert done.stdout.splitlines()[:2] == ["us-west-2 0.1 0.0", f"{role} {role}"]
        assert done.stdout.splitlines()[-2:] == ["abc", "local"]
        first, *others = done.stderr.splitlines()
        assert f"jobs run on this machine, on the engine in {tmp_path / 'engine'}, as in us-west-2" in first
        assert any("job nightly: the instance type ml.m5.4xlarge is replaced by local" in line for line in others)
        assert any("the bucket our-clean-data is made on the engine" in line for line in others)

    @pytest.mark.parametrize("name", ["framework", "settings"])
    def test_a_script_of_sagemaker_2_gives_the_same_results(self, command: Command, name: str) -> None:
        """The scripts whose results are those of 2.x run with `--local`."""
        script = SCRIPTS / f"{name}.py"
        done = command("--local", str(script))
        assert done.returncode == 0, done.stderr
        assert results(done.stdout) == expected(script)


CHANGES = [
    ("from sagemaker.processing import Processor, RunArgs as R", "from processing import Processor, RunArgs as R"),
    ("from sagemaker.sklearn.processing import SKLearnProcessor", "from processing import SKLearnProcessor"),
    ("from sagemaker.sklearn.estimator import SKLearn", "from processing.compat import SKLearn"),
    ("from sagemaker import get_execution_role, Session", "from processing import get_execution_role, Session"),
    (
        "import sagemaker\ns = sagemaker.Session(); sagemaker.processing.Processor(s)",
        "import processing\ns = processing.Session(); processing.Processor(s)",
    ),
    (
        "import os, sagemaker as sm\nsm.network.NetworkConfig()",
        "import processing\nimport os\nprocessing.NetworkConfig()",
    ),
    (
        "from sagemaker import image_uris\nu = image_uris.retrieve('sklearn', region, '1.2-1')",
        "import processing\nu = processing.images.image_uri('sklearn', region=region, version='1.2-1')",
    ),
    (
        "from sagemaker.image_uris import retrieve\nretrieve('sklearn', 'é', version='1.2-1')",
        "from processing.images import image_uri as retrieve\nretrieve('sklearn', region='é', version='1.2-1')",
    ),
    (
        "from __future__ import annotations\nfrom sagemaker.s3 import S3Uploader",
        f"from __future__ import annotations\n{INSTALL}from sagemaker.s3 import S3Uploader",
    ),
    (
        "from sagemaker.processing import Processor, name_from_base",
        f"{INSTALL}from processing import Processor\nfrom sagemaker.processing import name_from_base",
    ),
    (
        "from sagemaker import Session\nSession().sagemaker_client",
        f"{INSTALL}from sagemaker import Session\nSession().sagemaker_client",
    ),
    (
        "def f():\n    import sagemaker\n    return sagemaker.Session()",
        "def f():\n    import processing\n    return processing.Session()",
    ),
    ("import sagemaker.network\nx = 1", "x = 1"),
    ("try:\n    import sagemaker.network\nexcept ImportError: raise", "try:\n    pass\nexcept ImportError: raise"),
    ("import sagemaker\nprint(sagemaker)", None),
    ("import sagemakers\nfrom . import sagemaker", ""),
    ("x = 1\r\nfrom sagemaker.network import NetworkConfig\r\n", "x = 1\r\nfrom processing import NetworkConfig\r\n"),
    ("x = '\x0c'\nfrom sagemaker.network import NetworkConfig", "x = '\x0c'\nfrom processing import NetworkConfig"),
]


class TestChanges:
    @pytest.mark.parametrize(("before", "after"), CHANGES)
    def test_names_get_their_places_in_this_package(self, before: str, after: str | None) -> None:
        """Public names move. Other supported names stay, and the old names are installed before them."""
        assert changed_text(before) == (f"{INSTALL}{before}" if after is None else after or before)

    def test_long_imports_are_wrapped(self) -> None:
        """An import of more than 88 columns has one name a line."""
        names = ["FeatureStoreOutput", "FrameworkProcessor", "ProcessingInput", "ProcessingOutput", "ScriptProcessor"]
        changed = changed_text(f"from sagemaker.processing import {', '.join(names)}\n")
        assert changed == "from processing import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"

    @pytest.mark.parametrize(
        ("before", "comment"),
        [
            ("from sagemaker.estimator import Estimator", "sagemaker.estimator.Estimator is not part of sm-processing"),
            ("import sagemaker\nsagemaker.tuner.X()", "sagemaker.tuner is not part of sm-processing"),
            ("from sagemaker.workflow.steps import ProcessingStep", "it records no pipelines"),
        ],
    )
    def test_an_unsupported_name_gets_a_comment(self, before: str, comment: str) -> None:
        """The import stays, with the reason above it."""
        lines = changed_text(before).splitlines()
        index = lines.index(before.splitlines()[0])
        assert lines[index - 1].startswith("# sm-processing: ")
        assert comment in lines[index - 1]

    def test_a_diff_can_be_applied(self, command: Command, tmp_path: Path) -> None:
        """The command prints a unified diff with a path from the working directory, and changes nothing."""
        path = write(tmp_path, "from sagemaker.network import NetworkConfig", "jobs/etl.py")
        done = command("--diff", "jobs/etl.py")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "--- a/jobs/etl.py",
            "+++ b/jobs/etl.py",
            "@@ -1 +1 @@",
            "-from sagemaker.network import NetworkConfig",
            "\\ No newline at end of file",
            "+from processing import NetworkConfig",
            "\\ No newline at end of file",
        ]
        assert path.read_text() == "from sagemaker.network import NetworkConfig"

    def test_a_script_without_changes(self, command: Command, tmp_path: Path) -> None:
        """A script that does not import `sagemaker` has an empty diff."""
        write(tmp_path, "print(1)\n")
        done = command("--diff", "etl.py")
        assert (done.returncode, done.stdout) == (0, "")
        assert "etl.py needs no change" in done.stderr

    @pytest.mark.parametrize("name", ["custom", "etl"])
    def test_a_changed_script_gives_the_same_results(self, command: Command, tmp_path: Path, name: str) -> None:
        """A script runs after the changes, with the results of 2.x."""
        script, changed = SCRIPTS / f"{name}.py", tmp_path / f"{name}.py"
        changed.write_text(changed_text(script.read_text()))
        assert unified_diff(script.read_bytes(), script.name)
        done = command("--local", changed.name)
        assert done.returncode == 0, done.stderr
        assert results(done.stdout) == expected(script)
