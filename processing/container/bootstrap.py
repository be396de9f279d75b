"""Bootstrap script of a job: a small shell script that starts code which is uploaded together with its files.

It unpacks the code, installs its requirements, and replaces itself with the user's command. The command's exit code and
signals are therefore those of the job. It needs a POSIX shell. It needs Python and pip of the image only if something
has to be installed. It locates its files relative to its own path, so it works for any location of /opt/ml.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import List, NamedTuple, Optional, Sequence

from processing.container import contract
from processing.container.command import quote_word

NAME = "runproc.sh"
"""The script's name, as in `sagemaker` 2.x."""

ARCHIVE = "sourcedir.tar.gz"
"""The bundle's name, as in `sagemaker` 2.x."""

_PYTHON = re.compile(r"python[0-9.]*")

_HEAD = """\
#!/bin/sh
# Starts the code of a SageMaker Processing job: unpacks it, installs what it requires, runs it.
# The first step that fails ends the job, with that step's exit code.
set -e
step='find the code'
trap 'code=$?; [ $code -eq 0 ] || echo "{name}: failed to $step (exit code $code)" >&2; exit $code' EXIT

cd "$(dirname "$0")/../code"
"""

_UNPACK = """\
step={step}
if {possible}; then
    {unpack}
else
    "$python" -m {module} -e {archive}{to}
fi
"""

# The name's end of each archive that can be unpacked: the programs that it takes, and the module of Python's library
# that does without them.
_TAR = "command -v tar >/dev/null 2>&1"
_UNPACKERS = {
    ".tar.gz": (_TAR + " && command -v gzip >/dev/null 2>&1", "tar -xzof %s", "tarfile"),
    ".tgz": (_TAR + " && command -v gzip >/dev/null 2>&1", "tar -xzof %s", "tarfile"),
    ".tar": (_TAR, "tar -xof %s", "tarfile"),
    ".tar.bz2": (_TAR + " && command -v bzip2 >/dev/null 2>&1", "tar -xjof %s", "tarfile"),
    ".tbz2": (_TAR + " && command -v bzip2 >/dev/null 2>&1", "tar -xjof %s", "tarfile"),
    ".tar.xz": (_TAR + " && command -v xz >/dev/null 2>&1", "tar -xJof %s", "tarfile"),
    ".txz": (_TAR + " && command -v xz >/dev/null 2>&1", "tar -xJof %s", "tarfile"),
    ".zip": ("command -v unzip >/dev/null 2>&1", "unzip -oq %s", "zipfile"),
}
_OTHER_ARCHIVES = (".7z", ".bz2", ".gz", ".jar", ".rar", ".tar.lz4", ".tar.z", ".tar.zst", ".whl", ".xz", ".zst")

_LOGIN = """\
step='log in to CodeArtifact'
if command -v aws >/dev/null 2>&1; then
    {login}
else
    PIP_INDEX_URL=$("$python" -c '
import boto3, sys
domain, owner, repository, region = sys.argv[1:]
client = boto3.client("codeartifact", region_name=region)
named = {{"domain": domain, "domainOwner": owner}}
token = client.get_authorization_token(**named)["authorizationToken"]
url = client.get_repository_endpoint(repository=repository, format="pypi", **named)["repositoryEndpoint"]
print(url.replace("https://", "https://aws:" + token + "@").rstrip("/") + "/simple/")
' {domain} {owner} {repository} {region})
    export PIP_INDEX_URL
fi
"""

_INSTALL = """\
step={step}
"$python" -m pip install --disable-pip-version-check -r {file}
"""


_ML = """\
ml=$(cd ../../.. && pwd)
"""


class CodeArtifact(NamedTuple):
    """A repository of AWS CodeArtifact that pip installs from."""

    domain: str
    owner: str
    repository: str
    region: str

    @classmethod
    def parse(cls, arn: str) -> CodeArtifact:
        """Return the repository of an ARN.

        The form is `arn:<partition>:codeartifact:<region>:<account>:repository/<domain>/<repository>`, see
        https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscodeartifact.html.

        Raises:
            ValueError: the text is not the ARN of a repository.
        """
        match = re.fullmatch(r"arn:[^:\s]+:codeartifact:([^:\s]+):(\d+):repository/([^/\s]+)/([^/\s]+)", arn)
        if match is None:
            raise ValueError("%r is not the ARN of a CodeArtifact repository" % arn)
        region, owner, domain, repository = match.groups()
        return cls(domain, owner, repository, region)

    @property
    def login(self) -> str:
        """The shell command that points pip at the repository."""
        command = "aws codeartifact login --tool pip --domain-owner %s --domain %s --repository %s --region %s"
        return command % tuple(map(shlex.quote, (self.owner, self.domain, self.repository, self.region)))


class Payload(NamedTuple):
    """Contents of the code directory and how the script uses them.

    Attributes:
        script: the user's script, relative to that directory.
        archive: the name of the bundle to unpack; with None, the script unpacks a `sourcedir.tar.gz` if there is one.
        requirements: the requirements file to install; None for `requirements.txt`, if there is one.
        entry_point: a shell script that runs before the user's script, in the same shell.
        codeartifact: the repository that pip installs from; None for the one that pip is configured to use.
    """

    script: str
    archive: Optional[str] = ARCHIVE
    requirements: Optional[str] = None
    entry_point: Optional[str] = None
    codeartifact: Optional[CodeArtifact] = None


def bootstrap(command: Sequence[str], payload: Payload) -> str:
    """Return the text of the script.

    Args:
        command: the program that runs the user's script, and its options. If the program is a Python, it also runs pip;
            otherwise the `python3` or `python` on the PATH does.
        payload: the contents of the code directory.
    """
    steps = [_HEAD.format(name=NAME), _python(command), _unpack(payload.archive)]
    if payload.codeartifact is not None:
        named = {name: shlex.quote(value) for name, value in payload.codeartifact._asdict().items()}
        steps.append(_LOGIN.format(login=payload.codeartifact.login, **named))
    steps.append(_install(payload.requirements))
    if payload.entry_point is not None:
        steps.append("step=%s\n. %s\n" % (_quoted("run", payload.entry_point), shlex.quote("./" + payload.entry_point)))
    started = " ".join([*map(quote_word, command), _file_word(payload.script)])
    if any(map(contract.ML_PATH.search, command)):
        steps.append(_ML)
    steps.append('step=%s\nexec %s "$@"\n' % (_quoted("start", command[0]), started))
    return "\n".join(steps)


def _python(command: Sequence[str]) -> str:
    if _PYTHON.fullmatch(posixpath.basename(command[0])):
        return "python=%s\n" % shlex.quote(command[0])
    return "python=$(command -v python3 || command -v python || echo python3)\n"


def _unpack(archive: Optional[str]) -> str:
    return _if_exists(ARCHIVE, _unpack_step(ARCHIVE)) if archive is None else _unpack_step(archive)


def _unpack_step(archive: str) -> str:
    end = next(end for end in _UNPACKERS if archive.lower().endswith(end))
    possible, unpack, module = _UNPACKERS[end]
    file = _file_word(archive)
    to = " ." if module == "zipfile" else ""
    step = _quoted("unpack", archive)
    return _UNPACK.format(step=step, possible=possible, unpack=unpack % file, module=module, archive=file, to=to)


def is_archive(name: str) -> bool:
    """Return whether a file name is that of an archive that the script can unpack, in small or capital letters."""
    return name.lower().endswith(tuple(_UNPACKERS))


def is_other_archive(name: str) -> bool:
    """Return whether a file name is that of an archive that the script cannot unpack."""
    return not is_archive(name) and name.lower().endswith(_OTHER_ARCHIVES)


def _install(requirements: Optional[str]) -> str:
    file = requirements or "requirements.txt"
    install = _INSTALL.format(step=_quoted("install", file), file=_file_word(file))
    return install if requirements is not None else _if_exists(file, install)


def _if_exists(file: str, step: str) -> str:
    lines: List[str] = ["    " + line for line in step.splitlines()]
    return "\n".join(["if [ -f %s ]; then" % file, *lines, "fi\n"])


def _file_word(name: str) -> str:
    """Return a file's name as a word of the shell.

    Without `./` before it, a program would take a name that begins with `-` or `+` for an option. It would take one
    with a colon for a URL or another host's file.
    """
    return shlex.quote("./" + name if name.startswith(("-", "+")) or ":" in name else name)


def _quoted(verb: str, what: str) -> str:
    return shlex.quote("%s %s" % (verb, what))
