"""The Spark and the Java that are installed on this machine, found without starting either.

Spark is the one of `SPARK_HOME`, or the pyspark of an interpreter. Java is the one of `JAVA_HOME`, or that of the PATH.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from processing.exceptions import EngineError

_FIND = "import importlib.util as u; s = u.find_spec('pyspark'); print(s.origin if s and s.origin else '')"
_FIND_SECONDS = 60
"""The longest time that an interpreter may take to start; a busy machine needs seconds."""
_CORE = re.compile(r"spark-core_[\d.]+-(.+)\.jar")
_JAVA_VERSION = re.compile(r'^JAVA_VERSION="?(?:1\.)?(\d+)', re.MULTILINE)
_INSTALL_SPARK = 'pip install "sm-processing[spark]"'
_INSTALL_JAVA = "install Java 17, such as with apt-get install default-jre-headless"


_PYTHONS = (((4, 3), (3, 11)), ((4, 1), (3, 10)), ((4, 0), (3, 9)))
"""The oldest Python of each Spark, the newest Spark first."""


class Spark(NamedTuple):
    """An installation of Spark.

    Attributes:
        home: its folder, with `bin` and `jars`.
        version: its version, such as `3.5.9`; None if it is not known.
    """

    home: str
    version: str | None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The major and the minor version, such as `(3, 5)`; empty if they are not known."""
        found = re.match(r"(\d+)\.(\d+)", self.version or "")
        return () if found is None else (int(found[1]), int(found[2]))

    @property
    def needed_java(self) -> int:
        """The oldest version of Java that this Spark runs on."""
        return 17 if self.numbers >= (4,) else 8

    def misfits(self, java: Java | None, python: tuple[int, int]) -> list[str]:
        """Return the parts of this machine that do not fit this Spark, each with what it needs.

        Args:
            java: the installed Java.
            python: the major and the minor version of Python.
        """
        found = []
        known = None if java is None else java.version
        if known is not None and known < self.needed_java:
            found.append(f"Spark {self.version} needs Java {self.needed_java} or newer, and this is Java {known}")
        if known is not None and known > 17 and self.numbers < (4,):
            found.append(f"Spark {self.version} runs on Java 17 at most, and this is Java {known}")
        oldest = next((least for spark, least in _PYTHONS if self.numbers >= spark), (3, 8))
        if python < oldest:
            found.append(f"Spark {self.version} needs Python {oldest[0]}.{oldest[1]} or newer")
        if python > (3, 11) and self.numbers < (4,):
            found.append(f"Spark {self.version} runs on Python 3.11 at most")
        return found


class Java(NamedTuple):
    """An installation of Java.

    Attributes:
        program: the path of `java`.
        version: its version, such as 17; None if it is not known.
    """

    program: str
    version: int | None


def variables_of(env: object) -> dict[str, str]:
    """Return the environment in which a job looks for Spark and Java: this process's, with the homes that a job sets.

    Args:
        env: the environment variables of the job.
    """
    own = env if isinstance(env, Mapping) else {}
    homes = {name: own.get(name) for name in ("SPARK_HOME", "JAVA_HOME")}
    return {**os.environ, **{name: home for name, home in homes.items() if isinstance(home, str)}}


def find_spark(python: str | None = None, variables: Mapping[str, str] = os.environ) -> Spark | None:
    """Return the installed Spark; None if there is none.

    Args:
        python: the interpreter whose pyspark is meant without `SPARK_HOME`; None for this process's own.
        variables: the environment variables that name its home.

    Raises:
        EngineError: `SPARK_HOME` is set, and there is no Spark.
    """
    home = variables.get("SPARK_HOME") or _pyspark(python or sys.executable)
    if not home:
        return None
    if not Path(home, "bin", "spark-class").is_file():
        raise EngineError(f"SPARK_HOME: {home} has no bin/spark-class, so it is no Spark; correct or unset it")
    return Spark(home, spark_version(home))


def _pyspark(python: str) -> str:
    """Return the folder of an interpreter's pyspark; empty if it has none."""
    try:
        found = subprocess.run(  # noqa: S603 - the interpreter that jobs run on
            [python, "-I", "-c", _FIND], capture_output=True, text=True, timeout=_FIND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    origin = found.stdout.strip()
    return str(Path(origin).parent) if found.returncode == 0 and origin else ""


def spark_version(home: str) -> str | None:
    """Return the version of the Spark in a folder, from the names of its files; None if it is not known."""
    with contextlib.suppress(OSError):
        for name in os.listdir(Path(home, "jars")):  # noqa: PTH208 - names are enough
            found = _CORE.fullmatch(name)
            if found is not None:
                return found[1]
    return None


def find_java(variables: Mapping[str, str] = os.environ) -> Java | None:
    """Return the installed Java; None if there is none. `JAVA_HOME` wins over the PATH, as in Spark's own scripts."""
    home = variables.get("JAVA_HOME")
    program = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if program is None:
        return None
    homes = Path(os.path.realpath(program)).parents[1:3]  # the program of Java 8 is in the folder `jre` of its home
    versions = (_java_version(home) for home in homes)
    return Java(program, next((version for version in versions if version is not None), None))


def _java_version(home: Path) -> int | None:
    """Return the version that the file `release` of a home has; None if there is none."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = _JAVA_VERSION.search(Path(home, "release").read_text(encoding="utf-8"))
        return None if found is None else int(found[1])
    return None


def installation_problem(python: str | None = None, variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the missing part of Spark and Java, with the remedy; None if both are installed and fit together.

    Args:
        python: as in `find_spark`.
        variables: as in `find_spark`.
    """
    try:
        spark = find_spark(python, variables)
    except EngineError as error:
        return str(error)
    java = find_java(variables)
    missing = [] if spark is not None else [f"no pyspark in {python or sys.executable}"]
    remedies = [] if spark is not None else [_INSTALL_SPARK]
    if java is None:
        home = variables.get("JAVA_HOME")
        missing.append(f"no java in JAVA_HOME ({home})" if home else "no java on the PATH")
        remedies.append(f"correct or unset JAVA_HOME, or {_INSTALL_JAVA}" if home else _INSTALL_JAVA)
    elif spark is not None and java.version is not None and java.version < spark.needed_java:
        missing.append(f"Spark {spark.version} needs Java {spark.needed_java}, but {java.program} is {java.version}")
        remedies.append(_INSTALL_JAVA)
    if not missing:
        return None
    needs = (
        "needs pyspark and Java on this machine, and there is " if spark is None or java is None else "cannot start: "
    )
    return f"Spark {needs}{' and '.join(missing)}: {'; '.join(remedies)}"
