"""What is to be submitted: a key, a job name and the arguments of `run` for each job, checked before it is sent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils import type_name
from processing.exceptions import ConfigurationError
from processing.request.job_names import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

SET_BY_FLEET: Final[Mapping[str, Any]] = {"wait": False, "logs": False}
"""Arguments of `run` that every job gets, besides its name."""

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_RESERVED = frozenset({*SET_BY_FLEET, "job_name", "if_exists"})


@attrs.frozen
class Run:
    """One job to be.

    Args:
        position: its place in the order in which the runs were given, from 0.
        key: what tells it from the others of its fleet.
        job_name: `<name of the fleet>-<key>`.
        arguments: of the processor's `run`.
    """

    position: int
    key: str
    job_name: str
    arguments: Mapping[str, Any]


class Runs(Iterable[Run]):
    """The runs of a fleet, in order. Those of a generator are checked as they come, others all at once, here.

    Args:
        name: the fleet's name.
        given: mappings of arguments of `run`, their positions being the keys; or a mapping of keys to such mappings.
        function: the `run` that gets the arguments.

    Attributes:
        total: how many there are; None where only the end of a generator will tell.

    Raises:
        ConfigurationError: a name, a key or the arguments cannot work.
    """

    def __init__(self, name: str, given: Any, function: Callable[..., Any]) -> None:
        self._name = checked_name(name)
        self._signature = inspect.signature(function)
        self._keyed = isinstance(given, Mapping)
        self._given = given
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise ConfigurationError(
                f"runs: must be mappings of run()'s arguments, or a mapping of keys to them, not {type_name(given)}"
            )
        self.total = len(given) if isinstance(given, Sized) else None
        if self.total is not None:
            self._check_all()

    def __iter__(self) -> Iterator[Run]:
        pairs = self._given.items() if self._keyed else enumerate(self._given)
        for position, (key, arguments) in enumerate(pairs):
            yield self._run(position, key, arguments)

    def _check_all(self) -> None:
        seen: dict[str, str] = {}
        for run in self:
            # An ARN has the name in small letters: AWS would take two such names for one.
            other = seen.setdefault(run.key.lower(), run.key)
            if other != run.key or len(seen) <= run.position:
                raise ConfigurationError(f"runs: the keys {other!r} and {run.key!r} make the same job name")

    def _run(self, position: int, key: object, arguments: object) -> Run:
        field = f"runs[{key!r}]"
        if not isinstance(key, (str, int)) or isinstance(key, bool) or not _NAME.fullmatch(str(key)):
            raise ConfigurationError(
                f"{field}: the key is part of the job's name: a string of letters, digits and hyphens, none of these "
                "at an end, or a number from 0"
            )
        job_name = f"{self._name}-{key}"
        if len(job_name) > LONGEST_NAME:
            raise ConfigurationError(
                f"{field}: the job's name would be {job_name!r}, of {len(job_name)} characters; it may have "
                f"{LONGEST_NAME}: give a shorter name or key"
            )
        if not isinstance(arguments, Mapping):
            raise ConfigurationError(f"{field}: must be a mapping of run()'s arguments, not {type_name(arguments)}")
        reserved = sorted(_RESERVED & set(arguments))
        if reserved:
            raise ConfigurationError(f"{field}.{reserved[0]}: is set by submit_all; leave it out")
        try:
            self._signature.bind(**arguments, job_name=job_name, **SET_BY_FLEET)
        except TypeError as error:
            raise ConfigurationError(f"{field}: run() cannot be called so: {error}") from None
        return Run(position, str(key), job_name, arguments)


def checked_name(name: object) -> str:
    """Return the name of a fleet.

    Raises:
        ConfigurationError: it cannot be the beginning of job names.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"name: must be a string, not {type_name(name)}")
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME - 2:
        raise ConfigurationError(
            f"name: {name!r} cannot begin job names: 1 to {LONGEST_NAME - 2} letters, digits and hyphens, none of "
            "these at an end"
        )
    return name
