"""Another S3 in place of the engine's own: its client, and the objects that a job's supervisor moves.

The API calls of clients go through `processing.local.handlers.remote_s3` instead, which uses the client of this module.

boto3 is imported when it is used: only jobs whose plan names another S3 load it (see `jobs.object_source`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from processing.local.settings import EngineSettings
    from processing.local.stores.bodies import BodySource

_CLIENT_VARIABLES = ("HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
"""The variables, beside AWS's own, that a client of S3 reads."""


class RemoteS3Object(NamedTuple):
    """An object of the other S3."""

    key: str


class RemoteS3Objects:
    """The objects of another S3: the operations of `ObjectStore` that move a job's data.

    Args:
        endpoint: the URL of that S3.
        region: the region to use if boto3 finds none on this machine.
        path: the import search path on which boto3 is found.
        folder: the folder for the temporary files of bodies that are being read.
    """

    def __init__(self, endpoint: str, region: str, path: Sequence[str], folder: Path) -> None:
        for place in path:
            if place not in sys.path:
                sys.path.append(place)
        self._endpoint = endpoint
        self._folder = folder
        self._client = make_client(endpoint, region)

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[RemoteS3Object]:
        """Yield every object whose key begins with the prefix, in order."""
        with explain_client_errors(self._endpoint):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield RemoteS3Object(entry["Key"])

    def open(self, bucket: str, key: str) -> tuple[RemoteS3Object, int]:
        """Return an object and its body as an open file descriptor."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            with explain_client_errors(self._endpoint):
                self._client.download_fileobj(bucket, key, file)
            file.seek(0)
            return RemoteS3Object(key), os.dup(file.fileno())

    def put(self, bucket: str, key: str, source: BodySource) -> None:
        """Store an object: bytes, a path, or a stream."""
        with explain_client_errors(self._endpoint):
            if isinstance(source, (bytes, bytearray, memoryview)):
                self._client.put_object(Bucket=bucket, Key=key, Body=bytes(source))
            elif isinstance(source, os.PathLike):
                self._client.upload_file(os.fspath(source), bucket, key)
            else:
                self._client.upload_fileobj(source, bucket, key)


def supervisor_environment(settings: EngineSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables by which a supervisor finds credentials for the other S3; jobs do not see them.

    Args:
        settings: the engine's settings. Without another S3 the result is empty.
        environ: the variables of this machine.
    """
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
    """Turn a client's errors into the engine's; the message for an unreachable S3 names the setting."""
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
