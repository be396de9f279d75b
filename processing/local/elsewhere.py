"""Another S3 in place of the engine's own: its operations are carried out by that one, with the user's credentials.

The session's calls and those of a job's own clients come through the engine (so a job never sees the credentials); a
job's inputs and outputs are moved by its supervisor. boto3 is imported when it is used: supervisors import this module
by its name, and only for jobs that need it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.settings import EngineSettings
    from processing.local.stores.bodies import Source

    Function = Callable[[dict[str, Any]], dict[str, Any]]

_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_OF_CLIENTS = ("HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
_IN_MEMORY = 8 << 20
_CHUNK = 1 << 20


class Surroundings(Protocol):
    """What the handler needs to know of the engine."""

    settings: EngineSettings
    region: str
    account: str


class ElsewhereHandler:
    """S3's operations, each given on to the other S3.

    Args:
        engine: the engine whose settings name it.

    Attributes:
        operations: the function for each operation.
    """

    def __init__(self, engine: Surroundings) -> None:
        self._account = engine.account
        self._endpoint = str(engine.settings.another_s3)
        self._client = make_client(self._endpoint, engine.region)
        self.operations: Mapping[str, Function] = _Operations(self)

    def carry_out(self, operation: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry an operation out there; params and results as for the engine's own handler."""
        with contextlib.ExitStack() as stack:
            given = _translated(params, self._account)
            if "Body" in given:
                _spool(given, stack)
            with explained(self._endpoint):
                answer: dict[str, Any] = getattr(self._client, method)(**given)
        status = answer.pop("ResponseMetadata")["HTTPStatusCode"]
        if "EncodingType" not in params:  # botocore asks for it by itself, and undoes it
            answer.pop("EncodingType", None)
        return {**answer, "ResponseMetadata": {"HTTPStatusCode": status}} if operation == "GetObject" else answer

    def method_of(self, operation: str) -> str | None:
        """Return the client's method for an operation; None if there is none."""
        methods: Mapping[str, str] = self._client.meta.method_to_api_mapping
        return next((method for method, name in methods.items() if name == operation), None)


class _Operations(Mapping[str, "Function"]):
    """Every operation that the client knows."""

    def __init__(self, handler: ElsewhereHandler) -> None:
        self._handler = handler

    def __getitem__(self, operation: str) -> Function:
        method = self._handler.method_of(operation)
        if method is None:
            raise KeyError(operation)
        return lambda params: self._handler.carry_out(operation, method, params)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _translated(params: Mapping[str, Any], account: str) -> dict[str, Any]:
    """Return parameters as a client takes them."""
    from processing.local.handlers.s3.common import copy_source

    given = dict(params)
    for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
        if given.get(name) == account:  # the engine's account does not exist there
            del given[name]
    if "CopySource" in given:
        bucket, key = copy_source(params)
        given["CopySource"] = {"Bucket": bucket, "Key": key}
    return given


def _spool(given: dict[str, Any], stack: contextlib.ExitStack) -> None:
    """Take a body in, on the disk if it is large: a client has to be able to read it twice."""
    body, length = given["Body"], given.pop("ContentLength", None)
    if not isinstance(body, bytes):
        spooled = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 — the stack is one
        while piece := body.read(_CHUNK):
            spooled.write(piece)
        size = spooled.tell()
        spooled.seek(0)
        given["Body"] = spooled
    else:
        size = len(body)
    if length is not None and size != length:
        message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
        raise ApiError("IncompleteBody", message)
    trailing = getattr(body, "checksums", {})
    given.update({f"Checksum{name.upper()}": value for name, value in trailing.items() if value})


class Found(NamedTuple):
    """An object that was listed."""

    key: str


class ElsewhereObjects:
    """The objects of another S3, as far as the data of a job goes: what `ObjectStore` does there.

    Args:
        plan: what `plan` decided.
        folder: where to keep what is being read.
    """

    def __init__(self, plan: Mapping[str, Any], folder: Path) -> None:
        for place in plan["path"]:
            if place not in sys.path:
                sys.path.append(place)
        self._endpoint: str = plan["endpoint"]
        self._folder = folder
        self._client = make_client(self._endpoint, plan["region"])

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[Found]:
        """Yield every object whose key begins with the prefix, in order."""
        with explained(self._endpoint):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield Found(entry["Key"])

    def open(self, bucket: str, key: str) -> tuple[Found, int]:
        """Return an object's key and its body as an open file descriptor."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            with explained(self._endpoint):
                self._client.download_fileobj(bucket, key, file)
            file.seek(0)
            return Found(key), os.dup(file.fileno())

    def put(self, bucket: str, key: str, source: Source) -> None:
        """Store an object: bytes, a path, or a stream."""
        with explained(self._endpoint):
            if isinstance(source, (bytes, bytearray, memoryview)):
                self._client.put_object(Bucket=bucket, Key=key, Body=bytes(source))
            elif isinstance(source, os.PathLike):
                self._client.upload_file(os.fspath(source), bucket, key)
            else:
                self._client.upload_fileobj(source, bucket, key)


def plan(settings: EngineSettings, region: str) -> dict[str, Any] | None:
    """Return what a supervisor needs to reach the other S3; None if there is none."""
    endpoint = settings.another_s3
    if endpoint is None:
        return None
    # Where the creator's modules come from: the supervisor needs boto3, wherever that is.
    path = [*dict.fromkeys([*filter(os.path.isabs, sys.path), _PACKAGE_ROOT])]
    return {"endpoint": endpoint, "region": region, "path": path}


def environment(settings: EngineSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of this machine by which a supervisor finds credentials for the other S3; not for jobs."""
    if settings.another_s3 is None:
        return {}
    return {name: value for name, value in environ.items() if name.startswith("AWS_") or name in _OF_CLIENTS}


def make_client(endpoint: str, region: str) -> Any:
    """Return a boto3 client of that S3, with the credentials of this machine."""
    import boto3
    from botocore.config import Config

    config = Config(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 2, "mode": "standard"},
        connect_timeout=10,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.Session()
    return session.client("s3", endpoint_url=endpoint, region_name=session.region_name or region, config=config)


@contextlib.contextmanager
def explained(endpoint: str) -> Iterator[None]:
    """Turn a client's errors into the engine's; that the place cannot be reached names the setting."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer: Any = error.response
        said = answer["Error"]
        code = {"404": "NoSuchKey"}.get(said.get("Code", ""), said.get("Code", ""))
        raise ApiError(code, said.get("Message", ""), answer["ResponseMetadata"]["HTTPStatusCode"]) from error
    except (BotoCoreError, Boto3Error) as error:
        message = (
            f"the S3 at {endpoint} cannot be used: {error}. It is named by s3_endpoint=, or by the environment's "
            "AWS_ENDPOINT_URL_S3; its credentials are those that boto3 finds on this machine."
        )
        raise ApiError("AnotherS3", message) from error
