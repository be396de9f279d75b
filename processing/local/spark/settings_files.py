"""The configuration folder of Spark: the engine's settings, and the classifications of `configuration`.

A classification is applied to the file to which AWS's images apply it. Those of YARN, of HDFS and of Hive's own
programs have no effect, since the cluster has no such programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONFIGURATION = Path("processing", "input", "conf", "configuration.json")
"""The file with the classifications, below /opt/ml."""
_SITES = {"core-site": "core-site.xml", "hive-site": "hive-site.xml", "spark-hive-site": "hive-site.xml"}
_PROPERTIES = {"spark-log4j": "log4j2.properties", "spark-metrics": "metrics.properties"}
DEFAULTS, _ENVIRONMENT = "spark-defaults", "spark-env"
# Spark's own template: without a logger and an appender, a file with a few levels would silence everything.
_LOGGING = {
    "rootLogger.level": "info",
    "rootLogger.appenderRef.stdout.ref": "console",
    "appender.console.type": "Console",
    "appender.console.name": "console",
    "appender.console.target": "SYSTEM_ERR",
    "appender.console.layout.type": "PatternLayout",
    "appender.console.layout.pattern": "%d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n%ex",
}


class ConfigurationFileError(Exception):
    """A configuration.json that cannot be applied."""


class Classifications:
    """The classifications of a job.

    Args:
        values: the classifications, in the form of Amazon EMR.
    """

    def __init__(self, values: Sequence[Mapping[str, Any]] = ()) -> None:
        self._values = values

    @classmethod
    def read(cls, path: Path) -> Classifications:
        """Return the classifications in a file; none if it does not exist.

        Raises:
            ConfigurationFileError: it is not JSON, or has no classifications.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        try:
            loaded = json.loads(text)
            values = loaded if isinstance(loaded, list) else [loaded]
            for value in values:
                value["Classification"], dict(value["Properties"])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationFileError(f"{path.name} has no classifications of Amazon EMR: {error!r}") from error
        return cls(values)

    def properties(self, name: str) -> dict[str, str]:
        """Return the properties of a classification; of several with one name, the later ones win."""
        found: dict[str, str] = {}
        for value in self._named(name):
            found.update({key: str(each) for key, each in value["Properties"].items()})
        return found

    def exports(self, name: str) -> dict[str, str]:
        """Return the variables that a classification of an environment exports."""
        inner = [each for value in self._named(name) for each in value.get("Configurations") or ()]
        return Classifications([each for each in inner if each.get("Classification") == "export"]).properties("export")

    def without_effect(self) -> list[str]:
        """Return the names of the classifications that change nothing here."""
        applied = {*_SITES, *_PROPERTIES, DEFAULTS, _ENVIRONMENT}
        return sorted({str(value["Classification"]) for value in self._values} - applied)

    def _named(self, name: str) -> Iterable[Mapping[str, Any]]:
        return [value for value in self._values if value["Classification"] == name]


def s3_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the properties by which Hadoop's module for S3, if it is among the jars, finds the job's S3.

    Its credentials come from the environment of driver and executors.

    Args:
        environment: the variables of the job.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": environment.get("AWS_REGION", ""),
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https:")).lower(),
    }


def write_settings(folder: Path, classifications: Classifications, properties: Mapping[str, str]) -> None:
    """Write the files of `SPARK_CONF_DIR` and `HADOOP_CONF_DIR`.

    Args:
        folder: a new folder. Only this user can read it, since `properties` has the secret of the cluster.
        classifications: the classifications of the job.
        properties: the properties of Spark, those of `spark-defaults` among them.
    """
    folder.mkdir(mode=0o700)
    _write(folder / "spark-defaults.conf", (f"{name} {value}" for name, value in properties.items()))
    _write(folder / "spark-env.sh", (f"export {name}={value}" for name, value in _exports(classifications)))
    for name, file in _PROPERTIES.items():
        properties = {**(_LOGGING if name == "spark-log4j" else {}), **classifications.properties(name)}
        if properties:
            _write(folder / file, (f"{key}={value}" for key, value in properties.items()))
    for file in dict.fromkeys(_SITES.values()):
        site = {
            key: value
            for name, target in _SITES.items()
            if target == file
            for key, value in classifications.properties(name).items()
        }
        if site:
            _write(folder / file, _xml(site))


def _exports(classifications: Classifications) -> Iterable[tuple[str, str]]:
    return classifications.exports(_ENVIRONMENT).items()


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _xml(properties: Mapping[str, str]) -> Iterable[str]:
    """Return the lines of a file in XML. Values are written as they are, as AWS's images do it."""
    yield '<?xml version="1.0"?>'
    yield "<configuration>"
    for name, value in properties.items():
        yield f"  <property><name>{name}</name><value>{value}</value></property>"
    yield "</configuration>"
