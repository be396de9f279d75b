"""The transport of small files: obstore, request templates, or botocore for each.

botocore sends the first request of each kind. Once it is signed, it shows everything that depends on the user's
configuration: the address, the region, the headers. If S3 accepts it, a faster transport sends the further ones
(`processing.staging.obstore`, `processing.staging.request_templates`). Each file that it fails to send is sent by
botocore from the beginning, with all its retries. So retries, conditions and errors are decided in one place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from processing.exceptions import ConfigurationError
from processing.staging.obstore import ObstoreClient
from processing.staging.request_templates import RequestTemplate, UnusableResponseError, has_hooks, template_key
from processing.staging.thread_pool import SMALL_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.aws.retry import RetryingApi
    from processing.staging.listing import ListedObject
    from processing.staging.pending_uploads import Upload

logger = logging.getLogger(__name__)

T = TypeVar("T")

BOTOCORE_REQUESTS = 64
"""Requests in flight without obstore.

A repeated request takes half a millisecond of CPU time, and one thread computes at a time. So this many keep it busy
over a round trip of 30 ms. Further ones would only wait for the CPU.
"""

OBSTORE_REQUESTS = 200
"""Requests in flight with obstore.

Each has a thread, and threads that wake up at once wait for each other. With 256, 2,000 files of 8 KB take a tenth
longer. With 160, the latency shows.
"""

# For a few files nothing is prepared that does not pay off, which saves a warm `run()` 1 ms. botocore sends 16 files in
# the time that obstore takes to load. 8 requests are sent before the first one is answered and could be repeated.
_FEW_FOR_OBSTORE = 16
_FEW_FOR_TEMPLATES = 8
_MAX_FAILURES = 8  # consecutive failures after which botocore sends all other files

_PLAIN_GET = frozenset({"Bucket", "Key", "ExpectedBucketOwner"})  # the parameters of GetObject that obstore supports
_THROTTLED = frozenset({429, 503, 509})  # HTTP statuses of a server that asks for fewer requests

OnFailure = Callable[[bool], None]
"""Receives True if S3 asks for fewer requests. An error in it ends the file's transfer."""

_CHOICES = ("auto", "fast", "core", "botocore")


class SmallFiles:
    """Sends and fetches the small files of one transfer. A context manager.

    Args:
        api: the calls to S3.
        obstore: the transport with obstore; None to do without it.
        templates: False to leave to botocore everything that obstore does not send.
        few_files: up to this number of files, obstore is not used.
    """

    def __init__(
        self,
        api: RetryingApi,
        obstore: ObstoreClient | None = None,
        *,
        templates: bool = False,
        few_files: int = 0,
    ) -> None:
        self._api = api
        self._obstore = obstore
        self._few_files = few_files
        self._use_templates = templates
        self._templates: dict[str, RequestTemplate | None] = {}
        self._observer = _RequestObserver()
        self._client: Any = None
        self._failed_in_a_row = 0

    @classmethod
    def from_environment(cls, api: RetryingApi, files: int | None = None) -> SmallFiles:
        """Return the transport that PROCESSING_TRANSFERS selects.

        Args:
            api: the calls to S3.
            files: the number of files, if it is known already.

        Raises:
            ConfigurationError: the variable has an unknown value, or `fast` is selected and obstore is not installed.
        """
        choice = os.environ.get("PROCESSING_TRANSFERS") or "auto"
        if choice not in _CHOICES:
            raise ConfigurationError(
                f"PROCESSING_TRANSFERS: must be one of {', '.join(map(repr, _CHOICES))}, not {choice!r}"
            )
        count = files if choice == "auto" and files is not None else sys.maxsize
        wants_obstore = choice == "fast" or (choice == "auto" and count > _FEW_FOR_OBSTORE)
        installed = wants_obstore and importlib.util.find_spec("obstore") is not None
        if choice == "fast" and not installed:
            raise ConfigurationError(
                "PROCESSING_TRANSFERS: 'fast' needs obstore; install it with `pip install sm-processing[fast]`"
            )
        if choice == "botocore" or api.boto_session is None or count <= _FEW_FOR_TEMPLATES:
            return cls(api)
        obstore = ObstoreClient.for_api(api) if installed else None
        return cls(api, obstore, templates=True, few_files=_FEW_FOR_OBSTORE if choice == "auto" else 0)

    def __enter__(self) -> SmallFiles:
        if self._obstore is not None or self._use_templates:
            self._client = self._api.client("s3")
            self._observer.register(self._client)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._client is not None:
            self._observer.unregister(self._client)

    @property
    def max_requests(self) -> int:
        """The most requests in flight."""
        return BOTOCORE_REQUESTS if self._obstore is None else OBSTORE_REQUESTS

    @property
    def uses_obstore(self) -> bool:
        """True if obstore sends what it can."""
        return self._obstore is not None

    def expect_files(self, count: int) -> None:
        """Record the number of files: for a few, loading obstore does not pay off."""
        if count <= self._few_files:
            self._obstore = None

    @contextlib.contextmanager
    def learn(self, operation: str, params: Mapping[str, Any]) -> Iterator[None]:
        """Learn from botocore's request within the block, if it succeeds.

        Args:
            operation: the operation as AWS spells it.
            params: its parameters except a body: the bucket and, for an object, the key.
        """
        kind = template_key(operation, params)
        if self._client is None or kind in self._templates:
            yield
            return
        with self._observer.requests(operation) as sent:
            yield
        if sent:
            self._learn(operation, params, kind, sent[-1])

    def put(
        self, upload: Upload, params: Callable[[], Mapping[str, Any]], content: bytes, on_failure: OnFailure
    ) -> bool:
        """Put a small file. Return False if botocore has to.

        Args:
            upload: the file.
            params: returns the parameters of PutObject except the body; obstore needs none.
            content: the bytes of the file.
            on_failure: is called after a failed try.
        """
        obstore, target = self._usable_obstore(), upload.target
        if obstore is not None and not upload.extra and obstore.has_route(target.bucket, target.key):
            return self._try(lambda: obstore.put(upload, content), on_failure) is not None
        template = self._template("PutObject", params)
        return template is not None and self._try(lambda: template.put(target.key, content), on_failure) is not None

    def get(self, listed: ListedObject, params: Mapping[str, Any], on_failure: OnFailure) -> bytes | None:
        """Return a small object's verified content; None if botocore has to get it.

        Args:
            listed: the object.
            params: the parameters of GetObject.
            on_failure: is called after a failed try.
        """
        obstore, bucket = self._usable_obstore(), params["Bucket"]
        if obstore is not None and params.keys() <= _PLAIN_GET and obstore.can_verify(bucket, listed):
            return self._try(lambda: obstore.get(bucket, listed), on_failure)
        template = self._template("GetObject", lambda: params)
        return None if template is None else self._try(lambda: template.get(listed.key, SMALL_FILE), on_failure)

    def _learn(self, operation: str, params: Mapping[str, Any], kind: str | None, request: Any) -> None:
        bucket, key = params["Bucket"], params.get("Key")
        # A client with hooks, or another one with renewed credentials, sends every request by itself.
        usable = self._api.client("s3") is self._client and not has_hooks(self._client, operation, __name__)
        if usable and self._obstore is not None:
            self._obstore.learn_route(request, bucket, key or "")
        if self._use_templates and kind is not None and key is not None:
            self._templates[kind] = RequestTemplate.learn(self._client, request, key) if usable else None

    def _usable_obstore(self) -> ObstoreClient | None:
        return self._obstore if self._failed_in_a_row < _MAX_FAILURES else None

    def _template(self, operation: str, params: Callable[[], Mapping[str, Any]]) -> RequestTemplate | None:
        if not self._templates or self._failed_in_a_row >= _MAX_FAILURES:
            return None
        kind = template_key(operation, params())
        found = None if kind is None else self._templates.get(kind)
        return found if found is not None and found.client is self._api.client("s3") else None

    def _try(self, send: Callable[[], T], on_failure: OnFailure) -> T | None:
        """Send a request by a fast transport, and return its result; None after any error."""
        try:
            result = send()
        except BaseException as error:
            # A panic of Rust's, such as for a runtime from before a fork, does not derive from Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            logger.debug("botocore sends the request again: %s", error)
            throttled = _is_throttled(error)
            self._failed_in_a_row += not throttled
            on_failure(throttled)
            if throttled:  # as before the first repetition in the retry layer
                self._api.clock.sleep(self._api.random.uniform(0.0, self._api.policy.base))
            return None
        self._failed_in_a_row = 0
        return result


def _is_throttled(error: BaseException) -> bool:
    if isinstance(error, UnusableResponseError):
        return error.status in _THROTTLED
    return re.search(r"\b(503|429|509)\b|SlowDown", str(error)) is not None  # an error of obstore's is text


class _RequestObserver:
    """Observer of an operation's requests that botocore sends in the present thread.

    A call may send requests of other operations too, such as a HEAD after an answer that was lost.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def register(self, client: Any) -> None:
        # Last, so that it sees the request as it is sent.
        client.meta.events.register_last("before-send", self._observe, unique_id=id(self))

    def unregister(self, client: Any) -> None:
        client.meta.events.unregister("before-send", self._observe, unique_id=id(self))

    @contextlib.contextmanager
    def requests(self, operation: str) -> Iterator[list[Any]]:
        """Yield a list that receives the operation's requests of this thread within the block."""
        sent: list[Any] = []
        self._thread.wanted, self._thread.sent = f".{operation}", sent
        try:
            yield sent
        finally:
            self._thread.sent = None

    def _observe(self, request: Any, event_name: str, **_rest: object) -> None:
        sent = getattr(self._thread, "sent", None)
        if sent is not None and event_name.endswith(self._thread.wanted):
            sent.append(request)
