"""Watching jobs: their status and their log lines, as one stream of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.watching.status.eventbridge import EventBridgeSource

__all__ = ["EventBridgeSource"]

if not TYPE_CHECKING:  # loaded when it is used: all of watching stands on this module, and few need that

    def __getattr__(name: str) -> Any:
        """Load the one public name."""
        if name != "EventBridgeSource":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from processing.watching.status.eventbridge import EventBridgeSource

        return EventBridgeSource
