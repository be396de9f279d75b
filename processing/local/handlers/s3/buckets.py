"""Buckets: made, found, listed, deleted; and what a plain bucket says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.common import OWNER, limit_of, moment
from processing.local.handlers.s3.tagging import BUCKET_TAGS, tags_of_set

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.objects import BucketRecord

_MOST_BUCKETS = 10_000
_ACL: dict[str, Any] = {
    "Owner": OWNER,
    "Grants": [{"Grantee": {**OWNER, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}],
}


class BucketOperations:
    """The operations on buckets; see `S3Handler`."""

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._objects = engine.objects
        self.operations: dict[str, Operation] = {
            "ListBuckets": self._list,
            "CreateBucket": self._create,
            "HeadBucket": self._head,
            "DeleteBucket": self._delete,
            "GetBucketLocation": self._location,
            "GetBucketVersioning": self._versioning,
            "GetBucketAcl": self._acl,
            "GetObjectAcl": self._object_acl,
        }

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the buckets by name, a page of them if `MaxBuckets` says so."""
        limit = limit_of(params, "MaxBuckets", "max-buckets", _MOST_BUCKETS)
        if not limit:
            message = "Argument max-buckets must be an integer between 1 and 10000"
            raise ApiError("InvalidArgument", message, ArgumentName="max-buckets", ArgumentValue="0")
        prefix, after = params.get("Prefix", ""), params.get("ContinuationToken", "")
        wanted = params.get("BucketRegion")
        found = [
            {"Name": bucket.name, "CreationDate": moment(bucket.created), "BucketRegion": self._region(bucket)}
            for bucket in self._objects.list_buckets(prefix, after)
            if wanted in {None, self._region(bucket)}
        ]
        buckets = found[:limit]
        answer: dict[str, Any] = {"Buckets": buckets, "Owner": OWNER}
        if prefix:
            answer["Prefix"] = prefix
        if len(found) > len(buckets):
            answer["ContinuationToken"] = buckets[-1]["Name"]
        return answer

    def _region(self, bucket: BucketRecord) -> str:
        return bucket.region or self._engine.region

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket. One that exists is always a conflict: S3 makes an exception in us-east-1."""
        configuration = params.get("CreateBucketConfiguration", {})
        tags = tags_of_set(configuration.get("Tags") or (), limit=BUCKET_TAGS)
        self._objects.create_bucket(params["Bucket"], configuration.get("LocationConstraint", ""), tags)
        return {"Location": f"/{params['Bucket']}"}

    def _head(self, params: dict[str, Any]) -> dict[str, Any]:
        bucket = self._objects.head_bucket(params["Bucket"])
        return {"BucketRegion": self._region(bucket), "AccessPointAlias": False}

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.delete_bucket(params["Bucket"])
        return {}

    def _location(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the region that the bucket was made with; nothing for us-east-1."""
        return {"LocationConstraint": self._objects.head_bucket(params["Bucket"]).region or None}

    def _versioning(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer that there never were versions: with an empty answer."""
        self._objects.head_bucket(params["Bucket"])
        return {}

    def _acl(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.head_bucket(params["Bucket"])
        return _ACL

    def _object_acl(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.get(params["Bucket"], params["Key"])
        return _ACL
