"""One-line reasons for failed transfers: AWS's error and its likely meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.aws.refusals import explanation
from processing.aws.retry import error_code, response_of

if TYPE_CHECKING:
    from processing.request.s3_uri import S3Uri
    from processing.staging.pending_uploads import Upload


def upload_failure_reason(upload: Upload, error: Exception) -> str:
    """Return in one line why a file was not uploaded."""
    reason = failure_reason(error, upload.target, upload.kms_key)
    if upload.kms_key is not None and "kms" in reason.lower() and upload.kms_key not in reason:
        return f"{reason} (KMS key {upload.kms_key})"
    return reason


def failure_reason(error: Exception, uri: S3Uri, kms_key: str | None = None) -> str:
    """Return in one line why a file was not transferred.

    Args:
        error: the error.
        uri: the object.
        kms_key: the KMS key of an upload.
    """
    if isinstance(error, FileNotFoundError):
        return "the file has vanished"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = error_code(error)
    if not code:
        return str(error)
    response = response_of(error)
    text = str(response.get("Error", {}).get("Message") or str(error).partition("\n")[0])
    reason = text if code in text else f"{code}: {text}"
    region = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    params = {"Bucket": uri.bucket, "Key": uri.key, "SSEKMSKeyId": kms_key}
    explained = explanation(getattr(error, "operation_name", ""), code, text, params, region)
    return f"{reason} ({explained.rstrip('.')})" if explained else reason
