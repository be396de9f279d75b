"""What a job's log lines tell of its life: as long as it writes as usual it runs, and need not be looked at."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

Rhythm: TypeAlias = Literal["steady", "hushed", "unknown"]

_AS_YOUNG: Final = 1.5  # times its usual age, that the newest line of a job which writes as usual may have
_MARGIN: Final = 0.5  # seconds more
_WEIGHT: Final = 0.2  # of the newest age in the usual one


@attrs.define
class Pulse:
    """How old a job's newest line usually is when its lines are read.

    A job that writes every second has a newest line of a second or two whenever it is read, by its own pace and by
    CloudWatch's delay. While that is so, the job runs. A job that has ended shows by an older one.

    Args:
        usual: that age, in seconds; None before it is known.
        steady: whether the job wrote as usual when its lines were last read.
    """

    usual: float | None = None
    steady: bool = False

    def feel(self, age: float, longest: float) -> Rhythm:
        """Take the age of the newest line, in seconds, after reading, and return what it tells.

        Args:
            age: the age.
            longest: a job whose newest line is not younger than a third of it does not write steadily.

        Returns:
            `steady`: the job runs. `hushed`: it was steady until now, and may have ended. Else `unknown`.
        """
        bound = longest / 3
        was, self.steady = self.steady, False
        if self.usual is not None and age <= min(bound, _AS_YOUNG * self.usual + _MARGIN):
            self.steady = True
        if age <= bound:
            self.usual = age if self.usual is None else self.usual + _WEIGHT * (age - self.usual)
        return "steady" if self.steady else "hushed" if was else "unknown"
