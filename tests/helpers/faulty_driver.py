"""An engine with faults on the calls of Spark's driver alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing import LocalSession

if TYPE_CHECKING:
    from pathlib import Path

    from processing.testing import FaultInjector


class FaultyDriver(LocalSession):
    """A session with faults. Spark's workers get one of the same engine, without them.

    Args:
        home: the engine's folder.
        faults: the faults.
    """

    def __init__(self, home: Path, faults: FaultInjector) -> None:
        super().__init__(home, transport=faults.wrap, tick=0.05)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalSession, (self.home,)
