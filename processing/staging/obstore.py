"""Transfers of small files with obstore, which needs a fraction of botocore's CPU time.

botocore sends the first request to a bucket. Once it is signed, its address, region and headers show the route to the
bucket. If obstore can send the same kind of request, it sends the other small files. All of the user's configuration
applies: another endpoint, a proxy, hooks on the client, a simulated AWS in a test.

The effect for 2,000 files of 8 KB is in `benchmarks/uploads.py` and `downloads.py`. The environment variable
`PROCESSING_TRANSFERS=core` switches obstore off.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import re
import threading
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import attrs

from processing.staging.checksums import MD5
from processing.staging.objects import CLAIM_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import S3Config, S3Credential

    from processing.aws.retry import RetryingApi
    from processing.staging.listing import ListedObject
    from processing.staging.pending_uploads import Upload

logger = logging.getLogger(__name__)

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
    """Sends and fetches small objects with obstore, on the routes that botocore's requests have shown.

    Args:
        api: the calls to S3.
    """

    def __init__(self, api: RetryingApi) -> None:
        self._api = api
        self._routes: dict[str, Route] = {}
        self._stores: dict[tuple[str, str | None], Any] = {}
        self._lock = threading.Lock()
        self._unverified: set[str] = set()  # buckets whose ETags are not MD5s

    @classmethod
    def for_api(cls, api: RetryingApi) -> ObstoreClient | None:
        """Return a client; None if obstore does not work in this process, or would have to adopt a configuration."""
        return cls(api) if _runtime_works() and _has_default_connection(api) else None

    def learn_route(self, request: Any, bucket: str, key: str) -> None:
        """Learn the route to a bucket from a request that botocore has sent.

        Args:
            request: botocore's prepared request.
            bucket: the bucket of the request.
            key: the object of the request; empty for the bucket itself.
        """
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        route = route_of(request.url, headers, bucket, key)
        if route is not None and (route.endpoint.startswith("http://") or not _has_own_certificates(self._api)):
            self._routes.setdefault(bucket, route)

    def has_route(self, bucket: str, key: str) -> bool:
        """Return whether obstore can put an object."""
        return bucket in self._routes and _is_plain_key(key)

    def can_verify(self, bucket: str, listed: ListedObject) -> bool:
        """Return whether obstore can get an object, and the ETag proves its bytes."""
        is_md5 = bucket not in self._unverified and MD5.fullmatch(listed.etag.strip('"')) is not None
        return is_md5 and self.has_route(bucket, listed.key)

    def put(self, upload: Upload, content: bytes) -> str | None:
        """Put a small file, and return its ETag.

        Args:
            upload: the file.
            content: its bytes.
        """
        import obstore

        create = upload.claim is not None or upload.content_addressed
        attributes = {"Content-Type": "binary/octet-stream"}  # S3's own default
        if upload.claim is not None:
            attributes[CLAIM_METADATA] = upload.claim
        store = self._store(upload.target.bucket, upload.kms_key)
        answer = obstore.put(
            store,
            upload.target.key,
            content,
            attributes=attributes,
            mode="create" if create else "overwrite",
            use_multipart=False,
        )
        return answer["e_tag"]

    def get(self, bucket: str, listed: ListedObject) -> bytes | None:
        """Return a small object; None if its bytes do not match the ETag.

        Args:
            bucket: its bucket.
            listed: the object.
        """
        import obstore

        answer = obstore.get(self._store(bucket, None), listed.key, options={"if_match": listed.etag})
        content = bytes(answer.bytes())
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != listed.etag.strip('"'):
            self._unverified.add(bucket)  # most likely a KMS key encrypts it; botocore compares the checksum
            return None
        return content

    def _store(self, bucket: str, kms_key: str | None) -> Any:
        _use_runtime()
        with self._lock:
            if (bucket, kms_key) not in self._stores:
                self._stores[bucket, kms_key] = _make_store(self._api, self._routes[bucket], bucket, kms_key)
            return self._stores[bucket, kms_key]


# The process whose threads run obstore's requests: they do not exist in its forked children. None before the first one.
_runtime_process: int | None = None


def _use_runtime() -> None:
    global _runtime_process  # noqa: PLW0603 - obstore's runtime is global, too
    _runtime_process = _runtime_process or os.getpid()


def _runtime_works() -> bool:
    return _runtime_process in {None, os.getpid()}


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
