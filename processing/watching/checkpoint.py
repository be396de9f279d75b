"""How far the lines of jobs have been given, for another process to go on from there."""

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
    """Which lines of which jobs have been given.

    Opaque: made by what reads, kept as text, given to what is to go on. Takes about eleven bytes for each line that was
    given, as a line may arrive hours late and must still be told from the others.
    """

    jobs: Mapping[str, Mapping[str, Any]] = attrs.field(repr=False)

    def to_json(self) -> str:
        """Return the checkpoint as a text of one line."""
        return json.dumps({"version": _VERSION, "jobs": self.jobs}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Checkpoint:
        """Return the checkpoint that `to_json` wrote.

        Raises:
            ConfigurationError: the text is not one, or one of a version that is not known here.
        """
        try:
            content = json.loads(text)
        except (TypeError, ValueError) as error:
            raise ConfigurationError("checkpoint: is not what Checkpoint.to_json() returned") from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != _VERSION or not isinstance(content.get("jobs"), dict):
            raise ConfigurationError(
                f"checkpoint: is of version {version!r}; this version of the package reads version {_VERSION}. "
                "Begin without a checkpoint"
            )
        return cls(content["jobs"])
