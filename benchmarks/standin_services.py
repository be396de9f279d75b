"""The answers of the stand-in server: the part of S3, SageMaker, STS and IAM that the measured clients use.

Nothing is verified, neither signatures nor checksums: that would take processor time from the clients. The tests check
that bytes arrive unchanged. Objects stay in memory, in the pieces in which they arrived. A small object's ETag is its
MD5, as clients expect. Those of large objects and of parts are not, as in S3 for multipart objects and those with KMS.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import attrs

from processing.local.errors import ApiError
from processing.local.protocols import codec, message

ACCOUNT = "000000000000"
REGION = "us-east-1"
S3_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_SMALL = 1 << 20  # bytes
_KEPT_HEADERS = ("x-amz-meta-", "x-amz-checksum-crc", "x-amz-checksum-sha", "x-amz-server-side-encryption")

Bytes = bytes | bytearray | memoryview
Headers = Mapping[str, str]


@attrs.define
class Request:
    """A whole request. Header names are in lower case; `target` is percent-encoded, the path is decoded."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Bytes = b""


@attrs.frozen
class Answer:
    """An answer: the body in pieces, and its Content-Length (HEAD sends no body)."""

    status: int = 200
    pieces: Sequence[Bytes] = ()
    headers: Headers = attrs.field(factory=dict)
    length: int | None = None


@attrs.frozen
class Stored:
    """An object."""

    pieces: Sequence[Bytes]
    etag: str
    headers: Headers
    modified: float = attrs.field(factory=time.time)

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def cut(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield the bytes from `start` to before `end`, without copying them."""
        at = 0
        for piece in self.pieces:
            first, last = max(start - at, 0), min(end - at, len(piece))
            if first < last:
                yield memoryview(piece)[first:last]
            at += len(piece)


def xml(text: str, status: int = 200) -> Answer:
    return Answer(status, [f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()])


def as_json(value: object, status: int = 200) -> Answer:
    return Answer(status, [json.dumps(value).encode()], {"Content-Type": "application/x-amz-json-1.1"})


def s3_error(status: int, code: str, message: str = "") -> Answer:
    return xml(f"<Error><Code>{code}</Code><Message>{message or code}</Message></Error>", status)


class Services:
    """The state of the stand-in. `operation_of` identifies a request, `answer` answers it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        """Forget all objects and jobs."""
        self._objects: dict[str, dict[str, Stored]] = {}
        self._parts: dict[str, dict[int, Stored]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}

    def operation_of(self, request: Request) -> str:
        """Return the operation's name in AWS's spelling; the HTTP method if the request names no operation."""
        is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        body = bytes(request.body) if is_form else b""  # an object's bytes are not copied
        path, _, query = request.target.partition("?")
        host = request.headers.get("host", "")
        try:
            _, operation = codec.identify(message.Request(request.method, host, path, query, request.headers, body))
        except ApiError:
            return request.method
        return operation or request.method

    def answer(self, operation: str, request: Request) -> Answer:
        handler: Callable[[Request], Answer] | None = getattr(self, f"_{_snake(operation)}", None)
        if handler is None:
            return s3_error(501, "NotImplemented", f"the stand-in has no {operation}")
        return handler(request)

    # S3

    def _bucket(self, request: Request) -> dict[str, Stored]:
        """Return the bucket's objects. Every bucket exists."""
        return self._objects.setdefault(request.path[1:].partition("/")[0], {})

    def _etag(self, pieces: Sequence[Bytes]) -> str:
        if len(pieces) == 1 and len(pieces[0]) <= _SMALL:
            return f'"{hashlib.md5(pieces[0], usedforsecurity=False).hexdigest()}"'
        return f'"{next(self._numbers):032x}-1"'

    def _store(self, request: Request, pieces: Sequence[Bytes], headers: Headers) -> Stored:
        stored = Stored(pieces, self._etag(pieces), {k: v for k, v in headers.items() if k.startswith(_KEPT_HEADERS)})
        self._bucket(request)[_key(request)] = stored
        return stored

    def _put_object(self, request: Request) -> Answer:
        if request.headers.get("if-none-match") == "*" and _key(request) in self._bucket(request):
            return s3_error(412, "PreconditionFailed")
        return Answer(headers={"ETag": self._store(request, [request.body], request.headers).etag})

    def _copy_object(self, request: Request) -> Answer:
        bucket, _, key = unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        source = self._objects.get(bucket, {}).get(key)
        if source is None:
            return s3_error(404, "NoSuchKey")
        if request.headers.get("x-amz-copy-source-if-match", source.etag).strip('"') != source.etag.strip('"'):
            return s3_error(412, "PreconditionFailed")
        stored = self._store(request, source.pieces, {**source.headers, **request.headers})
        when = _iso(stored.modified)
        return xml(
            f"<CopyObjectResult><ETag>{stored.etag}</ETag><LastModified>{when}</LastModified></CopyObjectResult>"
        )

    def _head_object(self, request: Request) -> Answer:
        answer = self._get_object(request)
        return attrs.evolve(answer, pieces=(), length=answer.length or 0)

    def _get_object(self, request: Request) -> Answer:
        stored = self._bucket(request).get(_key(request))
        if stored is None:
            return s3_error(404, "NoSuchKey")
        if request.headers.get("if-match", stored.etag).strip('"') != stored.etag.strip('"'):
            return s3_error(412, "PreconditionFailed")
        size = stored.size
        headers = {"ETag": stored.etag, "Last-Modified": formatdate(stored.modified, usegmt=True), **stored.headers}
        headers["Accept-Ranges"] = "bytes"
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if found is None:
            return Answer(200, stored.pieces, headers, size)
        start, end = int(found[1]), min(int(found[2] or size - 1) + 1, size)
        if start >= end:
            return s3_error(416, "InvalidRange")
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Answer(206, list(stored.cut(start, end)), headers, end - start)

    def _delete_object(self, request: Request) -> Answer:
        self._bucket(request).pop(_key(request), None)
        return Answer(204)

    def _list_buckets(self, _: Request) -> Answer:
        when = _iso(time.time())
        buckets = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{when}</CreationDate></Bucket>" for name in self._objects
        )
        return xml(f"<ListAllMyBucketsResult {S3_NAMESPACE}><Buckets>{buckets}</Buckets></ListAllMyBucketsResult>")

    def _head_bucket(self, request: Request) -> Answer:
        self._bucket(request)
        return Answer(headers={"x-amz-bucket-region": REGION})

    def _get_bucket_location(self, _: Request) -> Answer:
        return xml(f"<LocationConstraint {S3_NAMESPACE}></LocationConstraint>")

    def _create_bucket(self, _: Request) -> Answer:
        return Answer()

    def _list_objects_v2(self, request: Request) -> Answer:
        query = request.query
        prefix, after = (
            query.get("prefix", ""),
            query.get("continuation-token", query.get("start-after", query.get("marker", ""))),
        )
        most = int(query.get("max-keys", "1000"))
        bucket = self._bucket(request)
        keys = sorted(key for key in bucket if key.startswith(prefix) and key > after)
        page = keys[:most]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > most else ""
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(bucket[key].modified)}</LastModified>"
            f"<ETag>{bucket[key].etag}</ETag><Size>{bucket[key].size}</Size></Contents>"
            for key in page
        )
        return xml(
            f"<ListBucketResult {S3_NAMESPACE}><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{contents}</ListBucketResult>"
        )

    def _list_objects(self, request: Request) -> Answer:
        """Answer the first version of the operation, which boto3's resources use, as the second."""
        return self._list_objects_v2(request)

    def _create_multipart_upload(self, request: Request) -> Answer:
        upload_id = f"upload-{next(self._numbers)}"
        self._parts[upload_id] = {0: Stored((), "", request.headers)}
        return xml(
            f"<InitiateMultipartUploadResult {S3_NAMESPACE}><UploadId>{upload_id}</UploadId>"
            "</InitiateMultipartUploadResult>"
        )

    def _upload_part(self, request: Request) -> Answer:
        parts = self._parts.get(request.query["uploadId"])
        if parts is None:
            return s3_error(404, "NoSuchUpload")
        stored = Stored([request.body], self._etag([request.body]), {})
        parts[int(request.query["partNumber"])] = stored
        return Answer(headers={"ETag": stored.etag})

    def _complete_multipart_upload(self, request: Request) -> Answer:
        parts = self._parts.pop(request.query["uploadId"], None)
        if parts is None:
            return s3_error(404, "NoSuchUpload")
        begun = parts.pop(0)
        pieces = [piece for _, part in sorted(parts.items()) for piece in part.pieces]
        etag = self._store(request, pieces, {**begun.headers, **request.headers}).etag
        return xml(f"<CompleteMultipartUploadResult {S3_NAMESPACE}><ETag>{etag}</ETag></CompleteMultipartUploadResult>")

    def _abort_multipart_upload(self, request: Request) -> Answer:
        self._parts.pop(request.query["uploadId"], None)
        return Answer(204)

    # SageMaker, STS, IAM

    def _create_processing_job(self, request: Request) -> Answer:
        asked = json.loads(bytes(request.body))
        name = asked["ProcessingJobName"]
        if name in self._jobs:
            return _json_error("ResourceInUse", "Job name must be unique within an AWS account and region")
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:processing-job/{name}"
        times = dict.fromkeys(("CreationTime", "ProcessingStartTime", "ProcessingEndTime"), time.time())
        self._jobs[name] = {**asked, **times, "ProcessingJobArn": arn, "ProcessingJobStatus": "Completed"}
        return as_json({"ProcessingJobArn": arn})

    def _describe_processing_job(self, request: Request) -> Answer:
        job = self._jobs.get(json.loads(bytes(request.body))["ProcessingJobName"])
        if job is None:
            return _json_error("ValidationException", "Could not find requested job with name")
        return as_json(job)

    def _get_caller_identity(self, _: Request) -> Answer:
        return xml(
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/bench/bench</Arn><UserId>AIDA:bench</UserId>"
            f"<Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        )

    def _get_role(self, request: Request) -> Answer:
        name = escape(dict(parse_qsl(bytes(request.body).decode()))["RoleName"])
        return xml(
            '<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role><Path>/</Path>'
            f"<RoleName>{name}</RoleName><RoleId>AROA</RoleId><Arn>arn:aws:iam::{ACCOUNT}:role/{name}</Arn>"
            f"<CreateDate>{_iso(time.time())}</CreateDate></Role></GetRoleResult></GetRoleResponse>"
        )


def _key(request: Request) -> str:
    return request.path[1:].partition("/")[2]


def _snake(operation: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower()


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _json_error(code: str, message: str) -> Answer:
    return as_json({"__type": code, "message": message}, 400)
