"""Names of `sagemaker_pyspark` that stand for the JVM: there is none behind these stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def classpath_jars() -> list[str]:
    """Return the jars that stages need: none."""
    return []


class SageMakerClients:
    """The default clients. A stage makes its own, for which None stands."""

    @classmethod
    def create_s3_default_client(cls) -> None:
        """Return None: the session's client of S3."""

    @classmethod
    def create_sts_default_client(cls) -> None:
        """Return None: the session's client of STS."""

    @classmethod
    def create_sagemaker_client(cls) -> None:
        """Return None: the session's client of SageMaker."""


class SageMakerJavaWrapper:
    """The base of the JVM's objects in `sagemaker_pyspark`. Nothing here is one."""


class ScalaMap(SageMakerJavaWrapper):
    """A dictionary for the JVM.

    Args:
        dictionary: the dictionary.
    """

    def __init__(self, dictionary: Mapping[Any, Any]) -> None:
        self.dictionary = dictionary


class ScalaList(SageMakerJavaWrapper):
    """A list for the JVM.

    Args:
        p_list: the list.
    """

    def __init__(self, p_list: Sequence[Any]) -> None:
        self.p_list = p_list


class Option(SageMakerJavaWrapper):
    """A value that may be missing.

    Args:
        value: the value, or None.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def empty(cls) -> Option:
        """Return the missing value."""
        return cls(None)
