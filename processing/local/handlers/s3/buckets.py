"""S3's operations on buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.s3.common import OWNER, page_limit, to_datetime
from processing.local.handlers.s3.tagging import BUCKET_TAGS, tags_of_set

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.stores.object_records import BucketRecord

_LENIENT_REGION = "us-east-1"
"""The region in which S3 answers 200 to an owner who creates a bucket again, for old clients."""
_MOST_BUCKETS = 10_000
_ACL: dict[str, Any] = {
    "Owner": OWNER,
    "Grants": [{"Grantee": {**OWNER, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}],
}


class BucketOperations:
    """Operations on buckets. See `S3Handler`."""

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
        """Return the buckets sorted by name, in pages of `MaxBuckets`."""
        limit = page_limit(params, "MaxBuckets", "max-buckets", _MOST_BUCKETS)
        if not limit:
            raise ApiError(
                "InvalidArgument",
                "Argument max-buckets must be an integer between 1 and 10000",
                ArgumentName="max-buckets",
                ArgumentValue="0",
            )
        prefix, after = params.get("Prefix", ""), params.get("ContinuationToken", "")
        region = params.get("BucketRegion")
        found = [
            {"Name": bucket.name, "CreationDate": to_datetime(bucket.created), "BucketRegion": self._region(bucket)}
            for bucket in self._objects.list_buckets(prefix, after)
            if region in {None, self._region(bucket)}
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
        """Create a bucket. As in S3, an existing one is a conflict, except in us-east-1, where nothing changes."""
        name, configuration = params["Bucket"], params.get("CreateBucketConfiguration", {})
        tags = tags_of_set(configuration.get("Tags") or (), limit=BUCKET_TAGS)
        region = configuration.get("LocationConstraint", "")
        try:
            self._objects.create_bucket(name, region, tags)
        except ApiError as error:
            if error.code != "BucketAlreadyOwnedByYou" or (region or self._engine.region) != _LENIENT_REGION:
                raise
            # The bucket may be deleted in the meantime, or be elsewhere.
            if self._region(self._objects.head_bucket(name)) != _LENIENT_REGION:
                raise
        return {"Location": f"/{name}"}

    def _head(self, params: dict[str, Any]) -> dict[str, Any]:
        bucket = self._objects.head_bucket(params["Bucket"])
        return {"BucketRegion": self._region(bucket), "AccessPointAlias": False}

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.delete_bucket(params["Bucket"])
        return {}

    def _location(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the region that the bucket was created with, or None for us-east-1."""
        return {"LocationConstraint": self._objects.head_bucket(params["Bucket"]).region or None}

    def _versioning(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an empty answer, which means that versioning was never enabled."""
        self._objects.head_bucket(params["Bucket"])
        return {}

    def _acl(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.head_bucket(params["Bucket"])
        return _ACL

    def _object_acl(self, params: dict[str, Any]) -> dict[str, Any]:
        self._objects.get(params["Bucket"], params["Key"])
        return _ACL
