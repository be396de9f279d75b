"""The settings of a transform job, with the defaults of AWS and those that the program proposes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.hosting.transforms.splitting import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.hosting.transforms.splitting import SplitType

DEFAULT_PAYLOAD = 6
MAX_PAYLOAD = 100
"""The limit of MaxPayloadInMB, and of its product with MaxConcurrentTransforms."""
_TIMEOUT, _RETRIES = 600, 3
"""AWS's defaults for the seconds and the retries of a request to the program."""
_STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}
"""The program's spelling of the strategies."""


class ProposedSettings(NamedTuple):
    """The program's answer to GET /execution-parameters. None means that the program proposes nothing.

    Attributes:
        concurrency: the number of requests at a time.
        payload: the most MB of a request; 0 for any number.
        strategy: `MULTI_RECORD` or `SINGLE_RECORD`.
    """

    concurrency: int | None = None
    payload: int | None = None
    strategy: str | None = None


class TransformSettings(NamedTuple):
    """The settings of a transform job.

    Attributes:
        split_type: the format of the records.
        several: whether a request has as many records as fit.
        payload: the most bytes of a request; None for any number.
        concurrency: the number of requests at a time.
        lines: whether each answer ends with a newline in the output.
        headers: the headers of each request.
        seconds: the time for each request.
        retries: the number of further attempts for each request.
    """

    split_type: SplitType
    several: bool
    payload: int | None
    concurrency: int
    lines: bool
    headers: dict[str, str]
    seconds: float
    retries: int

    def describe(self) -> str:
        """Return the line about these settings for the job's log, as on AWS."""
        strategy = "MULTI_RECORD" if self.several else "SINGLE_RECORD"
        payload = 0 if self.payload is None else self.payload // MIB
        return f"MaxConcurrentTransforms={self.concurrency}, MaxPayloadInMB={payload}, BatchStrategy={strategy}"


def transform_settings(request: Mapping[str, Any], proposed: ProposedSettings) -> TransformSettings:
    """Return the settings of a job: from the request, else from the program, else AWS's defaults.

    Args:
        request: the members of CreateTransformJob.
        proposed: the proposal of the program.
    """
    source, target = request["TransformInput"], request["TransformOutput"]
    client = request.get("ModelClientConfig") or {}
    default = DEFAULT_PAYLOAD if proposed.payload is None else proposed.payload
    payload = request.get("MaxPayloadInMB", default)
    strategy = request.get("BatchStrategy") or _STRATEGIES.get(proposed.strategy or "", "MultiRecord")
    concurrency = request.get("MaxConcurrentTransforms") or proposed.concurrency
    headers = {"Content-Type": source.get("ContentType"), "Accept": target.get("Accept")}
    return TransformSettings(
        split_type=source.get("SplitType", "None"),
        several=strategy == "MultiRecord",
        payload=payload * MIB or None,
        concurrency=concurrency or 1,
        lines=target.get("AssembleWith") == "Line",
        headers={name: value for name, value in headers.items() if value},
        seconds=client.get("InvocationsTimeoutInSeconds", _TIMEOUT),
        retries=client.get("InvocationsMaxRetries", _RETRIES),
    )


def asks_program(request: Mapping[str, Any]) -> bool:
    """Return whether a request leaves something open that the program may decide."""
    return not request.get("MaxConcurrentTransforms") or not {"MaxPayloadInMB", "BatchStrategy"} <= set(request)


def proposed_settings(body: bytes) -> ProposedSettings:
    """Return the settings in an answer to GET /execution-parameters. Values that a job cannot have are left out."""
    try:
        found = json.loads(body)
    except ValueError:
        return ProposedSettings()
    if not isinstance(found, dict):
        return ProposedSettings()
    strategy = found.get("BatchStrategy")
    return ProposedSettings(
        _limited(found.get("MaxConcurrentTransforms")),
        _limited(found.get("MaxPayloadInMB")),
        strategy if isinstance(strategy, str) else None,
    )


def _limited(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_PAYLOAD else None
