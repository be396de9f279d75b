"""Plain requests to S3 with the standard library, for transfers that need nothing more.

botocore needs about 0.15 s of processor time and 15 MB to be imported and to read its models: most of the start of a
task with few files. Each small file costs it a millisecond more. So this module signs GetObject and PutObject itself,
if an environment has nothing unusual. That is: an access key in variables or in the metadata of a container; a region
of the partition `aws`, or the URL of another S3; a bucket's plain name; no other variable of boto3, no file of
settings, no proxy. Everything else is left to botocore. So is a request that fails, or has another status than 200:
botocore repeats it. So repetitions, redirects, wrong clocks and the texts of errors are botocore's.
PROCESSING_SHIM_PLAIN_S3=false switches this module off.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import re
import select
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple
from urllib.parse import quote, urlsplit

from processing.container.shim.access_keys import AccessKey, AccessKeys, has_access_key

if TYPE_CHECKING:
    import ssl

SECONDS = 60.0
"""The longest wait for a connection, and for the next bytes of an answer."""
_PIECE = 256 << 10
_REGION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-[0-9]")
"""Matches a region of the partition `aws`."""
_HOST_BUCKET = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Matches a bucket that can be part of a host's name. Those with `--` are special kinds, such as directory buckets."""
_PATH_BUCKET = re.compile(r"(?!.*--)[a-zA-Z0-9._-]{3,255}")
_HEADER = re.compile(r"[\x21-\x7e]*")
_HOST = re.compile(r"[A-Za-z0-9.-]+")
_KNOWN = re.compile(
    r"AWS_(CA_BUNDLE|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|REGION|DEFAULT_REGION|ENDPOINT_URL"
    r"|ENDPOINT_URL_[A-Z0-9_]+|S3_ENDPOINT_URL|CONFIG_FILE|SHARED_CREDENTIALS_FILE|EXECUTION_ENV"
    r"|CONTAINER_(CREDENTIALS_(RELATIVE|FULL)_URI|AUTHORIZATION_TOKEN(_FILE)?)|EC2_METADATA_DISABLED"
    r"|DISABLE_HOST_PREFIX_INJECTION)"
)
"""Matches the variables of boto3 that mean the same here, or that mean nothing to S3."""
_SWITCHES = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""Variables that mean nothing if they are `false`."""
_FOREIGN = re.compile(r"(?i)BOTO_CONFIG|(HTTPS?|ALL)_PROXY")
_AUTHORITIES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""Variables with the name of a file with certificates of authorities, in botocore's order."""
_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
"""Variables with the names of files of settings, and their defaults."""
_OLD_FILES = ("/etc/boto.cfg", "~/.boto")
_PORTS = {"http": 80, "https": 443}
_OK, _NOT_FOUND, _SERVER_ERROR = 200, 404, 500


class PlainError(Exception):
    """A request that botocore has to repeat."""


class S3Address(NamedTuple):
    """The address of S3.

    Attributes:
        scheme: "http" or "https".
        host: the host, with its port if it is not that of the scheme.
        region: the region.
        in_host: whether the bucket is part of the host's name; otherwise it is the first part of the path.
    """

    scheme: str
    host: str
    region: str
    in_host: bool

    def locate(self, bucket: str, key: str) -> Optional[Tuple[str, str]]:
        """Return the host and the path of an object; None for a bucket with rules of its own."""
        if (_HOST_BUCKET if self.in_host else _PATH_BUCKET).fullmatch(bucket) is None:
            return None
        path = "/" + quote(key, safe="/~")
        return (bucket + "." + self.host, path) if self.in_host else (self.host, "/" + bucket + path)


class _Body(NamedTuple):
    """The body of a request: a file, and its size and SHA-256."""

    source: BinaryIO
    size: int
    sha256: str


class PlainS3:
    """S3 by plain requests. Threads may share it.

    Args:
        address: the address.
        keys: the access keys.
        authorities: a file with certificates of authorities; empty for those of the system.
    """

    def __init__(self, address: S3Address, keys: AccessKeys, authorities: str = "") -> None:
        self._address = address
        self._keys = keys
        self._authorities = authorities
        self._idle: Dict[str, List[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._refused: Set[str] = set()
        self._off = False
        self._context: Optional[ssl.SSLContext] = None

    def fetch(self, bucket: str, key: str, target: BinaryIO) -> None:
        """Write the object's content to an empty file.

        Raises:
            PlainError: botocore has to do it. The file may have content.
            OSError: the file cannot be written.
        """
        with self._answer("GET", bucket, key, {"x-amz-checksum-mode": "ENABLED"}) as answer:
            expected, size, checksum = answer.length, 0, 0
            while True:
                piece = _read(answer)
                if not piece:
                    break
                size, checksum = size + len(piece), zlib.crc32(piece, checksum)
                target.write(piece)
            if expected is not None and size != expected:
                raise PlainError("the connection ended within the object")
            given = answer.getheader("x-amz-checksum-crc32", "")
        # The checksum of an object that was stored in parts is not that of its content, and has a `-`.
        if given and "-" not in given and given != base64.b64encode(checksum.to_bytes(4, "big")).decode("ascii"):
            raise PlainError("the object has another checksum")

    def put(self, bucket: str, key: str, source: BinaryIO, size: int, sha256: str, metadata: Mapping[str, str]) -> None:
        """Store a file, from its beginning, as an object.

        Args:
            bucket: the bucket.
            key: the key.
            source: the file.
            size: its size in bytes.
            sha256: the SHA-256 of its content, in hexadecimal digits.
            metadata: the metadata of the object.

        Raises:
            PlainError: botocore has to do it.
        """
        headers = {"x-amz-meta-" + name.lower(): value for name, value in metadata.items()}
        if not all(_HEADER.fullmatch(each) for pair in headers.items() for each in pair):
            raise PlainError("the metadata needs botocore")
        with self._answer("PUT", bucket, key, headers, _Body(source, size, sha256)) as answer:
            _read(answer)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    @contextlib.contextmanager
    def _answer(
        self, method: str, bucket: str, key: str, headers: Mapping[str, str], body: Optional[_Body] = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer to a request, which has status 200.

        Raises:
            PlainError: there is none.
        """
        place = None if self._off or bucket in self._refused else self._address.locate(bucket, key)
        access = None if place is None else self._keys.get()
        if place is None or access is None:
            raise PlainError("the bucket or its access key needs botocore")
        host, path = place
        connection, answer = self._ask(host, path, method, headers, body, access)
        try:
            self._check(answer, bucket)
            yield answer
        except BaseException:
            connection.close()
            raise
        if answer.isclosed() and not answer.will_close:
            with self._lock:
                self._idle.setdefault(host, []).append(connection)
        else:
            connection.close()

    def _check(self, answer: http.client.HTTPResponse, bucket: str) -> None:
        """Refuse an answer without status 200."""
        if answer.status == _OK:
            return
        # A missing object and an overload concern one request alone.
        if answer.status != _NOT_FOUND and answer.status < _SERVER_ERROR:
            self._refused.add(bucket)
        raise PlainError("status %d" % answer.status)

    def _ask(
        self, host: str, path: str, method: str, headers: Mapping[str, str], body: Optional[_Body], key: AccessKey
    ) -> Tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; return its connection and its answer.

        Raises:
            PlainError: there is none.
        """
        digest = hashlib.sha256(b"").hexdigest() if body is None else body.sha256
        signed = sign(method, path, {**headers, "host": host}, digest, key, self._address.region, time.time())
        # The server may end an idle connection at this moment. Then the request is sent once more, on a new one.
        problem: Exception = PlainError("there are no certificates of authorities")
        for connection in (self._take(host), self._connect(host)):
            if connection is not None:
                try:
                    _send(connection, method, path, signed, body)
                    return connection, connection.getresponse()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    problem = error
        # A server that cannot be reached, or whose certificate is not known here, stays so.
        self._off = True
        raise PlainError(str(problem)) from problem

    def _take(self, host: str) -> Optional[http.client.HTTPConnection]:
        """Return an idle connection that the server has not ended; None without one."""
        while True:
            with self._lock:
                idle = self._idle.get(host)
                connection = idle.pop() if idle else None
            if connection is None or not _is_readable(connection):
                return connection
            connection.close()

    def _connect(self, host: str) -> Optional[http.client.HTTPConnection]:
        """Return a connection that opens itself; None if the image has no certificates of authorities."""
        if self._address.scheme == "http":
            return http.client.HTTPConnection(host, timeout=SECONDS)
        with self._lock:
            if self._context is None:
                self._context = _tls_context(self._authorities)
            context = self._context
        return None if context is None else http.client.HTTPSConnection(host, timeout=SECONDS, context=context)


def find_plain_s3(environment: Mapping[str, str], endpoint_url: Optional[str]) -> Optional[PlainS3]:
    """Return S3 by plain requests; None if the environment has settings that botocore alone knows.

    Args:
        environment: the environment.
        endpoint_url: the URL of another S3, which counts before those of the environment.
    """
    if any(value and _needs_botocore(name, value) for name, value in environment.items()):
        return None
    files = [environment.get(name) or default for name, default in _FILES.items()]
    # Not Path.expanduser, which fails for a user without a home folder.
    if any(Path(os.path.expanduser(each)).is_file() for each in (*files, *_OLD_FILES)):  # noqa: PTH111 - as above
        return None
    address = _find_address(environment, endpoint_url)
    if address is None or not has_access_key(environment):
        return None
    authorities = next((environment[name] for name in _AUTHORITIES if environment.get(name)), "")
    return PlainS3(address, AccessKeys(environment), authorities)


def _needs_botocore(name: str, value: str) -> bool:
    if name in _SWITCHES:
        return value.lower() != "false"
    return bool(_FOREIGN.fullmatch(name)) or (name.startswith("AWS_") and not _KNOWN.fullmatch(name))


def _find_address(environment: Mapping[str, str], endpoint_url: Optional[str]) -> Optional[S3Address]:
    # botocore ignores AWS_REGION, which containers of SageMaker have, and finds a bucket's region by a redirect.
    region = environment.get("AWS_DEFAULT_REGION") or environment.get("AWS_REGION", "")
    if _REGION.fullmatch(region) is None:
        return None
    url = endpoint_url or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not url:
        # As with botocore: the first region has the name that is older than all regions.
        host = "s3.amazonaws.com" if region == "us-east-1" else "s3.%s.amazonaws.com" % region
        return S3Address("https", host, region, in_host=True)
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_plain = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in _PORTS or not is_plain or _HOST.fullmatch(name) is None or name.endswith("amazonaws.com"):
        return None
    host = name if port in {None, _PORTS[parts.scheme]} else "%s:%d" % (name, port)
    return S3Address(parts.scheme, host, region, in_host=False)


def sign(
    method: str, path: str, headers: Mapping[str, str], sha256: str, key: AccessKey, region: str, now: float
) -> Dict[str, str]:
    """Return headers with those of AWS Signature Version 4 for S3.

    Args:
        method: the method.
        path: the path, encoded, without a query.
        headers: the headers by names in lower case, with `host`. All of them are signed.
        sha256: the SHA-256 of the body, in hexadecimal digits.
        key: the access key.
        region: the region.
        now: the time in seconds since the epoch.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    given = {**headers, "x-amz-content-sha256": sha256, "x-amz-date": stamp}
    if key.token:
        given["x-amz-security-token"] = key.token
    names = ";".join(sorted(given))
    lines = ["%s:%s\n" % (name, given[name]) for name in sorted(given)]
    request = "\n".join([method, path, "", "".join(lines), names, sha256])
    scope = "/".join([stamp[:8], region, "s3", "aws4_request"])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode("ascii")).hexdigest()])
    secret = ("AWS4" + key.secret).encode("utf-8")
    for part in (*scope.split("/"), text):
        secret = hmac.new(secret, part.encode("ascii"), hashlib.sha256).digest()
    given["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        key.identity,
        scope,
        names,
        secret.hex(),
    )
    return given


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: Optional[_Body]
) -> None:
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is None:
        connection.endheaders()
        return
    connection.putheader("content-length", str(body.size))
    # A small body travels with its head.
    body.source.seek(0)
    piece = body.source.read(min(_PIECE, body.size))
    connection.endheaders(piece)
    left = body.size - len(piece)
    while left > 0:
        piece = body.source.read(min(_PIECE, left))
        if not piece:
            raise OSError("the file has become shorter")
        connection.send(piece)
        left -= len(piece)


def _read(answer: http.client.HTTPResponse) -> bytes:
    """Return the next piece of an answer; empty at its end.

    Raises:
        PlainError: the connection has failed.
    """
    try:
        return answer.read(_PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise PlainError(str(error)) from error


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Return whether an idle connection has ended, or has bytes that no one asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _tls_context(authorities: str) -> Optional[ssl.SSLContext]:
    import ssl

    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except OSError:  # there is no such file
        return None
    folder = Path(str(ssl.get_default_verify_paths().capath))  # `None`, if there is none
    has_folder = not authorities and folder.is_dir() and any(folder.iterdir())
    return context if has_folder or context.cert_store_stats()["x509_ca"] > 0 else None
