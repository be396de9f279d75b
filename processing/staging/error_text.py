"""One-line reasons for failed transfers: AWS's error and its likely meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.aws.retry import error_code

if TYPE_CHECKING:
    from processing.staging.pending_uploads import Upload


def upload_failure_reason(upload: Upload, error: Exception) -> str:
    """Return in one line why a file was not uploaded."""
    reason = failure_reason(error)
    if upload.kms_key is not None and "kms" in reason.lower():
        return f"{reason} (KMS key {upload.kms_key})"
    return reason


def failure_reason(error: Exception) -> str:
    """Return in one line why a file was not transferred."""
    if isinstance(error, FileNotFoundError):
        return "the file has vanished"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = error_code(error)
    response: dict[str, Any] = getattr(error, "response", None) or {}
    text = str(response.get("Error", {}).get("Message") or error) if code else str(error)
    reason = f"{code}: {text}" if code and code not in text else text
    region = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if code in _OTHER_REGION:
        return f"{reason} (the bucket is in {region or 'another region'})"
    if code in {"AccessDenied", "403"}:
        return f"{reason} (no permission, or the bucket belongs to another account)"
    return reason


_OTHER_REGION = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
