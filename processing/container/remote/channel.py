"""The process of a pool's host that talks to AWS: calls come from the host's queue, and results go to the owner's.

It is a process of its own because it has threads, and a process with threads must not fork workers. It needs the boto3
of the image. A message is deleted before its call runs, so a call that is delivered twice never runs twice.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import importlib
import json
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

from .call import RETURNING
from .worker import ERROR

if TYPE_CHECKING:
    import socket

INLINE_BYTES = 150_000
"""The bytes that travel in a message, so that it is smaller than 256 KiB in base64. Others travel as objects in S3."""
_WAIT_SECONDS = 20
"""The longest wait of ReceiveMessage."""
_BATCH = 10
_BATCH_BYTES = 256 * 1024
_HEAD = struct.Struct(">Q")
_GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_PAUSE_SECONDS = 1.0
"""The pause after a failed call to SQS or S3, which boto3 has already repeated."""
_UPLOADS = 3
"""The attempts to upload a result. Other results wait meanwhile."""
_LONGEST_PROBLEM = 1000
"""The characters of the reason for a result that could not be uploaded."""

CALL, OWNER_LIVES, CLOSE, ABANDON, NO_BOTO3 = "call", "heartbeat", "close", "abandon", "no boto3"
"""The kinds of frames to the host. They are a call, a sign of life of the owner, the end of the pool, its end by an
owner that ends too, and a missing package.
"""
ENDED = "ended"
"""The kind of a host's last message. If it has `abandoned`, the owner will not remove the queues and objects."""


class PoolPlaces(NamedTuple):
    """The places of a pool.

    Attributes:
        calls: the name of the queue of each host's calls.
        results: the name of the owner's queue.
        objects: the S3 prefix of large values, without a slash at the end.
        region: the region of the queues and of the objects.
        kms_key: the KMS key of large results; None for the bucket's own.
    """

    calls: List[str]
    results: str
    objects: str
    region: str
    kms_key: Optional[str]


Parts = List[Any]
"""A packed value: bytes, and paths of files with more of them, in order."""


class ReceivedCall(NamedTuple):
    """A call as the host gets it.

    Attributes:
        number: the call's number in its pool.
        key: the secret that proves that a result is from the receiver of the call.
        function: the SHA-256 of the packed function.
        function_parts: the packed function.
        arguments: the packed arguments.
        problem: a text if an object of the call is not the one that the message names.
    """

    number: int
    key: bytes
    function: str
    function_parts: Parts
    arguments: Parts
    problem: str


def signature(key: bytes, number: int, kind: int, digest: str) -> str:
    """Return the proof that a result is from the receiver of a call: an HMAC-SHA256 in hexadecimal digits.

    Args:
        key: the call's secret.
        number: the call's number.
        kind: the kind of its outcome.
        digest: the SHA-256 of the outcome's data.
    """
    return hmac.new(key, b"%d %d %s" % (number, kind, digest.encode()), hashlib.sha256).hexdigest()


def send_frame(connection: socket.socket, value: Any) -> None:
    """Send a value to the other process of this host."""
    data = pickle.dumps(value, protocol=4)
    connection.sendall(_HEAD.pack(len(data)) + data)


class FrameReader:
    """Reader of values from the other process of this host."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def read(self) -> Tuple[List[Any], bool]:
        """Wait for bytes; return the values that are whole, and whether the connection is closed."""
        try:
            data = self._connection.recv(1 << 18)
        except OSError:  # the other process is gone, and has not read everything
            data = b""
        self._buffer += data
        values = []
        while len(self._buffer) >= _HEAD.size:
            end = _HEAD.size + _HEAD.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            values.append(pickle.loads(self._buffer[_HEAD.size : end]))  # noqa: S301 - from a process of this host
            del self._buffer[:end]
        return values, not data


def run(connection: socket.socket, settings: PoolPlaces, position: int, folder: str) -> NoReturn:
    """Be the process.

    Args:
        connection: the connection with the host.
        settings: the places of the pool.
        position: the position of this host.
        folder: an existing folder for objects.
    """
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the host decides
        try:
            boto3 = importlib.import_module("boto3")
        except ImportError:
            send_frame(connection, (NO_BOTO3, None))
            os._exit(1)
        channel = _Channel(boto3, connection, settings, position, folder)
        threading.Thread(target=channel.send_results, daemon=True).start()
        channel.receive_calls(settings.calls[position])
        code = 0
    except BaseException as error:  # noqa: BLE001 - nothing of the host's program may run here after this
        print("remote function: the connection of the pool failed: %r" % (error,), file=sys.stderr)  # noqa: T201 - the job's log is stderr
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Channel:
    """The connection of a host with AWS."""

    def __init__(self, boto3: Any, connection: socket.socket, settings: PoolPlaces, position: int, folder: str) -> None:
        session = boto3.session.Session(region_name=settings.region)
        self._sqs = session.client("sqs")
        self._s3 = session.client("s3")
        self._connection = connection
        self._settings = settings
        self._position = position
        self._folder = folder
        self._lock = threading.Lock()
        self._objects: Dict[str, str] = {}
        self._results: Optional[str] = None
        self._bodies: queue.Queue[Optional[str]] = queue.Queue()

    def receive_calls(self, name: str) -> None:
        """Pass the messages of a queue to the host until the queue is gone."""
        threading.Thread(target=self._receive, args=(name,), daemon=True).start()
        for body in iter(self._bodies.get, None):
            self._handle(json.loads(body))
        self._pass((CLOSE, None))

    def _receive(self, name: str) -> None:
        """Receive messages, and pass a sign of life at once: a message may wait for the objects of earlier calls."""
        url: Optional[str] = None
        while True:
            try:
                url = url or self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
                messages = self._take(url)
            except Exception as error:  # noqa: BLE001 - botocore's are not importable here
                if _code(error) in _GONE:
                    self._bodies.put(None)
                    return
                print("remote function: SQS: %s" % (error,), file=sys.stderr)  # noqa: T201 - the job's log is stderr
                time.sleep(_PAUSE_SECONDS)
                continue
            for each in messages:
                self._bodies.put(each["Body"])
            if messages:
                try:
                    self._pass((OWNER_LIVES, None))
                except OSError:  # the host is gone
                    self._bodies.put(None)
                    return

    def _take(self, url: str) -> List[Dict[str, Any]]:
        """Return the next messages of a queue, which have been deleted."""
        answer = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=_WAIT_SECONDS)
        messages: List[Dict[str, Any]] = answer.get("Messages") or []
        if messages:
            handles = [(str(number), each["ReceiptHandle"]) for number, each in enumerate(messages)]
            entries = [{"Id": number, "ReceiptHandle": handle} for number, handle in handles]
            self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return messages

    def _handle(self, message: Dict[str, Any]) -> None:
        if message["kind"] == OWNER_LIVES:
            return  # it was passed when it came
        if message["kind"] != CALL:
            self._pass((message["kind"], None))
            return
        problem, values = "", []
        try:
            values = [self._parts(message[name]) for name in ("function", "arguments")]
        except Exception as error:  # noqa: BLE001 - the call has no arguments, whatever the reason
            problem, values = str(error), [[], []]
        key = bytes.fromhex(message["key"])
        self._pass((CALL, ReceivedCall(message["number"], key, message["sha256"], values[0], values[1], problem)))

    def _parts(self, parts: List[Dict[str, str]]) -> Parts:
        return [base64.b64decode(part["data"]) if "data" in part else self._object(part["sha256"]) for part in parts]

    def _object(self, digest: str) -> str:
        """Return a file with the object of a digest, which is loaded once and compared."""
        if digest not in self._objects:
            bucket, key = _location(self._settings.objects, digest)
            path = os.path.join(self._folder, digest)  # noqa: PTH118 - a host uses no pathlib
            self._s3.download_file(bucket, key, path)
            if _digest_of(path) != digest:
                raise ValueError("s3://%s/%s is not the object that the call names" % (bucket, key))
            self._objects[digest] = path
        return self._objects[digest]

    def _pass(self, frame: Any) -> None:
        with self._lock:
            send_frame(self._connection, frame)

    def send_results(self) -> None:
        """Send the host's messages to the owner, until the host is gone. Then end the process."""
        reader = FrameReader(self._connection)
        while True:
            frames, closed = reader.read()
            batch: List[str] = []
            for message, key, data, path in frames:
                self._complete(message, key, data, path)
                text = json.dumps(message)
                if len(batch) == _BATCH or sum(map(len, batch)) + len(text) > _BATCH_BYTES:
                    self._send(batch)
                    batch = []
                batch.append(text)
            if batch:
                self._send(batch)
            if any(message.get("abandoned") for message, *_ in frames):
                self._remove_all()
            if closed:
                os._exit(0)

    def _send(self, texts: List[str]) -> None:
        """Send messages to the owner, in one call. The owner ignores repeated messages."""
        entries = [{"Id": str(number), "MessageBody": text} for number, text in enumerate(texts)]
        while entries:
            try:
                self._results = self._results or self._sqs.get_queue_url(QueueName=self._settings.results)["QueueUrl"]
                answer = self._sqs.send_message_batch(QueueUrl=self._results, Entries=entries)
                sent = {each["Id"] for each in answer.get("Successful") or ()}
                entries = [entry for entry in entries if entry["Id"] not in sent]
                if not entries:
                    return
            except Exception as error:  # noqa: BLE001 - as above
                if _code(error) in _GONE:  # the owner is gone
                    return
                print("remote function: SQS: %s" % (error,), file=sys.stderr)  # noqa: T201 - the job's log is stderr
            time.sleep(_PAUSE_SECONDS)

    def _remove_all(self) -> None:
        """Remove the objects and the queues of a pool without an owner, if the job's role may do so."""
        # The queue of calls is the last: its end is the end of this process.
        steps: List[Callable[[], None]] = [functools.partial(self._remove_queue, self._settings.calls[self._position])]
        if self._position == 0:
            steps = [self._remove_objects, functools.partial(self._remove_queue, self._settings.results), *steps]
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001, PERF203 - a later pool removes what is left
                if _code(error) not in _GONE:
                    print("remote function: left behind: %s" % (error,), file=sys.stderr)  # noqa: T201 - the job's log is stderr

    def _remove_queue(self, name: str) -> None:
        self._sqs.delete_queue(QueueUrl=self._sqs.get_queue_url(QueueName=name)["QueueUrl"])

    def _remove_objects(self) -> None:
        bucket, prefix = _location(self._settings.objects, "")
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
            if keys:
                self._s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})

    def _complete(self, message: Dict[str, Any], key: bytes, data: bytes, path: Optional[str]) -> None:
        """Add the data of a result to its message, or upload them; sign the result.

        A result that cannot be uploaded becomes an error of its call: the results of other calls follow it.
        """
        if "outcome" not in message:
            return
        in_message = path is None and len(data) <= INLINE_BYTES
        try:
            digest, size = _digest_and_size(data, path)
            if not in_message:
                self._upload(digest, data, path)
        except Exception as error:  # noqa: BLE001 - the call has no result, whatever the reason
            message["outcome"], data, in_message = ERROR, _described(error), True
            digest, size = _digest_and_size(data, None)
        if in_message:
            message["data"] = base64.b64encode(data).decode("ascii")
        message["sha256"], message["size"] = digest, size
        message["signature"] = signature(key, message["number"], message["outcome"], digest)
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - a path as text

    def _upload(self, digest: str, data: bytes, path: Optional[str]) -> None:
        """Upload the data of a result, from memory or from a file, in a few attempts."""
        bucket, name = _location(self._settings.objects, digest)
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._settings.kms_key}
        options = extra if self._settings.kms_key else {}
        for attempt in range(1, _UPLOADS + 1):
            try:
                if path is None:
                    self._s3.put_object(Bucket=bucket, Key=name, Body=data, **options)
                else:
                    self._s3.upload_file(path, bucket, name, ExtraArgs=options)
            except Exception as error:  # noqa: PERF203 - few attempts fail
                print("remote function: S3: %s" % (error,), file=sys.stderr)  # noqa: T201 - the job's log is stderr
                if attempt == _UPLOADS:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                return


def _location(prefix: str, digest: str) -> Tuple[str, str]:
    bucket, _, key = prefix[len("s3://") :].partition("/")
    return bucket, "%s/%s" % (key, digest)


def _digest_and_size(data: bytes, path: Optional[str]) -> Tuple[str, int]:
    if path is None:
        return hashlib.sha256(data).hexdigest(), len(data)
    return _digest_of(path), os.path.getsize(path)  # noqa: PTH202 - as above


def _described(error: Exception) -> bytes:
    """Return the packed exception of a call whose result stays on the host."""
    text = "%s: %s" % (type(error).__name__, error)
    details = {"type": type(error).__name__, "text": text[:_LONGEST_PROBLEM], "stage": RETURNING}
    return json.dumps(details).encode() + b"\n"


def _digest_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _code(error: Exception) -> Any:
    return getattr(error, "response", {}).get("Error", {}).get("Code")
