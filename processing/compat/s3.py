"""The module `sagemaker.s3`: uploads and downloads by S3 URI."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from processing import default_sessions
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from processing.session.session import Session


class S3Uploader:
    """Uploads files, texts and bytes."""

    @staticmethod
    def upload(
        local_path: str | os.PathLike[str],
        desired_s3_uri: str,
        kms_key: str | None = None,
        sagemaker_session: Any = None,
        callback: Callable[[int], object] | None = None,
    ) -> str:
        """Upload a file, or the files of a directory, below a prefix, and return the URI; see `Session.upload_data`."""
        uri = S3Uri.checked(desired_s3_uri, "desired_s3_uri")
        extra = None if kms_key is None else {"SSEKMSKeyId": kms_key, "ServerSideEncryption": "aws:kms"}
        return _session(sagemaker_session).upload_data(local_path, uri.bucket, uri.key, callback, extra)

    @staticmethod
    def upload_string_as_file_body(
        body: str, desired_s3_uri: str, kms_key: str | None = None, sagemaker_session: Any = None
    ) -> str:
        """Upload a text as an object, and return its URI."""
        return S3Uploader.upload_bytes(body.encode(), desired_s3_uri, kms_key, sagemaker_session)

    @staticmethod
    def upload_bytes(
        b: bytes | io.BytesIO, s3_uri: str, kms_key: str | None = None, sagemaker_session: Any = None
    ) -> str:
        """Upload bytes as an object, and return its URI."""
        uri = S3Uri.checked(s3_uri, "s3_uri")
        body = b.getvalue() if isinstance(b, io.BytesIO) else b
        return _session(sagemaker_session).upload_string_as_file_body(body, uri.bucket, uri.key, kms_key)


class S3Downloader:
    """Downloads, reads and lists objects."""

    @staticmethod
    def download(
        s3_uri: str, local_path: str | os.PathLike[str], kms_key: str | None = None, sagemaker_session: Any = None
    ) -> list[str]:
        """Download the objects at or below a URI into a directory, and return the files' paths."""
        uri = S3Uri.checked(s3_uri, "s3_uri")
        extra = None if kms_key is None else {"SSECustomerKey": kms_key}
        from processing.staging.sources import local_target

        target = local_target(local_path, "local_path")
        return _session(sagemaker_session).download_data(target, uri.bucket, uri.key, extra)

    @staticmethod
    def read_file(s3_uri: str, sagemaker_session: Any = None) -> str:
        """Return an object's text."""
        uri = S3Uri.checked(s3_uri, "s3_uri")
        return _session(sagemaker_session).read_s3_file(uri.bucket, uri.key)

    @staticmethod
    def read_bytes(s3_uri: str, sagemaker_session: Any = None) -> bytes:
        """Return an object's content."""
        from processing.staging.transfers import get_bytes

        session = _session(sagemaker_session)
        return get_bytes(session.api, S3Uri.checked(s3_uri, "s3_uri"), expected_owner=session.expected_owner)

    @staticmethod
    def list(s3_uri: str, sagemaker_session: Any = None) -> list[str]:  # hides no builtin outside the class
        """Return the URIs of the objects whose URIs begin with `s3_uri`."""
        from processing.staging.listing import list_objects

        uri, session = S3Uri.checked(s3_uri, "s3_uri"), _session(sagemaker_session)
        return [str(S3Uri(uri.bucket, each.key)) for each in list_objects(session.api, uri, session.expected_owner)]


def parse_s3_url(url: str) -> tuple[str, str]:
    """Return the bucket and the key of a URI."""
    uri = S3Uri.checked(url, "url")
    return uri.bucket, uri.key.lstrip("/")


def is_s3_url(url: str) -> bool:
    """Return True for an `s3://` URI."""
    return is_s3(url)


def determine_bucket_and_prefix(
    bucket: str | None = None, key_prefix: str | None = None, sagemaker_session: Any = None
) -> tuple[str, str | None]:
    """Return a bucket and its prefix: those given, or the session's default bucket with the prefix below its own."""
    if bucket:
        return bucket, key_prefix
    session = _session(sagemaker_session)
    return session.default_bucket(), s3_path_join(session.default_bucket_prefix, key_prefix)


def s3_path_join(*args: str | None, with_end_slash: bool = False) -> str:
    """Join the parts that are not empty, with one slash between two parts and none at the ends.

    Args:
        args: the parts; the first may be or begin with `s3://`.
        with_end_slash: True for a slash at the end.
    """
    joined = "/".join(part for part in args if part)
    scheme = "s3://" if joined.startswith("s3://") else ""
    path = re.sub("/+", "/", joined[len(scheme) :]).strip("/")
    return scheme + (f"{path}/" if with_end_slash and path else path)


def _session(sagemaker_session: Any) -> Session:
    return default_sessions.session_for_attach(sagemaker_session)
