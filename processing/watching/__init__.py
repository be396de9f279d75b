"""The watching of jobs: their status changes and log lines, as one stream of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.watching.status.eventbridge import EventBridgeSource

__all__ = ["EventBridgeSource"]

# The import is lazy: every module of watching imports this package, and few programs use the event source.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import the public name at its first use."""
        if name != "EventBridgeSource":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from processing.watching.status.eventbridge import EventBridgeSource

        return EventBridgeSource
