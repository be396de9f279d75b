"""Checks of this machine that need no call to AWS: `processing doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from processing._utils.validation import PATH, require
from processing.container.terminal_text import safe_line
from processing.exceptions import ConfigurationError, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

Severity = Literal["ok", "warning", "problem"]

_PACKAGE = Path(__file__).parent
_EXTRAS = {
    "cli": ("click", "rich", "PyYAML"),
    "config": ("PyYAML", "platformdirs"),
    "fast": ("obstore",),
    "spark": ("pyspark", "pyarrow", "numpy", "pandas"),
}

# Providers that read the environment and files only. The others ask a server or start a program.
_QUIET_PROVIDERS = frozenset({"env", "shared-credentials-file", "config-file"})
_NAMED_SOURCES = {
    "sso_session": "single sign-on",
    "sso_start_url": "single sign-on",
    "login_session": "aws login",
    "role_arn": "a role to assume",
    "credential_process": "a program",
}
_SERVERS = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "a web identity token",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "the container's role",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "the container's role",
}


@attrs.frozen
class Finding:
    """The result of one check.

    Args:
        severity: `problem` if something will not work, `warning` if it may surprise, else `ok`.
        topic: the subject of the check, in a word or two.
        text: the result, and the remedy if one is needed.
    """

    severity: Severity
    topic: str
    text: str

    def __str__(self) -> str:
        return safe_line(f"{self.severity:<8} {self.topic}: {self.text}")


def findings(path: str | os.PathLike[str] | None = None) -> tuple[Finding, ...]:
    """Check this machine, and return the results in order. Nothing is changed, and AWS is not called.

    Args:
        path: the user's script, or its folder; by default the current directory.

    Raises:
        ConfigurationError: the path does not exist.
    """
    return tuple(_all(_folder_of(path)))


def _folder_of(path: str | os.PathLike[str] | None) -> Path:
    require("path", path, PATH, optional=True)
    given = Path(path if path is not None else ".")
    try:
        given.stat()
    except OSError as error:
        raise ConfigurationError(f"path: {os.fspath(given)!r} does not exist or cannot be read: {error}") from error
    return given.resolve() if given.is_dir() else given.resolve().parent


def _all(folder: Path) -> Iterator[Finding]:
    yield from _hiding(folder)
    yield from _versions()
    yield from _aws()
    yield _config()
    yield _sandbox()
    yield _spark()
    yield from _engine_folder()


def _hiding(folder: Path) -> Iterator[Finding]:
    """Find files that hide this package: a script imports from its own folder first."""
    fix = "hides this package from the scripts beside it, here and in a job; give it another name"
    module, package = folder / "processing.py", folder / "processing"
    if module.is_file():
        yield Finding("problem", "script's folder", f"{module} {fix}")
    if (package / "__init__.py").is_file() and not package.samefile(_PACKAGE):
        yield Finding("problem", "script's folder", f"{package}{os.sep} {fix}")
    elif package.is_dir() and not package.samefile(_PACKAGE):
        text = (
            f"{package}{os.sep} hides this package as soon as there is an __init__.py in it, and in a job where this "
        )
        yield Finding("warning", "script's folder", text + "package is not installed; give it another name")


def _versions() -> Iterator[Finding]:
    ours = ("sm-processing", "boto3", "botocore")
    versions = [f"{name} {_version(name) or '(not installed, but found)'}" for name in ours]
    yield Finding("ok", "versions", ", ".join((*versions, "Python " + sys.version.partition(" ")[0])))
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        how = f"not installed ({', '.join(missing)}): pip install sm-processing[{extra}]" if missing else "installed"
        yield Finding("ok", f"extra {extra}", how)
    sagemaker = _version("sagemaker")
    if sagemaker is not None:
        text = f"{sagemaker} is installed too: `import sagemaker` means that, and processing.compat.install() leaves it"
        yield Finding("ok", "sagemaker", text)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _aws() -> Iterator[Finding]:
    import botocore.exceptions
    import botocore.session

    session = botocore.session.Session()
    try:
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        credentials = _credentials(session)
    except botocore.exceptions.BotoCoreError as error:
        yield Finding("problem", "AWS", str(error))
        return
    if region:
        yield Finding("ok", "AWS region", region)
    else:
        text = "none; set AWS_REGION, or `region` of the profile, or give Session(region_name=...)"
        yield Finding("warning", "AWS region", text)
    if credentials:
        yield Finding("ok", "AWS credentials", f"from {credentials}; not tried")
    else:
        text = 'none in the environment or a file. instance_type="local" needs none; a machine of AWS may have a role'
        yield Finding("warning", "AWS credentials", text)


def _credentials(session: Any) -> str | None:
    """Return the source of the credentials; None if neither the environment nor a file names one."""
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD in _QUIET_PROVIDERS and provider.load() is not None:
            return "the environment" if provider.METHOD == "env" else f"the profile {session.profile or 'default'!r}"
    settings = session.get_scoped_config()
    found = [source for name, source in _NAMED_SOURCES.items() if settings.get(name)]
    found += [source for name, source in _SERVERS.items() if os.environ.get(name)]
    return found[0] if found else None


def _config() -> Finding:
    from processing.config import load
    from processing.config.files import config_sources

    remote = [source.location for source in config_sources() if source.in_s3]
    if remote:
        return Finding("ok", "config file", f"{', '.join(remote)}, which a run reads; not looked at here")
    try:
        config = load()
    except ConfigurationError as error:
        return Finding("problem", "config file", str(error))
    read = [file.location for file in config.files if file.found]
    return Finding("ok", "config file", ", ".join(read) if read else "none")


def _sandbox() -> Finding:
    from processing.local.sandboxes import choose

    try:
        name = choose().name
    except EngineError as error:
        return Finding("problem", "jobs on this machine", str(error))
    if name == "rewriting":
        text = (
            "run without a sandbox: /opt/ml paths reach them as arguments and variables only; bubblewrap gives them one"
        )
        return Finding("warning", "jobs on this machine", text)
    return Finding("ok", "jobs on this machine", f"run in the sandbox {name}")


def _spark() -> Finding:
    """Find the Spark and the Java that the engine and the history server use, and how they fit this Python."""
    from processing.local.spark.installation import find_java, find_spark, installation_problem

    try:
        spark = find_spark()
    except EngineError as error:
        return Finding("problem", "Spark", str(error))
    java = find_java()
    if spark is None:
        text = (
            "not installed, and needed for Spark applications on this machine alone: pip install sm-processing[spark]"
        )
        return Finding("ok", "Spark", text)
    misfits = spark.misfits(java, sys.version_info[:2])
    own = _version("pyspark")
    if os.environ.get("SPARK_HOME") and own is not None and spark.version is not None and own != spark.version:
        misfits.append(
            f"SPARK_HOME has Spark {spark.version}, and this Python's pyspark is {own}, which starts that Spark and "
            "does not understand it: unset SPARK_HOME, or install the same version"
        )
    if java is None:
        misfits.append(str(installation_problem()))
    if java is None or misfits:
        return Finding("warning", "Spark", "; ".join(misfits))
    version = "unknown" if java.version is None else java.version
    return Finding("ok", "Spark", f"{spark.version} in {spark.home}, Java {version} ({java.program})")


def _engine_folder() -> Iterator[Finding]:
    from processing.local.folder_check import problems
    from processing.local.home import configured_home

    topic = "engine's folder"
    try:
        home = configured_home()
        if not os.path.lexists(home):
            yield Finding("ok", topic, f"{home}; made by the first job")
            return
        found = problems(home)
    except EngineError as error:
        found = [str(error)]
    yield from (Finding("problem", topic, each) for each in found)
    if not found:
        yield Finding("ok", topic, str(home))
