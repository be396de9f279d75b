"""A queue of SQS that EventBridge fills, as a wake-up: what it tells of is looked at at once, instead of in its turn.

Nothing is believed of an event but the name in it. One that comes twice costs a look, one that never comes costs the
time until the next look: DescribeProcessingJob and ListProcessingJobs stay the truth.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils import type_name
from processing.aws.retry import FailureKind, RetryingApi, classify
from processing.exceptions import ConfigurationError
from processing.watching.status.eventbridge_event import read_event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from threading import Condition

logger = logging.getLogger(__name__)

_LONG_POLL: Final = 20  # seconds, the most that SQS offers
_BATCH: Final = 10  # messages, the same
_PAUSE: Final = 20.0  # seconds after a failure that outlasted the tries
_UNUSED: Final = 60.0  # seconds without anybody waiting after which the queue is left alone


class EventBridgeSource:
    """Wakes those who wait for jobs when EventBridge has told a queue of SQS that one has changed its status.

    Messages are deleted when they have been read: give each program a queue of its own. Where the queue cannot be read,
    a warning says so once, and jobs are looked at in their turn.

    A thread reads the queue while somebody waits; the interpreter does not wait for it.

    Args:
        queue_url: the queue's URL.
        sqs_client: a boto3 client of SQS, where it is not to be one of the session that this is given to.

    Raises:
        ConfigurationError: `queue_url` is no URL, or `sqs_client` no client of SQS.
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
        self._lock = threading.Lock()  # guards all below; taken while a condition's is held, never the other way round
        self._told: weakref.WeakKeyDictionary[Condition, set[str]] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._waited = 0.0  # when somebody last did
        self._broken = False
        self._puzzled = False

    def connect(self, api: RetryingApi) -> None:
        """Read the queue through a session's calls; `Session(event_source=...)` does so."""
        client = self._client
        self._api = api if client is None else RetryingApi(lambda _: client, policy=api.policy, clock=api.clock)

    def wait(self, condition: Condition, seconds: float) -> Collection[str]:
        """Return after that many seconds, or sooner: when the condition is notified, or a job has changed its status.

        Args:
            condition: the caller holds its lock, which is given up meanwhile.
            seconds: may be infinite.

        Returns:
            The names of the jobs that events told of since the last call for this condition.
        """
        api = self._api
        assert api is not None, "connect() comes first"
        with self._lock:
            told = self._told.setdefault(condition, set())
            self._waiting += 1
            self._read_in_thread(api)
        try:
            if not told:  # whoever adds to it holds the condition's lock
                api.clock.wait(condition, seconds)
        finally:
            with self._lock:
                self._waiting -= 1
                self._waited = api.clock.monotonic()
        names = frozenset(told)
        told.clear()
        return names

    def _read_in_thread(self, api: RetryingApi) -> None:
        if not self._broken and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._read, args=(api,), name="event-source", daemon=True)
            self._thread.start()

    # What the thread does.

    def _read(self, api: RetryingApi) -> None:
        while self._is_wanted(api):
            error = self._receive(api)
            if error is None:
                continue
            if classify(error) in {FailureKind.FATAL, FailureKind.PROPAGATING}:
                self._give_up(error)
                return
            logger.debug("the queue %s cannot be read at the moment: %s", self.queue_url, error)
            api.clock.sleep(_PAUSE)

    def _is_wanted(self, api: RetryingApi) -> bool:
        with self._lock:
            wanted = self._waiting > 0 or api.clock.monotonic() - self._waited < _UNUSED
            if not wanted:
                self._thread = None  # the next who waits starts another
            return wanted

    def _receive(self, api: RetryingApi) -> Exception | None:
        """Read messages, tell what they say, and delete them; return what went wrong."""
        params = {"QueueUrl": self.queue_url, "MaxNumberOfMessages": _BATCH, "WaitTimeSeconds": _LONG_POLL}
        try:
            messages = api.call("sqs", "ReceiveMessage", params).get("Messages", [])
            if messages:
                self._tell(self._names([message.get("Body", "") for message in messages]))
                self._delete(api, messages)
        except Exception as error:  # noqa: BLE001 - whatever it is, jobs are looked at in their turn
            return error
        return None

    def _delete(self, api: RetryingApi, messages: list[dict[str, Any]]) -> None:
        """Delete messages that have been read; those that are there still come again, and cost a look."""
        entries = [{"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)]
        once = attrs.evolve(api.policy, attempts=1, budget=0.0)
        try:
            api.call("sqs", "DeleteMessageBatch", {"QueueUrl": self.queue_url, "Entries": entries}, policy=once)
        except Exception as error:
            if classify(error) in {FailureKind.FATAL, FailureKind.PROPAGATING}:
                raise
            logger.debug("messages of %s were not deleted: %s", self.queue_url, error)

    def _names(self, bodies: Iterable[str]) -> set[str]:
        """Return the names of the jobs that messages tell of."""
        events = [read_event(body) for body in bodies]
        if None in events and not self._puzzled:
            self._puzzled = True
            logger.warning(
                "%s has messages that are no state changes of processing jobs; they are deleted. Let the rule of "
                "EventBridge match the detail-type of these alone, and send it whole",
                self.queue_url,
            )
        return {event.job_name for event in events if event is not None}

    def _tell(self, names: Collection[str]) -> None:
        with self._lock:
            conditions = list(self._told)
        for condition in conditions:
            with condition:
                with self._lock:
                    self._told.setdefault(condition, set()).update(names)
                condition.notify_all()

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            self._broken = True
        logger.warning(
            "The event source is not used, and jobs are looked at in their turn: the queue %s cannot be read "
            "(sqs:ReceiveMessage and sqs:DeleteMessage are needed): %s",
            self.queue_url,
            error,
        )

    def __repr__(self) -> str:
        return f"EventBridgeSource({self.queue_url!r})"
