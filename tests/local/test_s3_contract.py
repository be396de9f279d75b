"""S3 through boto3: one contract for the engine (through both transports) and for other S3 servers.

So the engine is held to what others do; and the contract is AWS's documentation: where one of the others is known not
to keep to it, the table says so, and the test has to fail there (a strict xfail): the day it does not, the row goes.

`PROCESSING_TEST_S3_ENDPOINT=http://key:secret@host:port` runs it against one more server.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import io
import os
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import boto3
import botocore.session
import moto
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing.request.service_model import shared_loader

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "a-bucket"
PART = 5 << 20
ELSEWHERE = os.environ.get("PROCESSING_TEST_S3_ENDPOINT", "")
SERVERS = ["engine", "engine over HTTP", "moto", "seaweedfs", *(["elsewhere"] if ELSEWHERE else [])]

DIFFERENCES: dict[str, dict[str, str]] = {
    "moto": {
        "test_a_copy_does_not_overwrite": "takes no notice of If-None-Match of a copy",
        "test_a_copy_depends_on_its_source": "takes no notice of the conditions on a copy's source",
        "test_a_deletion_of_many_depends_on_each": "takes no notice of the ETags in the list",
        "test_checksums_are_checked": "keeps checksums without a check",
        "test_an_md5_is_checked": "takes no notice of Content-MD5",
        "test_a_composite_checksum_is_that_of_the_parts": "answers no checksum of an object in parts",
        "test_a_full_checksum_is_that_of_the_whole": "answers no checksum of an object in parts",
        "test_a_wrong_full_checksum_is_refused": "does not check it",
        "test_attributes_are_returned": "knows no checksum of an object in parts",
        "test_a_part_can_be_read": "takes no notice of PartNumber",
        "test_a_part_that_there_is_not_cannot_be_read": "416 without a code",
        "test_the_announced_size_is_checked": "takes no notice of the size",
        "test_parts_have_to_be_in_order": "looks at the sizes first",
        "test_an_ended_upload_is_unknown": "falls over, instead of NoSuchUpload",
        "test_an_aborted_upload_cannot_be_completed": "falls over, instead of NoSuchUpload",
        "test_uploads_roll_up_too": "takes no notice of the delimiter",
        "test_a_long_key_is_refused": "counts characters",
        "test_much_metadata_is_refused": "has a limit of its own",
        "test_a_quiet_deletion_tells_nothing": "tells what was deleted",
        "test_buckets_come_in_pages": "in the order in which they were made",
        "test_the_owner_is_checked": "takes no notice of ExpectedBucketOwner",
        "test_bucket_names_are_those_of_hosts": "takes some names that S3 does not",
    },
    "seaweedfs": {
        "test_an_object_comes_back_with_its_properties": "has no KMS key of that name: an internal error",
        "test_keys_are_listed_in_the_order_of_their_bytes": "keys are paths there: no `a` beside `a/b`",
        "test_a_key_may_be_the_beginning_of_another_one": "keys are paths there: no `a` beside `a/b`",
        "test_no_key_is_a_path": "keys are paths there: dots and empty names are taken for such",
        "test_a_key_may_have_1024_bytes": "255 bytes between two slashes are the most",
        "test_a_copy_has_the_bytes_and_the_properties": "the ETag of the answer is not quoted",
        "test_a_bucket_knows_its_region": "knows no regions",
        "test_an_owner_may_create_a_bucket_again": "409 in every region",
        "test_an_aborted_upload_cannot_be_completed": "aborts any upload",
        "test_ten_tags_are_the_most": "InvalidTag instead of BadRequest",
        "test_if_match_needs_something_to_match": "412 instead of 404",
        "test_checksums_are_checked": "does not tell the type of a checksum",
        "test_a_copy_has_checksums": "keeps no checksum of a copy",
        "test_attributes_are_returned": "does not tell the checksum",
        "test_the_announced_size_is_checked": "takes no notice of the size",
        "test_uploads_roll_up_too": "takes no notice of the delimiter",
        "test_much_metadata_is_refused": "has no limit",
        "test_the_owner_is_checked": "takes no notice of ExpectedBucketOwner",
    },
}
"""What others do otherwise than AWS documents: the test that fails, and why."""


@pytest.fixture(params=SERVERS)
def s3(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An S3 client of each server, with one bucket that is empty."""
    server = request.param
    name = getattr(request.node, "originalname", request.node.name)
    reason = DIFFERENCES.get(server, {}).get(name)
    if reason is not None:
        request.node.add_marker(pytest.mark.xfail(reason=f"{server}: {reason}", strict=True))
        # pytest's own style parses the source of each function, for a traceback that nobody sees.
        request.node.repr_failure = lambda raised: raised.getrepr(style="native")
    with contextlib.ExitStack() as stack:
        client = _client(server, request, stack)
        if server == "elsewhere":
            request.getfixturevalue("empty_buckets")(client, (BUCKET, "0-bucket", "far-bucket"))
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        yield client


def _client(server: str, request: pytest.FixtureRequest, stack: contextlib.ExitStack) -> Any:
    if server == "engine":
        return request.getfixturevalue("local_session").boto_session.client("s3")
    if server == "engine over HTTP":
        return request.getfixturevalue("http_client")("s3")
    if server == "moto":
        stack.enter_context(moto.mock_aws())
        core = botocore.session.Session()
        core.register_component("data_loader", shared_loader())
        return boto3.Session(region_name="us-east-1", botocore_session=core).client("s3")
    if server == "seaweedfs":
        return stack.enter_context(contextlib.closing(request.getfixturevalue("seaweedfs").client()))
    place = urlsplit(ELSEWHERE)
    client = boto3.client(
        "s3",
        endpoint_url=place._replace(netloc=place.netloc.rpartition("@")[2]).geturl(),
        aws_access_key_id=unquote(place.username or ""),
        aws_secret_access_key=unquote(place.password or ""),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    return stack.enter_context(contextlib.closing(client))


def refused(call: Any, /, **params: Any) -> tuple[str, int]:
    """Return the code and the status of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def crc(data: bytes) -> str:
    """Return a CRC32 in S3's format."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def uploaded(s3: Any, key: str, bodies: list[bytes], **params: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Upload parts and return the upload's parameters and the parts for its completion."""
    created = s3.create_multipart_upload(Bucket=BUCKET, Key=key, **params)
    where = {"Bucket": BUCKET, "Key": key, "UploadId": created["UploadId"]}
    said = {name: value for name, value in params.items() if name == "ChecksumAlgorithm"}
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(**where, PartNumber=number, Body=body, **said)
        sums = {name: value for name, value in part.items() if name.startswith("Checksum") and name != "ChecksumType"}
        parts.append({"PartNumber": number, "ETag": part["ETag"], **sums})
    return where, parts


class TestContract:
    """Behaviour of all servers."""

    def test_an_object_comes_back_with_its_properties(self, s3: Any) -> None:
        """Bytes, type, encoding, metadata and encryption; the ETag is the quoted MD5."""
        put = s3.put_object(
            Bucket=BUCKET,
            Key="a/b",
            Body=b"hello",
            ContentType="text/plain",
            ContentEncoding="identity",
            CacheControl="no-store",
            Metadata={"one": "1"},
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId="key-1",
        )
        got = s3.get_object(Bucket=BUCKET, Key="a/b")
        head = s3.head_object(Bucket=BUCKET, Key="a/b")
        assert got["Body"].read() == b"hello"
        assert put["ETag"] == got["ETag"] == head["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
        for answer in (got, head):
            assert answer["ContentLength"] == 5
            assert answer["ContentType"] == "text/plain"
            assert answer["CacheControl"] == "no-store"
            assert answer["Metadata"] == {"one": "1"}
            assert answer["ServerSideEncryption"] == "aws:kms"
            assert answer["SSEKMSKeyId"] == "key-1"
            assert abs(answer["LastModified"] - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("text", "expected", "content_range"),
        [
            ("bytes=0-0", b"0", "bytes 0-0/10"),
            ("bytes=2-4", b"234", "bytes 2-4/10"),
            ("bytes=7-", b"789", "bytes 7-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=8-100", b"89", "bytes 8-9/10"),
            ("bytes=-100", b"0123456789", "bytes 0-9/10"),
        ],
    )
    def test_a_range_is_a_part(self, s3: Any, text: str, expected: bytes, content_range: str) -> None:
        """The answer is 206 and names the range."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"0123456789")
        got = s3.get_object(Bucket=BUCKET, Key="k", Range=text)
        assert got["Body"].read() == expected
        assert got["ContentRange"] == content_range
        assert got["ContentLength"] == len(expected)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206

    def test_a_range_behind_the_end_is_refused(self, s3: Any) -> None:
        """The status is 416, even for an empty object."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"0123456789")
        s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
        assert refused(s3.get_object, Bucket=BUCKET, Key="k", Range="bytes=10-") == ("InvalidRange", 416)
        assert refused(s3.get_object, Bucket=BUCKET, Key="empty", Range="bytes=0-") == ("InvalidRange", 416)

    def test_what_is_missing_is_named(self, s3: Any) -> None:
        """A key and a bucket have codes of their own; HEAD has no body, so only the status."""
        assert refused(s3.get_object, Bucket=BUCKET, Key="k") == ("NoSuchKey", 404)
        assert refused(s3.head_object, Bucket=BUCKET, Key="k") == ("404", 404)
        assert refused(s3.get_object, Bucket="other-bucket", Key="k") == ("NoSuchBucket", 404)
        assert refused(s3.put_object, Bucket="other-bucket", Key="k") == ("NoSuchBucket", 404)
        assert refused(s3.list_objects_v2, Bucket="other-bucket") == ("NoSuchBucket", 404)
        assert refused(s3.head_bucket, Bucket="other-bucket") == ("404", 404)
        assert refused(s3.delete_bucket, Bucket="other-bucket") == ("NoSuchBucket", 404)

    def test_a_conditional_put_does_not_overwrite(self, s3: Any) -> None:
        """If-None-Match: * is 412 if the object exists."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"1"

    def test_a_conditional_get_saves_the_bytes(self, s3: Any) -> None:
        """The status is 304 if the reader has the object, and 412 if a condition fails."""
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        assert refused(s3.get_object, Bucket=BUCKET, Key="k", IfNoneMatch=etag)[1] == 304
        assert refused(s3.head_object, Bucket=BUCKET, Key="k", IfMatch='"0"')[1] == 412
        assert s3.get_object(Bucket=BUCKET, Key="k", IfMatch=etag)["Body"].read() == b"1"

    def test_keys_are_listed_in_the_order_of_their_bytes(self, s3: Any) -> None:
        """Unusual keys are listed, and a page has the token of the next one."""
        keys = ["a", "a/", "a//b", "a/b", "a b", "a+b", "a%2Fb", "a&<b>", "é", "日", "Z", "~"]
        for key in keys:
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        expected = sorted(keys, key=str.encode)
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 5}))
        assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [
            expected[:5],
            expected[5:10],
            expected[10:],
        ]
        assert [page["IsTruncated"] for page in pages] == [True, True, False]
        assert [page["KeyCount"] for page in pages] == [5, 5, 2]
        assert {entry["Size"] for page in pages for entry in page["Contents"] if entry["Key"] == "日"} == {3}
        older = s3.list_objects(Bucket=BUCKET, MaxKeys=5, Marker="a")
        assert [entry["Key"] for entry in older["Contents"]] == expected[expected.index("a") + 1 :][:5]
        for key in keys:
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()

    def test_a_delimiter_rolls_keys_up(self, s3: Any) -> None:
        """Keys with the same text up to the delimiter are one entry."""
        for key in ("a", "a/1", "a/2/x", "a/2/y", "b/1", "ab"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        top = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
        assert [entry["Key"] for entry in top["Contents"]] == ["a", "ab"]
        assert [entry["Prefix"] for entry in top["CommonPrefixes"]] == ["a/", "b/"]
        inner = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/", Prefix="a/")
        assert [entry["Key"] for entry in inner["Contents"]] == ["a/1"]
        assert [entry["Prefix"] for entry in inner["CommonPrefixes"]] == ["a/2/"]
        assert (inner["Prefix"], inner["Delimiter"], inner["KeyCount"]) == ("a/", "/", 2)
        after = s3.list_objects_v2(Bucket=BUCKET, StartAfter="a/2/x")
        assert [entry["Key"] for entry in after["Contents"]] == ["a/2/y", "ab", "b/1"]

    def test_an_empty_listing_has_no_contents(self, s3: Any) -> None:
        """The member is absent, as in S3."""
        page = s3.list_objects_v2(Bucket=BUCKET, Prefix="none")
        assert "Contents" not in page
        assert page["KeyCount"] == 0

    def test_deleting_is_idempotent(self, s3: Any) -> None:
        """An object that is not there is deleted without complaint, singly or by the list."""
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"")
        s3.delete_object(Bucket=BUCKET, Key="a")
        s3.delete_object(Bucket=BUCKET, Key="a")
        s3.put_object(Bucket=BUCKET, Key="b<&>\n", Body=b"")
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "b<&>\n"}, {"Key": "none"}]})
        assert {entry["Key"] for entry in answer["Deleted"]} == {"b<&>\n", "none"}
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
        s3.delete_bucket(Bucket=BUCKET)
        assert s3.list_buckets()["Buckets"] == []

    def test_a_bucket_with_objects_stays(self, s3: Any) -> None:
        """A bucket that is not empty is 409."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        assert refused(s3.delete_bucket, Bucket=BUCKET) == ("BucketNotEmpty", 409)

    def test_a_copy_has_the_bytes_and_the_properties(self, s3: Any) -> None:
        """With REPLACE it has the properties of the request."""
        s3.put_object(Bucket=BUCKET, Key="ü/a b", Body=b"hello", ContentType="text/x", Metadata={"a": "1"})
        source = {"Bucket": BUCKET, "Key": "ü/a b"}
        copied = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
        assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
        head = s3.head_object(Bucket=BUCKET, Key="copy")
        assert (head["ContentType"], head["Metadata"]) == ("text/x", {"a": "1"})
        s3.copy_object(
            Bucket=BUCKET, Key="copy", CopySource=source, MetadataDirective="REPLACE", Metadata={}, ContentType="b/c"
        )
        head = s3.head_object(Bucket=BUCKET, Key="copy")
        assert (head["ContentType"], head["Metadata"], head["ContentLength"]) == ("b/c", {}, 5)
        missing = {"Bucket": BUCKET, "Key": "none"}
        assert refused(s3.copy_object, Bucket=BUCKET, Key="x", CopySource=missing) == ("NoSuchKey", 404)

    def test_a_multipart_upload_becomes_an_object(self, s3: Any) -> None:
        """Its ETag has the number of parts. Only an unfinished upload is listed."""
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k", ContentType="x/y", Metadata={"a": "1"})["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        bodies = [b"a" * PART, b"b"]
        etags = [s3.upload_part(**where, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(bodies, 1)]
        listed = s3.list_parts(**where)["Parts"]
        assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in listed] == [
            (1, PART, etags[0]),
            (2, 1, etags[1]),
        ]
        assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == [upload]
        parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
        done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
        assert done["ETag"] == f'"{digest}-2"'
        head = s3.head_object(Bucket=BUCKET, Key="k")
        assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (PART + 1, "x/y", {"a": "1"})
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)

    def test_an_aborted_upload_is_gone(self, s3: Any) -> None:
        """It is not listed, and no object exists."""
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        s3.upload_part(**where, PartNumber=1, Body=b"x")
        s3.abort_multipart_upload(**where)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
        assert refused(s3.head_object, Bucket=BUCKET, Key="k") == ("404", 404)

    def test_parts_that_are_wrong_are_refused(self, s3: Any) -> None:
        """A wrong ETag, a small part that is not the last one."""
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        etags = [s3.upload_part(**where, PartNumber=n, Body=b"x")["ETag"] for n in (1, 2)]
        wrong = {"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}
        assert refused(s3.complete_multipart_upload, **where, MultipartUpload=wrong) == ("InvalidPart", 400)
        small = {"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]}
        assert refused(s3.complete_multipart_upload, **where, MultipartUpload=small) == ("EntityTooSmall", 400)

    def test_boto3_transfers_work(self, s3: Any) -> None:
        """upload_fileobj and download_fileobj, which use threads, parts and ranges."""
        body = bytes(range(256)) * 40_000  # 10 MB
        s3.upload_fileobj(io.BytesIO(body), BUCKET, "k", ExtraArgs={"Metadata": {"a": "1"}})
        target = io.BytesIO()
        s3.download_fileobj(BUCKET, "k", target)
        assert target.getvalue() == body

    def test_buckets_are_listed(self, s3: Any) -> None:
        """Each has the date of its creation."""
        s3.create_bucket(Bucket="0-bucket")
        buckets = s3.list_buckets()["Buckets"]
        assert {bucket["Name"] for bucket in buckets} == {"0-bucket", BUCKET}
        assert all(isinstance(bucket["CreationDate"], dt.datetime) for bucket in buckets)

    def test_a_bucket_knows_its_region(self, s3: Any) -> None:
        """None stands for us-east-1."""
        s3.create_bucket(Bucket="far-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
        assert s3.get_bucket_location(Bucket="far-bucket")["LocationConstraint"] == "eu-west-1"
        assert s3.head_bucket(Bucket="far-bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200

    def test_a_bucket_name_has_rules(self, s3: Any) -> None:
        """It has at least three characters."""
        assert refused(s3.create_bucket, Bucket="ab") == ("InvalidBucketName", 400)


class TestTags:
    """Tags of objects and buckets."""

    def test_tags_are_set_and_taken_away(self, s3: Any) -> None:
        """They are replaced as a whole, and a reader gets their number."""
        tags = [{"Key": "a", "Value": "1"}, {"Key": "b :", "Value": ""}]
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        s3.put_object_tagging(Bucket=BUCKET, Key="k", Tagging={"TagSet": tags})
        found = s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"]
        assert sorted(found, key=lambda tag: tag["Key"]) == tags
        assert s3.get_object(Bucket=BUCKET, Key="k")["TagCount"] == 2
        s3.delete_object_tagging(Bucket=BUCKET, Key="k")
        assert s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"] == []
        assert "TagCount" not in s3.get_object(Bucket=BUCKET, Key="k")

    def test_tags_come_with_an_object_and_its_copy(self, s3: Any) -> None:
        """They are sent in a header, and a copy inherits them unless it sets others."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x", Tagging="a=1&b=x+%3A")
        source = {"Bucket": BUCKET, "Key": "k"}
        s3.copy_object(Bucket=BUCKET, Key="kept", CopySource=source)
        s3.copy_object(Bucket=BUCKET, Key="new", CopySource=source, TaggingDirective="REPLACE", Tagging="c=3")
        tags = {
            key: {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]}
            for key in ("k", "kept", "new")
        }
        assert tags == {"k": {"a": "1", "b": "x :"}, "kept": {"a": "1", "b": "x :"}, "new": {"c": "3"}}

    def test_tags_are_words_of_any_language(self, s3: Any) -> None:
        """Letters and a few punctuation marks are allowed."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        tags = [{"Key": "größe", "Value": "日本"}]
        s3.put_object_tagging(Bucket=BUCKET, Key="k", Tagging={"TagSet": tags})
        assert s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"] == tags
        refusal = refused(
            s3.put_object_tagging, Bucket=BUCKET, Key="k", Tagging={"TagSet": [{"Key": "a&", "Value": ""}]}
        )
        assert refusal == ("InvalidTag", 400)

    def test_an_upload_in_parts_has_tags(self, s3: Any) -> None:
        """The tags are set when the upload is created."""
        where, parts = uploaded(s3, "k", [b"x"], Tagging="a=1")
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert s3.get_object_tagging(Bucket=BUCKET, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]

    def test_ten_tags_are_the_most(self, s3: Any) -> None:
        """Eleven are refused."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        tags = {"TagSet": [{"Key": str(number), "Value": ""} for number in range(11)]}
        assert refused(s3.put_object_tagging, Bucket=BUCKET, Key="k", Tagging=tags) == ("BadRequest", 400)

    def test_long_tags_are_refused(self, s3: Any) -> None:
        """128 characters in a key, 256 in a value."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        for tag in ({"Key": "k" * 129, "Value": ""}, {"Key": "k", "Value": "v" * 257}):
            refusal = refused(s3.put_object_tagging, Bucket=BUCKET, Key="k", Tagging={"TagSet": [tag]})
            assert refusal == ("InvalidTag", 400)
        longest = {"Key": "k" * 128, "Value": "v" * 256}
        s3.put_object_tagging(Bucket=BUCKET, Key="k", Tagging={"TagSet": [longest]})

    def test_tags_need_an_object(self, s3: Any) -> None:
        """Setting and reading them fail."""
        assert refused(s3.get_object_tagging, Bucket=BUCKET, Key="k") == ("NoSuchKey", 404)
        refusal = refused(s3.put_object_tagging, Bucket=BUCKET, Key="k", Tagging={"TagSet": []})
        assert refusal == ("NoSuchKey", 404)

    def test_a_bucket_has_tags(self, s3: Any) -> None:
        """A bucket without tags is an error, as in S3."""
        assert refused(s3.get_bucket_tagging, Bucket=BUCKET) == ("NoSuchTagSet", 404)
        tags = [{"Key": "a", "Value": "1"}]
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": tags})
        assert s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"] == tags
        s3.delete_bucket_tagging(Bucket=BUCKET)
        assert refused(s3.get_bucket_tagging, Bucket=BUCKET) == ("NoSuchTagSet", 404)


class TestConditions:
    """Conditional writes and deletions."""

    def test_if_match_guards_a_write(self, s3: Any) -> None:
        """A writer with the ETag of an older object gets 412."""
        old = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        new = s3.put_object(Bucket=BUCKET, Key="k", Body=b"2", IfMatch=old)["ETag"]
        refusal = refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"3", IfMatch=old)
        assert refusal == ("PreconditionFailed", 412)
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"3", IfMatch=new)

    def test_if_match_needs_something_to_match(self, s3: Any) -> None:
        """A missing object is an error."""
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"3", IfMatch='"0"') == ("NoSuchKey", 404)

    def test_a_completion_does_not_overwrite(self, s3: Any) -> None:
        """If-None-Match fails, and the upload stays."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
        where, parts = uploaded(s3, "k", [b"2"])
        complete = {**where, "MultipartUpload": {"Parts": parts}}
        assert refused(s3.complete_multipart_upload, **complete, IfNoneMatch="*") == ("PreconditionFailed", 412)
        s3.complete_multipart_upload(**complete)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"2"

    def test_a_copy_does_not_overwrite(self, s3: Any) -> None:
        """If-None-Match fails."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
        s3.put_object(Bucket=BUCKET, Key="other", Body=b"2")
        source = {"Bucket": BUCKET, "Key": "other"}
        refusal = refused(s3.copy_object, Bucket=BUCKET, Key="k", CopySource=source, IfNoneMatch="*")
        assert refusal == ("PreconditionFailed", 412)
        s3.copy_object(Bucket=BUCKET, Key="new", CopySource=source, IfNoneMatch="*")

    def test_a_copy_depends_on_its_source(self, s3: Any) -> None:
        """The status is 412 for both kinds of conditions on the source's ETag."""
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        to = {"Bucket": BUCKET, "Key": "new", "CopySource": {"Bucket": BUCKET, "Key": "k"}}
        assert refused(s3.copy_object, **to, CopySourceIfMatch='"0"') == ("PreconditionFailed", 412)
        assert refused(s3.copy_object, **to, CopySourceIfNoneMatch=etag) == ("PreconditionFailed", 412)
        s3.copy_object(**to, CopySourceIfMatch=etag)

    def test_a_deletion_depends_on_the_object(self, s3: Any) -> None:
        """The status is 412 if the object has changed."""
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        assert refused(s3.delete_object, Bucket=BUCKET, Key="k", IfMatch='"0"') == ("PreconditionFailed", 412)
        s3.delete_object(Bucket=BUCKET, Key="k", IfMatch=etag)
        assert refused(s3.head_object, Bucket=BUCKET, Key="k")[1] == 404

    def test_a_deletion_of_many_depends_on_each(self, s3: Any) -> None:
        """Each key has its own answer."""
        etag = s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")["ETag"]
        s3.put_object(Bucket=BUCKET, Key="b", Body=b"1")
        wanted = [{"Key": "a", "ETag": etag}, {"Key": "b", "ETag": '"0"'}]
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": wanted})
        assert [each["Key"] for each in answer["Deleted"]] == ["a"]
        assert [(each["Key"], each["Code"]) for each in answer["Errors"]] == [("b", "PreconditionFailed")]


class TestChecksums:
    """Checksums of bodies are verified, stored and returned."""

    @pytest.mark.parametrize(
        ("member", "right", "wrong"),
        [
            ("ChecksumSHA256", hashlib.sha256(b"hello").digest(), hashlib.sha256(b"x").digest()),
            ("ChecksumSHA1", hashlib.sha1(b"hello").digest(), hashlib.sha1(b"x").digest()),
            ("ChecksumCRC32", zlib.crc32(b"hello").to_bytes(4, "big"), b"\0\0\0\0"),
        ],
        ids=["sha256", "sha1", "crc32"],
    )
    def test_checksums_are_checked(self, s3: Any, member: str, right: bytes, wrong: bytes) -> None:
        """A mismatch is BadDigest and stores nothing. Readers get the checksum on request."""
        encoded = {member: base64.b64encode(wrong).decode()}
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"hello", **encoded) == ("BadDigest", 400)
        assert refused(s3.head_object, Bucket=BUCKET, Key="k")[1] == 404
        value = base64.b64encode(right).decode()
        assert s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", **{member: value})[member] == value
        head = s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
        assert (head[member], head["ChecksumType"]) == (value, "FULL_OBJECT")
        assert member not in s3.head_object(Bucket=BUCKET, Key="k")

    def test_an_md5_is_checked(self, s3: Any) -> None:
        """Content-MD5 covers the body as it is stored."""
        wrong = base64.b64encode(hashlib.md5(b"x").digest()).decode()
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"hello", ContentMD5=wrong) == ("BadDigest", 400)

    def test_a_composite_checksum_is_that_of_the_parts(self, s3: Any) -> None:
        """The number of parts follows it."""
        bodies = [b"a" * PART, b"b"]
        where, parts = uploaded(s3, "k", bodies, ChecksumAlgorithm="SHA256")
        done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        digest = hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in bodies)).digest()
        expected = base64.b64encode(digest).decode() + "-2"
        assert done["ChecksumSHA256"] == expected
        head = s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
        assert (head["ChecksumSHA256"], head["ChecksumType"]) == (expected, "COMPOSITE")

    def test_a_full_checksum_is_that_of_the_whole(self, s3: Any) -> None:
        """A CRC can be computed from the parts' CRCs."""
        bodies = [b"a" * PART, b"bcd"]
        where, parts = uploaded(s3, "k", bodies, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        complete = {**where, "MultipartUpload": {"Parts": parts}, "ChecksumType": "FULL_OBJECT"}
        done = s3.complete_multipart_upload(**complete, ChecksumCRC32=crc(b"".join(bodies)))
        assert done["ChecksumCRC32"] == crc(b"".join(bodies))
        head = s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
        assert (head["ChecksumCRC32"], head["ChecksumType"]) == (crc(b"".join(bodies)), "FULL_OBJECT")

    def test_a_wrong_full_checksum_is_refused(self, s3: Any) -> None:
        """The upload stays."""
        where, parts = uploaded(s3, "k", [b"abc"], ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        complete = {**where, "MultipartUpload": {"Parts": parts}, "ChecksumType": "FULL_OBJECT"}
        refusal = refused(s3.complete_multipart_upload, **complete, ChecksumCRC32=crc(b"x"))
        assert refusal == ("BadDigest", 400)
        assert [part["PartNumber"] for part in s3.list_parts(**where)["Parts"]] == [1]

    def test_a_copy_has_checksums(self, s3: Any) -> None:
        """The copy has a checksum of the source's algorithm."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumAlgorithm="SHA256")
        answer = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "k"})
        expected = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
        assert answer["CopyObjectResult"]["ChecksumSHA256"] == expected

    def test_attributes_are_returned(self, s3: Any) -> None:
        """A multipart object has a size, an ETag without quotes, and its parts with checksums."""
        where, parts = uploaded(s3, "k", [b"a" * PART, b"b"], ChecksumAlgorithm="SHA256")
        done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        found = s3.get_object_attributes(
            Bucket=BUCKET, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
        )
        assert found["ETag"] == done["ETag"].strip('"')
        assert (found["ObjectSize"], found["StorageClass"]) == (PART + 1, "STANDARD")
        assert found["Checksum"]["ChecksumSHA256"] == done["ChecksumSHA256"]
        assert found["ObjectParts"]["TotalPartsCount"] == 2
        listed = [(part["PartNumber"], part["Size"]) for part in found["ObjectParts"]["Parts"]]
        assert listed == [(1, PART), (2, 1)]


class TestParts:
    """Unusual multipart uploads."""

    def test_a_part_can_be_read(self, s3: Any) -> None:
        """A part is read by number, and the answer has the number of parts."""
        where, parts = uploaded(s3, "k", [b"a" * PART, b"bcd"])
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        got = s3.get_object(Bucket=BUCKET, Key="k", PartNumber=2)
        assert got["Body"].read() == b"bcd"
        assert (got["PartsCount"], got["ContentRange"]) == (2, f"bytes {PART}-{PART + 2}/{PART + 3}")
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.head_object(Bucket=BUCKET, Key="k", PartNumber=1)["ContentLength"] == PART

    def test_a_part_that_there_is_not_cannot_be_read(self, s3: Any) -> None:
        """The status is 416."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        assert s3.get_object(Bucket=BUCKET, Key="k", PartNumber=1)["Body"].read() == b"x"
        assert refused(s3.get_object, Bucket=BUCKET, Key="k", PartNumber=2) == ("InvalidPartNumber", 416)

    def test_a_part_can_be_copied(self, s3: Any) -> None:
        """A part is a copy of an object or of a range of it."""
        s3.put_object(Bucket=BUCKET, Key="source", Body=b"0123456789")
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        source = {"Bucket": BUCKET, "Key": "source"}
        copied = s3.upload_part_copy(**where, PartNumber=1, CopySource=source, CopySourceRange="bytes=2-4")
        part = {"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"234"

    def test_the_announced_size_is_checked(self, s3: Any) -> None:
        """The status is 400 if the size differs."""
        where, parts = uploaded(s3, "k", [b"abc"])
        complete = {**where, "MultipartUpload": {"Parts": parts}}
        assert refused(s3.complete_multipart_upload, **complete, MpuObjectSize=4) == ("InvalidRequest", 400)
        s3.complete_multipart_upload(**complete, MpuObjectSize=3)

    def test_parts_have_to_be_in_order(self, s3: Any) -> None:
        """Parts are listed by ascending number."""
        where, parts = uploaded(s3, "k", [b"a" * PART, b"b"])
        backwards = {"Parts": parts[::-1]}
        assert refused(s3.complete_multipart_upload, **where, MultipartUpload=backwards) == ("InvalidPartOrder", 400)

    def test_an_ended_upload_is_unknown(self, s3: Any) -> None:
        """It accepts and lists no more parts."""
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        s3.abort_multipart_upload(**where)
        assert refused(s3.list_parts, **where) == ("NoSuchUpload", 404)
        assert refused(s3.upload_part, **where, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)

    def test_a_completion_can_be_repeated(self, s3: Any) -> None:
        """A client that lost the answer gets it again."""
        where, parts = uploaded(s3, "k", [b"a" * PART, b"b"])
        complete = {**where, "MultipartUpload": {"Parts": parts}}
        first, second = (s3.complete_multipart_upload(**complete) for _ in range(2))
        assert {**second, "ResponseMetadata": None} == {**first, "ResponseMetadata": None}
        assert s3.head_object(Bucket=BUCKET, Key="k")["ContentLength"] == PART + 1

    def test_an_aborted_upload_cannot_be_completed(self, s3: Any) -> None:
        """Neither a repeated abort nor a completion finds it."""
        where, parts = uploaded(s3, "k", [b"a"])
        s3.abort_multipart_upload(**where)
        assert refused(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts})[0] == "NoSuchUpload"
        assert refused(s3.abort_multipart_upload, **where) == ("NoSuchUpload", 404)

    def test_uploads_roll_up_too(self, s3: Any) -> None:
        """They are grouped by a delimiter, like keys."""
        for key in ("a/1", "a/2", "b"):
            s3.create_multipart_upload(Bucket=BUCKET, Key=key)
        found = s3.list_multipart_uploads(Bucket=BUCKET, Delimiter="/")
        assert [upload["Key"] for upload in found["Uploads"]] == ["b"]
        assert [each["Prefix"] for each in found["CommonPrefixes"]] == ["a/"]


class TestEdges:
    """Limits, unusual names and unusual requests."""

    @pytest.mark.parametrize("key", ["ü/日本/🎉", "a b+c%20", "a\rb", "a\nb", "a<&>\"'b"])
    def test_odd_keys_are_ordinary(self, s3: Any, key: str) -> None:
        """Each key is stored, listed and read unchanged."""
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"

    @pytest.mark.parametrize("key", ["k" * 1024, "é" * 512])
    def test_a_key_may_have_1024_bytes(self, s3: Any, key: str) -> None:
        """The order is that of UTF-8 bytes."""
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"

    @pytest.mark.parametrize("key", ["..", "../x", "a/../b", ".", "//", "/a", "a//b"])
    def test_no_key_is_a_path(self, s3: Any, key: str) -> None:
        """Dots and slashes mean nothing."""
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"

    def test_a_key_may_be_the_beginning_of_another_one(self, s3: Any) -> None:
        """There are no folders: `a`, `a/` and `a/b` are three objects."""
        for key in ("a", "a/", "a/b"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["a", "a/", "a/b"]
        assert [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in ("a", "a/", "a/b")] == [
            b"a",
            b"a/",
            b"a/b",
        ]

    def test_letters_are_not_made_the_same(self, s3: Any) -> None:
        """Two ways to write é in Unicode are two keys."""
        s3.put_object(Bucket=BUCKET, Key="\u00e9", Body=b"composed")
        s3.put_object(Bucket=BUCKET, Key="e\u0301", Body=b"decomposed")
        assert s3.get_object(Bucket=BUCKET, Key="\u00e9")["Body"].read() == b"composed"
        assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 2

    def test_a_long_key_is_refused(self, s3: Any) -> None:
        """The limit of 1,024 counts bytes of UTF-8."""
        assert refused(s3.put_object, Bucket=BUCKET, Key="k" * 1025, Body=b"") == ("KeyTooLongError", 400)
        assert refused(s3.put_object, Bucket=BUCKET, Key="ü" * 512 + "k", Body=b"") == ("KeyTooLongError", 400)

    def test_much_metadata_is_refused(self, s3: Any) -> None:
        """2 KB of names and values are the most."""
        much = {"a": "v" * 2048}
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"", Metadata=much) == ("MetadataTooLarge", 400)
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"", Metadata={"a": "v" * 2047})

    def test_several_ranges_are_everything(self, s3: Any) -> None:
        """S3 ignores the header instead of answering several ranges."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"0123456789")
        got = s3.get_object(Bucket=BUCKET, Key="k", Range="bytes=0-1,4-5")
        assert (got["Body"].read(), got["ResponseMetadata"]["HTTPStatusCode"]) == (b"0123456789", 200)

    def test_a_reader_may_ask_for_other_headers(self, s3: Any) -> None:
        """Presigned URLs use this."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x", ContentType="a/b")
        got = s3.get_object(
            Bucket=BUCKET, Key="k", ResponseContentType="c/d", ResponseContentDisposition="attachment; filename=x"
        )
        assert (got["ContentType"], got["ContentDisposition"]) == ("c/d", "attachment; filename=x")

    def test_a_quiet_deletion_tells_nothing(self, s3: Any) -> None:
        """A quiet answer has only errors, and here there are none."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "k"}, {"Key": "none"}], "Quiet": True})
        assert "Deleted" not in answer
        assert "Errors" not in answer
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)

    def test_a_listing_names_owners_if_asked(self, s3: Any) -> None:
        """The second version lists owners only on request."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        assert "Owner" not in s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]
        assert "ID" in s3.list_objects_v2(Bucket=BUCKET, FetchOwner=True)["Contents"][0]["Owner"]
        assert "ID" in s3.list_objects(Bucket=BUCKET)["Contents"][0]["Owner"]

    def test_a_delimiter_page_is_full(self, s3: Any) -> None:
        """Keys and prefixes count alike, and no prefix comes twice."""
        for key in ("a/1", "a/2", "b", "c/1", "c/2", "d/1"):
            s3.put_object(Bucket=BUCKET, Key=f"page/{key}", Body=b"")
        paginator = s3.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=BUCKET, Prefix="page/", Delimiter="/", PaginationConfig={"PageSize": 1})
        found = [[*page.get("Contents", ()), *page.get("CommonPrefixes", ())] for page in pages]
        names = [next(iter(entry[0].values())) for entry in found]
        assert names == ["page/a/", "page/b", "page/c/", "page/d/"]

    def test_buckets_come_in_pages(self, s3: Any) -> None:
        """They are sorted by name, in pages of the requested size."""
        s3.create_bucket(Bucket="0-bucket")
        pages = s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 1})
        names = [[bucket["Name"] for bucket in page["Buckets"]] for page in pages]
        assert names == [["0-bucket"], [BUCKET]]
        assert [bucket["Name"] for bucket in s3.list_buckets(Prefix="a-")["Buckets"]] == [BUCKET]

    def test_a_plain_bucket_says_so(self, s3: Any) -> None:
        """It has no versions, only the owner's ACL, and no location constraint."""
        versioning = s3.get_bucket_versioning(Bucket=BUCKET)
        assert "Status" not in versioning
        assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
        grants = s3.get_bucket_acl(Bucket=BUCKET)["Grants"]
        assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]

    def test_a_standard_object_does_not_say_so(self, s3: Any) -> None:
        """The answer has the storage class only if it is not the default."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        s3.put_object(Bucket=BUCKET, Key="ia", Body=b"x", StorageClass="STANDARD_IA")
        assert "StorageClass" not in s3.head_object(Bucket=BUCKET, Key="k")
        assert s3.head_object(Bucket=BUCKET, Key="ia")["StorageClass"] == "STANDARD_IA"
        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert [entry["StorageClass"] for entry in listed] == ["STANDARD_IA", "STANDARD"]

    def test_the_owner_is_checked(self, s3: Any) -> None:
        """Another account's number is 403."""
        refusal = refused(s3.head_bucket, Bucket=BUCKET, ExpectedBucketOwner="999999999999")
        assert refusal[1] == 403

    def test_a_long_bucket_name_is_refused(self, s3: Any) -> None:
        """63 characters are the most."""
        assert refused(s3.create_bucket, Bucket="a" * 64) == ("InvalidBucketName", 400)

    @pytest.mark.parametrize("name", ["No-Bucket", "a_b", "-ab", "ab-", "a..b", "10.0.0.1"])
    def test_bucket_names_are_those_of_hosts(self, s3: Any, name: str) -> None:
        """A name has lower-case letters, digits, hyphens and single dots, and is not an IP address."""
        assert refused(s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)

    def test_an_owner_may_create_a_bucket_again(self, s3: Any) -> None:
        """In us-east-1 the answer is 200, and the bucket stays as it is."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        s3.create_bucket(Bucket=BUCKET)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"

    def test_an_expiry_is_kept(self, s3: Any) -> None:
        """The header comes back from the object, from an object in parts and from a copy. A reader may replace it."""
        moment = dt.datetime(2030, 1, 1, tzinfo=dt.timezone.utc)
        text = "Tue, 01 Jan 2030 00:00:00 GMT"
        s3.put_object(Bucket=BUCKET, Key="put", Body=b"x", Expires=moment)
        where, parts = uploaded(s3, "parts", [b"a"], Expires=moment)
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "put"})
        for key in ("put", "parts", "copy"):
            assert s3.head_object(Bucket=BUCKET, Key=key)["ExpiresString"] == text
        later = moment + dt.timedelta(days=1)
        got = s3.get_object(Bucket=BUCKET, Key="put", ResponseExpires=later)
        assert got["ExpiresString"] == "Wed, 02 Jan 2030 00:00:00 GMT"
