"""Object storage of tasks: the functions that the shim needs, and S3 with the botocore of the image."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, List, Mapping, NamedTuple, Optional, Tuple, Type

from processing.container.shim.errors import StoreError

if TYPE_CHECKING:
    from processing.container.shim.plain_s3 import PlainS3

SINGLE_PUT_BYTES = 64 << 20
"""The largest object that is sent in one request. A larger one is sent in parts."""
_ATTEMPTS = 3
"""Attempts to read the body of an object; botocore repeats a request, but not the reading of its answer."""
_PIECE = 256 << 10
"""The bytes of one read. Each thread needs that memory even for a small file."""
_SMALL = 256 << 10
"""The largest file that is read as a whole: botocore would read it in pieces of 1 MiB, several times."""
_MOST_PARTS = 10_000
"""The most parts of one object in S3."""
_PACKAGES = {"botocore", "jmespath", "dateutil", "six", "urllib3"}
"""The packages that travel with the shim."""
_SERVICES = ("s3", "sts", "sso", "oidc")
"""The services that a transfer or its credentials need."""
_carried: List[Callable[[], Optional[str]]] = []


class Stored(NamedTuple):
    """Measurements of an object that was sent.

    Attributes:
        size: the size in bytes.
        sha256: the SHA-256 of the content, in hexadecimal digits.
    """

    size: int
    sha256: str


class Store:
    """Interface of an object storage."""

    def fetch(self, bucket: str, key: str, target: BinaryIO) -> None:
        """Write the object's content to an empty file.

        Raises:
            StoreError: the object cannot be read. Errors of the file are raised as they are.
        """
        raise NotImplementedError

    def put(self, bucket: str, key: str, source: BinaryIO, metadata: Mapping[str, str]) -> Stored:
        """Store a file, from its beginning, as an object.

        Raises:
            StoreError: the object cannot be written.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections that are idle. The storage can be used again."""


class S3Store(Store):
    """S3. Without a client, the first transfer that needs one makes one with botocore.

    Args:
        client: a client for S3, of boto3 or botocore.
        endpoint_url: the URL of another S3, for the client that this object makes.
        connections: the most connections at a time, for the client that this object makes.
        plain: the environment from which plain requests take their settings; None for botocore alone.
    """

    def __init__(
        self,
        client: Any = None,
        endpoint_url: Optional[str] = None,
        connections: int = 120,
        plain: Optional[Mapping[str, str]] = None,
    ) -> None:
        self._client = client
        self._endpoint_url = endpoint_url
        self._connections = connections
        self._environment = plain
        self._plain: Optional[PlainS3] = None
        self._plain_error: Type[Exception] = StoreError
        self._lock = threading.Lock()

    def fetch(self, bucket: str, key: str, target: BinaryIO) -> None:
        """Write the object's content to an empty file."""
        client = self._client_unless(lambda plain: plain.fetch(bucket, key, target))
        if client is None:
            return
        for attempt in range(1, _ATTEMPTS + 1):
            target.seek(0)
            target.truncate()
            try:
                answer = client.get_object(Bucket=bucket, Key=key)
            except Exception as error:
                raise StoreError("s3://%s/%s: %s" % (bucket, key, error)) from error
            problem = _copy_body(answer["Body"], target)
            if problem is None:
                return
            if attempt == _ATTEMPTS:
                raise StoreError("s3://%s/%s: %s" % (bucket, key, problem)) from problem

    def put(self, bucket: str, key: str, source: BinaryIO, metadata: Mapping[str, str]) -> Stored:
        """Store a file, from its beginning, as an object."""
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        # A small file is read once. A larger one is read in pieces, so many uploads at a time need little memory.
        data = source.read() if size <= _SMALL else None
        stored = _measure(source) if data is None else Stored(len(data), hashlib.sha256(data).hexdigest())
        content = source if data is None else io.BytesIO(data)
        if stored.size > SINGLE_PUT_BYTES:
            client = self._connect()
        else:
            client = self._client_unless(
                lambda plain: plain.put(bucket, key, content, stored.size, stored.sha256, metadata)
            )
        if client is None:
            return stored
        source.seek(0)
        try:
            if stored.size <= SINGLE_PUT_BYTES:
                client.put_object(
                    Bucket=bucket, Key=key, Body=source if data is None else data, Metadata=dict(metadata)
                )
            else:
                _put_parts(client, bucket, key, source, stored.size, dict(metadata))
        except Exception as error:
            raise StoreError("s3://%s/%s: %s" % (bucket, key, error)) from error
        return stored

    def close(self) -> None:
        """Close the connections of plain requests."""
        if self._plain is not None:
            self._plain.close()

    def _client_unless(self, work: Callable[[PlainS3], None]) -> Any:
        """Have plain requests do some work; return a client if it is left to botocore, else None."""
        with self._lock:
            environment, self._environment = self._environment, None
            if environment is not None:
                # A program without S3 starts sooner without it.
                from processing.container.shim import plain_s3

                self._plain = plain_s3.find_plain_s3(environment, self._endpoint_url)
                self._plain_error = plain_s3.PlainError
        if self._plain is None:
            return self._connect()
        try:
            work(self._plain)
        except self._plain_error as error:
            return self._connect(" (a request without it failed: %s)" % error)
        return None

    def _connect(self, note: str = "") -> Any:
        """Return the client.

        Args:
            note: the end of the error's text.

        Raises:
            StoreError: there is no botocore, or it makes no client.
        """
        with self._lock:
            if self._client is None:
                try:
                    self._client = _make_client(self._endpoint_url, self._connections)
                except StoreError as error:
                    raise StoreError("%s%s" % (error, note)) from error
            return self._client


def parse_uri(uri: str) -> Tuple[str, str]:
    """Return the bucket and the key of `s3://bucket/key`.

    Raises:
        ValueError: the text is not such a URI.
    """
    # The ARN of an access point may contain a `/`, so the key begins after the part that follows it.
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if bucket.startswith("arn:") and bucket.endswith(":accesspoint"):
        name, _, key = key.partition("/")
        bucket += "/" + name
    if scheme != "s3" or not bucket or not key:
        raise ValueError("%r is not a URI such as s3://bucket/key" % uri)
    return bucket, key


def carry(unpack: Callable[[], Optional[str]]) -> None:
    """Have a botocore ready for an image that has no working one.

    Args:
        unpack: returns the folder to import it from; None if there is no such folder.
    """
    _carried[:] = [unpack]


def _make_client(endpoint_url: Optional[str], connections: int) -> Any:
    session, config = _import_botocore()
    try:
        made = session.Session()
        _prune_models(made)
        return made.create_client(
            "s3", endpoint_url=endpoint_url, config=config.Config(max_pool_connections=connections)
        )
    except Exception as error:
        raise StoreError("S3 has no client: %s" % error) from error


def _prune_models(session: Any) -> None:
    """Have a session forget the parts of its models that no transfer needs, as soon as they are read.

    The service model of S3 is half documentation, and the list of endpoints has those of every service. Without them
    the shim needs 10 MB less. botocore lists the 400 folders of all services to check a service's name; without that a
    client needs a quarter less time.
    """
    loader = session.get_component("data_loader")
    read, load = loader.file_loader.load_file, loader.load_service_model

    def load_service_model(service_name: str, *others: Any, **named: Any) -> Any:
        # botocore itself asks for the services of credentials, so each name is right.
        loader.list_available_services = lambda *_others, **_named: [service_name]
        return load(service_name, *others, **named)

    loader.load_service_model = load_service_model

    def load_file(path: str) -> Any:
        return _pruned(read(path), Path(path).name)

    loader.file_loader.load_file = load_file


def _pruned(model: Any, name: str) -> Any:
    """Return what a transfer needs of the content of a file. The content stays whole: other sessions may share it."""
    if name == "endpoints":
        return {**model, "partitions": [_with_few_services(each) for each in model.get("partitions", ())]}
    if name == "service-2":
        return _without_documentation(model)
    return model


def _with_few_services(partition: Any) -> Any:
    services = partition.get("services", {})
    return {**partition, "services": {each: services[each] for each in _SERVICES if each in services}}


def _without_documentation(model: Any) -> Any:
    shapes = _undocumented(model["shapes"])
    for shape in shapes.values():
        if "members" in shape:
            shape["members"] = _undocumented(shape["members"])
    return {**model, "operations": _undocumented(model["operations"]), "shapes": shapes}


def _undocumented(described: Any) -> Any:
    return {name: {**each, "documentation": ""} for name, each in described.items()}  # botocore reads it


def _import_botocore() -> Tuple[Any, Any]:
    """Return the modules `session` and `config` of botocore: the image's, or those that travel with the shim."""
    names = ("botocore.session", "botocore.config")
    try:
        session, config = map(importlib.import_module, names)
    except ImportError as error:
        folder = _carried[0]() if _carried else None
        if folder is None:
            raise StoreError("S3 needs boto3 in the image: pip install boto3 (%s)" % error) from error
        # The failed import may have left parts of the image's packages behind.
        for name in [each for each in sys.modules if each.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            session, config = map(importlib.import_module, names)
        except ImportError as second:
            raise StoreError("S3 needs boto3 in the image, and that of the shim fails: %s" % second) from second
    return session, config


def _put_parts(client: Any, bucket: str, key: str, source: BinaryIO, size: int, metadata: Mapping[str, str]) -> None:
    """Store a large file in parts. After a failure S3 keeps none of them."""
    name = {"Bucket": bucket, "Key": key}
    upload = client.create_multipart_upload(Metadata=metadata, **name)["UploadId"]
    length = max(SINGLE_PUT_BYTES, -(-size // _MOST_PARTS))
    parts = []
    try:
        for number, start in enumerate(range(0, size, length), 1):
            body = _Part(source, start, min(length, size - start))
            answer = client.upload_part(UploadId=upload, PartNumber=number, Body=body, **name)
            checksums = {field: value for field, value in answer.items() if field.startswith("Checksum")}
            checksums.pop("ChecksumType", None)
            parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksums})
        client.complete_multipart_upload(UploadId=upload, MultipartUpload={"Parts": parts}, **name)
    except BaseException:
        client.abort_multipart_upload(UploadId=upload, **name)
        raise


class _Part(io.RawIOBase):
    """A part of a file, read as a file of its own."""

    def __init__(self, source: BinaryIO, start: int, size: int) -> None:
        self._source = source
        self._start = start
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._place)
        self._source.seek(self._start + self._place)
        data = self._source.read(left if size < 0 else min(size, left))
        self._place += len(data)
        return data


def _copy_body(body: Any, target: BinaryIO) -> Optional[Exception]:
    """Copy an answer's body to a file; return the error of the connection, and raise that of the file."""
    while True:
        try:
            piece = body.read(_PIECE)
        except Exception as error:  # noqa: BLE001 - urllib3, botocore and sockets have errors of their own
            return error
        if not piece:
            return None
        target.write(piece)


def _measure(source: BinaryIO) -> Stored:
    digest, size = hashlib.sha256(), 0
    for piece in iter(lambda: source.read(_PIECE), b""):
        digest.update(piece)
        size += len(piece)
    return Stored(size, digest.hexdigest())
