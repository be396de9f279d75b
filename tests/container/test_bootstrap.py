"""The bootstrap: what it does step by step, in every shell that this machine has."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from processing.container.bootstrap import NAME, CodeArtifact, Payload, bootstrap, is_archive

ARN = "arn:aws:codeartifact:eu-west-1:111122223333:repository/our-domain/our-repository"
ARTIFACT = CodeArtifact("our-domain", "111122223333", "our-repository", "eu-west-1")
SHELLS = [["/bin/sh"], ["bash"], ["dash"], ["busybox", "sh"]]


class Container:
    """The part of a container's file tree that the bootstrap needs, somewhere else than below /opt/ml."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.code = root / "a folder" / "code"
        self.code.mkdir(parents=True)
        self.bin = root / "bin"
        self.bin.mkdir()
        self.bootstrap = self.code.parent / "entrypoint" / NAME
        self.bootstrap.parent.mkdir()
        self.shell = shell

    def bundle(self, files: dict[str, str], name: str = "sourcedir.tar.gz") -> None:
        with tarfile.open(self.code / name, "w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(text.encode())
                entry.uid = entry.gid = 4711
                archive.addfile(entry, io.BytesIO(text.encode()))

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(
        self, command: list[str], payload: Payload, *arguments: str, path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        self.bootstrap.write_text(bootstrap(command, payload))
        path = f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}" if path is None else path
        shell = shutil.which(self.shell[0]) or self.shell[0]
        return subprocess.run(
            [shell, *self.shell[1:], str(self.bootstrap), *arguments],
            env={"PATH": path},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(params=SHELLS, ids="-".join)
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Container:
    """A container with one of the shells that images have."""
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"there is no {request.param[0]} on this machine")
    return Container(tmp_path, request.param)


def test_unpacks_and_becomes_the_command(container: Container) -> None:
    """The command runs in the code's directory, sees its files, and gets its arguments as they were given."""
    container.bundle({"jobs/prep it.py": "import sys; print(open('data/x').read(), sys.argv[1:])", "data/x": "there"})
    arguments = ["a b", "", "it's\n$HOME"]
    ran = container.run(["python3", "-u"], Payload("jobs/prep it.py"), *arguments)
    assert (ran.stdout, ran.returncode) == (f"there {arguments}\n", 0)


@pytest.mark.parametrize("code", [0, 1, 42])
def test_the_exit_code_is_the_commands(container: Container, code: int) -> None:
    """Nothing comes between the command and the job: neither a changed exit code nor a line of ours."""
    container.bundle({"x.py": f"raise SystemExit({code})"})
    ran = container.run(["python3"], Payload("x.py"))
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


def test_a_signal_is_the_commands(container: Container) -> None:
    """The shell is replaced, so what ends the command is seen from outside as what it is."""
    container.bundle({"x.py": "import os; os.kill(os.getpid(), 9)"})
    assert container.run(["python3"], Payload("x.py")).returncode == -signal.SIGKILL


def test_a_damaged_bundle_ends_the_job(container: Container) -> None:
    """Nothing is run after a step that failed, and a line says which step that was."""
    (container.code / "sourcedir.tar.gz").write_bytes(b"no gzip")
    (container.code / "x.py").write_text("print('ran')")
    ran = container.run(["python3"], Payload("x.py"))
    assert ran.returncode != 0
    assert "ran" not in ran.stdout.split()
    assert f"{NAME}: failed to unpack sourcedir.tar.gz (exit code {ran.returncode})" in ran.stderr


def test_a_missing_command_is_reported(container: Container) -> None:
    """The shell's exit code for it is kept."""
    container.bundle({"x.R": ""})
    ran = container.run(["Rscript-of-nobody"], Payload("x.R"))
    assert ran.returncode == 127
    assert "failed to start Rscript-of-nobody (exit code 127)" in ran.stderr


def test_an_archive_of_another_name_and_none(container: Container) -> None:
    """An archive is unpacked by its name; without one the files are taken as they lie there."""
    container.bundle({"x.py": "print('from it')"}, "the project.tar.gz")
    assert container.run(["python3"], Payload("x.py", "the project.tar.gz")).stdout == "from it\n"
    (container.code / "y.py").write_text("print('as it is')")
    assert container.run(["python3"], Payload("y.py", None)).stdout == "as it is\n"
    container.bundle({"z.py": "print('in a prefix')"})
    assert container.run(["python3"], Payload("z.py", None)).stdout == "in a prefix\n"


def test_without_tar_python_unpacks(container: Container) -> None:
    """Images of Amazon Linux have no tar."""
    container.bundle({"x.py": "print('unpacked')"})
    for name in ("dirname", "cat"):
        (container.bin / name).symlink_to(shutil.which(name) or "")
    (container.bin / "python3").symlink_to(sys.executable)
    ran = container.run(["python3"], Payload("x.py"), path=str(container.bin))
    assert (ran.stdout, ran.returncode) == ("unpacked\n", 0)


def test_requirements_are_installed_with_the_commands_python(container: Container) -> None:
    """A Python that is the command is the one that installs, before it runs."""
    container.bundle({"x.py": "", "reqs/cpu.txt": "nothing"})
    container.program("python3.99", 'echo "$@"')
    ran = container.run(["python3.99", "-u"], Payload("x.py", requirements="reqs/cpu.txt"), "--all")
    assert ran.stdout.splitlines() == ["-m pip install --disable-pip-version-check -r reqs/cpu.txt", "-u x.py --all"]


def test_requirements_txt_needs_not_be_named(container: Container) -> None:
    """It is installed where it is there, and only there; for another command with the Python on the PATH."""
    container.program("python3", 'echo "$@"')
    container.program("Rscript", 'echo R "$@"')
    container.bundle({"x.R": ""})
    assert container.run(["Rscript"], Payload("x.R")).stdout == "R x.R\n"
    container.bundle({"x.R": "", "requirements.txt": ""})
    lines = container.run(["Rscript"], Payload("x.R")).stdout.splitlines()
    assert lines == ["-m pip install --disable-pip-version-check -r requirements.txt", "R x.R"]


ODD_NAMES = [
    "-clean.py",
    "--help",
    "+x.py",
    "a b.py",
    "a\nb.py",
    "it's.py",
    '"q".py',
    "$HOME.py",
    "`id`.py",
    "%s.py",
    "a:b.py",
]


@pytest.mark.parametrize("name", [*ODD_NAMES, "-d/x.py"])
def test_a_name_is_never_an_option(container: Container, name: str) -> None:
    """The program runs the script with that very name, whatever characters are in it, and gets its arguments."""
    container.bundle({name: "import sys; print(sys.argv[1:])"})
    ran = container.run(["python3", "-u"], Payload(name), "-a", "b")
    assert (ran.stdout, ran.returncode) == ("['-a', 'b']\n", 0), ran.stderr


@pytest.mark.parametrize("name", ODD_NAMES)
def test_requirements_and_entry_points_are_never_options(container: Container, name: str) -> None:
    """pip and the shell read the file of that name. pip takes a name with a scheme for a URL."""
    container.bundle({"x.py": "", "set.sh": "", "file:r.txt": "", name: "true\n"})
    container.program("python3.99", 'printf "%s|" "$@"')
    for requirements in (name, "file:r.txt"):
        ran = container.run(["python3.99"], Payload("x.py", requirements=requirements, entry_point=name))
        file = f"./{requirements}" if requirements.startswith(("-", "+")) or ":" in requirements else requirements
        assert ran.stdout == f"-m|pip|install|--disable-pip-version-check|-r|{file}|x.py|"


def test_a_failed_installation_ends_the_job(container: Container) -> None:
    """The script does not run without what it requires; pip's exit code is the job's."""
    container.bundle({"x.py": "print('ran')", "requirements.txt": ""})
    container.program("python3", "exit 23")
    ran = container.run(["python3"], Payload("x.py"))
    assert (ran.returncode, ran.stdout) == (23, "")
    assert "failed to install requirements.txt (exit code 23)" in ran.stderr


def test_an_entry_point_runs_before_in_the_same_shell(container: Container) -> None:
    """The script sees its exports, and does not run if it fails."""
    container.bundle(
        {"x.py": "import os; print(os.environ['SET'])", "set up.sh": "export SET=up\n", "bad.sh": "false\n"}
    )
    assert container.run(["python3"], Payload("x.py", entry_point="set up.sh")).stdout == "up\n"
    ran = container.run(["python3"], Payload("x.py", entry_point="bad.sh"))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "failed to run bad.sh" in ran.stderr


class TestCodeArtifact:
    """pip is pointed at the repository before it installs, or the job ends."""

    def test_the_aws_command_logs_in(self, container: Container) -> None:
        """An AWS command in the image logs in, as in 2.x."""
        container.bundle({"x.py": "", "requirements.txt": ""})
        container.program("aws", 'echo aws "$@"')
        container.program("python3", 'echo python "$@"')
        first, second, _ = container.run(["python3"], Payload("x.py", codeartifact=ARTIFACT)).stdout.splitlines()
        assert first == (
            "aws codeartifact login --tool pip --domain-owner 111122223333 --domain our-domain "
            "--repository our-repository --region eu-west-1"
        )
        assert second.startswith("python -m pip install")

    def test_else_boto3_does(self, container: Container, tmp_path: Path) -> None:
        """Without the command, the image's boto3 logs in, and pip reads the index from the environment."""
        container.bundle({"x.py": "import os; print(os.environ['PIP_INDEX_URL'])"})
        (container.code / "boto3.py").write_text(BOTO3)
        path = f"{self._without_aws(tmp_path)}:{Path(sys.executable).parent}"
        ran = container.run(["python3"], Payload("x.py", codeartifact=ARTIFACT), path=path)
        assert ran.stdout == "https://aws:T@our-domain.example/pypi/our-repository/simple/\n", ran.stderr

    def test_without_either_nothing_is_installed_from_elsewhere(self, container: Container, tmp_path: Path) -> None:
        """A login that cannot be is the end: packages never come from the public index instead."""
        container.bundle({"x.py": "print('ran')"})
        (container.code / "boto3.py").write_text("raise ImportError('no boto3 here')")
        path = f"{self._without_aws(tmp_path)}:{Path(sys.executable).parent}"
        ran = container.run(["python3"], Payload("x.py", codeartifact=ARTIFACT), path=path)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "no boto3 here" in ran.stderr
        assert "failed to log in to CodeArtifact (exit code 1)" in ran.stderr

    @staticmethod
    def _without_aws(tmp_path: Path) -> Path:
        """A folder with the few programs that the bootstrap needs."""
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("dirname", "tar", "gzip"):
            (programs / name).symlink_to(shutil.which(name) or "")
        return programs


BOTO3 = """
def client(service, region_name):
    assert (service, region_name) == ("codeartifact", "eu-west-1")
    return Client()


class Client:
    def get_authorization_token(self, domain, domainOwner):
        assert (domain, domainOwner) == ("our-domain", "111122223333")
        return {"authorizationToken": "T"}

    def get_repository_endpoint(self, domain, domainOwner, repository, format):
        assert format == "pypi"
        return {"repositoryEndpoint": "https://our-domain.example/pypi/" + repository + "/"}
"""


def test_the_arn_of_a_repository() -> None:
    """It is taken apart; any other text is refused."""
    assert CodeArtifact.parse(ARN) == ARTIFACT
    for text in ("", "our-repository", ARN.replace("repository/", "domain/"), f"{ARN}; rm -rf ~", f"{ARN}\n"):
        with pytest.raises(ValueError, match="is not the ARN"):
            CodeArtifact.parse(text)


def test_no_path_of_its_own() -> None:
    """The text names no path below /opt/ml: it finds everything from its own."""
    payload = Payload("x.py", None, "r.txt", "e.sh", ARTIFACT)
    assert "/opt/ml" not in bootstrap(["python3"], payload)


@pytest.mark.parametrize("programs", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "a.tar.gz",
        "A.TAR.GZ",
        "a.tgz",
        "a.tar",
        "a.tar.bz2",
        "a.tar.xz",
        "a b.zip",
        "-a.zip",
        "-a.tar.gz",
        "host:a.tar.gz",
    ],
)
def test_every_archive_is_unpacked(name: str, programs: bool, tmp_path: Path) -> None:
    """Each kind of archive is unpacked by the image's own programs, or by Python where it has none."""
    (tmp_path / "code").mkdir()
    (tmp_path / "entrypoint").mkdir()
    archive = tmp_path / "code" / name
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("main.py", "print('ran')")
    else:
        kind = {"bz2": "w:bz2", ".xz": "w:xz", "tar": "w"}.get(name[-3:], "w:gz")
        (tmp_path / "main.py").write_text("print('ran')")
        with tarfile.open(archive, kind) as tar:  # type: ignore[call-overload]  # the mode is not a literal
            tar.add(tmp_path / "main.py", "main.py")
    script = tmp_path / "entrypoint" / NAME
    script.write_text(bootstrap([sys.executable], Payload("main.py", name)))
    path = os.environ["PATH"]
    if not programs:
        (tmp_path / "bin").mkdir()
        for program in ("sh", "dirname"):
            (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
        path = str(tmp_path / "bin")
    shell = str(shutil.which("sh"))
    done = subprocess.run([shell, script], env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr
    assert is_archive(name)
