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


def transform_settings(request: Mapping[str, Any], proposed: Mapping[str, Any]) -> TransformSettings:
    """Return the settings of a job: from the request, else from the program, else AWS's defaults.

    Args:
        request: the members of CreateTransformJob.
        proposed: the program's answer to GET /execution-parameters.
    """
    source, target = request["TransformInput"], request["TransformOutput"]
    client = request.get("ModelClientConfig") or {}
    payload = request.get("MaxPayloadInMB", proposed.get("MaxPayloadInMB", DEFAULT_PAYLOAD))
    strategy = request.get("BatchStrategy") or _STRATEGIES.get(proposed.get("BatchStrategy", ""), "MultiRecord")
    headers = {"Content-Type": source.get("ContentType"), "Accept": target.get("Accept")}
    return TransformSettings(
        split_type=source.get("SplitType", "None"),
        several=strategy == "MultiRecord",
        payload=payload * MIB or None,
        concurrency=max(1, request.get("MaxConcurrentTransforms") or proposed.get("MaxConcurrentTransforms", 1)),
        lines=target.get("AssembleWith") == "Line",
        headers={name: value for name, value in headers.items() if value},
        seconds=client.get("InvocationsTimeoutInSeconds", _TIMEOUT),
        retries=client.get("InvocationsMaxRetries", _RETRIES),
    )


def asks_program(request: Mapping[str, Any]) -> bool:
    """Return whether a request leaves something open that the program may decide."""
    return not request.get("MaxConcurrentTransforms") or not {"MaxPayloadInMB", "BatchStrategy"} <= set(request)


def proposed_settings(body: bytes) -> dict[str, Any]:
    """Return the settings in an answer to GET /execution-parameters. Values that a job cannot have are left out."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    numbers = {name: found.get(name) for name in ("MaxConcurrentTransforms", "MaxPayloadInMB")}
    proposed: dict[str, Any] = {
        name: value for name, value in numbers.items() if type(value) is int and 0 <= value <= MAX_PAYLOAD
    }
    strategy = found.get("BatchStrategy")
    return {**proposed, "BatchStrategy": strategy} if isinstance(strategy, str) else proposed
