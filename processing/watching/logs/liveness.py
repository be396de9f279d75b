"""What a job's log lines tell of its life: as long as it writes as usual it runs, and need not be looked at."""

from __future__ import annotations

from typing import Final

import attrs

_WEIGHT: Final = 0.2  # of the newest age in the usual one
_SPREADS: Final = 3.0  # from the usual age to the oldest that is as usual: nearly all are younger
_MARGIN: Final = 0.25  # seconds more


@attrs.define
class Liveness:
    """How old a job's newest line usually is when its lines are read.

    A job that writes every second has a newest line of a second or two whenever it is read, by its own pace and by
    CloudWatch's delay. While that is so, the job runs. A job that has ended shows by an older one.

    Args:
        usual: that age, in seconds; None before it is known.
        spread: by how much ages differ from it on the average.
    """

    usual: float | None = None
    spread: float = 0.0

    def observe(self, age: float, longest: float) -> bool:
        """Take the age of the newest line, in seconds, after reading, and return whether it is as usual: the job runs.

        Args:
            age: the age.
            longest: the longest wait between two looks. A line that is older than half of that tells nothing, as the
                job's end may be about as long ago; beyond twice that it is all the same how old it is.
        """
        age = min(max(0.0, age), 2 * longest)
        if self.usual is None:
            self.usual, self.spread = age, age / 2
            return False
        bound = min(longest / 2, self.usual + _SPREADS * self.spread + _MARGIN)
        self.spread += _WEIGHT * (abs(age - self.usual) - self.spread)
        self.usual += _WEIGHT * (age - self.usual)
        return age <= bound
