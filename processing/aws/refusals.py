"""Explanations of AWS's refusals: the missing permission, and the bucket, key, job or role that it concerns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DENIED: Final = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AccessForbidden", "Forbidden", "UnauthorizedOperation"}
)
"""The codes of AWS for a missing permission."""

_OTHER_REGION: Final = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_NO_ACCOUNT: Final = frozenset({"AccountProblem", "AllAccessDisabled", "NotSignedUp"})
_NOT_ENABLED: Final = frozenset({"OptInRequired", "SubscriptionRequiredException"})

# The permissions of the operations that are not named like theirs.
_PERMISSIONS: Final[Mapping[str, str]] = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CompleteMultipartUpload": "s3:PutObject",
    "CopyObject": "s3:PutObject, and s3:GetObject on the source",
    "CreateBucket": "s3:CreateBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "DescribeLogStreams": "logs:DescribeLogStreams",
    "FilterLogEvents": "logs:FilterLogEvents",
    "GetBucketLocation": "s3:GetBucketLocation",
    "GetLogEvents": "logs:GetLogEvents",
    "GetObject": "s3:GetObject",
    "GetProducts": "pricing:GetProducts",
    "GetResources": "tag:GetResources",
    "GetRole": "iam:GetRole",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListParts": "s3:ListMultipartUploadParts",
    "PutObject": "s3:PutObject",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject, and s3:GetObject on the source",
}
_SAGEMAKER: Final = re.compile(
    r"(Create|Describe|List|Stop)(Processing|Domain|Notebook|User|Tags).*|AddTags"  # what this package calls
)
_S3: Final = frozenset(operation for operation, action in _PERMISSIONS.items() if action.startswith("s3:"))
_READS: Final = frozenset({"GetObject", "HeadObject"})
# AWS's words in a refusal: the action and, if there is one, the resource.
_ACTION: Final = re.compile(r"perform:? ([a-z][a-z0-9-]*:\w+)(?: on resource:? \"?([^\s\"]+))?")
_QUOTA: Final = re.compile(r"limit '([^']+)'")


@attrs.frozen
class _Row:
    """An explanation, for refusals that meet all conditions.

    Args:
        explanation: the text; names in braces are facts of the refusal.
        codes: AWS's error codes.
        operations: the operations; empty for all.
        words: a regular expression that is searched for in AWS's text.
    """

    explanation: str
    codes: Collection[str] = ()
    operations: Collection[str] = ()
    words: str = ""

    def matches(self, operation: str, code: str, text: str) -> bool:
        """Return whether a refusal meets all conditions."""
        return (
            (not self.codes or code in self.codes)
            and (not self.operations or operation in self.operations)
            and (not self.words or re.search(self.words, f"{code} {text}", re.IGNORECASE) is not None)
        )


_CREATE: Final = ("CreateProcessingJob",)

_ROWS: Final = (
    # The first matching row decides.
    _Row(
        "Ask for more of {quota} in Service Quotas, wait for running jobs to end, or use another instance type.",
        codes=("ResourceLimitExceeded",),
    ),
    _Row(
        "The key of {location} cannot be used: it is disabled, is to be deleted, does not exist in the region, or its "
        "policy does not allow the caller (KMS key {kms_key})",
        words=r"\bKMS\.\w+",
    ),
    _Row(
        "The caller needs {kms_action} on the KMS key {kms_key}, and the key's policy must allow it.",
        codes=DENIED,
        words=r"\bkms:\w+",
    ),
    _Row(
        "The job has tags: the caller needs sagemaker:AddTags as well, or has to omit the tags (submit_all adds one to "
        "its jobs; with tagged=False it does not).",
        operations=_CREATE,
        words="sagemaker:AddTags",
    ),
    _Row(
        "The caller needs iam:PassRole on the job's role, {role}.",
        codes=DENIED,
        operations=_CREATE,
        words="iam:PassRole",
    ),
    _Row(
        "The caller needs sagemaker:CreateProcessingJob, and iam:PassRole on the job's role, {role}.",
        codes=DENIED,
        operations=_CREATE,
    ),
    _Row(
        "The role {role} does not exist, or its trust policy does not allow sagemaker.amazonaws.com to assume it. (A "
        "new role takes a moment to become known, so the request was repeated for a while.)",
        codes=("ValidationException",),
        words="could not assume role|cannot be assumed|allows principal .* to assume",
    ),
    _Row(
        "The caller needs {permission} on {location}, and the policies of the bucket and its VPC endpoint must not "
        "deny it. Without s3:ListBucket, S3 answers the same for an object that does not exist.",
        codes=DENIED,
        operations=_READS,
    ),
    _Row(
        "The caller needs {permission} on {location}, and the policies of the bucket and its VPC endpoint must not "
        "deny it; or the bucket belongs to another account.",
        codes=DENIED,
        operations=_S3,
    ),
    _Row("The caller needs {permission}{resource}.", codes=DENIED),
    _Row("There is no bucket {bucket}: its name is wrong, or it was deleted.", codes=("NoSuchBucket",)),
    _Row("There is no object {location}.", codes=("NoSuchKey",)),
    _Row("{bucket} is no bucket's name.", codes=("InvalidBucketName",)),
    _Row("{bucket}: the bucket is in {bucket_region}.", codes=_OTHER_REGION),
    _Row("The account may not use this service: it is suspended, or has not signed up.", codes=_NO_ACCOUNT),
    _Row("The service or the region is not enabled for the account.", codes=_NOT_ENABLED),
)


def explanation(operation: str, code: str | None, text: str, params: Mapping[str, Any], region: str = "") -> str:
    """Return the explanation of a refusal; empty if the table has none.

    Args:
        operation: the refused operation, as AWS spells it.
        code: AWS's error code.
        text: AWS's message.
        params: the parameters of the call, as far as they are known.
        region: the region of the bucket, if the answer names it.
    """
    row = next((row for row in _ROWS if row.matches(operation, str(code), text)), None)
    if row is None:
        return ""
    explained = row.explanation.format_map(_facts(operation, text, params, region))
    if code in DENIED and "explicit deny" in text:
        explained += " An explicit deny wins over every allow: ask an administrator to change that policy."
    return explained


def add_explanation(error: BaseException, params: Mapping[str, Any]) -> None:
    """Add the explanation to the text of an error response.

    Args:
        error: any error; one that is not an error response stays as it is.
        params: the parameters of the call.
    """
    response = getattr(error, "response", None)
    details = response.get("Error", {}) if isinstance(response, dict) else {}
    if "Code" not in details or not error.args:
        return
    explained = explanation(getattr(error, "operation_name", ""), details["Code"], details.get("Message") or "", params)
    if explained and explained not in str(error.args[0]):
        error.args = (f"{error.args[0]}\n{explained}", *error.args[1:])


def _facts(operation: str, text: str, params: Mapping[str, Any], region: str) -> dict[str, str]:
    bucket, key = params.get("Bucket", ""), params.get("Key", params.get("Prefix", ""))
    action, quota = _ACTION.search(text), _QUOTA.search(text)
    named = action[2] if action else None
    resource = named or params.get("ProcessingJobName") or params.get("logGroupName") or params.get("RoleName")
    kms_action = "kms:Decrypt" if operation in _READS else "kms:GenerateDataKey and kms:Decrypt"
    return {
        "bucket": str(bucket),
        "bucket_region": region or "another region",
        "kms_action": action[1] if action and action[1].startswith("kms:") else kms_action,
        "kms_key": str(params.get("SSEKMSKeyId") or (named if named and ":kms:" in named else "of the bucket")),
        "location": f"s3://{bucket}/{key}" if key else f"the bucket {bucket}",
        "permission": action[1] if action else _permission(operation),
        "quota": f"the quota '{quota[1]}'" if quota else "the quota",
        "resource": f" on {resource}" if resource else "",
        "role": str(params.get("RoleArn", "")),
    }


def _permission(operation: str) -> str:
    if _SAGEMAKER.fullmatch(operation):
        return f"sagemaker:{operation}"
    return _PERMISSIONS.get(operation, f"the permission for {operation}")
