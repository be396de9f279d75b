"""Code that travels with its files: the bundle, the request to AWS, and jobs that really run."""

from __future__ import annotations

import inspect
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import (
    CodeNotFoundError,
    ConfigurationError,
    EngineError,
    FrameworkProcessor,
    JobFailedError,
    LocalSession,
    ProcessingInput,
    ProcessingOutput,
    ScriptProcessor,
    Session,
    StagingError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from processing.staging.pending_uploads import PendingUploads

ROLE = "arn:aws:iam::123456789012:role/Processing"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/my-image:1"
ARN = "arn:aws:codeartifact:eu-west-1:111122223333:repository/our-domain/our-repository"
CODE = "/opt/ml/processing/input/code"
BOOTSTRAP = "/opt/ml/processing/input/entrypoint/runproc.sh"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source directory with a script, a package beside it, and files that must not travel."""
    root = tmp_path / "project"
    (root / "jobs").mkdir(parents=True)
    (root / "helpers").mkdir()
    (root / "helpers" / "__init__.py").write_text("NAME = 'helped'\n")
    (root / "prepare.py").write_text("import sys, helpers\nprint(helpers.NAME, sys.argv[1:])\n")
    (root / "jobs" / "nightly.py").write_text("print('nightly')\n")
    (root / ".gitignore").write_text("*.log\n")
    (root / "big.log").write_text("x")
    (root / ".env").write_text("SECRET=1")
    return root


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library in another directory."""
    root = tmp_path / "elsewhere" / "library"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("NAME = 'library'\n")
    return root


class Recorded:
    """A processor for AWS that records its pending uploads, so that a test can inspect them."""

    def __init__(self, kind: type[ScriptProcessor], **options: Any) -> None:
        self.pending: list[PendingUploads] = []
        recorded = self

        class Recording(kind):  # type: ignore[misc, valid-type]
            def _detach_uploads(self) -> PendingUploads:
                recorded.pending.append(self._uploads())
                taken: PendingUploads = super()._detach_uploads()
                return taken

        layout = options.pop("code_layout", None)
        session = Session(default_bucket="data", region_name="eu-central-1", code_layout=layout)
        given = {"image_uri": IMAGE, "role": ROLE, "instance_count": 1, "instance_type": "ml.m5.xlarge", **options}
        self.processor = Recording(command=["python3"], sagemaker_session=session, **given)

    def request(self, *args: Any, **options: Any) -> dict[str, Any]:
        request: dict[str, Any] = self.processor.request(*args, **options).to_boto()
        return request

    def body(self, name: str) -> bytes:
        """The content of the upload with that name."""
        (upload,) = [upload for upload in self.pending[-1].uploads if upload.target.key.endswith(f"/{name}")]
        return upload.source.read_bytes() if upload.body is None else upload.body

    def bundled(self) -> dict[str, str]:
        """The bundle's files."""
        with tarfile.open(fileobj=io.BytesIO(self.body("sourcedir.tar.gz"))) as archive:
            return {entry.name: (archive.extractfile(entry) or io.BytesIO()).read().decode() for entry in archive}

    def bootstrap(self) -> str:
        return self.body("runproc.sh").decode()


@pytest.fixture
def framework() -> Recorded:
    return Recorded(FrameworkProcessor)


def inputs_of(request: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        entry["InputName"]: (entry["S3Input"]["S3Uri"], entry["S3Input"]["LocalPath"])
        for entry in request["ProcessingInputs"]
    }


def parameters(function: Any) -> list[str]:
    kinds = inspect.signature(function).parameters.values()
    return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]


# The surface.


def test_positional_order_is_that_of_sagemaker_3() -> None:
    """Positional calls written for the newer of the two mean the same here."""
    assert parameters(FrameworkProcessor.__init__) == [
        "image_uri",
        "role",
        "instance_count",
        "instance_type",
        "command",
        "volume_size_in_gb",
        "volume_kms_key",
        "output_kms_key",
        "code_location",
        "max_runtime_in_seconds",
        "base_job_name",
        "sagemaker_session",
        "env",
        "tags",
        "network_config",
    ]
    assert parameters(FrameworkProcessor.run) == [
        "code",
        "source_dir",
        "dependencies",
        "requirements",
        "inputs",
        "outputs",
        "arguments",
        "wait",
        "logs",
        "job_name",
        "experiment_config",
        "kms_key",
        "entry_point",
    ]


def test_positions_of_sagemaker_2_are_understood(framework: Recorded, source: Path) -> None:
    """A CodeArtifact ARN in the position of 2.x is recognised, and is not taken for an entry script."""
    session = LocalSession(source.parent / "engine")
    processor = FrameworkProcessor(IMAGE, instance_count=1, instance_type="local", sagemaker_session=session)
    given: Any = ("prepare.py", str(source), *[None] * 5, False, None, "a-job", None, None, "arn:aws:nothing")
    with pytest.raises(ConfigurationError, match=r"^codeartifact_repo_arn: 'arn:aws:nothing'"):
        processor.run(*given)
    with pytest.raises(ConfigurationError, match=r"^git_config: "):
        framework.request("prepare.py", None, None, {"branch": "main"})


# The request.


def test_the_request_is_that_of_sagemaker_2(framework: Recorded, source: Path) -> None:
    """The bundle is the input `code`, the bootstrap the input `entrypoint`, and the shell starts it."""
    given = [ProcessingInput("s3://b/k", "/opt/ml/processing/input/data")]
    request = framework.request("prepare.py", str(source), inputs=given, arguments=["--all"])
    found = inputs_of(request)
    assert list(found) == ["input-1", "code", "entrypoint"]
    assert found["code"][1] == CODE
    assert found["code"][0].endswith("/sourcedir.tar.gz")
    assert found["entrypoint"][1] == "/opt/ml/processing/input/entrypoint"
    assert request["AppSpecification"] == {
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["/bin/bash", BOOTSTRAP],
        "ContainerArguments": ["--all"],
    }
    assert len(given) == 1


def test_the_command_defaults_to_python(source: Path) -> None:
    """As in 2.x, the default command is `python`, and bash starts the bootstrap."""
    processor = FrameworkProcessor(
        IMAGE, ROLE, 1, "ml.m5.xlarge", sagemaker_session=Session(region_name="eu-central-1")
    )
    assert processor.command == ["python"]
    assert processor.request("prepare.py", source).entrypoint == ("/bin/bash", BOOTSTRAP)


def test_unchanged_code_has_the_same_keys(framework: Recorded, source: Path) -> None:
    """Keys name the content, so that a second run uploads nothing; a changed file gives others."""
    first = inputs_of(framework.request("prepare.py", source))
    assert inputs_of(framework.request("prepare.py", source)) == first
    (source / "helpers" / "__init__.py").write_text("NAME = 'changed'\n")
    second = inputs_of(framework.request("prepare.py", source))
    assert second["code"] != first["code"]
    assert second["entrypoint"] == first["entrypoint"]


def test_the_keys_of_sagemaker_2_on_request(source: Path) -> None:
    """With `code_layout="job"` code is below the job's name, and below `code_location` where that is given."""
    recorded = Recorded(FrameworkProcessor, code_layout="job", code_location="s3://code/here/")
    found = inputs_of(recorded.request("prepare.py", source, job_name="a-job"))
    assert found["code"][0] == "s3://code/here/a-job/source/sourcedir.tar.gz"
    assert found["entrypoint"][0] == "s3://code/here/a-job/source/runproc.sh"
    recorded = Recorded(FrameworkProcessor, code_layout="job")
    found = inputs_of(recorded.request("prepare.py", source, job_name="a-job"))
    assert found["code"][0] == "s3://data/a-job/source/sourcedir.tar.gz"


@pytest.mark.parametrize(("given", "used"), [({"kms_key": "k"}, "k"), ({}, "of-outputs")])
def test_every_upload_of_code_has_the_kms_key(source: Path, given: dict[str, str], used: str) -> None:
    """The bundle is encrypted too, by default with the key of the outputs."""
    recorded = Recorded(FrameworkProcessor, output_kms_key="of-outputs")
    recorded.request("prepare.py", source, **given)
    assert {upload.kms_key for upload in recorded.pending[-1].uploads} == {used}
    assert len(recorded.pending[-1].uploads) == 2


def test_a_script_in_s3_is_run_with_the_command(framework: Recorded) -> None:
    """A Python script in S3 is not run by bash, unlike in 2.x. A shell script is, as 2.x users expect."""
    request = framework.request("s3://code/x.py")
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["python3", "/opt/ml/processing/input/entrypoint/x.py"]
    request = framework.request("s3://code/runproc.sh")
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["/bin/bash", BOOTSTRAP]
    assert not framework.pending[-1].uploads


# What is bundled.


def test_a_source_dir_travels_without_ignored_files(framework: Recorded, source: Path, library: Path) -> None:
    """The bundle has the directory's files and the dependencies at its root, without ignored files."""
    framework.request("prepare.py", source, [str(library)])
    assert set(framework.bundled()) == {
        ".gitignore",
        "prepare.py",
        "jobs/nightly.py",
        "helpers/__init__.py",
        "library/__init__.py",
    }


def test_without_a_source_dir_the_script_travels_alone(framework: Recorded, source: Path, library: Path) -> None:
    """As in 2.x: the files beside the script stay where they are."""
    framework.request(source / "prepare.py", dependencies=[library])
    assert set(framework.bundled()) == {"prepare.py", "library/__init__.py"}


@pytest.mark.parametrize(
    "code", ["jobs/nightly.py", "jobs\\nightly.py", "project/jobs/nightly.py", "{source}/jobs/nightly.py"]
)
def test_the_script_is_named_from_the_source_dir_or_from_here(
    framework: Recorded, source: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Its name in the directory, its path, and its absolute path mean the same file."""
    monkeypatch.chdir(source.parent)
    framework.request(code.format(source=source), "project")
    assert 'exec python3 jobs/nightly.py "$@"' in framework.bootstrap()


def test_a_script_that_is_ignored_travels_all_the_same(framework: Recorded, source: Path) -> None:
    """A file that a parameter names travels even if it is ignored."""
    (source / ".processingignore").write_text("prepare.py\n")
    framework.request("prepare.py", source)
    assert "prepare.py" in framework.bundled()


@pytest.mark.parametrize("kind", [FrameworkProcessor, ScriptProcessor])
def test_code_may_be_a_directory(kind: type[ScriptProcessor], source: Path) -> None:
    """A directory as `code` needs the script in it as `entry_point`."""
    recorded = Recorded(kind)
    recorded.request(source, entry_point="jobs/nightly.py")
    assert "helpers/__init__.py" in recorded.bundled()
    assert 'exec python3 jobs/nightly.py "$@"' in recorded.bootstrap()
    with pytest.raises(CodeNotFoundError, match=r"must be a file, not a directory.*entry_point"):
        recorded.request(source)


def test_requirements_from_anywhere(framework: Recorded, source: Path, tmp_path: Path) -> None:
    """Requirements in the directory keep their path; others travel under their own name."""
    (source / "jobs" / "r.txt").write_text("one\n")
    framework.request("prepare.py", source, requirements="jobs/r.txt")
    assert "-r jobs/r.txt" in framework.bootstrap()
    (tmp_path / "outside.txt").write_text("two\n")
    framework.request("prepare.py", source, requirements=tmp_path / "outside.txt")
    assert "-r outside.txt" in framework.bootstrap()
    assert framework.bundled()["outside.txt"] == "two\n"


def test_an_entry_script_runs_first(framework: Recorded, source: Path, tmp_path: Path) -> None:
    """`entry_point` beside a script is the shell script of sagemaker 3, which travels along."""
    (tmp_path / "set-up.sh").write_text("export A=b\n")
    framework.request("prepare.py", source, entry_point=tmp_path / "set-up.sh")
    assert ". ./set-up.sh\n" in framework.bootstrap()
    assert framework.bundled()["set-up.sh"] == "export A=b\n"


def test_a_source_dir_in_s3(framework: Recorded) -> None:
    """An archive is unpacked by its name, a prefix is mounted, and nothing but the bootstrap is uploaded."""
    found = inputs_of(framework.request("jobs/x.py", "s3://code/v1/project.tar.gz", requirements="r.txt"))
    assert found["code"] == ("s3://code/v1/project.tar.gz", CODE)
    assert "tar -xzof project.tar.gz" in framework.bootstrap()
    assert 'exec python3 jobs/x.py "$@"' in framework.bootstrap()
    assert [upload.target.key.rpartition("/")[2] for upload in framework.pending[-1].uploads] == ["runproc.sh"]
    found = inputs_of(framework.request("x.py", "s3://code/v1"))
    assert found["code"] == ("s3://code/v1/", CODE)


def test_codeartifact_by_parameter_or_variable(framework: Recorded, source: Path) -> None:
    """The parameter is that of 2.x, the environment variable the one of sagemaker-core."""
    framework.request("prepare.py", source, codeartifact_repo_arn=ARN)
    assert "--domain our-domain" in framework.bootstrap()
    recorded = Recorded(FrameworkProcessor, env={"CA_REPOSITORY_ARN": ARN})
    recorded.request("prepare.py", source)
    assert recorded.bootstrap() == framework.bootstrap()


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        ("nothing.py", {}, "^code nothing.py wasn't found"),
        ("../other.py", {}, "^code ../other.py wasn't found in .*project"),
        ("prepare.py", {"source_dir": "no-such"}, "^source_dir: 'no-such' does not exist"),
        ("prepare.py", {"source_dir": "prepare.py"}, "^source_dir: 'prepare.py' is not a directory"),
        ("prepare.py", {"requirements": "no.txt"}, "^requirements no.txt wasn't found"),
        ("prepare.py", {"entry_point": "no.sh"}, "^entry_point no.sh wasn't found"),
        ("prepare.py", {"dependencies": "library"}, "^dependencies: must be a list of paths, not str"),
        ("prepare.py", {"dependencies": ["no-such"]}, r"^dependencies\[0\]: 'no-such' does not exist"),
        (
            "prepare.py",
            {"dependencies": ["s3://b/k"]},
            r"^dependencies\[0\]: 's3://b/k' must be a local directory or file",
        ),
        ("prepare.py", {"requirements": "../prepare.py"}, "^requirements: the bundle has another prepare.py"),
        ("prepare.py", {"requirements": ".env"}, "credentials"),
        ("prepare.py", {"codeartifact_repo_arn": "ours"}, "^codeartifact_repo_arn: 'ours' is not the ARN"),
        ("s3://b/x.py", {"source_dir": None, "requirements": "r.txt"}, "^requirements: .*`code` is in S3"),
        ("s3://b/x.py", {}, "^code: 's3://b/x.py' must be a local file"),
        ("/x.py", {"source_dir": "s3://b/k"}, "^code: must be the name of a file in source_dir"),
        ("../x.py", {"source_dir": "s3://b/k"}, "^code: must be the name of a file in source_dir"),
        (
            "x.py",
            {"source_dir": "s3://b/k", "dependencies": ["a"]},
            "^dependencies: cannot be added to a source_dir in S3",
        ),
        ("prepare.py", {"git_config": {"repo": "r", "token": "t"}}, r'^git_config\["token"\]: leave it out'),
        ("prepare.py", {"git_config": {"repo": "r", "tag": "t"}}, r'^git_config\["tag"\]: is not known'),
        ("prepare.py", {"git_config": {"repo": "r", "branch": "--upload-pack=x"}}, r'^git_config\["branch"\]: must be'),
        (3, {}, "^code: must be a path"),
    ],
)
def test_bad_input_is_named(
    framework: Recorded, source: Path, monkeypatch: pytest.MonkeyPatch, code: Any, options: dict[str, Any], message: str
) -> None:
    """An invalid value is refused before any call, and the error names the parameter as the user wrote it."""
    monkeypatch.chdir(source)
    (source.parent / "other.py").touch()
    (source.parent / "prepare.py").write_text("another")
    with pytest.raises(ConfigurationError, match=message):
        framework.request(code, **{"source_dir": str(source), **options})


@pytest.mark.parametrize("name", ["code", "entrypoint", "processing-command"])
def test_the_names_of_the_added_inputs_are_reserved(source: Path, name: str) -> None:
    """An error refuses a user's input with a reserved name, and asks for another name."""
    recorded = Recorded(FrameworkProcessor, env={"A": "b" * 300})
    given = [ProcessingInput("s3://b/k", "/opt/ml/processing/input/mine", name)]
    with pytest.raises(ConfigurationError, match=rf"^inputs\[0\]\.input_name: '{name}' is the name"):
        recorded.request("prepare.py", source, inputs=given)


def test_an_invalid_code_location_is_refused(source: Path) -> None:
    """The error names `code_location`."""
    recorded = Recorded(FrameworkProcessor, code_location="bucket/prefix")
    with pytest.raises(ConfigurationError, match=r"^code_location: 'bucket/prefix' is not an S3 URI"):
        recorded.request("prepare.py", source)


def test_a_bundle_above_the_sessions_limit_is_refused(source: Path) -> None:
    """The limit is the session's, and the error names what is large."""
    session = Session(default_bucket="data", region_name="eu-west-1", bundle_limit=1000)
    processor = FrameworkProcessor(IMAGE, ROLE, 1, "ml.m5.xlarge", sagemaker_session=session)
    with pytest.raises(ConfigurationError, match=r"^bundle_limit: .*helpers/"):
        processor.request("prepare.py", source)


def git(repository: Path, *arguments: str) -> str:
    """Run Git in a repository, and return its output."""
    named = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-C", str(repository)]
    return subprocess.run([*named, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(source: Path) -> Path:
    """The source directory as a repository of Git's."""
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")
    git(source, "init", "-q", "-b", "main")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "first")
    return source


def test_code_from_a_repository(framework: Recorded, repository: Path) -> None:
    """`git_config` takes the paths from a commit of a repository."""
    first, source = git(repository, "rev-parse", "HEAD"), repository
    (source / "jobs" / "nightly.py").write_text("print('changed')\n")
    git(source, "commit", "-qam", "second")
    config = {"repo": str(source), "branch": "main"}
    framework.request("nightly.py", "jobs", ["helpers"], config)
    assert framework.bundled() == {"nightly.py": "print('changed')\n", "helpers/__init__.py": "NAME = 'helped'\n"}
    framework.request("jobs/nightly.py", git_config={**config, "commit": first})
    assert framework.bundled() == {"nightly.py": "print('nightly')\n"}
    with pytest.raises(StagingError, match=r"^git_config: .*no-such-branch"):
        framework.request("nightly.py", git_config={**config, "branch": "no-such-branch"})


def test_the_users_own_repository_is_left_alone(
    framework: Recorded, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Git hook's variables do not redirect the clone to the user's own repository."""
    first = git(repository, "rev-parse", "HEAD")
    git(tmp_path, "clone", "-q", str(repository), "own")
    git(tmp_path / "own", "commit", "-q", "--allow-empty", "-m", "mine")
    before = git(tmp_path / "own", "rev-parse", "HEAD"), git(tmp_path / "own", "symbolic-ref", "HEAD")
    with monkeypatch.context() as hook:
        hook.setenv("GIT_DIR", str(tmp_path / "own" / ".git"))
        hook.setenv("GIT_INDEX_FILE", str(tmp_path / "own" / ".git" / "index"))
        framework.request("jobs/nightly.py", git_config={"repo": str(repository), "commit": first})
    assert framework.bundled() == {"nightly.py": "print('nightly')\n"}
    assert (git(tmp_path / "own", "rev-parse", "HEAD"), git(tmp_path / "own", "symbolic-ref", "HEAD")) == before


@pytest.mark.parametrize("folder", [False, True])
def test_a_repository_takes_no_file_of_this_machine(
    framework: Recorded, repository: Path, tmp_path: Path, folder: bool
) -> None:
    """A link in it that leads out of it is refused; one that stays in it is followed."""
    (repository / "same.py").symlink_to("prepare.py")
    git(repository, "add", "same.py")
    git(repository, "commit", "-q", "-m", "a link")
    config = {"repo": str(repository)}
    framework.request("same.py", ".", git_config=config)
    assert framework.bundled()["same.py"] == framework.bundled()["prepare.py"]
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "settings").write_text("mine")
    (repository / "leak").symlink_to(tmp_path / "private" / ("" if folder else "settings"))
    git(repository, "add", "leak")
    git(repository, "commit", "-q", "-m", "another")
    with pytest.raises(StagingError, match=r"^git_config: a link leads out of the repository(.|\n)*leak.*private"):
        framework.request("same.py", ".", git_config=config)


# On the engine.


@pytest.fixture
def local(local_session: LocalSession) -> FrameworkProcessor:
    return FrameworkProcessor(instance_count=1, instance_type="local", sagemaker_session=local_session)


def test_it_runs(local: FrameworkProcessor, source: Path, library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script sees the files beside it and the dependencies, on the Python that jobs run on, whatever its name."""
    (source / "prepare.py").write_text(
        "import sys, helpers, library\nprint(helpers.NAME, library.NAME, sys.argv[1:], sys.version_info[:2])\n"
    )
    local.run("prepare.py", str(source), [str(library)], arguments=["a b"])
    assert f"helped library ['a b'] {sys.version_info[:2]}" in capsys.readouterr().out


def test_the_exit_code_is_the_jobs(local: FrameworkProcessor, source: Path) -> None:
    """A script that fails fails the job with its own exit code."""
    (source / "prepare.py").write_text("raise SystemExit(7)\n")
    with pytest.raises(JobFailedError, match="exit code: 7"):
        local.run("prepare.py", source, logs=False)


@pytest.mark.parametrize("kind", [FrameworkProcessor, ScriptProcessor])
def test_requirements_are_the_jobs_own(
    kind: type[ScriptProcessor], local_session: LocalSession, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job imports the packages that it installs before others, and the user's own Python does not change."""
    make_wheel(source, "ours_alone", "1.0")
    (source / "requirements.txt").write_text("./ours_alone-1.0-py3-none-any.whl\n")
    (source / "prepare.py").write_text("import ours_alone, attrs\nprint(ours_alone.VERSION, attrs.__name__)\n")
    processor = kind(
        command=["python3"],
        instance_count=1,
        instance_type="local",
        sagemaker_session=local_session,
        env={"PIP_NO_INDEX": "1"},
    )
    processor.run("prepare.py", source_dir=source)
    assert "1.0 attrs" in capsys.readouterr().out.splitlines()[-1]
    assert subprocess.run([sys.executable, "-c", "import ours_alone"], capture_output=True, check=False).returncode == 1


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A package as pip installs it, without any network."""
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{name}-{version}.dist-info/RECORD"] = "".join(f"{path},,\n" for path in files)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def test_a_missing_requirement_ends_the_job(local: FrameworkProcessor, source: Path) -> None:
    """The end of the log names the failed step, and the script does not run."""
    (source / "requirements.txt").write_text("./no-such.whl\n")
    with pytest.raises(JobFailedError) as caught:
        local.run("prepare.py", source, logs=False)
    assert "runproc.sh: failed to install requirements.txt" in "\n".join(caught.value.log_tail)
    assert "helped" not in "\n".join(caught.value.log_tail)


def test_code_that_lies_in_s3_runs(
    local: FrameworkProcessor, local_session: LocalSession, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An archive from another program is unpacked, and files below a prefix run unchanged."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as writing:
        writing.add(source / "prepare.py", "prepare.py")
        writing.add(source / "helpers", "helpers")
    bucket = local_session.default_bucket()
    local_session.client("s3").put_object(Bucket=bucket, Key="v1/project.tgz", Body=archive.getvalue())
    local.run("prepare.py", f"s3://{bucket}/v1/project.tgz", arguments=["archive"])
    local_session.upload_data(source, bucket, "v2")
    local.run("prepare.py", f"s3://{bucket}/v2", arguments=["prefix"])
    said = capsys.readouterr().out
    assert "helped ['archive']" in said
    assert "helped ['prefix']" in said


def test_run_args_are_code_that_was_uploaded(
    local: FrameworkProcessor, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result of get_run_args can be run after the local files are deleted."""
    prepared = local.get_run_args("prepare.py", str(source), arguments=["later"])
    (source / "prepare.py").unlink()
    assert prepared.code is not None
    local.run(prepared.code, inputs=prepared.inputs, arguments=prepared.arguments)
    assert "helped ['later']" in capsys.readouterr().out


class OfSagemaker2(FrameworkProcessor):
    """Overrides the bootstrap with text in the manner of 2.x."""

    def _generate_framework_script(self, user_script: str, codeartifact_repo_arn: str | None = None) -> str:
        del codeartifact_repo_arn
        lines = ["#!/bin/bash", "cd /opt/ml/processing/input/code/", "tar -xzf sourcedir.tar.gz", "set -e"]
        lines += ["if [[ -f 'requirements.txt' ]]; then", "  python -m pip install -r requirements.txt", "fi"]
        return "\n".join([*lines, f'{" ".join(self.command or ())} {user_script} "$@"\n'])


def test_a_bootstrap_in_the_manner_of_sagemaker_2_runs(
    local_session: LocalSession, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An overridden text with fixed paths works wherever the job has an /opt/ml of its own."""
    make_wheel(source, "ours_too", "2.0")
    (source / "requirements.txt").write_text("./ours_too-2.0-py3-none-any.whl\n")
    (source / "prepare.py").write_text("import ours_too\nprint(ours_too.VERSION)\n")
    processor = OfSagemaker2(
        instance_count=1, instance_type="local", sagemaker_session=local_session, env={"PIP_NO_INDEX": "1"}
    )
    from processing.local import sandboxes

    if not sandboxes.choose().mounts:
        pytest.skip("there is no sandbox with an /opt/ml on this machine")
    processor.run("prepare.py", str(source))
    assert "2.0" in capsys.readouterr().out.splitlines()[-1]


def test_a_fixed_path_in_the_bootstrap_needs_a_sandbox(tmp_path: Path, source: Path) -> None:
    """Without a sandbox there is no /opt/ml, and an error says so before the job starts."""
    session = LocalSession(tmp_path / "engine", sandbox="rewriting")
    processor = OfSagemaker2(instance_count=1, instance_type="local", sagemaker_session=session)
    with pytest.raises(EngineError, match="names a path below /opt/ml"):
        processor.run("prepare.py", str(source))


def test_a_fixed_path_in_a_bundled_script_needs_a_sandbox(tmp_path: Path, source: Path) -> None:
    """A script in a bundle is checked like a script that travels alone."""
    session = LocalSession(tmp_path / "engine", sandbox="rewriting")
    processor = FrameworkProcessor(instance_count=1, instance_type="local", sagemaker_session=session)
    (source / "prepare.py").write_text("print(open('/opt/ml/processing/input/data/x').read())\n")
    with pytest.raises(EngineError, match=r"prepare\.py:1: .*names a path below /opt/ml"):
        processor.run("prepare.py", str(source))


def test_a_fixed_path_in_a_script_of_a_repository_is_refused_too(tmp_path: Path, repository: Path) -> None:
    """The check also covers a script from a repository whose clone is deleted by then."""
    session = LocalSession(tmp_path / "engine", sandbox="rewriting")
    processor = FrameworkProcessor(instance_count=1, instance_type="local", sagemaker_session=session)
    (repository / "prepare.py").write_text("print(open('/opt/ml/processing/input/data/x').read())\n")
    git(repository, "commit", "-qam", "a fixed path")
    with pytest.raises(EngineError, match=r"prepare\.py:1: .*names a path below /opt/ml"):
        processor.run("prepare.py", git_config={"repo": str(repository)})


class WithHooks(FrameworkProcessor):
    """Overrides the hooks for code with the parameters of 2.x."""

    def _pack_and_upload_code(  # type: ignore[override]
        self,
        code: Any,
        source_dir: Any,
        dependencies: Any,
        git_config: Any,
        job_name: Any,
        inputs: Any,
        kms_key: Any = None,
        codeartifact_repo_arn: Any = None,
    ) -> Any:
        self.seen = ["pack"]
        return super()._pack_and_upload_code(
            code, source_dir, dependencies, git_config, job_name, inputs, kms_key, codeartifact_repo_arn
        )

    def _patch_inputs_with_payload(self, inputs: Any, s3_payload: str) -> Any:
        self.seen.append("patch")
        return super()._patch_inputs_with_payload(inputs, s3_payload)

    def _create_and_upload_runproc(
        self, user_script: str, kms_key: Any, entrypoint_s3_uri: str, codeartifact_repo_arn: Any = None
    ) -> str:
        self.seen.append(entrypoint_s3_uri)
        return super()._create_and_upload_runproc(user_script, kms_key, entrypoint_s3_uri, codeartifact_repo_arn)

    def _set_entrypoint(self, command: Any, user_script_name: str) -> None:
        super()._set_entrypoint(command, user_script_name)
        self.entrypoint = ["/usr/bin/env", *(self.entrypoint or ())]


def test_the_hooks_of_sagemaker_2_are_called(source: Path) -> None:
    """Each hook gets the parameters of 2.x, and its result is used."""
    recorded = Recorded(WithHooks)
    request = recorded.request("prepare.py", str(source), job_name="a-job", codeartifact_repo_arn=ARN)
    assert recorded.processor.seen == ["pack", "s3://data/a-job/source/runproc.sh", "patch"]
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["/usr/bin/env", "/bin/bash", BOOTSTRAP]


class OfAnOlderRelease(FrameworkProcessor):
    """Overrides the hooks for code as releases of 2.x did that knew no CodeArtifact, and replaces the bootstrap."""

    def _pack_and_upload_code(  # type: ignore[override]
        self, code: Any, source_dir: Any, dependencies: Any, git_config: Any, job_name: Any, inputs: Any, kms_key: Any
    ) -> Any:
        return super()._pack_and_upload_code(code, source_dir, dependencies, git_config, job_name, inputs, kms_key)

    def _create_and_upload_runproc(self, user_script: str, kms_key: Any, entrypoint_s3_uri: str) -> str:  # type: ignore[override]
        return super()._create_and_upload_runproc(user_script, kms_key, entrypoint_s3_uri)

    def _generate_framework_script(self, user_script: str) -> str:  # type: ignore[override]
        return f"{self._get_codeartifact_command(ARN)}\n{' '.join(self.command or ())} {user_script}\n"


def test_the_hooks_of_older_releases_are_called(source: Path) -> None:
    """Older hooks are called without the later parameter, and a 2.x text can call the login command."""
    recorded = Recorded(OfAnOlderRelease)
    recorded.request("prepare.py", str(source))
    assert recorded.bootstrap() == (
        "aws codeartifact login --tool pip --domain-owner 111122223333 --domain our-domain "
        "--repository our-repository --region eu-west-1\npython3 prepare.py\n"
    )


def test_a_processor_without_settings_is_as_before(source: Path) -> None:
    """A ScriptProcessor without options uploads the script, and starts it with the command."""
    recorded = Recorded(ScriptProcessor)
    recorded.request(source, entry_point="prepare.py")
    request = recorded.request(str(source / "prepare.py"))
    assert request["AppSpecification"]["ContainerEntrypoint"] == ["python3", f"{CODE}/prepare.py"]
    assert list(inputs_of(request)) == ["code"]


def test_the_engines_folder_stays_behind(tmp_path: Path, source: Path) -> None:
    """A session may keep its data below the source directory: no bundle contains it, and the next job still runs."""
    session = LocalSession(source / "engine", tick=0.01)
    processor = FrameworkProcessor(instance_count=1, instance_type="local", sagemaker_session=session)
    (source / "prepare.py").write_text("import pathlib; print(pathlib.Path('engine').exists())\n")
    data = [ProcessingInput(source, "/opt/ml/processing/input/data", "data")]
    for _ in range(2):
        job = processor.run("prepare.py", source, inputs=data, logs=False)
        assert [line.message for line in job.logs()] == ["False"]
    names = {
        entry["Key"] for entry in session.client("s3").list_objects_v2(Bucket=session.default_bucket())["Contents"]
    }
    assert not [name for name in names if "sqlite3" in name]


def test_outputs_and_a_second_run(local: FrameworkProcessor, source: Path, tmp_path: Path) -> None:
    """A processor can run again with other code, and keeps the user's command."""
    (source / "prepare.py").write_text("import pathlib, sys\npathlib.Path(sys.argv[1], 'a.txt').write_text('out')\n")
    folder = "/opt/ml/processing/output"
    outputs = [ProcessingOutput(folder, output_name="o")]
    first = local.run("prepare.py", str(source), outputs=outputs, arguments=[folder], logs=False)
    local.run(str(source / "jobs" / "nightly.py"), logs=False)
    (file,) = first.outputs["o"].download(tmp_path / "got")
    assert file.read_text() == "out"
    assert local.command == ["python"]
    assert len(local.jobs) == 2


def test_the_names_are_public() -> None:
    """It is imported from the package, as its neighbours are."""
    assert processing.FrameworkProcessor is FrameworkProcessor
