"""Removal of what pools leave behind: large values in S3, and the queues of pools that nothing has closed.

The owner of a pool removes both when it closes the pool. If the owner disappears, the pool's job removes them, with the
permissions of its role. If the job dies too, a later pool removes them once no job of that age can run any more. It
finds the age in the names, so this needs no call for each queue.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from processing.staging.listing import list_objects
from processing.staging.objects import owner_params

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

NAME: Final = "processing-pool-"
"""The beginning of the names of queues, and of the S3 prefixes below the root."""
STALE_SECONDS: Final = 10 * 86400.0
"""The age of a pool whose job has ended: AWS ends a job after nine days at the latest."""
_BATCH: Final = 1000
_STARTED: Final = re.compile(rf"{NAME}([0-9a-f]{{8}})-[0-9a-f]{{12}}[-/]")

logger = logging.getLogger(__name__)


def new_name(session: Session) -> str:
    """Return the name of a new pool. It has the time in seconds, and a part that no other pool has."""
    return f"{NAME}{int(session.clock.time()):08x}-{secrets.token_hex(6)}"


def remove_objects(session: Session, prefix: S3Uri) -> None:
    """Remove the objects below a prefix, which ends with a slash. A failure is logged."""
    try:
        _remove_objects(session, prefix)
    except Exception as error:  # noqa: BLE001 - the pool has done its work
        logger.warning("the objects below %s were not removed: %s", prefix, error)


def _remove_objects(session: Session, prefix: S3Uri) -> None:
    owner = owner_params(prefix.bucket, session.expected_owner)
    keys = [each.key for each in list_objects(session.api, prefix, session.expected_owner)]
    for start in range(0, len(keys), _BATCH):
        objects = [{"Key": key} for key in keys[start : start + _BATCH]]
        params = {"Bucket": prefix.bucket, "Delete": {"Objects": objects, "Quiet": True}, **owner}
        for failure in session.api.call("s3", "DeleteObjects", params).get("Errors", ()):
            raise OSError(f"{failure.get('Key')}: {failure.get('Message')}")


def remove_stale(session: Session, root: S3Uri) -> None:
    """Remove the queues and objects of pools that were started too long ago to run. Failures are ignored.

    Args:
        session: the session of a new pool.
        root: the S3 prefix below which pools have their objects.
    """
    latest = session.clock.time() - STALE_SECONDS
    with contextlib.suppress(Exception):  # the permission to list queues may be missing
        for url in _queues(session):
            if _is_before(latest, url.rpartition("/")[2]):
                session.api.call("sqs", "DeleteQueue", {"QueueUrl": url})
    with contextlib.suppress(Exception):  # and that to list objects
        for key in _prefixes(session, root):
            if _is_before(latest, key[len(root.key) :].lstrip("/")):
                _remove_objects(session, type(root)(root.bucket, key))


def _is_before(moment: float, name: str) -> bool:
    found = _STARTED.match(name)
    return found is not None and int(found[1], 16) < moment


def _queues(session: Session) -> Iterator[str]:
    params: dict[str, Any] = {"QueueNamePrefix": NAME, "MaxResults": _BATCH}
    while True:
        answer = session.api.call("sqs", "ListQueues", params)
        yield from answer.get("QueueUrls", ())
        if not answer.get("NextToken"):
            return
        params["NextToken"] = answer["NextToken"]


def _prefixes(session: Session, root: S3Uri) -> Iterator[str]:
    params: dict[str, Any] = {
        "Bucket": root.bucket,
        "Prefix": (root / NAME).key,
        "Delimiter": "/",
        **owner_params(root.bucket, session.expected_owner),
    }
    while True:
        answer = session.api.call("s3", "ListObjectsV2", params)
        yield from (each["Prefix"] for each in answer.get("CommonPrefixes", ()))
        if not answer.get("NextContinuationToken"):
            return
        params["ContinuationToken"] = answer["NextContinuationToken"]
