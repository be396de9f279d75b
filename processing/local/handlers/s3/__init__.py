"""S3: the operations that SDK clients need to move objects, on the engine's object store.

The list is docs/reference/s3.md. Left out on purpose, and answered with 501: versions, access control beyond the
owner's, encryption with keys of the client's own, lifecycles, and everything else that a bucket may be configured to.
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

_NOT_HERE = (
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
"""Parameters that ask for what the engine does not have. To ignore them would be to lie."""

_PLAIN = frozenset({None, "null", False})
"""Values of theirs that ask for nothing."""

_OWN_ACLS = frozenset({"private", "bucket-owner-full-control"})
_GRANTS = ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP")


class S3Handler:
    """The operations by their names in the API. Params and results have boto3's names and types.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation.
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
        """Return the function with the checks that all operations share."""

        def carry_out(params: dict[str, Any]) -> dict[str, Any]:
            self._check_owner(params)
            for name in _NOT_HERE:
                if name in params and params[name] not in _PLAIN:
                    raise not_implemented(name)
            if params.get("ACL", "private") not in _OWN_ACLS or any(name in params for name in _GRANTS):
                raise ApiError("AccessControlListNotSupported", "The bucket does not allow ACLs")
            return function(params)

        return carry_out

    def _check_owner(self, params: dict[str, Any]) -> None:
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if params.get(name, self._engine.account) != self._engine.account:
                self._engine.objects.head_bucket(params["Bucket"])
                raise ApiError("AccessDenied", "Access Denied", 403)
