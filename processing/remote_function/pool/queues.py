"""The SQS queues of a pool's job: one for the calls of each host, and one for all results."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.remote.channel import ABANDON, CLOSE, OWNER_LIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.aws.retry import RetryingApi
    from processing.remote_function.pool.messages import OutgoingCall

# SQS's limits. A batch of messages may be as large as one message; 256 KiB is the limit before August 2025.
_BATCH: Final = 10
_BATCH_BYTES: Final = 256 * 1024
_WAIT: Final = 20
"""The seconds of a long poll: SQS's maximum, so that an idle pool makes the fewest calls."""
_TRIES: Final = 5
"""The times that a message is sent until SQS confirms it; each has the retries of the session."""
_RETENTION: Final = "86400"
"""The seconds for which SQS keeps a message: a day, so that queues that were left behind empty themselves."""
_VISIBILITY: Final = "5"
"""The seconds after which a message with a lost answer comes again. The second copy is ignored."""
_GONE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})

logger = logging.getLogger(__name__)


@attrs.frozen
class PoolQueues:
    """The queues of one job.

    Args:
        api: the calls to AWS.
        calls: the URL of each host's queue, in the order of the hosts.
        results: the URL of the queue of results.
        names: the names of the queues of calls, and of the queue of results.
    """

    api: RetryingApi
    calls: Sequence[str]
    results: str
    names: tuple[Sequence[str], str]

    @classmethod
    def create(cls, api: RetryingApi, base: str, hosts: int) -> PoolQueues:
        """Create the queues.

        Args:
            api: the calls to AWS.
            base: the beginning of their names, which no other queue has.
            hosts: the number of hosts.
        """
        names = [f"{base}-{number}" for number in range(1, hosts + 1)]
        results = f"{base}-results"
        urls = []
        for name in (*names, results):
            attributes = {"MessageRetentionPeriod": _RETENTION, "VisibilityTimeout": _VISIBILITY}
            urls.append(api.call("sqs", "CreateQueue", {"QueueName": name, "Attributes": attributes})["QueueUrl"])
        return cls(api, urls[:-1], urls[-1], (names, results))

    def send_calls(self, host: int, calls: Sequence[OutgoingCall]) -> None:
        """Send calls to a host. A call that arrives twice runs once."""
        batch: list[OutgoingCall] = []
        size = 0
        for call in calls:
            if batch and (len(batch) == _BATCH or size + len(call.body) > _BATCH_BYTES):
                self._send_batch(host, batch)
                batch, size = [], 0
            batch.append(call)
            size += len(call.body)
        if batch:
            self._send_batch(host, batch)

    def _send_batch(self, host: int, batch: Sequence[OutgoingCall]) -> None:
        entries = [{"Id": str(call.number), "MessageBody": call.body} for call in batch]
        for _ in range(_TRIES):
            answer = self.api.call("sqs", "SendMessageBatch", {"QueueUrl": self.calls[host], "Entries": entries})
            for each in answer.get("Failed") or ():
                if each.get("SenderFault"):
                    raise ValueError(f"SQS refuses a message: {each.get('Message')}")
            # Half an answer names no messages, although they were sent. A host runs a call that comes again once.
            sent = {each["Id"] for each in answer.get("Successful") or ()}
            entries = [entry for entry in entries if entry["Id"] not in sent]
            if not entries:
                return
        raise OSError("SQS has not confirmed it")

    def send_sign_of_life(self) -> None:
        """Send a sign of life to all hosts."""
        self._send_all({"kind": OWNER_LIVES})

    def send_close(self) -> None:
        """Order all hosts to end when they have no calls left."""
        self._send_all({"kind": CLOSE})

    def send_abandon(self) -> None:
        """Order all hosts to end, and to remove the queues and objects of the pool."""
        self._send_all({"kind": ABANDON})

    def _send_all(self, message: dict[str, str]) -> None:
        for url in self.calls:
            self.api.call("sqs", "SendMessage", {"QueueUrl": url, "MessageBody": json.dumps(message)})

    def receive(self, handle: Callable[[dict[str, Any]], None], *, seconds: int = _WAIT) -> bool:
        """Wait for messages of the hosts, handle and delete them.

        A message may come again, even if it was deleted.

        Args:
            handle: receives each message.
            seconds: the longest wait, up to 20.

        Returns:
            False if the queue is gone, or if `seconds` is 0 and there is no message.
        """
        from processing.aws.retry import error_code

        try:
            params = {"QueueUrl": self.results, "MaxNumberOfMessages": _BATCH, "WaitTimeSeconds": seconds}
            messages = self.api.call("sqs", "ReceiveMessage", params).get("Messages") or []
            for each in messages:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # not a host's
                    handle(json.loads(each["Body"]))
            if messages:
                handles = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
                self.api.call("sqs", "DeleteMessageBatch", {"QueueUrl": self.results, "Entries": handles})
        except Exception as error:
            if error_code(error) in _GONE:
                return False
            raise
        return bool(messages) or seconds > 0

    def delete(self) -> None:
        """Delete the queues that still exist."""
        for url in (*self.calls, self.results):
            self._delete(url)

    def _delete(self, url: str) -> None:
        from processing.aws.retry import error_code

        try:
            self.api.call("sqs", "DeleteQueue", {"QueueUrl": url})
        except Exception as error:  # noqa: BLE001 - an empty queue costs nothing
            if error_code(error) not in _GONE:
                logger.warning("the queue %s was not deleted: %s", url, error)
