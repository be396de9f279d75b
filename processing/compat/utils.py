"""The module `sagemaker.utils`."""

from __future__ import annotations

import time

from processing.clock import SYSTEM_CLOCK
from processing.request.job_names import unique_job_name


def name_from_base(base: str, max_length: int = 63, short: bool = False) -> str:
    """Return `<base>-<UTC to the millisecond>`, with the base cut to fit. A process never gets the same name twice.

    Args:
        base: the beginning of the name.
        max_length: the maximum length of the name in characters.
        short: True for a time to the minute, `yymmdd-HHMM`; then names can repeat.
    """
    if short:
        stamp = time.strftime("%y%m%d-%H%M", time.gmtime(SYSTEM_CLOCK.time()))
    else:
        stamp = unique_job_name("x", SYSTEM_CLOCK).removeprefix("x-")
    return f"{base[: max_length - len(stamp) - 1]}-{stamp}"
