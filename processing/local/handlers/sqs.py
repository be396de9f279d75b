"""Handler for SQS: standard queues on the queue store.

Errors have the codes and the texts of the service. Missing features (FIFO queues, dead-letter queues, policies,
encryption) are refused, never ignored. Only the tags of a queue are accepted and ignored.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from processing.clock import SYSTEM_CLOCK, Clock
from processing.local.errors import ApiError
from processing.local.handlers import messages
from processing.local.protocols.message import CLIENT_HOST
from processing.local.stores.queues import DEFAULTS, no_such_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.queues import Message, Queue

    Entry = dict[str, Any]

# SQS's limits. Times are in seconds.
MAX_BATCH = 10
MAX_BYTES = 1_048_576
"""Limit for a message and for all messages of a batch: 1 MiB since August 2025."""
MAX_VISIBILITY = 43_200
MAX_WAIT = 20
MAX_DELAY = 900
PAGE = 1000
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.003, 0.02, 1.03
"""Seconds between the look-ups of a waiting ReceiveMessage, and so the delay with which it notices a message.

A look-up takes 0.3 ms. Two such delays are most of the time of a call of a warm pool, and calls often follow one
another. So the pauses begin short: after a tenth of a second they are 6 ms, and from half a second on 20 ms, which
takes 1.5 % of a core.
"""
_NAMESPACE = "AWS.SimpleQueueService"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_GROUP_ID = re.compile(r"[!-~]{1,128}")
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_RANGES = {
    "DelaySeconds": (0, MAX_DELAY),
    "MaximumMessageSize": (1024, MAX_BYTES),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, MAX_WAIT),
    "VisibilityTimeout": (0, MAX_VISIBILITY),
}
_UNSUPPORTED = frozenset(
    {
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoQueue",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "Policy",
        "RedriveAllowPolicy",
        "RedrivePolicy",
        "SqsManagedSseEnabled",
    }
)
_COUNT_ATTRIBUTES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_SENDER = "AIDALOCALENGINE"
"""The SenderId of every message. On AWS it is the id of the sending user."""


class SqsHandler:
    """Handler for SQS's operations. Params and results have boto3's names and types.

    Args:
        engine: the engine of this handler.
        clock: the clock for the times of messages and for waiting.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext, clock: Clock = SYSTEM_CLOCK) -> None:
        self._engine = engine
        self._queues = engine.queues
        self._clock = clock
        self.operations: dict[str, Operation] = {
            "ChangeMessageVisibility": self.change_message_visibility,
            "ChangeMessageVisibilityBatch": functools.partial(self._batch, self.change_message_visibility),
            "CreateQueue": self.create_queue,
            "DeleteMessage": self.delete_message,
            "DeleteMessageBatch": functools.partial(self._batch, self.delete_message),
            "DeleteQueue": self.delete_queue,
            "GetQueueAttributes": self.get_queue_attributes,
            "GetQueueUrl": self.get_queue_url,
            "ListQueues": self.list_queues,
            "PurgeQueue": self.purge_queue,
            "ReceiveMessage": self.receive_message,
            "SendMessage": self.send_message,
            "SendMessageBatch": self.send_message_batch,
            "SetQueueAttributes": self.set_queue_attributes,
        }

    # --- queues

    def create_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create a queue, unless it exists with the same attributes."""
        name = _text(params, "QueueName")
        attributes = params.get("Attributes") or {}
        if name.endswith(".fifo") or str(attributes.get("FifoQueue")).lower() == "true":
            raise _unsupported("FIFO queues")
        if not _NAME.fullmatch(name):
            raise ApiError(
                "InvalidParameterValue",
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            )
        self._queues.create(name, _settings(attributes), self._clock.time())
        return {"QueueUrl": self._url(name)}

    def get_queue_url(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the URL of a queue."""
        return {"QueueUrl": self._url(self._queues.get(_valid_name(_text(params, "QueueName"))).name)}

    def list_queues(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of queue URLs. The token is the last name of the page before."""
        size = _number(params, "MaxResults", (1, PAGE), PAGE)
        prefix, token = params.get("QueueNamePrefix") or "", params.get("NextToken") or ""
        names = self._queues.names(prefix, token, size + 1) if (prefix + token).isascii() else []
        answer: dict[str, Any] = {"QueueUrls": [self._url(name) for name in names[:size]]} if names else {}
        # Without MaxResults, SQS returns 1,000 queues and no token.
        return {**answer, "NextToken": names[size - 1]} if len(names) > size and params.get("MaxResults") else answer

    def delete_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a queue and its messages. Its name can be used again immediately."""
        self._queues.delete(_name_of(params))
        return {}

    def purge_queue(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a queue's messages."""
        self._queues.purge(_name_of(params))
        return {}

    def get_queue_attributes(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a queue's settings and the numbers of its messages."""
        queue = self._queues.get(_name_of(params))
        names = params.get("AttributeNames") or []
        known = self._attributes(queue, counted="All" in names or any(name in _COUNT_ATTRIBUTES for name in names))
        unknown = [name for name in names if name not in {"All", *known, *_COUNT_ATTRIBUTES, *_UNSUPPORTED}]
        if unknown:
            raise ApiError("InvalidAttributeName", f"Unknown Attribute {unknown[0]}.")
        found = {name: value for name, value in known.items() if "All" in names or name in names}
        return {"Attributes": found} if found else {}

    def set_queue_attributes(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change a queue's settings."""
        self._queues.change(_name_of(params), _settings(params.get("Attributes") or {}), self._clock.time())
        return {}

    # --- messages

    def send_message(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add a message to a queue."""
        queue = self._queues.get(_name_of(params))
        body, extras, delay = _outgoing(params, queue)
        (name,) = self._queues.send(queue.name, [(body, extras, delay)], self._clock.time())
        return _sent(name, params)

    def send_message_batch(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add messages to a queue. The answer has an error for each invalid one."""
        queue = self._queues.get(_name_of(params))
        entries = _entries(params)
        total = sum(_size(entry) for entry in entries)
        if total > MAX_BYTES:
            raise ApiError(
                f"{_NAMESPACE}.BatchRequestTooLong",
                f"Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {total} bytes.",
            )
        valid, failed = [], []
        for entry in entries:
            try:
                valid.append((entry, _outgoing(entry, queue)))
            except ApiError as error:  # noqa: PERF203 - each entry has its own error
                failed.append(_failure(entry, error))
        names = self._queues.send(queue.name, [message for _, message in valid], self._clock.time())
        sent = [{"Id": entry["Id"], **_sent(name, entry)} for (entry, _), name in zip(valid, names, strict=True)]
        return _batch_answer(sent, failed)

    def receive_message(self, params: dict[str, Any]) -> dict[str, Any]:
        """Receive messages, and wait for the first one as long as the request or the queue specifies."""
        queue = self._queues.get(_name_of(params))
        count = _number(params, "MaxNumberOfMessages", (1, MAX_BATCH), 1)
        visibility = _number(params, "VisibilityTimeout", (0, MAX_VISIBILITY), queue.settings["VisibilityTimeout"])
        wait = _number(params, "WaitTimeSeconds", (0, MAX_WAIT), queue.settings["ReceiveMessageWaitTimeSeconds"])
        deadline = self._clock.monotonic() + wait
        pause = _FIRST_PAUSE
        while True:
            found = self._queues.receive(queue.name, count, visibility, self._clock.time())
            remaining = deadline - self._clock.monotonic()
            if found or remaining <= 0:
                return {"Messages": [_received(message, params) for message in found]} if found else {}
            self._clock.sleep(min(pause, remaining))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    def delete_message(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a received message."""
        self._queues.remove(_name_of(params), _text(params, "ReceiptHandle"))
        return {}

    def change_message_visibility(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change the time at which a received message becomes visible again."""
        seconds = _number(params, "VisibilityTimeout", (0, MAX_VISIBILITY), None)
        self._queues.set_visibility(_name_of(params), _text(params, "ReceiptHandle"), seconds, self._clock.time())
        return {}

    def _batch(self, function: Callable[[dict[str, Any]], Any], params: dict[str, Any]) -> dict[str, Any]:
        """Call `function` for each entry of a batch."""
        url = self._url(self._queues.get(_name_of(params)).name)
        done, failed = [], []
        for entry in _entries(params):
            try:
                function({**entry, "QueueUrl": url})
            except ApiError as error:  # noqa: PERF203 - each entry has its own error
                failed.append(_failure(entry, error))
            else:
                done.append({"Id": entry["Id"]})
        return _batch_answer(done, failed)

    # --- names and attributes

    def _url(self, name: str) -> str:
        """Return a queue's URL. It has the host that the client called, because some clients send requests there."""
        return f"http://{CLIENT_HOST.get()}/{self._engine.account}/{name}"

    def _attributes(self, queue: Queue, *, counted: bool) -> dict[str, str]:
        values: dict[str, int | str] = {
            **queue.settings,
            "CreatedTimestamp": int(queue.created),
            "LastModifiedTimestamp": int(queue.modified),
            "QueueArn": f"arn:aws:sqs:{self._engine.region}:{self._engine.account}:{queue.name}",
        }
        if counted:
            values.update(zip(_COUNT_ATTRIBUTES, self._queues.counts(queue.name, self._clock.time()), strict=True))
        return {name: str(value) for name, value in values.items()}


def _unsupported(feature: str) -> ApiError:
    return ApiError(f"{_NAMESPACE}.UnsupportedOperation", f"The local engine's queues do not have {feature}.")


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not value or not isinstance(value, str):
        raise ApiError("MissingParameter", f"The request must contain the parameter {name}.")
    return value


def _number(params: Mapping[str, Any], name: str, limits: tuple[int, int], default: int | None) -> int:
    value = params.get(name)
    if value is None and default is not None:
        return default
    if value is None:
        raise ApiError("MissingParameter", f"The request must contain the parameter {name}.")
    low, high = limits
    if not low <= value <= high:
        raise ApiError(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {low} and {high}, if provided.",
        )
    return int(value)


def _name_of(params: Mapping[str, Any]) -> str:
    """Return the name of a queue from its URL. A bare name is accepted, too."""
    return _valid_name(_text(params, "QueueUrl").rpartition("/")[2])


def _valid_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise no_such_queue()
    return name


def _settings(attributes: Mapping[str, str]) -> dict[str, int]:
    settings = {}
    for name, text in attributes.items():
        if name in _UNSUPPORTED:
            raise _unsupported(f"the attribute {name}")
        if name not in DEFAULTS:
            raise ApiError("InvalidAttributeName", f"Unknown Attribute {name}.")
        low, high = _RANGES[name]
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ApiError("InvalidAttributeValue", f"Invalid value for the parameter {name}.")
        settings[name] = int(text)
    return settings


def _size(entry: Entry) -> int:
    try:
        return messages.validate(entry.get("MessageBody") or "", entry.get("MessageAttributes") or {})
    except ApiError:
        return 0  # an invalid message is not sent


def _outgoing(params: Mapping[str, Any], queue: Queue) -> tuple[str, dict[str, Any], int | None]:
    """Return a message as the arguments of the store: body, extras and delay.

    Raises:
        ApiError: the message is invalid.
    """
    body, attributes = params.get("MessageBody") or "", params.get("MessageAttributes") or {}
    largest = queue.settings["MaximumMessageSize"]
    if messages.validate(body, attributes) > largest:
        raise ApiError(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {largest} bytes.",
        )
    if params.get("MessageDeduplicationId"):
        text = "The request include parameter that is not valid for this queue type."
        raise ApiError(
            "InvalidParameterValue", f"Value for parameter MessageDeduplicationId is invalid. Reason: {text}"
        )
    extras: dict[str, Any] = {"attributes": messages.to_json(attributes)} if attributes else {}
    system = {name: value.get("StringValue") for name, value in (params.get("MessageSystemAttributes") or {}).items()}
    messages.validate("x", params.get("MessageSystemAttributes") or {})
    if params.get("MessageGroupId"):
        system["MessageGroupId"] = params["MessageGroupId"]
        if not _GROUP_ID.fullmatch(params["MessageGroupId"]):
            raise ApiError(
                "InvalidParameterValue",
                "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length",
            )
    if system:
        extras["system"] = system
    delay = params.get("DelaySeconds")
    return body, extras, None if delay is None else _number(params, "DelaySeconds", (0, MAX_DELAY), None)


def _sent(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"MessageId": name, "MD5OfMessageBody": messages.digest(params["MessageBody"])}
    if params.get("MessageAttributes"):
        answer["MD5OfMessageAttributes"] = messages.digest_of_attributes(params["MessageAttributes"])
    if params.get("MessageSystemAttributes"):
        answer["MD5OfMessageSystemAttributes"] = messages.digest_of_attributes(params["MessageSystemAttributes"])
    return answer


def _received(message: Message, params: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "MessageId": message.uuid,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": messages.digest(message.body),
        "Body": message.body,
    }
    names = {*(params.get("AttributeNames") or ()), *(params.get("MessageSystemAttributeNames") or ())}
    system = {
        "SenderId": _SENDER,
        "SentTimestamp": str(round(message.sent * 1000)),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(round(message.received * 1000)),
        **message.extras.get("system", {}),
    }
    system = {name: value for name, value in system.items() if "All" in names or name in names}
    if system:
        answer["Attributes"] = system
    patterns = params.get("MessageAttributeNames") or ()
    attributes = messages.from_json(message.extras.get("attributes", {}))
    attributes = {name: value for name, value in attributes.items() if _is_requested(name, patterns)}
    if attributes:
        answer["MessageAttributes"] = attributes
        answer["MD5OfMessageAttributes"] = messages.digest_of_attributes(attributes)
    return answer


def _is_requested(name: str, patterns: Iterable[str]) -> bool:
    """Return True if the patterns select an attribute: by its name, by `All` or `.*`, or by a prefix and `.*`."""
    return any(
        pattern in {"All", ".*", name} or (pattern.endswith(".*") and name.startswith(pattern[:-2]))
        for pattern in patterns
    )


def _entries(params: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of a batch.

    Raises:
        ApiError: the batch is empty or too long, or an id is invalid or repeated.
    """
    entries: list[Entry] = list(params.get("Entries") or ())
    ids = [str(entry.get("Id")) for entry in entries]
    repeated = [each for position, each in enumerate(ids) if each in ids[:position]]
    if not entries:
        problem = ("EmptyBatchRequest", "There should be at least one entry in the request.")
    elif len(entries) > MAX_BATCH:
        text = f"Maximum number of entries per request are {MAX_BATCH}. You have sent {len(entries)}."
        problem = ("TooManyEntriesInBatchRequest", text)
    elif repeated:
        problem = ("BatchEntryIdsNotDistinct", f"Id {repeated[0]} repeated.")
    elif not all(_ENTRY_ID.fullmatch(each) for each in ids):
        text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        problem = ("InvalidBatchEntryId", f"{text}It can be at most 80 letters long.")
    else:
        return entries
    raise ApiError(f"{_NAMESPACE}.{problem[0]}", problem[1])


def _failure(entry: Entry, error: ApiError) -> dict[str, Any]:
    return {"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message}


def _batch_answer(done: list[dict[str, Any]], failed: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: entries for name, entries in (("Successful", done), ("Failed", failed)) if entries}
