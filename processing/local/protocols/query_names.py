"""Names of SQS and CloudWatch in the query protocol, which was once their only one, and in JSON.

Both services have two names for an error. Handlers raise the code of the query protocol, since users look for that one.
In JSON the body has the name of the shape, and a header has the code (`awsQueryCompatible`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import attrs

from processing.request.service_model import service_model, shared_loader

if TYPE_CHECKING:
    from botocore.model import ServiceModel

    from processing.local.errors import ApiError

_SQS_ERRORS = {
    "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
    "QueueAlreadyExists": "QueueNameExists",
    **{
        f"AWS.SimpleQueueService.{name}": name
        for name in (
            "BatchEntryIdsNotDistinct",
            "BatchRequestTooLong",
            "EmptyBatchRequest",
            "InvalidBatchEntryId",
            "MessageNotInflight",
            "PurgeQueueInProgress",
            "QueueDeletedRecently",
            "TooManyEntriesInBatchRequest",
            "UnsupportedOperation",
        )
    },
}
_CLOUDWATCH_ERRORS = {
    "InternalServiceError": "InternalServiceFault",
    "InvalidParameterCombination": "InvalidParameterCombinationException",
    "InvalidParameterValue": "InvalidParameterValueException",
    "MissingParameter": "MissingRequiredParameterException",
    "ValidationError": "ValidationException",
}
_SHAPES = {"sqs": _SQS_ERRORS, "cloudwatch": _CLOUDWATCH_ERRORS}
_NAMESPACES = {"sqs": "com.amazonaws.sqs", "cloudwatch": "com.amazonaws.cloudwatch"}


@attrs.frozen
class ErrorNames:
    """The names of an error in JSON.

    Attributes:
        shape: the name of the error's shape.
        qualified: the same with the service's namespace, if the service writes one.
        headers: the header with the code of the query protocol.
    """

    shape: str
    qualified: str
    headers: dict[str, str] = attrs.field(factory=dict)


def error_names(service: str | None, error: ApiError) -> ErrorNames:
    """Return the names of a service's error. The service is None if the engine does not have it."""
    if service not in _SHAPES:
        return ErrorNames(error.code, error.code)
    shape = _SHAPES[service].get(error.code, error.code)
    side = "Sender" if error.status < 500 else "Receiver"
    return ErrorNames(shape, f"{_NAMESPACES[service]}#{shape}", {"x-amzn-query-error": f"{error.code};{side}"})


@functools.cache
def query_model(service: str) -> ServiceModel:
    """Return the model of a service with the query protocol's names. They are added to SQS's, which lacks them."""
    model = service_model(service)
    if service != "sqs":
        return model
    from botocore.model import ServiceModel

    return ServiceModel(_with_query_names(shared_loader().load_service_model(service, "service-2")), service)


_SQS_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"
_SQS_LISTS = {
    "BinaryList": "BinaryListValue",
    "ListMessageMoveTasksResultEntryList": "ListMessageMoveTasksResultEntry",
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "StringList": "StringListValue",
}
"""Names of list elements that differ from the list's own name without `List`."""
_SQS_MAPS = {
    "MessageBodyAttributeMap": ("MessageAttribute", "Name", "Value"),
    "MessageBodySystemAttributeMap": ("MessageSystemAttribute", "Name", "Value"),
    "MessageSystemAttributeMap": ("Attribute", "Name", "Value"),
    "QueueAttributeMap": ("Attribute", "Name", "Value"),
    "TagMap": ("Tag", "Key", "Value"),
}


def _with_query_names(description: Any) -> dict[str, Any]:
    """Return SQS's model with the names of its forms and its XML."""
    shapes = {name: _named_shape(name, shape) for name, shape in description["shapes"].items()}
    operations = {
        name: {**operation, "output": {**operation["output"], "resultWrapper": f"{name}Result"}}
        if "output" in operation
        else operation
        for name, operation in description["operations"].items()
    }
    metadata = {**description["metadata"], "protocol": "query", "xmlNamespace": _SQS_NAMESPACE}
    return {**description, "metadata": metadata, "operations": operations, "shapes": shapes}


def _named_shape(name: str, shape: Any) -> Any:
    if shape["type"] == "list":
        element = _SQS_LISTS.get(name, name.removesuffix("List"))
        return {**shape, "flattened": True, "member": {**shape["member"], "locationName": element}}
    if shape["type"] == "map":
        _, key, value = _SQS_MAPS[name]
        entries = {"key": {**shape["key"], "locationName": key}, "value": {**shape["value"], "locationName": value}}
        return {**shape, "flattened": True, **entries}
    members = {
        each: {**member, "locationName": _SQS_MAPS[member["shape"]][0]} if member["shape"] in _SQS_MAPS else member
        for each, member in shape.get("members", {}).items()
    }
    return {**shape, "members": members} if members else shape
