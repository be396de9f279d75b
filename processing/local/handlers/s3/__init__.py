"""Handler for S3 on the engine's object store, with the operations that SDK clients need to move objects.

docs/reference/s3.md lists them. Versions, access control beyond the owner's, encryption with client keys, lifecycles
and other bucket configurations are left out on purpose. They are answered with 501.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.buckets import BucketOperations
from processing.local.handlers.s3.common import not_implemented
from processing.local.handlers.s3.copying import CopyOperations
from processing.local.handlers.s3.listing import ListOperations
from processing.local.handlers.s3.multipart import MultipartOperations
from processing.local.handlers.s3.reading import ReadOperations
from processing.local.handlers.s3.tagging import TaggingOperations
from processing.local.handlers.s3.writing import WriteOperations

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

__all__ = ["S3Handler"]

_UNSUPPORTED = (
    "SSECustomerAlgorithm",
    "SSECustomerKey",
    "CopySourceSSECustomerAlgorithm",
    "VersionId",
    "MFA",
    "WriteOffsetBytes",
    "ObjectLockMode",
    "ObjectLockLegalHoldStatus",
    "ObjectLockRetainUntilDate",
    "ObjectLockEnabledForBucket",
    "IfMatchLastModifiedTime",
    "IfMatchSize",
)
"""Parameters that request missing features. The engine refuses them, since ignoring them would mislead clients."""

_NEUTRAL = frozenset({None, "null", False})
"""Values of these parameters that request nothing."""

_OWN_ACLS = frozenset({"private", "bucket-owner-full-control"})
_GRANTS = ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP")


class S3Handler:
    """Handler for S3's operations. Params and results have boto3's names and types.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        groups = (
            BucketOperations,
            ListOperations,
            ReadOperations,
            WriteOperations,
            CopyOperations,
            MultipartOperations,
            TaggingOperations,
        )
        self.operations: dict[str, Operation] = {
            name: self._guarded(function) for group in groups for name, function in group(engine).operations.items()
        }

    def _guarded(self, function: Operation) -> Operation:
        """Return the function wrapped in the checks that all operations share."""

        def checked(params: dict[str, Any]) -> dict[str, Any]:
            self._check_owner(params)
            for name in _UNSUPPORTED:
                if name in params and params[name] not in _NEUTRAL:
                    raise not_implemented(name)
            if params.get("ACL", "private") not in _OWN_ACLS or any(name in params for name in _GRANTS):
                raise ApiError("AccessControlListNotSupported", "The bucket does not allow ACLs")
            return function(params)

        return checked

    def _check_owner(self, params: dict[str, Any]) -> None:
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if params.get(name, self._engine.account) != self._engine.account:
                self._engine.objects.head_bucket(params["Bucket"])
                raise ApiError("AccessDenied", "Access Denied", 403)
