"""Another S3 in place of the engine's own: how it is reached, and how a job's supervisor moves inputs and outputs.

boto3 is imported when it is used: supervisors import this module by its name, and only for jobs that need it.
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

_OF_CLIENTS = ("HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class Found(NamedTuple):
    """An object that was listed."""

    key: str


class RemoteS3Objects:
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
        with explain_client_errors(self._endpoint):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield Found(entry["Key"])

    def open(self, bucket: str, key: str) -> tuple[Found, int]:
        """Return an object's key and its body as an open file descriptor."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            with explain_client_errors(self._endpoint):
                self._client.download_fileobj(bucket, key, file)
            file.seek(0)
            return Found(key), os.dup(file.fileno())

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
    """Return what a supervisor needs to reach the other S3; None if there is none."""
    endpoint = settings.remote_s3_endpoint
    if endpoint is None:
        return None
    return {"endpoint": endpoint, "region": region, "path": search_path()}


def environment(settings: EngineSettings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of this machine by which a supervisor finds credentials for the other S3; not for jobs."""
    if settings.remote_s3_endpoint is None:
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
def explain_client_errors(endpoint: str) -> Iterator[None]:
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
