"""Access to another S3 server in place of the engine's own: client, credentials, and objects for supervisors.

`RemoteS3Objects` stands in for `ObjectStore` when a supervisor moves the inputs and outputs of a job. The API calls of
clients go through `processing.local.handlers.remote_s3` instead, which uses the client of this module.

boto3 is imported at its first use, because most supervisors do not need it and must start in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.errors import ApiError
from processing.local.import_path import search_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from processing.local.settings import EngineSettings
    from processing.local.stores.bodies import BodySource

_CLIENT_VARIABLES = ("HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""Environment variables beside `AWS_*` that boto3 needs for credentials and connections."""


class RemoteObject(NamedTuple):
    """An object on the other server."""

    key: str


class RemoteS3Objects:
    """The objects of another S3 server, with the methods of `ObjectStore` that jobs' inputs and outputs need.

    Args:
        plan: the result of `plan`.
        folder: the folder for temporary files.
    """

    def __init__(self, plan: Mapping[str, Any], folder: Path) -> None:
        for place in plan["path"]:
            if place not in sys.path:
                sys.path.append(place)
        self._endpoint: str = plan["endpoint"]
        self._folder = folder
        self._client = make_client(self._endpoint, plan["region"])

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[RemoteObject]:
        """Yield every object whose key begins with the prefix, sorted by key."""
        with explain_client_errors(self._endpoint):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield RemoteObject(entry["Key"])

    def open(self, bucket: str, key: str) -> tuple[RemoteObject, int]:
        """Return an object's key and its body as an open file descriptor."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            with explain_client_errors(self._endpoint):
                self._client.download_fileobj(bucket, key, file)
            file.seek(0)
            return RemoteObject(key), os.dup(file.fileno())

    def put(self, bucket: str, key: str, source: BodySource) -> None:
        """Store an object: bytes, a path, or a stream."""
        with explain_client_errors(self._endpoint):
            if isinstance(source, (bytes, bytearray, memoryview)):
                self._client.put_object(Bucket=bucket, Key=key, Body=bytes(source))
            elif isinstance(source, os.PathLike):
                self._client.upload_file(os.fspath(source), bucket, key)
            else:
                self._client.upload_fileobj(source, bucket, key)


def plan(settings: EngineSettings, region: str) -> dict[str, Any] | None:
    """Return the `RemoteS3Objects` parameters for a supervisor, or None if the engine's own S3 is used."""
    endpoint = settings.remote_s3_endpoint
    if endpoint is None:
        return None
    return {"endpoint": endpoint, "region": region, "path": search_path()}


def environment(settings: EngineSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables with which a supervisor, but no job, finds credentials for the server."""
    if settings.remote_s3_endpoint is None:
        return {}
    return {name: value for name, value in environ.items() if name.startswith("AWS_") or name in _CLIENT_VARIABLES}


def make_client(endpoint: str, region: str) -> Any:
    """Return a boto3 client for the server, with the credentials of this machine."""
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
def explain_client_errors(endpoint: str) -> Iterator[None]:
    """Convert a client's errors to `ApiError`. The error for an unreachable server names the setting."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer: Any = error.response
        details = answer["Error"]
        code = {"404": "NoSuchKey"}.get(details.get("Code", ""), details.get("Code", ""))
        raise ApiError(code, details.get("Message", ""), answer["ResponseMetadata"]["HTTPStatusCode"]) from error
    except (BotoCoreError, Boto3Error) as error:
        message = (
            f"the S3 at {endpoint} cannot be used: {error}. s3_endpoint= or the environment's AWS_ENDPOINT_URL_S3 "
            "names it, and boto3 finds its credentials on this machine."
        )
        raise ApiError("AnotherS3", message) from error
