"""The query protocol of STS and IAM, and of older clients of SQS and CloudWatch: dotted form fields in, XML out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from processing.local.errors import ApiError
from processing.local.protocols.message import Request, Response
from processing.local.protocols.query_names import query_model
from processing.local.protocols.values import from_text
from processing.local.protocols.xml import DECLARATION, element, member_name, write_members

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS = {"2011-06-15": "sts", "2010-05-08": "iam", "2012-11-05": "sqs", "2010-08-01": "cloudwatch"}
"""The services of the engine by their API version, which a form names."""

_FORM = "application/x-www-form-urlencoded"


def has_form(request: Request) -> bool:
    """Return whether the body of a request is a form. The body is not read."""
    return request.method == "POST" and request.headers.get("content-type", "").lower().startswith(_FORM)


def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form in the body or the query. Return an empty dict for other requests.

    Raises:
        ApiError: the form is not UTF-8, or too large.
    """
    fields = request.query
    if has_form(request):
        content = request.content()
    elif "Action=" not in fields:
        return {}
    else:
        content = fields.encode()
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise ApiError("MalformedQueryString", "The query string contains a syntax error.") from None


def decode(service: str, operation: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of an operation from a form."""
    model = query_model(service)
    if operation not in model.operation_names:
        return {}
    shape = model.operation_model(operation).input_shape
    return {} if shape is None else _read(shape, _tree(form))


def encode(service: str, operation: str, result: Mapping[str, Any], request_id: str) -> Response:
    """Return the answer."""
    model = query_model(service)
    shape = model.operation_model(operation).output_shape
    inner = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
        inner = f"<{wrapper}>{write_members(shape, result)}</{wrapper}>"
    metadata = f"<ResponseMetadata>{element('RequestId', request_id)}</ResponseMetadata>"
    name, namespace = f"{operation}Response", model.metadata["xmlNamespace"]
    body = f'{DECLARATION}<{name} xmlns="{namespace}">{inner}{metadata}</{name}>'
    return Response(200, {"Content-Type": "text/xml"}, body.encode())


def encode_error(service: str | None, error: ApiError, request_id: str) -> Response:
    """Return the error answer."""
    side = "Sender" if error.status < 500 else "Receiver"
    inner = element("Type", side) + element("Code", error.code) + element("Message", error.message)
    namespace = ""
    if service in VERSIONS.values():
        namespace = f' xmlns="{query_model(service).metadata["xmlNamespace"]}"'
    body = f"<ErrorResponse{namespace}><Error>{inner}</Error>{element('RequestId', request_id)}</ErrorResponse>"
    return Response(error.status, {"Content-Type": "text/xml"}, (DECLARATION + body).encode())


def _tree(form: Mapping[str, str]) -> dict[Any, Any]:
    """Return the fields as a tree, split at the dots of their names. The key None has the text of a field."""
    root: dict[Any, Any] = {}
    for name, text in form.items():
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[None] = text
    return root


def _read(shape: Any, node: Mapping[Any, Any]) -> Any:
    kind = shape.type_name
    if kind == "structure":
        names = {key: member_name(member, key) for key, member in shape.members.items()}
        return {key: _read(shape.members[key], node[name]) for key, name in names.items() if name in node}
    flattened = shape.serialization.get("flattened")
    if kind == "list":
        elements = node if flattened else node.get(shape.member.serialization.get("name", "member"), {})
        return [_read(shape.member, each) for each in _numbered(elements)]
    if kind == "map":
        key, value = (
            each.serialization.get("name", name) for each, name in ((shape.key, "key"), (shape.value, "value"))
        )
        entries = _numbered(node if flattened else node.get("entry", {}))
        return {each.get(key, {}).get(None, ""): _read(shape.value, each.get(value, {})) for each in entries}
    return from_text(shape, node.get(None, ""))


def _numbered(nodes: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """Return the nodes with numbers as keys, in numeric order."""
    numbers = [name for name in nodes if name is not None and name.isdecimal() and len(name) < 10]
    return [nodes[name] for name in sorted(numbers, key=int)]
