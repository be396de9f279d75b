"""REST-XML, for S3: method, path, query and headers name the operation; bodies are XML or raw bytes.

No request of S3 carries the operation's name. The service model says which method, path, query and headers each
operation has. `_operations` compiles that into a table, and the most specific operation that matches a request wins.
"""

from __future__ import annotations

import functools
import io
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import attrs

from processing.local.errors import ApiError
from processing.local.protocols import xml
from processing.local.protocols.aws_chunked import ChunkedBody
from processing.local.protocols.message import Request, Response, bucket_of_host
from processing.local.protocols.values import HEADER_TIME, from_text, to_text
from processing.local.stores.checksums import ALGORITHMS, bad_digest, decode_checksum, new_digest
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "s3"
_CHECKSUM = "x-amz-checksum-"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_ROOTS = {
    "ListBuckets": "ListAllMyBucketsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "DeleteObjects": "DeleteResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "ListParts": "ListPartsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetObjectAcl": "AccessControlPolicy",
}
"""Names of root elements. The service model lacks them. botocore ignores them, but other clients may not."""

_AMBIGUOUS = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "PutBucketLifecycle",
    "PutBucketNotification",
    "ListDirectoryBuckets",
}
"""Operations that are left out, since their requests look like those of a newer or more common operation."""

_CONTENT_DIGESTS = frozenset({"content-md5", *(_CHECKSUM + name for name in ALGORITHMS)})
_CHECKSUM_REQUIRED = {"DeleteObjects"}
"""Operations that S3 refuses if the request has no checksum of its body."""

_KEPT_AS_TEXT = frozenset({"expires", "response-expires"})
"""Times that S3 keeps and returns as any text, such as `0` or a date without a zone. No operation reads them."""

_DECODED_LENGTH = re.compile(r"[0-9]{1,18}")


@attrs.frozen
class _HttpBinding:
    """The place of a parameter in a request: its name in the API, its name in the request, and its shape."""

    name: str
    wire_name: str
    shape: Any


@attrs.frozen
class _OperationSpec:
    """The requests of an operation: the conditions to recognise one, and the places of the parameters."""

    name: str
    method: str
    depth: int  # 0 for the service, 1 for a bucket, 2 for an object
    required_query: tuple[tuple[str, str | None], ...]  # None for any value
    required_headers: tuple[str, ...]
    query: tuple[_HttpBinding, ...]
    headers: Mapping[str, _HttpBinding]  # by name in lower case
    prefixed: tuple[_HttpBinding, ...]  # maps of all headers with a prefix
    payload: _HttpBinding | None
    needs_checksum: bool

    @property
    def conditions(self) -> int:
        """The number of conditions. Of two operations that match, the one with more conditions is meant."""
        return len(self.required_query) + len(self.required_headers)

    def matches(self, request: Request, query: Mapping[str, str]) -> bool:
        """Return whether a request with this operation's method and depth meets the other conditions."""
        for name, wanted in self.required_query:
            if name not in query or wanted not in {None, query[name]}:
                return False
        return all(name in request.headers for name in self.required_headers)


@attrs.frozen
class _Resource:
    """The bucket and the key that a request addresses, and its query."""

    bucket: str
    key: str
    query: dict[str, str]


def identify(request: Request) -> str:
    """Return the name of the operation, also of one that the engine does not have.

    Raises:
        ApiError: no operation has such a request (`MethodNotAllowed`).
    """
    return _match(request, _resource(request)).name


def decode(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the operation and its parameters."""
    resource = _resource(request)
    operation = _match(request, resource)
    params: dict[str, Any] = {}
    if operation.depth:
        params["Bucket"] = resource.bucket
    if operation.depth == 2:
        params["Key"] = resource.key
    for member in operation.query:
        if member.wire_name in resource.query:
            params[member.name] = _from_text(member, resource.query[member.wire_name])
    _read_headers(request, operation, params)
    if operation.payload is not None:
        _read_payload(request, operation, operation.payload, params)
    return operation.name, params


def _read_headers(request: Request, operation: _OperationSpec, params: dict[str, Any]) -> None:
    for name, text in request.headers.items():
        member = operation.headers.get(name)
        if member is None:
            continue
        if member.shape.type_name == "list":
            params[member.name] = [from_text(member.shape.member, part.strip()) for part in text.split(",")]
        else:
            params[member.name] = _from_text(member, text)
    for member in operation.prefixed:
        prefix = member.wire_name
        found = {name[len(prefix) :]: value for name, value in request.headers.items() if name.startswith(prefix)}
        if found:
            params[member.name] = found


def _from_text(member: _HttpBinding, text: str) -> Any:
    return text if member.wire_name in _KEPT_AS_TEXT else from_text(member.shape, text)


def _read_payload(request: Request, operation: _OperationSpec, payload: _HttpBinding, params: dict[str, Any]) -> None:
    if payload.shape.type_name == "structure":
        content = request.content()
        _check_content(request, content, operation)
        if content:
            params[payload.name] = xml.read(payload.shape, xml.parse(content))
        return
    params[payload.name] = body = request.body
    headers = request.headers
    decoded_length = headers.get("x-amz-decoded-content-length")
    is_chunked = request.chunks is not None or "aws-chunked" in headers.get("content-encoding", "")
    if decoded_length is None and not is_chunked:
        _require_length(request)
        return
    raw = io.BytesIO(body) if isinstance(body, bytes) else body
    params[payload.name] = ChunkedBody(raw, headers.get("x-amz-trailer", ""), request.chunks)
    params.pop("ContentLength", None)
    if decoded_length is not None and _DECODED_LENGTH.fullmatch(decoded_length):
        params["ContentLength"] = int(decoded_length)
    codings = [part.strip() for part in params.pop("ContentEncoding", "").split(",")]
    kept = ",".join(part for part in codings if part not in {"", "aws-chunked"})
    if kept:
        params["ContentEncoding"] = kept


def _require_length(request: Request) -> None:
    """Refuse a body of unknown length, as S3 does."""
    if "content-length" in request.headers:
        return
    if "transfer-encoding" in request.headers:
        raise ApiError(
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
            501,
            Header="Transfer-Encoding",
        )
    raise ApiError("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)


def _check_content(request: Request, content: bytes, operation: _OperationSpec) -> None:
    """Check the checksums of a body that is held in memory. Some operations require one.

    A checksum that is a parameter of the operation is not the body's. CompleteMultipartUpload's is the object's.
    """
    given = {
        name.removeprefix(_CHECKSUM): value
        for name, value in request.headers.items()
        if name in _CONTENT_DIGESTS and (name == "content-md5" or name not in operation.headers)
    }
    if operation.needs_checksum and not given:
        raise ApiError("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    for name, value in given.items():
        digest = new_digest(name)
        if digest is not None:
            digest.update(content)
            if digest.digest() != decode_checksum(value):
                raise bad_digest(name)


def encode(operation: str, result: Mapping[str, Any], method: str) -> Response:
    """Return the answer. `result["ResponseMetadata"]["HTTPStatusCode"]` replaces the model's status."""
    model = service_model(SERVICE).operation_model(operation)
    status = result.get("ResponseMetadata", {}).get("HTTPStatusCode", model.http.get("responseCode", 200))
    shape: Any = model.output_shape
    if shape is None:
        return Response(status)
    headers = _encode_headers(shape, result)
    return Response(status, headers) if method == "HEAD" else _with_body(operation, shape, result, status, headers)


def _with_body(operation: str, shape: Any, result: Mapping[str, Any], status: int, headers: dict[str, str]) -> Response:
    if operation == "GetBucketLocation":  # the only answer whose root element has text
        text = xml.escape(result.get("LocationConstraint") or "")
        root = f'<LocationConstraint xmlns="{_NAMESPACE}">{text}</LocationConstraint>'
        return _document(status, headers, root)
    payload = shape.serialization.get("payload")
    if payload is None:
        name = _ROOTS.get(operation)
        if name is None:
            return Response(status, headers)
        inner = xml.write_members(shape, result, skip_located=True)
        return _document(status, headers, f'<{name} xmlns="{_NAMESPACE}">{inner}</{name}>')
    member = shape.members[payload]
    if member.type_name == "structure":
        return _document(status, headers, xml.write(member, result.get(payload, {}), payload))
    return Response(status, headers, result[payload])


def _encode_headers(shape: Any, result: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for located in _header_bindings(shape.name):
        value = result.get(located.name)
        if value is None:
            continue
        if located.shape.type_name == "map":
            headers |= {located.wire_name + key: each for key, each in value.items()}
        else:
            headers[located.wire_name] = to_text(located.shape, value, HEADER_TIME)
    return headers


@functools.cache
def _header_bindings(shape_name: str) -> tuple[_HttpBinding, ...]:
    shape: Any = service_model(SERVICE).shape_for(shape_name)
    members = [(name, member) for name, member in shape.members.items() if "location" in member.serialization]
    return tuple(_HttpBinding(name, member.serialization["name"], member) for name, member in members)


def encode_error(error: ApiError, request: Request, request_id: str) -> Response:
    """Return the error answer. To HEAD it has no body, so clients see the status only."""
    if request.method == "HEAD" or error.status == 304:
        return Response(error.status)
    details = {"Code": error.code, "Message": error.message, **error.details, "Resource": request.path}
    inner = "".join(xml.element(name, value) for name, value in details.items())
    return _document(error.status, {}, f"<Error>{inner}{xml.element('RequestId', request_id)}</Error>")


def _document(status: int, headers: dict[str, str], root: str) -> Response:
    return Response(status, {**headers, "Content-Type": "application/xml"}, (xml.DECLARATION + root).encode())


# Identification of the operation


def _resource(request: Request) -> _Resource:
    path = request.decoded_path().removeprefix("/")
    try:
        query = dict(parse_qsl(request.query, keep_blank_values=True, errors="strict")) if request.query else {}
    except UnicodeDecodeError:
        raise ApiError("InvalidURI", "Couldn't parse the specified URI.") from None
    named = bucket_of_host(request)
    if named is not None:
        return _Resource(named, path, query)
    bucket, _, key = path.partition("/")
    return _Resource(bucket, key, query)


def _match(request: Request, resource: _Resource) -> _OperationSpec:
    depth = 2 if resource.key else 1 if resource.bucket else 0
    for operation in _operations().get((request.method, depth), ()):
        if operation.matches(request, resource.query):
            return operation
    raise ApiError(
        "MethodNotAllowed", "The specified method is not allowed against this resource.", 405, Method=request.method
    )


@functools.cache
def _operations() -> dict[tuple[str, int], list[_OperationSpec]]:
    """Return all operations of the model by method and depth, those with the most conditions first.

    The table includes operations that the engine lacks. Otherwise PutObjectTagging would pass for PutObject.
    """
    model = service_model(SERVICE)
    table: dict[tuple[str, int], list[_OperationSpec]] = {}
    for name in model.operation_names:
        if name not in _AMBIGUOUS:
            operation = _compile_operation(name, model.operation_model(name))
            table.setdefault((operation.method, operation.depth), []).append(operation)
    for operations in table.values():
        operations.sort(key=lambda operation: -operation.conditions)
    return table


def _compile_operation(name: str, model: Any) -> _OperationSpec:
    # The path of requestUri is unreliable. All clients share the model, and botocore removes the bucket from the path
    # when a client first calls the operation. So the depth follows from the parameters in the path.
    literal = model.http["requestUri"].partition("?")[2]
    shape = model.input_shape
    members = {} if shape is None else dict(shape.members)
    required = set() if shape is None else set(shape.required_members)
    located: dict[str, list[_HttpBinding]] = {"querystring": [], "header": [], "headers": []}
    in_path = {
        member.serialization["name"] for member in members.values() if member.serialization.get("location") == "uri"
    }
    query = {(key, value or None) for key, value in parse_qsl(literal, keep_blank_values=True)}
    needed_headers = set()
    for key, member in members.items():
        place, wire_name = member.serialization.get("location"), member.serialization.get("name", key)
        if place in located:
            wire_name = wire_name if place == "querystring" else wire_name.lower()
            located[place].append(_HttpBinding(key, wire_name, member))
            if key in required and place == "querystring":
                query.add((wire_name, None))
            elif key in required:
                needed_headers.add(wire_name)
    payload = None if shape is None else shape.serialization.get("payload")
    return _OperationSpec(
        name=name,
        method=model.http["method"],
        depth=len(in_path & {"Bucket", "Key"}),
        required_query=tuple(sorted(query, key=str)),
        required_headers=tuple(sorted(needed_headers)),
        query=tuple(located["querystring"]),
        headers={member.wire_name: member for member in located["header"]},
        prefixed=tuple(located["headers"]),
        payload=None if payload is None else _HttpBinding(payload, payload, members[payload]),
        needs_checksum=name in _CHECKSUM_REQUIRED,
    )
