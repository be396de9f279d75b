"""The query protocol of STS and IAM, once that of SQS and CloudWatch: a form with dotted names in, XML out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from processing.local.wire.message import Request, Response
from processing.local.wire.names import query_model
from processing.local.wire.values import from_text
from processing.local.wire.xml import DECLARATION, element, member_name, write_members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.errors import ApiError

VERSIONS = {"2011-06-15": "sts", "2010-05-08": "iam", "2012-11-05": "sqs", "2010-08-01": "cloudwatch"}
"""The API version, which names the service, for those that the engine has."""

_FORM = "application/x-www-form-urlencoded"


def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a request that is a form; empty if it is none."""
    fields = request.query
    if request.method == "POST" and request.headers.get("content-type", "").startswith(_FORM):
        fields = request.content().decode("utf-8", "replace")
    elif "Action=" not in fields:
        return {}
    return dict(parse_qsl(fields, keep_blank_values=True))


def decode(service: str, operation: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters in a form."""
    model = query_model(service)
    if operation not in model.operation_names:
        return {}
    shape = model.operation_model(operation).input_shape
    return {} if shape is None else _read(shape, form, "")


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


_NESTED = {"structure", "list", "map"}


def _read(shape: Any, form: Mapping[str, str], prefix: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        found = {}
        for key, member in shape.members.items():
            name = prefix + member_name(member, key)
            if name in form or any(field.startswith(f"{name}.") for field in form):
                found[key] = _read(member, form, _inner(member, name))
        return found
    flattened = shape.serialization.get("flattened")
    if kind == "list":
        prefix += "" if flattened else shape.member.serialization.get("name", "member") + "."
        return [_read(shape.member, form, _inner(shape.member, f"{prefix}{n}")) for n in _numbers(form, prefix)]
    if kind == "map":
        prefix += "" if flattened else "entry."
        key_name, value_name = (
            shape.key.serialization.get("name", "key"),
            shape.value.serialization.get("name", "value"),
        )
        pairs = [(f"{prefix}{n}.{key_name}", f"{prefix}{n}.{value_name}") for n in _numbers(form, prefix)]
        return {form.get(key, ""): _read(shape.value, form, _inner(shape.value, value)) for key, value in pairs}
    return from_text(shape, form.get(prefix, ""))


def _inner(shape: Any, name: str) -> str:
    return f"{name}." if shape.type_name in _NESTED else name


def _numbers(form: Mapping[str, str], prefix: str) -> list[int]:
    heads = {field[len(prefix) :].partition(".")[0] for field in form if field.startswith(prefix)}
    return sorted(int(head) for head in heads if head.isdecimal())
