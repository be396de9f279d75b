"""Detection of a wrong clock on this machine, by the time in a response that refuses a signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    from processing.clock import Clock

_SIGNATURE_CODES = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
# Seconds by which a clock may be wrong: AWS refuses signatures beyond five minutes, S3 beyond fifteen.
_TOLERATED_SKEW = 300.0


class ClockSkewError(ProcessingError):
    """AWS refused a signature because this machine's clock is wrong. The cause is botocore's error.

    Attributes:
        skew: the seconds by which the clock is ahead of AWS's; negative if it is behind.
    """

    def __init__(self, skew: float) -> None:
        self.skew = skew
        direction = "ahead of" if skew > 0 else "behind"
        super().__init__(
            f"AWS refused the signature: this machine's clock is {abs(skew) / 60:.0f} minutes {direction} AWS's. "
            "Set the clock (turn on NTP), then try again."
        )


def clock_skew(code: str | None, server_time: float | None, clock: Clock) -> float | None:
    """Return the seconds by which a clock is ahead of AWS's, if a signature was refused because of that.

    Args:
        code: the error code of the response; None if there is none.
        server_time: the time in the response, in seconds since the epoch.
        clock: the clock of this machine.
    """
    if code not in _SIGNATURE_CODES or server_time is None:
        return None
    skew = clock.time() - server_time
    return skew if abs(skew) > _TOLERATED_SKEW else None
