"""S3 through boto3: one contract, held against the engine and against moto.

Where the two differ on purpose, the test is the engine's alone and says what moto does:

- creating a bucket that exists: the engine always answers 409; moto, as S3 in us-east-1, answers 200.
- ExpectedBucketOwner, Content-MD5, checksums, If-Match on writes: the engine checks them; moto ignores most of them.
- delimiter pages, parts below 5 MB, keys of more than 1,024 bytes: the engine holds S3's limits in every place.
- bucket names, the order of buckets, the parts of an ended upload: moto is more lenient.
- what the engine does not have is 501, not ignored.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import sys
import zlib
from typing import TYPE_CHECKING, Any

import boto3
import moto
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing.local.stores.checksums import _crt_function
from processing.local.transport import InProcessTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession

BUCKET = "a-bucket"
PART = 5 << 20


@pytest.fixture(params=["engine", "moto"])
def s3(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An S3 client with one bucket: of the engine, and of moto."""
    if request.param == "engine":
        client = request.getfixturevalue("local_session").boto_session.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
        return
    with moto.mock_aws():
        client = boto3.Session(region_name="us-east-1").client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def engine_s3(local_session: LocalSession) -> Any:
    """An S3 client of the engine, with one bucket."""
    client = local_session.boto_session.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


def refused(call: Any, /, **params: Any) -> tuple[str, int]:
    """The code and the status of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


class TestContract:
    """What both do."""

    def test_an_object_comes_back_with_what_was_said_of_it(self, s3: Any) -> None:
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
        """416, also of an empty object."""
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
        """If-None-Match: * is 412 where there is something."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")
        assert refused(s3.put_object, Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
        assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"1"

    def test_a_conditional_get_saves_the_bytes(self, s3: Any) -> None:
        """304 for what the reader has, 412 for what it does not want."""
        etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        assert refused(s3.get_object, Bucket=BUCKET, Key="k", IfNoneMatch=etag)[1] == 304
        assert refused(s3.head_object, Bucket=BUCKET, Key="k", IfMatch='"0"')[1] == 412
        assert s3.get_object(Bucket=BUCKET, Key="k", IfMatch=etag)["Body"].read() == b"1"

    def test_keys_are_listed_in_the_order_of_their_bytes(self, s3: Any) -> None:
        """Odd ones too; a page says whether there is more, and where it goes on."""
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
        """What follows it behind the prefix is one entry."""
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
        """The member is absent, as with S3."""
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
        """409 for a bucket that is not empty."""
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        assert refused(s3.delete_bucket, Bucket=BUCKET) == ("BucketNotEmpty", 409)

    def test_a_copy_has_the_bytes_and_what_was_said_of_them(self, s3: Any) -> None:
        """Or what is said anew, with REPLACE."""
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
        """Its ETag counts the parts; before that it is in the list of uploads, and after it is not."""
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
        """It is in no list, and there is no object."""
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
        """Each with the date of its creation."""
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


class TestEngine:
    """What the engine does, and moto does not."""

    @pytest.mark.parametrize("name", ["No-Bucket", "a_b", "-ab", "a..b", "10.0.0.1", "a" * 64])
    def test_bucket_names_are_those_of_hosts(self, engine_s3: Any, name: str) -> None:
        """Lower case letters, digits, hyphens and single dots; no address."""
        assert refused(engine_s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)

    def test_an_ended_upload_is_unknown(self, engine_s3: Any) -> None:
        """It takes no more parts and lists none; and buckets come by name."""
        upload = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        engine_s3.abort_multipart_upload(Bucket=BUCKET, Key="k", UploadId=upload)
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        assert refused(engine_s3.list_parts, **where) == ("NoSuchUpload", 404)
        assert refused(engine_s3.upload_part, **where, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
        engine_s3.create_bucket(Bucket="0-bucket")
        assert [bucket["Name"] for bucket in engine_s3.list_buckets()["Buckets"]] == ["0-bucket", BUCKET]

    def test_a_bucket_is_made_once(self, engine_s3: Any) -> None:
        """The second time it is a conflict, in every region."""
        assert refused(engine_s3.create_bucket, Bucket=BUCKET) == ("BucketAlreadyOwnedByYou", 409)

    @pytest.mark.parametrize(
        ("operation", "params"),
        [
            ("put_object", {"Key": "k", "Body": b""}),
            ("get_object", {"Key": "k"}),
            ("head_object", {"Key": "k"}),
            ("delete_object", {"Key": "k"}),
            ("list_objects_v2", {}),
            ("head_bucket", {}),
            ("create_multipart_upload", {"Key": "k"}),
        ],
    )
    def test_the_expected_owner_is_checked(self, engine_s3: Any, operation: str, params: dict[str, Any]) -> None:
        """Another account's number is 403; the engine's own is fine; a missing bucket is missing first."""
        call = getattr(engine_s3, operation)
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        assert refused(call, Bucket=BUCKET, ExpectedBucketOwner="123456789012", **params)[1] == 403
        assert refused(call, Bucket="other-bucket", ExpectedBucketOwner="123456789012", **params)[1] == 404
        call(Bucket=BUCKET, ExpectedBucketOwner="000000000000", **params)

    @pytest.mark.parametrize(
        ("member", "right", "wrong"),
        [
            ("ContentMD5", hashlib.md5(b"hello").digest(), hashlib.md5(b"x").digest()),
            ("ChecksumSHA256", hashlib.sha256(b"hello").digest(), hashlib.sha256(b"x").digest()),
            ("ChecksumSHA1", hashlib.sha1(b"hello").digest(), hashlib.sha1(b"x").digest()),
            ("ChecksumCRC32", zlib.crc32(b"hello").to_bytes(4, "big"), b"\0\0\0\0"),
        ],
    )
    def test_checksums_are_checked(self, engine_s3: Any, member: str, right: bytes, wrong: bytes) -> None:
        """A body that does not fit is BadDigest, and leaves nothing."""
        encoded = {member: base64.b64encode(wrong).decode()}
        assert refused(engine_s3.put_object, Bucket=BUCKET, Key="k", Body=b"hello", **encoded) == ("BadDigest", 400)
        assert refused(engine_s3.head_object, Bucket=BUCKET, Key="k")[1] == 404
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", **{member: base64.b64encode(right).decode()})

    def test_a_checksum_that_cannot_be_checked_is_kept(
        self, engine_s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without awscrt a CRC32C is taken as it is, which the log says once."""
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
        _crt_function.cache_clear()
        value = base64.b64encode(b"\0\0\0\0").decode()
        with caplog.at_level("INFO", logger="processing"):
            for _ in range(2):
                engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumCRC32C=value)
        assert [record.message[:6] for record in caplog.records] == ["CRC32C"]
        assert engine_s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")["ChecksumCRC32C"] == value

    def test_a_client_with_checksums_gets_them_back(self, local_session: LocalSession) -> None:
        """A user's own settings win over the session's: botocore then makes a CRC and checks it when reading."""
        config = Config(request_checksum_calculation="when_supported", response_checksum_validation="when_supported")
        client = local_session.boto_session.client("s3", config=config)
        client.create_bucket(Bucket=BUCKET)
        put = client.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumAlgorithm="CRC32")
        assert put["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
        got = client.get_object(Bucket=BUCKET, Key="k")
        assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
        assert got["Body"].read() == b"hello"

    def test_if_match_guards_a_write(self, engine_s3: Any) -> None:
        """412 for a writer who knows an older object."""
        old = engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")["ETag"]
        new = engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"2", IfMatch=old)["ETag"]
        refusal = refused(engine_s3.put_object, Bucket=BUCKET, Key="k", Body=b"3", IfMatch=old)
        assert refusal == ("PreconditionFailed", 412)
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"3", IfMatch=new)

    def test_dates_are_conditions_too(self, engine_s3: Any) -> None:
        """If-Modified-Since is 304, If-Unmodified-Since 412, in whole seconds as headers are."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
        when = engine_s3.head_object(Bucket=BUCKET, Key="k")["LastModified"]
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", IfModifiedSince=when)[1] == 304
        earlier = when - dt.timedelta(seconds=1)
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", IfUnmodifiedSince=earlier)[1] == 412
        engine_s3.get_object(Bucket=BUCKET, Key="k", IfModifiedSince=earlier, IfUnmodifiedSince=when)["Body"].read()

    def test_every_page_of_common_prefixes_is_full(self, engine_s3: Any) -> None:
        """Keys and prefixes count alike, and no prefix comes twice."""
        for key in ("a/1", "a/2", "b", "c/1", "c/2", "d/1"):
            engine_s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        paginator = engine_s3.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 1})
        found = [[*page.get("Contents", ()), *page.get("CommonPrefixes", ())] for page in pages]
        assert [next(iter(entry[0].values())) for entry in found] == ["a/", "b", "c/", "d/"]
        older = engine_s3.list_objects(Bucket=BUCKET, Delimiter="/", MaxKeys=1)
        assert older["NextMarker"] == "a/"
        following = engine_s3.list_objects(Bucket=BUCKET, Delimiter="/", MaxKeys=1, Marker="a/")
        assert [entry["Key"] for entry in following["Contents"]] == ["b"]

    def test_a_wrong_token_is_refused(self, engine_s3: Any) -> None:
        """Instead of a listing from somewhere."""
        assert refused(engine_s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="é")[0] == "InvalidArgument"

    def test_a_long_key_is_refused(self, engine_s3: Any) -> None:
        """1,024 bytes are the limit, and are fine."""
        engine_s3.put_object(Bucket=BUCKET, Key="ü" * 512, Body=b"")
        refusal = refused(engine_s3.put_object, Bucket=BUCKET, Key="ü" * 512 + "k", Body=b"")
        assert refusal == ("KeyTooLongError", 400)

    @pytest.mark.parametrize(
        "key", ["..", "../x", "a/../b", ".", "//", "/a", "a/", "a//b", "\x01", "a\rb", "a\nb", " "]
    )
    def test_no_key_is_a_path(self, engine_s3: Any, key: str) -> None:
        """Each is put, listed and got as it is written."""
        engine_s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        assert [entry["Key"] for entry in engine_s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]
        assert engine_s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"

    def test_a_part_can_be_copied(self, engine_s3: Any) -> None:
        """All of an object, or a range of it."""
        engine_s3.put_object(Bucket=BUCKET, Key="source", Body=b"0123456789")
        upload = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
        source = {"Bucket": BUCKET, "Key": "source"}
        copied = engine_s3.upload_part_copy(**where, PartNumber=1, CopySource=source, CopySourceRange="bytes=2-4")
        part = {"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}
        engine_s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
        assert engine_s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"234"
        assert refused(
            engine_s3.upload_part_copy, **where, PartNumber=1, CopySource=source, CopySourceRange="bytes=5-99"
        )[0] in {"InvalidArgument", "NoSuchUpload"}

    def test_parts_and_uploads_come_in_pages(self, engine_s3: Any) -> None:
        """The paginators of boto3 find all of them."""
        ids = [engine_s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"] for key in ("a", "b", "b", "c")]
        for number in range(1, 6):
            engine_s3.upload_part(Bucket=BUCKET, Key="a", UploadId=ids[0], PartNumber=number, Body=b"")
        pages = engine_s3.get_paginator("list_parts").paginate(
            Bucket=BUCKET, Key="a", UploadId=ids[0], PaginationConfig={"PageSize": 2}
        )
        assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [3, 4], [5]]
        uploads = engine_s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=BUCKET, PaginationConfig={"PageSize": 3}
        )
        assert [[upload["Key"] for upload in page["Uploads"]] for page in uploads] == [["a", "b", "b"], ["c"]]

    def test_what_the_engine_lacks_is_501(self, engine_s3: Any) -> None:
        """By its name, and never taken for another operation."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        assert refused(engine_s3.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration={}) == (
            "NotImplemented",
            501,
        )
        assert refused(engine_s3.get_bucket_policy, Bucket=BUCKET) == ("NotImplemented", 501)
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", VersionId="1") == ("NotImplemented", 501)
        assert engine_s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"

    def test_a_large_object_never_is_in_memory(self, engine_s3: Any, local_session: LocalSession) -> None:
        """Neither way is more than a piece read at a time."""
        size, largest = 64 << 20, 0

        class Source(io.RawIOBase):
            position = 0

            def seekable(self) -> bool:
                return True

            def readable(self) -> bool:
                return True

            def tell(self) -> int:
                return self.position

            def seek(self, offset: int, whence: int = 0, /) -> int:
                self.position = offset + {0: 0, 1: self.position, 2: size}[whence]
                return self.position

            def read(self, amount: int | None = -1, /) -> bytes:
                nonlocal largest
                amount = size if amount is None or amount < 0 else amount
                piece = bytes(min(amount, size - self.position))
                largest = max(largest, len(piece))
                self.position += len(piece)
                return piece

        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=Source())
        assert largest <= 1 << 20
        body = engine_s3.get_object(Bucket=BUCKET, Key="k")["Body"]
        assert sum(len(piece) for piece in body.iter_chunks(1 << 20)) == size
        assert isinstance(local_session._transport, InProcessTransport)
