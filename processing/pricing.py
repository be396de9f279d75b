"""What an instance costs an hour."""

from __future__ import annotations

import attrs


@attrs.frozen
class Price:
    """The price of an instance for processing jobs, on demand.

    Args:
        usd: US dollars an hour.
        as_of: the day on which it was read, such as `2026-11-21`.
    """

    usd: float
    as_of: str

    def __str__(self) -> str:
        return f"{self.usd:g} USD an hour (as of {self.as_of})"


def hourly_price(instance_type: str, region: str) -> Price | None:
    """Return what an instance type costs an hour in a region; None where that is not known."""
    return _KNOWN.get((instance_type, region))


_KNOWN: dict[tuple[str, str], Price] = {}
