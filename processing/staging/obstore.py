"""Transfers of small files with obstore, which needs a fraction of botocore's CPU time.

botocore sends the first request to a bucket. Once it is signed, its address, region and headers show the route to the
bucket. If obstore can send the same kind of request, it sends the other small files. botocore repeats each file that
obstore fails to send, with all its retries. Thus retries, conditions and errors are decided in one place. All of the
user's configuration applies: another endpoint, a proxy, hooks on the client, a simulated AWS in a test. botocore does
everything that obstore cannot do identically.

The effect for 2,000 files of 8 KB (`benchmarks/uploads.py`, `downloads.py`): uploads take 1/100 of the time of
`sagemaker` 2.x and 0.1 of its CPU time. Without obstore they take 1/25 and 0.4. Downloads take 1/40 and 0.25, without
obstore 1/15 and 0.6. The environment variable `PROCESSING_TRANSFERS=core` switches obstore off.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import importlib.util
import logging
import os
import re
import threading
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import attrs

from processing.exceptions import ConfigurationError
from processing.staging.checksums import MD5
from processing.staging.objects import CLAIM_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obstore.store import S3Config, S3Credential

    from processing.aws.retry import RetryingApi
    from processing.staging.listing import ListedObject
    from processing.staging.pending_uploads import Upload

logger = logging.getLogger(__name__)

BOTOCORE_REQUESTS = 64
"""Requests in flight with botocore: each takes a millisecond of CPU time, so further ones would only wait for the CPU.
"""

OBSTORE_REQUESTS = 256
"""Requests in flight with obstore."""

_FEW_FILES = 16  # botocore sends this many files in the time that obstore takes to load
_MAX_FAILURES = 8  # consecutive failures after which obstore is not used any more

# The headers of botocore's signed requests that obstore can reproduce.
_KNOWN_HEADERS = re.compile(
    r"accept-encoding|amz-sdk-.*|authorization|content-(encoding|length|md5|type)|expect|host|if-none-match|"
    r"transfer-encoding|user-agent|x-amz-(checksum-.*|content-sha256|date|decoded-content-length|"
    r"expected-bucket-owner|meta-processing-claim|sdk-checksum-algorithm|security-token|trailer|"
    r"server-side-encryption(-aws-kms-key-id)?)"
)
_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d+/([a-z0-9-]+)/s3/aws4_request,")


@attrs.frozen
class Route:
    """The route to a bucket, as a request of botocore shows it.

    Args:
        endpoint: scheme and host. If `virtual`, the host includes the bucket's name.
        virtual: True if the host includes the bucket's name, False if the path begins with it.
        region: the region that the request is signed for.
        checksum: True if botocore sends a checksum with uploads.
    """

    endpoint: str
    virtual: bool
    region: str
    checksum: bool


def route_of(url: str, headers: Mapping[str, str], bucket: str, key: str) -> Route | None:
    """Return the route of a signed request to a bucket; None if obstore cannot use it.

    Args:
        url: the request's URL.
        headers: its headers, with names in lower case.
        bucket: the bucket of the request.
        key: the object of the request; empty for the bucket itself.
    """
    parts = urlsplit(url)
    signature = _SIGNATURE.match(headers.get("authorization", ""))
    if signature is None or not all(_KNOWN_HEADERS.fullmatch(name) for name in headers):
        return None
    object_path = quote(key, safe="/~")
    virtual = parts.netloc.startswith(f"{bucket}.")
    if parts.path.rstrip("/") != (f"/{object_path}" if virtual else f"/{bucket}/{object_path}").rstrip("/"):
        return None
    checksum = any(name.startswith("x-amz-checksum-") or name == "x-amz-trailer" for name in headers)
    return Route(f"{parts.scheme}://{parts.netloc}", virtual, signature[1], checksum)


class ObstoreClient:
    """Sends and fetches the small files of one transfer with obstore, if possible. A context manager.

    Args:
        api: the calls to S3; None to leave everything to botocore.
        few_files: up to this number of files, botocore sends everything.
    """

    def __init__(self, api: RetryingApi | None, *, few_files: int = 0) -> None:
        self._api = api
        self._few_files = few_files
        self._routes: dict[str, Route] = {}
        self._stores: dict[tuple[str, str | None], Any] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._failed_in_a_row = 0
        self._unverified: set[str] = set()  # buckets whose ETags are not MD5s

    @classmethod
    def from_environment(cls, api: RetryingApi) -> ObstoreClient:
        """Return the client that PROCESSING_TRANSFERS selects: `core`, `fast`, or `auto` (obstore if possible).

        Args:
            api: the calls to S3.

        Raises:
            ConfigurationError: the variable has another value, or `fast` is selected and obstore is not installed.
        """
        choice = os.environ.get("PROCESSING_TRANSFERS") or "auto"
        if choice not in {"auto", "core", "fast"}:
            raise ConfigurationError(f"PROCESSING_TRANSFERS: must be 'auto', 'core' or 'fast', not {choice!r}")
        installed = importlib.util.find_spec("obstore") is not None
        if choice == "fast" and not installed:
            raise ConfigurationError(
                "PROCESSING_TRANSFERS: 'fast' needs obstore; install it with `pip install sm-processing[fast]`"
            )
        if choice == "core" or not installed or not _runtime_works() or not _has_default_connection(api):
            return cls(None)
        return cls(api, few_files=_FEW_FILES if choice == "auto" else 0)

    def __enter__(self) -> ObstoreClient:
        if self._api is not None:
            # Register last: if another handler answers the request, botocore does not call this one.
            self._api.client("s3").meta.events.register_last("before-send", self._inspect_request, unique_id=id(self))
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._api is not None:
            self._api.client("s3").meta.events.unregister("before-send", self._inspect_request, unique_id=id(self))

    @property
    def max_requests(self) -> int:
        """The most requests in flight."""
        return BOTOCORE_REQUESTS if self._api is None else OBSTORE_REQUESTS

    def expect_files(self, count: int) -> None:
        """Record the number of files: for a few, loading obstore does not pay off."""
        if count <= self._few_files:
            self.__exit__()
            self._api = None

    @contextlib.contextmanager
    def learn_route(self, bucket: str, key: str) -> Iterator[None]:
        """Learn the route to a bucket from botocore's request within the block, if it succeeds."""
        if self._api is None or bucket in self._routes:
            yield
            return
        self._thread.target, self._thread.route = (bucket, key), None
        try:
            yield
            route = self._thread.route
            if route is not None and (route.endpoint.startswith("http://") or not _has_own_certificates(self._api)):
                self._routes[bucket] = route
        finally:
            self._thread.target = None

    def put(self, upload: Upload, content: bytes, on_throttle: Callable[[], None]) -> bool:
        """Put a small file. Return False if botocore has to.

        Args:
            upload: the file.
            content: its bytes.
            on_throttle: is called when S3 asks for fewer requests.
        """
        store = None if upload.extra else self._store(upload.target.bucket, upload.target.key, upload.kms_key)
        if store is None:
            return False
        import obstore

        create = upload.claim is not None or upload.content_addressed
        attributes = {"Content-Type": "binary/octet-stream"}  # S3's own default
        if upload.claim is not None:
            attributes[CLAIM_METADATA] = upload.claim
        with self._attempt(on_throttle) as attempt:
            _use_runtime()
            obstore.put(
                store,
                upload.target.key,
                content,
                attributes=attributes,
                mode="create" if create else "overwrite",
                use_multipart=False,
            )
        return attempt.succeeded

    def get(self, bucket: str, listed: ListedObject, on_throttle: Callable[[], None]) -> bytes | None:
        """Return a small object that matches its ETag; None if botocore has to get it.

        Args:
            bucket: its bucket.
            listed: the object.
            on_throttle: is called when S3 asks for fewer requests.
        """
        etag = listed.etag.strip('"')
        if bucket in self._unverified or not MD5.fullmatch(etag):
            return None
        store = self._store(bucket, listed.key, None)
        if store is None:
            return None
        import obstore

        content = b""
        with self._attempt(on_throttle) as attempt:
            _use_runtime()
            content = bytes(obstore.get(store, listed.key, options={"if_match": listed.etag}).bytes())
        if not attempt.succeeded:
            return None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != etag:
            self._unverified.add(bucket)  # most likely a KMS key encrypts it; botocore compares the checksum
            return None
        return content

    def _inspect_request(self, request: Any, **_rest: object) -> None:
        """Learn the route from a request that botocore is about to send."""
        target = getattr(self._thread, "target", None)
        if target is not None:
            headers = {name.lower(): _text(value) for name, value in request.headers.items()}
            self._thread.route = route_of(request.url, headers, *target)

    def _store(self, bucket: str, key: str, kms_key: str | None) -> Any:
        """Return obstore's store for an object; None if obstore must not be used."""
        route = self._routes.get(bucket)
        if route is None or self._api is None or self._failed_in_a_row >= _MAX_FAILURES or not _is_plain_key(key):
            return None
        with self._lock:
            if (bucket, kms_key) not in self._stores:
                self._stores[bucket, kms_key] = _make_store(self._api, route, bucket, kms_key)
            return self._stores[bucket, kms_key]

    @contextlib.contextmanager
    def _attempt(self, on_throttle: Callable[[], None]) -> Iterator[_Attempt]:
        """Run obstore's request. After any error, botocore repeats it."""
        attempt = _Attempt()
        try:
            yield attempt
        except BaseException as error:
            # A panic of Rust's, such as for a runtime from before a fork, does not derive from Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            logger.debug("obstore: %s", error)
            if _is_throttled(error):
                on_throttle()
            else:
                self._failed_in_a_row += 1
        else:
            self._failed_in_a_row = 0
            attempt.succeeded = True


# The process whose threads run obstore's requests: they do not exist in its forked children. None before the first one.
_runtime_process: int | None = None


def _use_runtime() -> None:
    global _runtime_process  # noqa: PLW0603 - obstore's runtime is global, too
    _runtime_process = _runtime_process or os.getpid()


def _runtime_works() -> bool:
    return _runtime_process in {None, os.getpid()}


@attrs.define
class _Attempt:
    succeeded: bool = False


def _is_throttled(error: BaseException) -> bool:
    return re.search(r"\b(503|429|509)\b|SlowDown", str(error)) is not None


def _is_plain_key(key: str) -> bool:
    """Return whether obstore keeps a key unchanged: it normalizes keys like paths."""
    return not {"", ".", ".."} & set(key.split("/"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _has_default_connection(api: RetryingApi) -> bool:
    """Return whether the connection has no configuration that obstore would have to adopt."""
    config = api.client("s3").meta.config
    return api.boto_session is not None and not (config.proxies or config.client_cert or urllib.request.getproxies())


def _has_own_certificates(api: RetryingApi) -> bool:
    """Return whether other certificates than the system's are configured: obstore would trust the system's, too."""
    assert api.boto_session is not None
    core = getattr(api.boto_session(), "_session", None)  # boto3 has no public access to botocore's settings
    return core is None or bool(core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE"))


def _make_store(api: RetryingApi, route: Route, bucket: str, kms_key: str | None) -> Any:
    from obstore.store import S3Store

    assert api.boto_session is not None
    client = api.client("s3")
    boto_session = api.boto_session
    config: S3Config = {"region": route.region, "virtual_hosted_style_request": route.virtual}
    if route.checksum:
        config["checksum_algorithm"] = "sha256"
    if kms_key is not None:
        config |= {"server_side_encryption": "aws:kms", "sse_kms_key_id": kms_key}

    def current() -> S3Credential:
        frozen = boto_session().get_credentials().get_frozen_credentials()  # read again, as they may be renewed
        # botocore renews credentials ten minutes before they expire. obstore asks again five minutes before this time.
        expires = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=9)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires,
        }

    return S3Store(
        bucket,
        endpoint=route.endpoint,
        config=config,
        client_options={
            "allow_http": route.endpoint.startswith("http://"),
            "connect_timeout": f"{client.meta.config.connect_timeout} s",
            "read_timeout": f"{client.meta.config.read_timeout} s",
            "timeout": "600 s",
            "user_agent": client.meta.config.user_agent,
        },
        retry_config={"max_retries": 0},
        credential_provider=current,
    )
