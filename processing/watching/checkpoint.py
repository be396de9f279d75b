"""The position of a log reader, from which another process can continue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 1


@attrs.frozen
class Checkpoint:
    """The log lines that a stream of events has delivered.

    Its content is opaque: a stream makes it, the caller stores it as text, and the next stream receives it. It takes
    about eleven bytes for each delivered line. A line may arrive hours late, so each delivered one has to be known.

    Args:
        jobs: the delivered lines by job, in a form that only this package reads.
    """

    jobs: Mapping[str, Mapping[str, Any]] = attrs.field(repr=False)

    def to_json(self) -> str:
        """Return the checkpoint as one line of text."""
        return json.dumps({"version": _VERSION, "jobs": self.jobs}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Checkpoint:
        """Return the checkpoint that `to_json` wrote.

        Raises:
            ConfigurationError: the text is not a checkpoint, or its version is unknown.
        """
        try:
            content = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError("checkpoint: is not what Checkpoint.to_json() returned") from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != _VERSION or not isinstance(content.get("jobs"), dict):
            raise ConfigurationError(
                f"checkpoint: is of version {version!r}; this version of the package reads version {_VERSION}. "
                "Begin without a checkpoint"
            )
        return cls(content["jobs"])
