"""The import names of `sagemaker` 2.x: the supported names, errors for others, and scripts that use them."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

import processing
from processing import ConfigurationError, LocalSession, compat
from processing.compat import utils
from processing.compat.config import (
    PROCESSING_JOB_ROLE_ARN_PATH,
    load_sagemaker_config,
    validate_sagemaker_config,
)
from processing.compat.modules import ALIASES, MODULES
from processing.compat.s3 import determine_bucket_and_prefix, is_s3_url, parse_s3_url, s3_path_join
from processing.compat.session import LocalSession as V2LocalSession
from processing.compat.session import Session as V2Session
from processing.compat.utils import name_from_base
from processing.compat.workflow import PipelineVariable, is_pipeline_variable, runnable_by_pipeline
from processing.default_sessions import LOCAL_ROLE
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = sorted(Path(__file__).with_name("v2_scripts").glob("*.py"))
# The engine is asked often, and writes no line after a job's end: the intervals for AWS would be most of the time.
INSTALL = """
import functools, runpy, sys, processing.compat
from processing.watching import polling
polling.Polling = functools.partial(polling.Polling, first=0.05, grace=0.0)
processing.compat.install()
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.fixture
def installed() -> Iterator[None]:
    """Install the names during the test."""
    compat.install()
    yield
    compat.uninstall()


def results(printed: str) -> list[str]:
    """The results that a script prints. `sagemaker` prints dots before some of them."""
    return ["RESULT" + line.partition("RESULT")[2] for line in printed.splitlines() if "RESULT" in line]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_of_sagemaker_2_gives_the_same_results(
    script: Path, local_session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script runs unchanged, with the results of `sagemaker` 2.x (tests/foreign compares those)."""
    with Server(local_session.engine) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(Path(processing.__file__).parent.parent))  # it runs in another folder
        command = [sys.executable, "-c", INSTALL, str(script)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert results(done.stdout) == script.with_suffix(".expected").read_text().splitlines()


@pytest.mark.usefixtures("installed")
class TestNames:
    @pytest.mark.parametrize("name", sorted(MODULES))
    def test_each_module_has_its_names(self, name: str) -> None:
        """Every name in the table resolves, for `from ... import` and in `dir`."""
        module = importlib.import_module(name)
        for each in MODULES[name]:
            assert getattr(module, each) is getattr(importlib.import_module(MODULES[name][each]), each)
        assert {*MODULES[name]} <= {*dir(module)}

    @pytest.mark.parametrize(("name", "inner"), [(name, inner) for name in ALIASES for inner in ALIASES[name]])
    def test_modules_among_the_names(self, name: str, inner: str) -> None:
        """A module that another module offers under its short name is the same module."""
        module = importlib.import_module(name)
        assert getattr(module, inner) is importlib.import_module(ALIASES[name][inner])
        assert inner in dir(module)

    @pytest.mark.parametrize(
        "statement",
        [
            "from sagemaker.sklearn.processing import ScriptProcessor, NetworkConfig, Session",
            "from sagemaker.pytorch.processing import FrameworkProcessor, PyTorch",
            "from sagemaker.wrangler.processing import ProcessingInput, Processor",
            "from sagemaker.sklearn.estimator import SKLearn",
            "from sagemaker.pytorch import PyTorch",
            "from sagemaker.processing import name_from_base, s3, PipelineVariable, runnable_by_pipeline",
            "from sagemaker.utils import unique_name_from_base, base_name_from_image, format_tags",
            "from sagemaker.config import load_sagemaker_config",
            "from sagemaker.config.config_schema import PROCESSING_JOB_ROLE_ARN_PATH",
            "from sagemaker.session_settings import SessionSettings",
            "from sagemaker.workflow.entities import PipelineVariable",
            "from sagemaker.s3 import determine_bucket_and_prefix, is_s3_url",
            "from sagemaker.s3_utils import parse_s3_url",
        ],
    )
    def test_names_that_modules_pass_on(self, statement: str) -> None:
        """A name can be imported from each module of 2.x that offers it."""
        exec(statement, {})

    def test_they_are_this_package_s_classes(self) -> None:
        """An old name and the package's own name are the same object."""
        sagemaker = importlib.import_module("sagemaker")
        assert sagemaker.processing.ScriptProcessor is processing.ScriptProcessor
        assert sagemaker.network.NetworkConfig is processing.NetworkConfig
        assert sagemaker.get_execution_role is processing.get_execution_role
        assert sagemaker.__version__.startswith("2.")
        assert issubclass(sagemaker.Session, processing.Session)
        assert issubclass(sagemaker.local.LocalSession, LocalSession)

    @pytest.mark.parametrize(
        ("statement", "message"),
        [
            ("import sagemaker.estimator", "sagemaker.estimator is not part of sm-processing: "),
            ("from sagemaker import estimator", "sagemaker.estimator is not part of sm-processing: "),
            ("from sagemaker.spark.processing import FileType", "sagemaker.spark.processing.FileType is not part of"),
            ("from sagemaker.remote_function.job import _Job", "sagemaker.remote_function.job is not part of"),
            ("from sagemaker.workflow.steps import ProcessingStep", "it records no pipelines"),
            ("from sagemaker.processing import Nothing", "sagemaker.processing.Nothing is not part of sm-processing: "),
            (
                "from sagemaker.sklearn import SKLearnModel",
                "sagemaker.sklearn.SKLearnModel is not part of sm-processing",
            ),
            ("from sagemaker.estimator import Estimator", "sagemaker.estimator is not part of sm-processing: "),
        ],
    )
    def test_a_name_that_is_missing_is_named(self, statement: str, message: str) -> None:
        """An import of any other name is an ImportError that explains it."""
        with pytest.raises(ImportError) as caught:
            exec(statement, {})
        assert message in str(caught.value)

    def test_an_attribute_that_is_missing_is_named(self) -> None:
        """Access to an unknown attribute is an AttributeError, so that `hasattr` works."""
        sagemaker = importlib.import_module("sagemaker")
        assert not hasattr(sagemaker, "estimator")
        with pytest.raises(AttributeError, match=r"sagemaker\.estimator is not part of sm-processing"):
            _ = sagemaker.estimator

    def test_a_star_imports_the_names_of_the_table(self) -> None:
        """`from sagemaker.processing import *` gives the names of the table."""
        names: dict[str, Any] = {}
        exec("from sagemaker.processing import *", names)
        assert {*MODULES["sagemaker.processing"]} <= {*names}


class TestInstalling:
    def test_it_can_be_undone(self) -> None:
        """A second installation changes nothing, and `uninstall` removes everything."""
        before = list(sys.meta_path)
        compat.install()
        compat.install()
        importlib.import_module("sagemaker.processing")
        compat.uninstall()
        compat.uninstall()
        assert sys.meta_path == before
        assert not [name for name in sys.modules if name.partition(".")[0] == "sagemaker"]
        assert importlib.util.find_spec("sagemaker") is None

    def test_an_installed_sagemaker_goes_first(self, tmp_path: Path) -> None:
        """An installed `sagemaker` 2.x is imported, and names that it lacks stay missing."""
        (tmp_path / "sagemaker").mkdir()
        (tmp_path / "sagemaker" / "__init__.py").write_text("REAL = True\n")
        (tmp_path / "sagemaker" / "processing.py").write_text("REAL = True\n")
        program = (
            "import processing.compat; processing.compat.install()\n"
            "import sagemaker.processing\n"
            "print(sagemaker.REAL, sagemaker.processing.REAL)\n"
            "try: import sagemaker.estimator\n"
            "except ModuleNotFoundError as error: print(error)\n"
        )
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "True True\nNo module named 'sagemaker.estimator'\n"

    @pytest.mark.parametrize("first", ["", "import sagemaker\n"])
    def test_version_3_is_no_obstacle(self, tmp_path: Path, first: str) -> None:
        """Beside 3.x or its core the names come from this package, in any order of imports, and 3.x keeps its own."""
        (tmp_path / "sagemaker" / "core").mkdir(parents=True)
        (tmp_path / "sagemaker" / "core" / "__init__.py").write_text("REAL = True\n")
        (tmp_path / "sagemaker" / "__init__.py").write_text(
            "import sys\n"
            "class Removed:\n"
            "    def find_spec(self, fullname, path=None, target=None):\n"
            "        if fullname.startswith('sagemaker.') and fullname != 'sagemaker.core':\n"
            "            raise ModuleNotFoundError(f'{fullname} was removed')\n"
            "sys.meta_path.append(Removed())\n"
        )
        program = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{first}"
            "import processing, processing.compat; processing.compat.install()\n"
            "import sagemaker\n"
            "from sagemaker import Session, core, get_execution_role\n"
            "from sagemaker.processing import ScriptProcessor\n"
            "print(ScriptProcessor is processing.ScriptProcessor, issubclass(Session, processing.Session), core.REAL)\n"
            "try: import sagemaker.estimator\n"
            "except ImportError as error: print(error)\n"
            "processing.compat.uninstall()\n"
            "import sagemaker\n"
            "print(type(sys.modules['sagemaker']).__name__, hasattr(sagemaker, 'Session'))\n"
            "try: import sagemaker.processing\n"
            "except ModuleNotFoundError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        lines = done.stdout.splitlines()
        assert lines[0] == "True True True"
        assert lines[1].startswith("sagemaker.estimator is not part of sm-processing")
        assert lines[2:] == ["module False", "sagemaker.processing was removed"]

    def test_a_folder_of_that_name_is_no_obstacle(self, tmp_path: Path) -> None:
        """A folder `sagemaker` beside the script is not taken for the package, even with folders of those names."""
        (tmp_path / "sagemaker" / "processing").mkdir(parents=True)
        (tmp_path / "sagemaker" / "mine.py").write_text("HERE = True\n")
        program = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "import processing, processing.compat; processing.compat.install()\n"
            "from sagemaker import Session\n"
            "from sagemaker.processing import ScriptProcessor\n"
            "import sagemaker.mine\n"
            "print(ScriptProcessor is processing.ScriptProcessor, sagemaker.mine.HERE)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "True True\n"

    def test_installing_imports_nothing(self) -> None:
        """Neither boto3 nor a processor is loaded until a name is used."""
        program = (
            "import sys, processing.compat; processing.compat.install(); import sagemaker.processing\n"
            "heavy = 'boto3', 'tenacity', 'yaml', 'processing.session', 'processing.processors', 'processing.spark'\n"
            "print([name for name in heavy if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "[]\n"


@pytest.mark.usefixtures("installed")
class TestSessions:
    def test_a_session_has_the_parameters_of_v2(self) -> None:
        """The parameters are those of v2 in the same order. Those for endpoints are ignored."""
        boto_session = boto3.Session(region_name="eu-west-1")
        client = boto_session.client("sagemaker")
        made = V2Session(boto_session, client, None, None, "bucket", None, None, {}, "prefix")
        assert made.boto_session is boto_session
        assert made.sagemaker_client is client
        assert (made.default_bucket(), made.default_bucket_prefix) == ("bucket", "prefix")
        assert made.s3_client.meta.region_name == made.s3_resource.meta.client.meta.region_name == "eu-west-1"

    def test_local_goes_before_a_session(self) -> None:
        """As in `sagemaker` 2.x an AWS session gives way to `instance_type="local"`; one of ours is an error."""
        aws = V2Session(boto3.Session(region_name="eu-west-1"), default_bucket="b")
        made = processing.Processor(instance_type="local", instance_count=1, sagemaker_session=aws)
        assert made.sagemaker_session.is_local
        with pytest.raises(ConfigurationError, match="instance_type: 'local'"):
            processing.Processor(instance_type="local", sagemaker_session=processing.Session(region_name="eu-west-1"))

    def test_a_local_script_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The lines that every example of v2's local mode begins with give a job on the engine."""
        monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
        script = tmp_path / "say.py"
        script.write_text("print('said')\n")
        sagemaker = importlib.import_module("sagemaker.local")
        session = sagemaker.LocalSession(boto3.Session(region_name="eu-west-1"), default_bucket="mine")
        session.config = {"local": {"local_code": True}}
        sklearn = importlib.import_module("sagemaker.sklearn.processing")
        processor = sklearn.SKLearnProcessor(
            "1.2-1", LOCAL_ROLE, instance_count=1, instance_type="local", sagemaker_session=session
        )
        job = processor.run(str(script))
        assert "said" in capsys.readouterr().out
        assert session.boto_region_name == "eu-west-1"
        assert (session.local_mode, V2Session().local_mode) == (True, False)
        assert ":eu-west-1:" in job.arn
        assert session.get_caller_identity_arn() == LOCAL_ROLE
        session.logs_for_processing_job(job.job_name)
        session.logs_for_processing_job(job.job_name, wait=True)
        assert capsys.readouterr().out.count("said") == 2

    def test_files_go_up_and_down(self, tmp_path: Path) -> None:
        """`sagemaker.s3` and the methods of the session move files by URIs."""
        session = V2LocalSession(s3_endpoint_url=None, default_bucket="files")
        s3 = importlib.import_module("sagemaker.s3")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.txt").write_text("a")
        base = f"s3://{session.default_bucket()}/{tmp_path.name}"
        assert s3.S3Uploader.upload(tmp_path / "in", base, "key", session) == base
        assert s3.S3Uploader.upload_string_as_file_body("ü", f"{base}/b.txt", sagemaker_session=session)
        assert s3.S3Uploader.upload_bytes(b"\0", f"{base}/c", sagemaker_session=session) == f"{base}/c"
        assert s3.S3Downloader.list(base, session) == [f"{base}/a.txt", f"{base}/b.txt", f"{base}/c"]
        assert session.list_s3_files("files", tmp_path.name)[0] == f"{tmp_path.name}/a.txt"
        assert s3.S3Downloader.read_file(f"{base}/b.txt", session) == "ü"
        assert s3.S3Downloader.read_bytes(f"{base}/c", session) == b"\0"
        assert len(s3.S3Downloader.download(base, str(tmp_path / "out"), sagemaker_session=session)) == 3
        assert (tmp_path / "out" / "a.txt").read_text() == "a"


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("s3://", "//foo/", "/bar///baz"), "s3://foo/bar/baz"),
        (("/foo", "bar/"), "foo/bar"),
        (("foo", "", None, "bar"), "foo/bar"),
        (("s3://bucket/a/", "b"), "s3://bucket/a/b"),
        (("s3://",), "s3://"),
        ((), ""),
    ],
)
def test_parts_of_a_uri_are_joined(parts: tuple[str | None, ...], joined: str) -> None:
    """With one slash between each, as v2 does."""
    assert s3_path_join(*parts) == joined
    assert s3_path_join("a", "b", with_end_slash=True) == "a/b/"
    assert parse_s3_url("s3://bucket/a/b") == ("bucket", "a/b")


def test_names_are_made_of_a_base() -> None:
    """The base is cut to fit, the time is at the end, and no name comes twice."""
    assert name_from_base("x" * 80) != name_from_base("x" * 80)
    assert len(name_from_base("x" * 80)) == 63
    assert len(name_from_base("x" * 80, max_length=30, short=True)) == 30


@pytest.mark.usefixtures("installed")
def test_settings_of_other_images_are_refused() -> None:
    """`image_uris.retrieve` finds the image of `images.image_uri`, and refuses parameters for other kinds of jobs."""
    retrieve = importlib.import_module("sagemaker.image_uris").retrieve
    assert retrieve("sklearn", "eu-west-1", "1.2-1") == processing.images.image_uri("sklearn", "1.2-1", "eu-west-1")
    with pytest.raises(ConfigurationError, match=r"^model_id: "):
        retrieve("huggingface", "eu-west-1", model_id="some-model")


def test_names_and_tags_of_utils() -> None:
    """The small functions give the results of 2.x."""
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/my_etl:1.2"
    assert utils.base_name_from_image(image) == "my_etl"
    assert utils.base_from_name(utils.name_from_image(image)) == "my_etl"
    assert utils.base_from_name(name_from_base("etl", short=True)) == "etl"
    assert utils.base_from_name("etl") == "etl"
    first, second = (utils.unique_name_from_base("x" * 80, 30) for _ in range(2))
    assert len(first) == 30
    assert first != second
    assert len(utils.unique_name_from_base_uuid4("x" * 80)) == 63
    assert utils.format_tags({"cost": 42}) == [{"Key": "cost", "Value": "42"}]
    assert utils.format_tags([1]) == [1]
    assert utils.tag_exists({"Key": "a", "Value": "1"}, [{"Key": "a", "Value": "2"}])
    assert not utils.tag_exists({"Key": "a", "Value": "1"}, None)
    assert utils.get_config_value("A.B", {"A": {"B": 1}}) == 1
    assert utils.get_config_value("A.C", {"A": {"B": 1}}) is None
    assert utils.get_config_value("A", None) is None
    assert (utils.build_dict("k", 1), utils.build_dict("k", None)) == ({"k": 1}, {})
    assert (utils.get_short_version("2.5.1"), utils.to_string(1)) == ("2.5", "1")


def test_retries_are_counted() -> None:
    """After the last try an exception names the operation."""
    with pytest.raises(Exception, match="'Waiting' has reached the maximum retry count of 2"):
        list(utils.retries(2, "Waiting", 0))


def test_the_bucket_and_prefix_of_a_session() -> None:
    """A bucket keeps its prefix; the default bucket adds the session's own."""
    session = V2Session(boto3.Session(region_name="eu-west-1"), default_bucket="b", default_bucket_prefix="team/")
    assert determine_bucket_and_prefix("mine", "p", session) == ("mine", "p")
    assert determine_bucket_and_prefix(None, "p", session) == ("b", "team/p")
    assert is_s3_url("s3://b/k")
    assert not is_s3_url("/data")


def test_the_config_file_is_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_sagemaker_config` gives the values of the files, and refuses what is not valid."""
    (tmp_path / "config.yaml").write_text(
        "SchemaVersion: '1.0'\nSageMaker:\n  ProcessingJob:\n    RoleArn: arn:aws:iam::123456789012:role/etl\n"
    )
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(tmp_path))
    loaded = load_sagemaker_config()
    assert utils.get_config_value(PROCESSING_JOB_ROLE_ARN_PATH, loaded) == "arn:aws:iam::123456789012:role/etl"
    validate_sagemaker_config(loaded)
    with pytest.raises(ConfigurationError):
        validate_sagemaker_config({"SageMaker": 5})
    with pytest.raises(ConfigurationError, match="additional_config_paths"):
        load_sagemaker_config(["other.yaml"])


def test_pipelines_are_only_names() -> None:
    """`PipelineVariable` serves annotations and `isinstance`, and cannot be instantiated."""
    assert not is_pipeline_variable("x")
    assert runnable_by_pipeline(len) is len
    with pytest.raises(ConfigurationError, match="records no pipelines"):
        PipelineVariable()


def test_names_of_sagemaker_pyspark() -> None:
    """The modules of sagemaker_pyspark have this package's stages, and no jars."""
    program = (
        "import processing.compat\n"
        "processing.compat.install()\n"
        "import sagemaker_pyspark\n"
        "from sagemaker_pyspark import Option, SageMakerClients, classpath_jars\n"
        "import sagemaker_pyspark.transformation.deserializers\n"
        "assert classpath_jars() == [] and SageMakerClients.create_sagemaker_client() is None\n"
        "assert 'KMeansSageMakerEstimator' in dir(sagemaker_pyspark.algorithms)\n"
        "print(Option(1).value)\n"
        "import sagemaker_pyspark.jars\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "sagemaker_pyspark.jars is not part of sm-processing" in done.stderr
    assert done.stdout == "1\n"
