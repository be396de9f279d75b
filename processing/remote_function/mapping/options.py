"""The options of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils import did_you_mean
from processing._utils.validation import FLAG, NAME, field, integer, number
from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.container.remote.workers import CallLimits

PLATFORM: Final = "platform"
"""A cause of a retry other than an exception: a killed worker, or lost capacity."""


def _causes(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)


def _check_causes(_instance: Any, _attribute: Any, causes: tuple[Any, ...] | None) -> None:
    for cause in causes or ():
        if cause != PLATFORM and not (isinstance(cause, type) and issubclass(cause, BaseException)):
            raise ConfigurationError(f"retry_on: must be classes of exceptions or 'platform', not {cause!r}")


@attrs.frozen(kw_only=True)
class MapOptions:
    """The options of a map.

    Args:
        workers: the worker processes of each instance; None for one per processor.
        ordered: True to yield the results in order of the calls, False in order of their ends.
        return_exceptions: True to yield the exception of a call in place of its result.
        timeout: the longest time of one call in seconds; None for no limit.
        retries: the times that a call may run again.
        retry_on: the causes for which it may: classes of exceptions, and `"platform"` for a worker that was killed and
            for lost capacity. None for `Exception` and `"platform"`.
        chunksize: the calls that a worker gets at once; None for a number that follows from their duration.
        name: a name that makes the map resumable; None for a map of its own.
    """

    workers: int | None = attrs.field(default=None, validator=field(integer(at_least=1), optional=True))
    ordered: bool = attrs.field(default=True, validator=field(FLAG))
    return_exceptions: bool = attrs.field(default=False, validator=field(FLAG))
    timeout: float | None = attrs.field(default=None, validator=field(number(above=0), optional=True))
    retries: int = attrs.field(default=0, validator=field(integer()))
    retry_on: tuple[Any, ...] | None = attrs.field(default=None, converter=_causes, validator=_check_causes)
    chunksize: int | None = attrs.field(default=None, validator=field(integer(at_least=1), optional=True))
    name: str | None = attrs.field(default=None, validator=field(NAME, optional=True))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> MapOptions:
        """Return the options of keyword arguments.

        Raises:
            ConfigurationError: there is no such option, or a value is not valid.
        """
        known = [each.name for each in attrs.fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{name}: map has no such option{did_you_mean(name, known)}")
        return cls(**options)

    @property
    def classes(self) -> tuple[type[BaseException], ...]:
        """The exceptions for which a call may run again."""
        causes = (Exception,) if self.retry_on is None else self.retry_on
        return tuple(cause for cause in causes if cause != PLATFORM)

    @property
    def retries_platform(self) -> bool:
        """True if a call may run again after its worker was killed."""
        return self.retry_on is None or PLATFORM in self.retry_on

    def limits(self, attempts: int) -> CallLimits:
        """Return the rules for the calls of a host.

        Args:
            attempts: the number of earlier jobs of the same map. Each counts as one try of a call.
        """
        from processing.container.remote.workers import CallLimits  # only a map needs the module of its hosts

        return CallLimits(
            workers=self.workers or 0,
            timeout=self.timeout,
            retries=max(0, self.retries - attempts),
            retry_killed=self.retries_platform,
            retry_timeout=any(issubclass(TimeoutError, cause) for cause in self.classes),
            chunksize=self.chunksize or 0,
        )
