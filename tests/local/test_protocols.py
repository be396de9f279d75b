"""The protocols of SQS and CloudWatch: each request is answered in its own protocol, not the model's preferred one."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from processing.local.errors import ApiError
from processing.local.protocols import codec
from processing.local.protocols.message import Request, endpoint
from processing.local.protocols.query_names import query_model
from processing.request.service_model import service_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.protocols.message import Response

SERVICES = {"cloudwatch": "monitoring", "sqs": "sqs"}
PROTOCOLS = [
    ("cloudwatch", "json"),
    ("cloudwatch", "query"),
    ("sqs", "json"),
    ("sqs", "query"),
]
TIME = dt.datetime(2026, 11, 21, 7, 0, 0, 250_000, dt.timezone.utc)


def request_of(service: str, protocol: str, operation: str, params: Mapping[str, Any]) -> Request:
    """Return botocore's request in a protocol."""
    model = query_model(service) if protocol == "query" else service_model(service)
    written: Any = create_serializer(protocol, include_validation=False).serialize_to_request(
        dict(params), model.operation_model(operation)
    )
    body = written["body"]
    content = urlencode(body).encode() if isinstance(body, dict) else body
    return Request.from_url(
        "POST", f"http://127.0.0.1:1{written['url_path']}", with_signature(service, written["headers"]), content
    )


def with_signature(service: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with a signature that names the service and is not valid."""
    scope = f"Credential=KEY/20261121/us-east-1/{SERVICES[service]}/aws4_request"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}


def parsed(service: str, protocol: str, operation: str, response: Response) -> dict[str, Any]:
    """Return botocore's result for an answer."""
    model = query_model(service) if protocol == "query" else service_model(service)
    body = {
        "headers": HeadersDict(response.headers),
        "status_code": response.status,
        "body": response.body,
        "context": {},
    }
    shape: Any = model.operation_model(operation).output_shape
    found: dict[str, Any] = create_parser(protocol).parse(body, shape)
    found.pop("ResponseMetadata")
    return found


CALLS: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "cloudwatch": [
        (
            "GetMetricData",
            {
                "MetricDataQueries": [
                    {
                        "Id": "m",
                        "MetricStat": {"Metric": {"MetricName": "<a>"}, "Period": 60, "Stat": "p99"},
                        "ReturnData": True,
                    }
                ],
                "StartTime": TIME.replace(microsecond=0),
                "EndTime": TIME.replace(microsecond=0),
            },
            {
                "MetricDataResults": [{"Id": "m", "Timestamps": [TIME.replace(microsecond=0)], "Values": [1.5, 2.0]}],
                "Messages": [],
            },
        ),
        (
            "PutMetricData",
            {"Namespace": "n", "MetricData": [{"MetricName": "m", "Values": [1.0, 2.5], "Unit": "None"}]},
            {},
        ),
        (
            "ListMetrics",
            {},
            {"Metrics": [{"Namespace": "a", "Dimensions": [{"Name": "é", "Value": "&"}]}], "NextToken": "t"},
        ),
    ],
    "sqs": [
        (
            "SendMessage",
            {
                "QueueUrl": "http://x/0/q",
                "MessageBody": "<&>",
                "DelaySeconds": 0,
                "MessageAttributes": {"n": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}},
                "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "x"}},
            },
            {"MD5OfMessageBody": "0", "MessageId": "1"},
        ),
        (
            "ReceiveMessage",
            {
                "QueueUrl": "q",
                "AttributeNames": ["All"],
                "MessageAttributeNames": ["a", "b"],
                "MaxNumberOfMessages": 10,
            },
            {
                "Messages": [
                    {
                        "MessageId": "1",
                        "Body": "{}\r\n",
                        "Attributes": {"SentTimestamp": "1", "ApproximateReceiveCount": "2"},
                        "MessageAttributes": {"n": {"StringValue": "v", "DataType": "String"}},
                    },
                    {"MessageId": "2"},
                ]
            },
        ),
        ("CreateQueue", {"QueueName": "q", "Attributes": {"DelaySeconds": "1"}, "tags": {"k": "v"}}, {"QueueUrl": "u"}),
        ("ListQueues", {"QueueNamePrefix": "q"}, {"QueueUrls": ["a", "b"]}),
        ("GetQueueAttributes", {"QueueUrl": "q", "AttributeNames": ["QueueArn"]}, {"Attributes": {"QueueArn": "arn"}}),
        ("DeleteMessage", {"QueueUrl": "q", "ReceiptHandle": "h"}, {}),
        (
            "SendMessageBatch",
            {"QueueUrl": "q", "Entries": [{"Id": "1", "MessageBody": "a"}, {"Id": "2", "MessageBody": "b"}]},
            {
                "Successful": [{"Id": "1", "MessageId": "m", "MD5OfMessageBody": "0"}],
                "Failed": [{"Id": "2", "SenderFault": True, "Code": "c"}],
            },
        ),
    ],
}


@pytest.mark.parametrize(
    ("service", "protocol", "operation", "params", "result"),
    [(service, protocol, *call) for service, protocol in PROTOCOLS for call in CALLS[service]],
)
def test_calls_pass_in_every_protocol(
    service: str, protocol: str, operation: str, params: dict[str, Any], result: dict[str, Any]
) -> None:
    """The handler receives the client's parameters, and the client the handler's result."""
    seen: list[Any] = []

    def handle(*call: Any) -> Mapping[str, Any]:
        seen.append(call)
        return result

    response = codec.handle_request(handle, request_of(service, protocol, operation, params))
    assert seen == [(service, operation, params)]
    assert parsed(service, protocol, operation, response) == result
    assert (
        response.headers["Content-Type"]
        == {
            "json": "application/x-amz-json-1.0",
            "query": "text/xml",
        }[protocol]
    )


@pytest.mark.parametrize(("service", "protocol"), PROTOCOLS)
def test_errors_pass_in_every_protocol(service: str, protocol: str) -> None:
    """Clients receive the code of the query protocol and the name of the shape."""
    code, shape = {
        "sqs": ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
        "cloudwatch": ("InvalidParameterValue", "InvalidParameterValueException"),
    }[service]

    def handle(*_: Any) -> Mapping[str, Any]:
        raise ApiError(code, "it's <not> there")

    operation = CALLS[service][0][0]
    response = codec.handle_request(handle, request_of(service, protocol, operation, CALLS[service][0][1]))
    error = parsed(service, protocol, operation, response)["Error"]
    assert response.status == 400
    assert (error["Code"], error["Message"]) == (code, "it's <not> there")
    if protocol == "query":
        assert error["Type"] == "Sender"
        return
    assert response.headers["x-amzn-query-error"] == f"{code};Sender"
    assert error["QueryErrorCode"] == shape


def handled(request: Request) -> tuple[Any, Response]:
    """Return the arguments of the handler's call for a request, and the answer."""
    seen: list[Any] = []

    def handle(*call: Any) -> Mapping[str, Any]:
        seen.append(call)
        return {}

    response = codec.handle_request(handle, request)
    return (seen[0] if seen else None), response


FORM = "application/x-www-form-urlencoded; charset=utf-8"


def test_old_sqs_forms_are_read() -> None:
    """The documentation's examples of the query protocol: names of elements, not of the lists they are in."""
    fields = {
        "Action": "ReceiveMessage",
        "Version": "2012-11-05",
        "AttributeName.1": "SentTimestamp",
        "AttributeName.2": "SenderId",
        "MessageAttributeName.1": "a",
        "WaitTimeSeconds": "20",
    }
    request = Request.from_url("POST", "http://127.0.0.1:1/000000000000/q", {"content-type": FORM}, urlencode(fields))
    params = {"AttributeNames": ["SentTimestamp", "SenderId"], "MessageAttributeNames": ["a"], "WaitTimeSeconds": 20}
    assert handled(request)[0] == ("sqs", "ReceiveMessage", params)
    fields = {
        "Action": "SendMessage",
        "Version": "2012-11-05",
        "MessageAttribute.1.Name": "city",
        "MessageAttribute.1.Value.StringValue": "x",
        "MessageAttribute.1.Value.DataType": "String",
    }
    request = Request.from_url("GET", "http://127.0.0.1:1/?" + urlencode(fields), {}, b"")
    attributes = {"city": {"StringValue": "x", "DataType": "String"}}
    assert handled(request)[0] == ("sqs", "SendMessage", {"MessageAttributes": attributes})


def test_forms_are_read_however_they_are_filled() -> None:
    """Numbers may have any order, gaps and any size. The time is linear in the number of elements."""
    fields = {"Action": "ListQueues", "Version": "2012-11-05", "QueueUrl.x": "1", ".": "", "": "x"}
    fields |= {
        "AttributeName.10": "c",
        "AttributeName.9": "b",
        "AttributeName." + "9" * 5000: "z",
        "AttributeName.": "y",
    }
    fields["Action"] = "GetQueueAttributes"
    request = Request.from_url("POST", "http://h/", {"content-type": FORM}, urlencode(fields))
    assert handled(request)[0] == ("sqs", "GetQueueAttributes", {"QueueUrl": "", "AttributeNames": ["b", "c"]})
    data = [{"MetricName": f"m{number}", "Values": [1.0] * 20} for number in range(1000)]
    params = {"Namespace": "n", "MetricData": data}
    assert handled(request_of("cloudwatch", "query", "PutMetricData", params))[0][2] == params


def test_old_sqs_answers_have_the_documented_elements() -> None:
    """The names of the elements are checked in the text, since botocore reads them with our names."""
    result = {"Messages": [{"Body": "b", "Attributes": {"SenderId": "s"}}]}
    request = Request.from_url("POST", "http://h/", {"content-type": FORM}, "Action=ReceiveMessage&Version=2012-11-05")
    body = bytes(codec.handle_request(lambda *_: result, request).body).decode()  # type: ignore[arg-type]
    assert '<ReceiveMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">' in body
    message = "<Message><Body>b</Body><Attribute><Name>SenderId</Name><Value>s</Value></Attribute></Message>"
    assert f"<ReceiveMessageResult>{message}</ReceiveMessageResult>" in body


@pytest.mark.parametrize(("service", "protocol"), PROTOCOLS)
def test_requests_may_be_compressed(service: str, protocol: str) -> None:
    """Every protocol accepts gzip. Invalid or too large data is the client's error."""
    operation, params, _ = CALLS[service][0]
    plain = request_of(service, protocol, operation, params)
    headers = {**plain.headers, "content-encoding": "gzip"}
    url = f"http://{plain.host}{plain.path}"
    content = plain.content()
    assert handled(Request.from_url("POST", url, headers, gzip.compress(content)))[0] == (service, operation, params)
    for bad in (b"no gzip", gzip.compress(content)[:-9], gzip.compress(b"\x00" * (1 << 25))):
        call, response = handled(Request.from_url("POST", url, headers, bad))
        assert call is None
        assert (response.status, b"SerializationException" in bytes(response.body)) == (400, True)  # type: ignore[arg-type]


def test_cbor_is_refused() -> None:
    """The error is in JSON and names the engine's protocols. The handler is not called."""
    headers = {"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"}
    url = "http://h/service/GraniteServiceVersion20100801/operation/ListMetrics"
    for sent in (headers, with_signature("cloudwatch", headers)):
        call, response = handled(Request.from_url("POST", url, sent, b"\xa0"))
        assert call is None
        assert response.status == 501
        error = json.loads(bytes(response.body))  # type: ignore[arg-type]
        assert error["__type"].rpartition("#")[2] == "NotImplemented"
        assert "json or query" in error["message"]


def test_json_has_strings_for_non_finite_numbers() -> None:
    """NaN and the infinities are strings in JSON."""
    headers = {
        "x-amz-target": "GraniteServiceVersion20100801.PutMetricData",
        "content-type": "application/x-amz-json-1.0",
    }
    data = [{"MetricName": "m", "Value": text} for text in ("NaN", "Infinity", "-Infinity")]
    body = json.dumps({"Namespace": "n", "MetricData": data})
    call, _ = handled(Request.from_url("POST", endpoint("cloudwatch"), headers, body))
    values = [datum["Value"] for datum in call[2]["MetricData"]]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_json_is_answered_in_its_version() -> None:
    """The version is that of the request: 1.1 for SageMaker, 1.0 for SQS. Without a content type it is 1.1."""
    for sent, answered in (
        ("application/x-amz-json-1.0", "1.0"),
        ("application/x-amz-json-1.1; charset=utf-8", "1.1"),
        ("", "1.1"),
    ):
        headers = {"x-amz-target": "SageMaker.ListProcessingJobs", "content-type": sent}
        _, response = handled(Request.from_url("POST", endpoint("sagemaker"), headers, b"{}"))
        assert response.headers["Content-Type"] == f"application/x-amz-json-{answered}"
