"""An event source that reads an SQS queue which EventBridge fills: a job with an event is described at once.

Only the job's name is taken from an event. An event that comes twice costs one more status call. One that never comes
costs the time until the next scheduled call. DescribeProcessingJob and ListProcessingJobs remain the truth.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils import type_name
from processing._utils.forks import ForkSafeLock, reset_after_fork
from processing.aws.retry import RetryingApi
from processing.exceptions import ConfigurationError
from processing.watching.outages import cause_of
from processing.watching.status.eventbridge_event import read_event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from threading import Condition

logger = logging.getLogger(__name__)

_LONG_POLL: Final = 20  # seconds, the most that SQS offers
_BATCH: Final = 10  # messages, the most that SQS offers
# After a failure that outlasted the retries, the thread pauses as long as one long poll takes.
_PAUSE: Final = 20.0
# The thread ends after a minute without a waiting consumer. A program that waits for one job after another keeps it.
_UNUSED: Final = 60.0


class EventBridgeSource:
    """An event source that wakes waits when EventBridge reports a job's status change to an SQS queue.

    Messages are deleted when they have been read, so each program needs a queue of its own. If the queue cannot be
    read, one warning is logged, and the status calls go on as without an event source.

    A daemon thread reads the queue while there are waits.

    Args:
        queue_url: the queue's URL.
        sqs_client: a boto3 client of SQS; by default one of the session that receives this event source.

    Raises:
        ConfigurationError: `queue_url` is not a URL, or `sqs_client` is not a client of SQS.
    """

    def __init__(self, queue_url: str, sqs_client: Any = None) -> None:
        given: object = queue_url  # not every caller has a type checker
        if not isinstance(given, str) or not given.startswith(("https://", "http://")):
            raise ConfigurationError(f"queue_url: must be the URL of a queue, not {queue_url!r}")
        if sqs_client is not None and not hasattr(sqs_client, "receive_message"):
            raise ConfigurationError(f"sqs_client: must be boto3's client of SQS, not {type_name(sqs_client)}")
        self.queue_url = queue_url
        self._client = sqs_client
        self._api: RetryingApi | None = None
        # Guards all below. It is acquired while a condition's lock is held, never the other way round.
        self._lock = ForkSafeLock()
        # By condition of each poller that waits, the names of the jobs with events since its last wait.
        self._changed: weakref.WeakKeyDictionary[Condition, set[str]] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._waiting = 0  # pollers
        self._last_wait_ended = 0.0
        self._given_up = False
        self._warned_of_others = False
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._changed = weakref.WeakKeyDictionary()
        self._thread, self._waiting = None, 0
        if self._client is not None:
            from processing.aws.connections import reconnected_client

            self._client = reconnected_client(self._client, "sqs_client")

    def __reduce__(self) -> tuple[type[EventBridgeSource], tuple[str]]:
        if self._client is not None:
            raise ConfigurationError(
                "sqs_client: belongs to this process; make the EventBridgeSource in the other process, or without it"
            )
        return EventBridgeSource, (self.queue_url,)

    def __copy__(self) -> EventBridgeSource:
        return self  # one thread reads the queue, for any number of sessions

    def __deepcopy__(self, _memo: object) -> EventBridgeSource:
        return self

    def connect(self, api: RetryingApi) -> None:
        """Use a session's calls to read the queue. `Session(event_source=...)` calls this."""
        client = self._client
        self._api = api if client is None else RetryingApi(lambda _: client, policy=api.policy, clock=api.clock)

    def wait(self, condition: Condition, seconds: float) -> Collection[str]:
        """Return after that many seconds, or sooner: when the condition is notified, or when there is an event.

        Args:
            condition: the condition to wait on. The caller holds its lock, which is released meanwhile.
            seconds: the longest wait; may be infinite.

        Returns:
            The names of the jobs with events since the last call with this condition.
        """
        api = self._api
        assert api is not None, "connect() comes first"
        with self._lock:
            changed = self._changed.setdefault(condition, set())
            self._waiting += 1
            self._read_in_thread(api)
        try:
            if not changed:  # `_notify` adds to it under the condition's lock, which is held here
                api.clock.wait(condition, seconds)
        finally:
            with self._lock:
                self._waiting -= 1
                self._last_wait_ended = api.clock.monotonic()
        names = frozenset(changed)
        changed.clear()
        return names

    def _read_in_thread(self, api: RetryingApi) -> None:
        if not self._given_up and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._read, args=(api,), name="event-source", daemon=True)
            self._thread.start()

    # The methods of the thread.

    def _read(self, api: RetryingApi) -> None:
        while self._is_wanted(api):
            error = self._receive(api)
            if error is None:
                continue
            if cause_of(error) is None:
                self._give_up(error)
                return
            logger.debug("the queue %s cannot be read at the moment: %s", self.queue_url, error)
            api.clock.sleep(_PAUSE)

    def _is_wanted(self, api: RetryingApi) -> bool:
        with self._lock:
            wanted = self._waiting > 0 or api.clock.monotonic() - self._last_wait_ended < _UNUSED
            if not wanted:
                self._thread = None  # the next wait starts another one
            return wanted

    def _receive(self, api: RetryingApi) -> Exception | None:
        """Read messages, wake the waits, and delete the messages. Return the error, if any."""
        params = {"QueueUrl": self.queue_url, "MaxNumberOfMessages": _BATCH, "WaitTimeSeconds": _LONG_POLL}
        try:
            messages = api.call("sqs", "ReceiveMessage", params).get("Messages", [])
            if messages:
                self._notify(self._job_names([message.get("Body", "") for message in messages]))
                self._delete(api, messages)
        except Exception as error:  # noqa: BLE001 - no error of the queue may end the watch, which works without it
            return error
        return None

    def _delete(self, api: RetryingApi, messages: list[dict[str, Any]]) -> None:
        """Delete messages that have been read. If this fails, they come again and cost a status call."""
        entries = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]
        once = attrs.evolve(api.policy, attempts=1, budget=0.0)
        try:
            api.call("sqs", "DeleteMessageBatch", {"QueueUrl": self.queue_url, "Entries": entries}, policy=once)
        except Exception as error:
            if cause_of(error) is None:
                raise
            logger.debug("messages of %s were not deleted: %s", self.queue_url, error)

    def _job_names(self, bodies: Iterable[str]) -> set[str]:
        """Return the names of the jobs in messages."""
        events = [read_event(body) for body in bodies]
        if None in events and not self._warned_of_others:
            self._warned_of_others = True
            logger.warning(
                "%s has messages that are not state changes of processing jobs; they are deleted. Let the rule of "
                "EventBridge match only their detail-type, and send the whole event",
                self.queue_url,
            )
        return {event.job_name for event in events if event is not None}

    def _notify(self, names: Collection[str]) -> None:
        with self._lock:
            conditions = list(self._changed)
        for condition in conditions:
            with condition:
                with self._lock:
                    self._changed.setdefault(condition, set()).update(names)
                condition.notify_all()

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            self._given_up = True
        logger.warning(
            "The event source is not used, and status calls go on without it: the queue %s cannot be read "
            "(sqs:ReceiveMessage and sqs:DeleteMessage are needed): %s",
            self.queue_url,
            error,
        )

    def __repr__(self) -> str:
        return f"EventBridgeSource({self.queue_url!r})"
