"""`sagemaker.utils`."""

from __future__ import annotations

import time

from processing.clock import SYSTEM_CLOCK
from processing.request.job_names import unique_job_name


def name_from_base(base: str, max_length: int = 63, short: bool = False) -> str:
    """Return `<base>-<UTC to the millisecond>`, the base cut to fit; the same name never twice in a process.

    Args:
        base: the beginning.
        max_length: characters that the name may have.
        short: True for minutes only: `yymmdd-HHMM`.
    """
    if short:
        stamp = time.strftime("%y%m%d-%H%M", time.gmtime(SYSTEM_CLOCK.time()))
    else:
        stamp = unique_job_name("x", SYSTEM_CLOCK).removeprefix("x-")
    return f"{base[: max_length - len(stamp) - 1]}-{stamp}"
