"""S3 through boto3 and both transports: behaviour of the engine beyond the contract of test_s3_contract.py."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import sys
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing.local.errors import ApiError
from processing.local.stores.checksums import _digest_factory
from processing.local.stores.uploads import MIN_PART_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession

BUCKET = "a-bucket"

CHECKSUMS_OF_NOTHING = {
    "CRC32": ("AAAAAA==", "IUTfHA=="),
    "CRC32C": ("AAAAAA==", "SGdLxw=="),
    "SHA1": ("2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "vhvewKp0tNyweZQ+cFKAlsyphfg="),
    "SHA256": ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "Xfbg4nYTWdMKgnUFjimfzAOBU0VF9Vz0PkGYP11MlFY="),
}
"""The checksum of no bytes, and the checksum of that checksum."""


@pytest.fixture
def engine_s3(client: Callable[..., Any]) -> Any:
    """An S3 client of the engine, with one bucket."""
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    return s3


def refused(call: Any, /, **params: Any) -> tuple[str, int]:
    """Return the code and the status of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def message(call: Any, /, **params: Any) -> str:
    """Return the text of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    text: str = caught.value.response["Error"]["Message"]
    return text


def crc(data: bytes) -> str:
    """Return a CRC32 in S3's format."""
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class TestEngine:
    """Behaviour outside the contract with other servers, through both transports."""

    def test_a_bucket_of_another_region_is_made_once(self, engine_s3: Any) -> None:
        """The second creation is a conflict if either request means another region than us-east-1."""
        far = {"LocationConstraint": "eu-west-1"}
        engine_s3.create_bucket(Bucket="far-bucket", CreateBucketConfiguration=far)
        again = {"Bucket": "far-bucket", "CreateBucketConfiguration": far}
        assert refused(engine_s3.create_bucket, **again) == ("BucketAlreadyOwnedByYou", 409)
        assert refused(engine_s3.create_bucket, Bucket="far-bucket") == ("BucketAlreadyOwnedByYou", 409)
        moved = {"Bucket": BUCKET, "CreateBucketConfiguration": far}
        assert refused(engine_s3.create_bucket, **moved) == ("BucketAlreadyOwnedByYou", 409)

    @pytest.mark.parametrize(
        "name",
        [
            "xn--bucket",
            "sthree-bucket",
            "sthree-configurator",
            "amzn-s3-demo-bucket",
            "bucket-s3alias",
            "bucket--ol-s3",
            "bucket.mrap",
            "bucket--table-s3",
        ],
    )
    def test_reserved_bucket_names_are_refused(self, engine_s3: Any, name: str) -> None:
        """S3 keeps some beginnings and ends of names for itself."""
        assert refused(engine_s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)

    def test_names_of_directory_buckets_are_refused(self, local_session: LocalSession) -> None:
        """botocore sends such a request to S3 Express, another service, unless it is in process."""
        create = local_session.boto_session.client("s3").create_bucket
        assert refused(create, Bucket="bucket--use1-az4--x-s3") == ("InvalidBucketName", 400)

    @pytest.mark.parametrize("name", ["a.-b", "a-.b", "192.168.5.4"])
    def test_bucket_names_have_whole_labels(self, engine_s3: Any, name: str) -> None:
        """No label of a host begins or ends with a hyphen."""
        assert refused(engine_s3.create_bucket, Bucket=name) == ("InvalidBucketName", 400)

    @pytest.mark.parametrize("kind", ["later", "deleted"])
    def test_a_repeated_completion_changes_nothing(self, engine_s3: Any, kind: str) -> None:
        """A later write or deletion of the object stays. The answer is the first one, as the request succeeded."""
        complete = _upload(engine_s3, IfNoneMatch="*")
        first = engine_s3.complete_multipart_upload(**complete)
        if kind == "later":
            engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"later")
        else:
            engine_s3.delete_object(Bucket=BUCKET, Key="k")
        assert engine_s3.complete_multipart_upload(**complete)["ETag"] == first["ETag"]
        if kind == "later":
            assert engine_s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"later"
        else:
            assert refused(engine_s3.head_object, Bucket=BUCKET, Key="k")[1] == 404

    @pytest.mark.parametrize(
        "changed",
        [
            {"MultipartUpload": {"Parts": [{"PartNumber": 2, "ETag": "0" * 32}]}},
            {"MpuObjectSize": 1},
            {"IfMatch": "*"},
            {"Key": "other"},
            {"ChecksumType": "FULL_OBJECT"},
        ],
    )
    def test_another_completion_of_the_same_upload_is_refused(self, engine_s3: Any, changed: dict[str, Any]) -> None:
        """Only the same request is a repetition. Reads and parts of a completed upload are refused as well."""
        complete = _upload(engine_s3)
        engine_s3.complete_multipart_upload(**complete)
        assert refused(engine_s3.complete_multipart_upload, **{**complete, **changed}) == ("NoSuchUpload", 404)
        where = {name: complete[name] for name in ("Bucket", "Key", "UploadId")}
        assert refused(engine_s3.list_parts, **where) == ("NoSuchUpload", 404)
        assert refused(engine_s3.upload_part, **where, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
        assert refused(engine_s3.abort_multipart_upload, **where) == ("NoSuchUpload", 404)

    def test_other_writes_can_be_repeated(self, engine_s3: Any) -> None:
        """Parts, deletions and copies have the same answer again. A conditional write finds the first one's object."""
        where = {name: value for name, value in _upload(engine_s3).items() if name != "MultipartUpload"}
        etags = [engine_s3.upload_part(**where, PartNumber=1, Body=b"x")["ETag"] for _ in range(2)]
        assert etags[0] == etags[1]
        put = {"Bucket": BUCKET, "Key": "once", "Body": b"x", "IfNoneMatch": "*"}
        engine_s3.put_object(**put)
        assert refused(engine_s3.put_object, **put) == ("PreconditionFailed", 412)
        copy = {"Bucket": BUCKET, "Key": "copy", "CopySource": {"Bucket": BUCKET, "Key": "once"}}
        copies = [engine_s3.copy_object(**copy)["CopyObjectResult"]["ETag"] for _ in range(2)]
        assert copies[0] == copies[1]
        for key in ("once", "once", "copy", "copy"):
            assert engine_s3.delete_object(Bucket=BUCKET, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
        deletion = {"Objects": [{"Key": "once"}]}
        assert engine_s3.delete_objects(Bucket=BUCKET, Delete=deletion)["Deleted"] == deletion["Objects"]
        engine_s3.delete_bucket(Bucket=BUCKET)
        assert refused(engine_s3.delete_bucket, Bucket=BUCKET) == ("NoSuchBucket", 404)

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
        """Another account's number is 403, and the engine's own is accepted. A missing bucket comes first."""
        call = getattr(engine_s3, operation)
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        assert refused(call, Bucket=BUCKET, ExpectedBucketOwner="123456789012", **params)[1] == 403
        assert refused(call, Bucket="other-bucket", ExpectedBucketOwner="123456789012", **params)[1] == 404
        call(Bucket=BUCKET, ExpectedBucketOwner="000000000000", **params)

    def test_a_checksum_that_cannot_be_checked_is_kept(
        self, engine_s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without awscrt a CRC32C is accepted unverified, which is logged once."""
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
        _digest_factory.cache_clear()
        value = base64.b64encode(b"\0\0\0\0").decode()
        with caplog.at_level("INFO", logger="processing"):
            for _ in range(2):
                engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumCRC32C=value)
        assert [record.message[:6] for record in caplog.records] == ["CRC32C"]
        assert engine_s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")["ChecksumCRC32C"] == value

    def test_a_client_with_checksums_gets_them_back(self, client: Callable[..., Any]) -> None:
        """A user's own settings win over the session's: botocore then makes a CRC and checks it when reading."""
        config = Config(request_checksum_calculation="when_supported", response_checksum_validation="when_supported")
        s3 = client("s3", config=config)
        s3.create_bucket(Bucket=BUCKET)
        put = s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumAlgorithm="CRC32")
        assert put["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()
        got = s3.get_object(Bucket=BUCKET, Key="k")
        assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
        assert got["Body"].read() == b"hello"

    def test_dates_are_conditions_too(self, engine_s3: Any) -> None:
        """If-Modified-Since is 304, If-Unmodified-Since 412, in whole seconds as headers are."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"1")
        when = engine_s3.head_object(Bucket=BUCKET, Key="k")["LastModified"]
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", IfModifiedSince=when)[1] == 304
        earlier = when - dt.timedelta(seconds=1)
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", IfUnmodifiedSince=earlier)[1] == 412
        engine_s3.get_object(Bucket=BUCKET, Key="k", IfModifiedSince=earlier, IfUnmodifiedSince=when)["Body"].read()

    def test_a_wrong_token_is_refused(self, engine_s3: Any) -> None:
        """A bad token does not cause a listing from an arbitrary key."""
        assert refused(engine_s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="é")[0] == "InvalidArgument"

    @pytest.mark.parametrize(
        "key", ["..", "../x", "a/../b", ".", "//", "/a", "a/", "a//b", "\x01", "a\rb", "a\nb", " "]
    )
    def test_no_key_is_a_path(self, engine_s3: Any, key: str) -> None:
        """Each key is stored, listed and read unchanged."""
        engine_s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        assert [entry["Key"] for entry in engine_s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]
        assert engine_s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"

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
        """Unsupported operations and parameters are never mistaken for supported ones."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        assert refused(engine_s3.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration={}) == (
            "NotImplemented",
            501,
        )
        assert refused(engine_s3.get_bucket_policy, Bucket=BUCKET) == ("NotImplemented", 501)
        assert refused(engine_s3.get_object, Bucket=BUCKET, Key="k", VersionId="1") == ("NotImplemented", 501)
        assert engine_s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"x"

    def test_a_large_object_never_is_in_memory(self, engine_s3: Any) -> None:
        """Both directions read one piece at a time."""
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


class TestChecksumsOfUploads:
    """Requirements of an upload that was started with an algorithm."""

    @pytest.mark.parametrize(
        ("algorithm", "kind", "answer"),
        [
            ("CRC32", None, ("CRC32", "COMPOSITE")),
            ("CRC32", "FULL_OBJECT", ("CRC32", "FULL_OBJECT")),
            ("CRC64NVME", None, ("CRC64NVME", "FULL_OBJECT")),
            ("SHA256", None, ("SHA256", "COMPOSITE")),
            (None, None, (None, None)),
        ],
    )
    def test_an_upload_knows_its_checksums(
        self, engine_s3: Any, algorithm: str | None, kind: str | None, answer: tuple[str | None, str | None]
    ) -> None:
        """The default type depends on the algorithm. Listings of parts and uploads have both."""
        given = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        params = {name: value for name, value in given.items() if value is not None}
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", **params)
        assert (created.get("ChecksumAlgorithm"), created.get("ChecksumType")) == answer
        (upload,) = engine_s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
        assert (upload.get("ChecksumAlgorithm"), upload.get("ChecksumType")) == answer
        parts = engine_s3.list_parts(Bucket=BUCKET, Key="k", UploadId=created["UploadId"])
        assert (parts.get("ChecksumAlgorithm"), parts.get("ChecksumType")) == answer

    @pytest.mark.parametrize(
        "params",
        [
            {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
            {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
            {"ChecksumType": "COMPOSITE"},
            {"ChecksumAlgorithm": "CRC5"},
        ],
    )
    def test_impossible_checksums_are_refused(self, engine_s3: Any, params: dict[str, str]) -> None:
        """The error comes before an upload exists."""
        create = engine_s3.create_multipart_upload
        assert refused(create, Bucket=BUCKET, Key="k", **params) == ("InvalidRequest", 400)

    def test_a_part_needs_the_checksum_of_its_upload(self, engine_s3: Any) -> None:
        """Parts need a checksum of the algorithm, and the completion must list each."""
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="CRC32")
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        sha = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
        part = {**where, "PartNumber": 1, "Body": b"x"}
        assert "expected checksum Type: crc32, actual checksum Type: sha256" in message(
            engine_s3.upload_part, **part, ChecksumSHA256=sha
        )
        etag = engine_s3.upload_part(**part, ChecksumCRC32=crc(b"x"))["ETag"]
        bare = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        assert "It was missing for part 1" in message(
            engine_s3.complete_multipart_upload, **where, MultipartUpload=bare
        )
        wrong = {"Parts": [{"PartNumber": 1, "ETag": etag, "ChecksumCRC32": crc(b"y")}]}
        assert refused(engine_s3.complete_multipart_upload, **where, MultipartUpload=wrong) == ("InvalidPart", 400)

    def test_a_completion_says_the_same_as_the_beginning(self, engine_s3: Any) -> None:
        """Another type of checksum is refused."""
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="CRC32")
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        etag = engine_s3.upload_part(**where, PartNumber=1, Body=b"x", ChecksumCRC32=crc(b"x"))["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag, "ChecksumCRC32": crc(b"x")}]}
        complete = {**where, "MultipartUpload": parts}
        refusal = refused(engine_s3.complete_multipart_upload, **complete, ChecksumType="FULL_OBJECT")
        assert refusal == ("InvalidRequest", 400)
        done = engine_s3.complete_multipart_upload(**complete, ChecksumType="COMPOSITE")
        assert done["ChecksumCRC32"] == crc(zlib.crc32(b"x").to_bytes(4, "big")) + "-1"

    def test_a_full_checksum_needs_none_of_the_parts(self, engine_s3: Any) -> None:
        """The engine computes them, even for a part that it copies."""
        engine_s3.put_object(Bucket=BUCKET, Key="source", Body=b"a" * MIN_PART_BYTES)
        params = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", **params)
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        source = {"Bucket": BUCKET, "Key": "source"}
        copied = engine_s3.upload_part_copy(**where, PartNumber=1, CopySource=source)["CopyPartResult"]
        assert copied["ChecksumCRC32"] == crc(b"a" * MIN_PART_BYTES)
        last = engine_s3.upload_part(**where, PartNumber=2, Body=b"b")
        parts = [{"PartNumber": 1, "ETag": copied["ETag"]}, {"PartNumber": 2, "ETag": last["ETag"]}]
        done = engine_s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert done["ChecksumCRC32"] == crc(b"a" * MIN_PART_BYTES + b"b")
        part = engine_s3.head_object(Bucket=BUCKET, Key="k", PartNumber=2, ChecksumMode="ENABLED")
        assert (part["ChecksumCRC32"], part["PartsCount"]) == (crc(b"b"), 2)

    def test_a_crc_that_cannot_be_computed_is_put_together(
        self, engine_s3: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """CRC64NVME of the whole follows from the parts', also without awscrt: the one of the ASCII digits is known."""
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
        _digest_factory.cache_clear()
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="CRC64NVME")
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        whole = base64.b64encode(0xAE8B14860A799888.to_bytes(8, "big")).decode()
        part = engine_s3.upload_part(**where, PartNumber=1, Body=b"123456789", ChecksumCRC64NVME=whole)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        complete = {**where, "MultipartUpload": parts}
        wrong = base64.b64encode(bytes(8)).decode()
        refusal = refused(engine_s3.complete_multipart_upload, **complete, ChecksumCRC64NVME=wrong)
        assert refusal == ("BadDigest", 400)
        done = engine_s3.complete_multipart_upload(**complete)
        assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (whole, "FULL_OBJECT")

    @pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
    def test_a_composite_checksum_needs_no_awscrt(
        self, engine_s3: Any, monkeypatch: pytest.MonkeyPatch, algorithm: str
    ) -> None:
        """It is that of the parts' checksums, and the object keeps it."""
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
        _digest_factory.cache_clear()
        member = f"Checksum{algorithm}"
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm=algorithm)
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        value, composite = CHECKSUMS_OF_NOTHING[algorithm]
        part = engine_s3.upload_part(**where, PartNumber=1, Body=b"", **{member: value})
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], member: value}]}
        done = engine_s3.complete_multipart_upload(**where, MultipartUpload=parts)
        assert (done[member], done["ChecksumType"]) == (f"{composite}-1", "COMPOSITE")
        head = engine_s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
        assert (head[member], head["ChecksumType"]) == (done[member], "COMPOSITE")

    @pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64NVME"])
    def test_a_copy_has_its_checksum_without_awscrt(
        self, engine_s3: Any, monkeypatch: pytest.MonkeyPatch, algorithm: str
    ) -> None:
        """No client sends the checksum of a copied object or part, so the engine computes it."""
        monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
        _digest_factory.cache_clear()
        member = f"Checksum{algorithm}"
        known = {"CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg="}  # the check values of their definitions
        expected = known[algorithm]
        engine_s3.put_object(Bucket=BUCKET, Key="source", Body=b"123456789")
        source = {"Bucket": BUCKET, "Key": "source"}
        copy = {"Bucket": BUCKET, "Key": "copy", "CopySource": source}
        assert engine_s3.copy_object(**copy, ChecksumAlgorithm=algorithm)["CopyObjectResult"][member] == expected
        created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm=algorithm)
        where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
        part = engine_s3.upload_part_copy(**where, PartNumber=1, CopySource=source)["CopyPartResult"]
        assert part[member] == expected
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], member: part[member]}]}
        assert member in engine_s3.complete_multipart_upload(**where, MultipartUpload=parts)

    def test_a_copy_keeps_the_checksum_of_its_source(self, engine_s3: Any) -> None:
        """The same bytes have the same checksum. Even one that cannot be computed is kept."""
        value = base64.b64encode(bytes(8)).decode()
        engine_s3.put_object(Bucket=BUCKET, Key="source", Body=b"x", ChecksumXXHASH64=value)
        engine_s3.copy_object(Bucket=BUCKET, Key="k", CopySource={"Bucket": BUCKET, "Key": "source"})
        assert engine_s3.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")["ChecksumXXHASH64"] == value

    def test_two_checksums_are_one_too_many(self, engine_s3: Any) -> None:
        """This is as in S3."""
        sha = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
        put = {"Bucket": BUCKET, "Key": "k", "Body": b"x", "ChecksumSHA256": sha, "ChecksumCRC32": crc(b"x")}
        assert refused(engine_s3.put_object, **put) == ("InvalidRequest", 400)


class TestQuestions:
    """Answers to unusual requests."""

    def test_part_and_range_exclude_each_other(self, engine_s3: Any) -> None:
        """The status is 400."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
        get = {"Bucket": BUCKET, "Key": "k", "PartNumber": 1, "Range": "bytes=0-0"}
        assert refused(engine_s3.get_object, **get) == ("InvalidRequest", 400)

    def test_a_part_of_an_empty_object_is_empty(self, engine_s3: Any) -> None:
        """An empty object has no range."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        got = engine_s3.get_object(Bucket=BUCKET, Key="k", PartNumber=1)
        assert (got["Body"].read(), got["ContentLength"]) == (b"", 0)

    def test_attributes_of_an_ordinary_object(self, engine_s3: Any) -> None:
        """It has no parts, and only requested attributes are returned."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumSHA256=_sha(b"hello"))
        ask = {"Bucket": BUCKET, "Key": "k"}
        found = engine_s3.get_object_attributes(**ask, ObjectAttributes=["ObjectParts", "ObjectSize", "Checksum"])
        assert found["ObjectSize"] == 5
        assert found["Checksum"] == {"ChecksumSHA256": _sha(b"hello"), "ChecksumType": "FULL_OBJECT"}
        assert not {"ObjectParts", "ETag", "StorageClass"} & set(found)
        assert refused(engine_s3.get_object_attributes, **ask, ObjectAttributes=["Colour"])[0] == "InvalidArgument"

    def test_parts_without_checksums_are_counted(self, engine_s3: Any) -> None:
        """As in S3, only their number is returned. Parts with checksums come in pages."""
        for params, told in (({}, None), ({"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}, 2)):
            created = engine_s3.create_multipart_upload(Bucket=BUCKET, Key="k", **params)
            where = {"Bucket": BUCKET, "Key": "k", "UploadId": created["UploadId"]}
            etag = _etag_without_checksum(engine_s3, where)
            engine_s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
            ask = {"Bucket": BUCKET, "Key": "k", "ObjectAttributes": ["ObjectParts"]}
            parts = engine_s3.get_object_attributes(**ask, MaxParts=1)["ObjectParts"]
            assert parts["TotalPartsCount"] == 1
            assert ("Parts" in parts) == (told is not None)

    def test_an_unknown_encoding_is_refused(self, engine_s3: Any) -> None:
        """Listings know one encoding of names."""
        assert refused(engine_s3.list_objects_v2, Bucket=BUCKET, EncodingType="x")[0] == "InvalidArgument"

    def test_numbers_have_limits(self, engine_s3: Any) -> None:
        """Negative limits are refused, and buckets are found by region."""
        assert refused(engine_s3.list_objects_v2, Bucket=BUCKET, MaxKeys=-1)[0] == "InvalidArgument"
        assert engine_s3.list_buckets(MaxBuckets=1, BucketRegion="us-east-1")["Buckets"][0]["Name"] == BUCKET
        assert engine_s3.list_buckets(BucketRegion="eu-west-1")["Buckets"] == []

    def test_a_deletion_names_the_keys_that_it_could_not_delete(self, engine_s3: Any) -> None:
        """Errors are reported for each key, and more than 1,000 keys are refused."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        wanted = [{"Key": "k" * 1025}, {"Key": "k"}, {"Key": "v", "VersionId": "1"}]
        answer = engine_s3.delete_objects(Bucket=BUCKET, Delete={"Objects": wanted, "Quiet": True})
        assert [each["Code"] for each in answer["Errors"]] == ["KeyTooLongError", "NotImplemented"]
        assert "Contents" not in engine_s3.list_objects_v2(Bucket=BUCKET)
        many = {"Objects": [{"Key": str(number)} for number in range(1001)]}
        assert refused(engine_s3.delete_objects, Bucket=BUCKET, Delete=many) == ("MalformedXML", 400)

    def test_a_conditional_deletion_needs_an_object(self, engine_s3: Any) -> None:
        """With `*` any existing object is deleted."""
        assert refused(engine_s3.delete_object, Bucket=BUCKET, Key="k", IfMatch="*") == ("NoSuchKey", 404)
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        engine_s3.delete_object(Bucket=BUCKET, Key="k", IfMatch="*")

    def test_a_copy_onto_itself_has_to_change_something(self, engine_s3: Any) -> None:
        """Another storage class is a change. The other properties are inherited."""
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"x", ContentType="a/b", StorageClass="STANDARD_IA")
        copy = {"Bucket": BUCKET, "Key": "k", "CopySource": {"Bucket": BUCKET, "Key": "k"}}
        assert refused(engine_s3.copy_object, **copy) == ("InvalidRequest", 400)
        engine_s3.copy_object(**copy, StorageClass="GLACIER_IR", ContentType="c/d")
        head = engine_s3.head_object(Bucket=BUCKET, Key="k")
        assert (head["ContentType"], head["StorageClass"]) == ("a/b", "GLACIER_IR")
        assert refused(engine_s3.copy_object, **copy, MetadataDirective="X")[0] == "InvalidArgument"

    @pytest.mark.parametrize("acl", ["public-read", "authenticated-read"])
    def test_access_lists_are_not_supported(self, engine_s3: Any, acl: str) -> None:
        """This is as in every new bucket of S3. The owner's own ACLs are accepted."""
        put = {"Bucket": BUCKET, "Key": "k", "Body": b""}
        assert refused(engine_s3.put_object, **put, ACL=acl) == ("AccessControlListNotSupported", 400)
        engine_s3.put_object(**put, ACL="bucket-owner-full-control")
        grants = engine_s3.get_object_acl(Bucket=BUCKET, Key="k")["Grants"]
        assert [(grant["Permission"], grant["Grantee"]["Type"]) for grant in grants] == [
            ("FULL_CONTROL", "CanonicalUser")
        ]

    @pytest.mark.parametrize(
        "params",
        [
            {"SSECustomerKey": b"0" * 32, "SSECustomerAlgorithm": "AES256"},
            {"ObjectLockMode": "GOVERNANCE"},
            {"IfNoneMatch": '"0"'},
        ],
    )
    def test_what_is_asked_of_an_object_is_not_ignored(self, engine_s3: Any, params: dict[str, Any]) -> None:
        """The status is 501, instead of a partial result."""
        config_free = {"Bucket": BUCKET, "Key": "k", "Body": b""}
        with pytest.raises((ClientError, ValueError)) as caught:  # botocore keeps a key from plain HTTP
            engine_s3.put_object(**config_free, **params)
        if isinstance(caught.value, ClientError):
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501

    def test_a_large_body_is_refused_by_its_length(self, local_session: LocalSession) -> None:
        """More than 5 GB are refused before a byte is read."""
        engine_s3 = local_session.boto_session.client("s3")
        engine_s3.create_bucket(Bucket=BUCKET)
        params = {"Bucket": BUCKET, "Key": "k", "Body": b"", "ContentLength": (5 << 30) + 1}
        with pytest.raises(ApiError, match="EntityTooLarge"):
            local_session.engine.handle("s3", "PutObject", params)

    def test_an_invalid_bucket_is_named_so(self, engine_s3: Any) -> None:
        """The error is not that of a missing bucket."""
        assert refused(engine_s3.list_objects_v2, Bucket="No_Bucket") == ("InvalidBucketName", 400)

    def test_the_same_tag_twice_is_refused(self, engine_s3: Any) -> None:
        """This holds for the tag set and for the header."""
        twice = [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
        engine_s3.put_object(Bucket=BUCKET, Key="k", Body=b"")
        tagging = {"TagSet": twice}
        assert refused(engine_s3.put_object_tagging, Bucket=BUCKET, Key="k", Tagging=tagging)[0] == "InvalidTag"
        assert refused(engine_s3.put_object, Bucket=BUCKET, Key="k", Tagging="a=1&a=2")[0] == "InvalidArgument"


def test_a_presigned_url_is_a_request(http_client: Callable[..., Any]) -> None:
    """They read, with the signer's headers, and write."""
    s3 = http_client("s3", config=Config(signature_version="s3v4"))
    s3.create_bucket(Bucket=BUCKET)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "ü k"})
    with urllib.request.urlopen(urllib.request.Request(put, b"hello", method="PUT")) as answer:
        assert answer.status == 200
    params = {"Bucket": BUCKET, "Key": "ü k", "ResponseContentDisposition": 'attachment; filename="x y"'}
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", Params=params)) as answer:
        assert answer.read() == b"hello"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="x y"'


@pytest.mark.parametrize("text", ["0", "-1", "tomorrow", "Tue, 01 Jan 2030 00:00:00 +0100", "2030-01-01T00:00:00"])
def test_an_expiry_is_any_text(http_client: Callable[..., Any], text: str) -> None:
    """S3 reads no meaning into the header, and neither does the engine."""
    s3 = http_client("s3", config=Config(signature_version="s3v4"))
    s3.create_bucket(Bucket=BUCKET)
    s3.meta.events.register("before-sign.s3", lambda request, **_: request.headers.add_header("Expires", text))
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    plain = http_client("s3", config=Config(signature_version="s3v4"))
    url = plain.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "k"})
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Expires"] == text


def _upload(s3: Any, **params: Any) -> dict[str, Any]:
    """Upload one part and return the parameters of the completion."""
    where = {"Bucket": BUCKET, "Key": "k", "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]}
    etag = s3.upload_part(**where, PartNumber=1, Body=b"x")["ETag"]
    return {**where, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}, **params}


def _sha(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _etag_without_checksum(s3: Any, where: dict[str, Any]) -> str:
    md5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    etag: str = s3.upload_part(**where, PartNumber=1, Body=b"x", ContentMD5=md5)["ETag"]
    return etag
