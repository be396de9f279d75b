"""The calls at the engine's transports, and the actions that AWS checks for each of them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from processing.local.transports.server import Server
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing import LocalSession
    from processing.local.protocols.codec import Handle
    from processing.testing.wire import Transport

# The actions that AWS checks for a call, where they have not the call's name.
_S3: Final = {
    "HeadBucket": ("ListBucket",),
    "ListObjectsV2": ("ListBucket",),
    "HeadObject": ("GetObject",),
    "CreateMultipartUpload": ("PutObject",),
    "UploadPart": ("PutObject",),
    "CompleteMultipartUpload": ("PutObject",),
    "DeleteObjects": ("DeleteObject",),
    "CopyObject": ("GetObject", "PutObject"),
}
_SQS: Final = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}
# The prefix of actions, where it is not boto3's name of the service.
_PREFIXES: Final = {"resourcegroupstaggingapi": "tag", "sagemaker-runtime": "sagemaker"}
# Services that the engine lacks, by the beginning of X-Amz-Target.
_ELSEWHERE: Final = {"AWSPriceListService": "pricing", "AWSEvents": "events", "SageMaker": "sagemaker"}
_KMS: Final = "aws:kms"


def actions_of(service: str, operation: str, params: Mapping[str, Any], answer: Mapping[str, Any]) -> set[str]:
    """The actions that AWS checks for a call, those of other services among them."""
    prefix = _PREFIXES.get(service, service)
    if service == "s3":
        return {f"s3:{name}" for name in _S3.get(operation, (operation,))} | _of_keys(operation, params, answer)
    if service == "sqs":
        return {f"sqs:{_SQS.get(operation, operation)}"}
    actions = {f"{prefix}:{operation}"}
    actions |= {"iam:PassRole"} if {"RoleArn", "ExecutionRoleArn"} & params.keys() else set()
    if operation == "CreateProcessingJob":
        cluster = params.get("ProcessingResources", {}).get("ClusterConfig", {})
        actions |= {"sagemaker:AddTags"} if params.get("Tags") else set()
        actions |= {"kms:CreateGrant"} if cluster.get("VolumeKmsKeyId") else set()
    return actions


def _of_keys(operation: str, params: Mapping[str, Any], answer: Mapping[str, Any]) -> set[str]:
    """The actions on a KMS key: S3 encrypts and decrypts with the caller's permissions."""
    if params.get("ServerSideEncryption") == _KMS and operation in {"PutObject", "CopyObject", "CreateMultipartUpload"}:
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions
        return {"kms:GenerateDataKey", *(("kms:Decrypt",) if operation == "CreateMultipartUpload" else ())}
    return {"kms:Decrypt"} if operation == "GetObject" and answer.get("ServerSideEncryption") == _KMS else set()


class RecordedCalls:
    """The recorder of calls.

    Attributes:
        actions: the actions that AWS checks for the calls so far.
        operations: the operations so far.
        answers: answers to operations of services that the engine lacks.
    """

    def __init__(self) -> None:
        self.actions: set[str] = set()
        self.operations: list[str] = []
        self.answers: dict[str, Mapping[str, Any]] = {}
        self._changed = threading.Condition()
        self._in_transport = threading.local()

    def clear(self) -> None:
        """Forget the calls so far."""
        with self._changed:
            self.actions, self.operations = set(), []

    def record(self, service: str, operation: str, params: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Record a call."""
        with self._changed:
            self.operations.append(operation)
            self.actions |= actions_of(service, operation, params, answer)
            self._changed.notify_all()

    def await_operation(self, operation: str) -> bool:
        """Wait until an operation was called, at most a minute, and return whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: operation in self.operations, 60)

    def recorded(self, handle: Handle) -> Handle:
        """Return an entry point of the engine that records its calls, refused ones too."""

        def handle_recorded(service: str, operation: str, params: dict[str, Any], /) -> Mapping[str, Any]:
            answer: Mapping[str, Any] = {}
            try:
                answer = handle(service, operation, params)
                return answer
            finally:
                self.record(service, operation, params, answer)

        return handle_recorded

    def at(self, session: LocalSession) -> None:
        """Record the calls of this process to the session's engine, if they come through the transport."""
        engine: Any = session.engine
        handle, recorded = engine.handle, self.recorded(engine.handle)

        def handle_any(service: str, operation: str, params: dict[str, Any], /) -> Mapping[str, Any]:
            comes_through = getattr(self._in_transport, "value", False)  # the engine uses its own operations, too
            self._in_transport.value = False
            return (recorded if comes_through else handle)(service, operation, params)

        engine.handle = handle_any

    def wrap(self, transport: Transport) -> Transport:
        """Return a transport whose calls are recorded, and which answers the operations with an answer itself."""
        return _RecordedTransport(self, transport)

    def send(self, transport: Transport, request: AWSPreparedRequest) -> AWSResponse:
        """Send a request, whose call is recorded."""
        self._in_transport.value = True
        try:
            return transport.send(request)
        finally:
            self._in_transport.value = False


class _RecordedTransport:
    def __init__(self, calls: RecordedCalls, transport: Transport) -> None:
        self._calls = calls
        self._transport = transport

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        target = request.headers.get("X-Amz-Target", b"")
        service, _, operation = (target if isinstance(target, str) else target.decode()).partition(".")
        if operation not in self._calls.answers:
            return self._calls.send(self._transport, request)
        answer = self._calls.answers[operation]
        self._calls.record(_ELSEWHERE[service], operation, {}, answer)
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        return respond(request, 200, headers, json.dumps(answer).encode())


class RecordingServer(Server):
    """The engine over HTTP for the programs of jobs, with a recorder of their calls.

    Attributes:
        calls: the calls.
    """

    def __init__(self, session: LocalSession) -> None:
        super().__init__(session.engine)
        self.calls = RecordedCalls()
        # The engine's own entry point, not that of a recorder of this process.
        self._recorded: Callable[..., Any] = self.calls.recorded(type(session.engine).handle.__get__(session.engine))

    def __enter__(self) -> RecordingServer:
        super().__enter__()
        return self

    @property
    def handle(self) -> Handle:
        """The engine's entry point for all operations."""
        return self._recorded


class CodeArtifactServer:
    """A repository without packages, which the engine lacks. As a context manager it serves within the block.

    Args:
        calls: records the calls.

    Attributes:
        endpoint: the URL.
    """

    def __init__(self, calls: RecordedCalls) -> None:
        self.endpoint = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer("GetAuthorizationToken", {"authorizationToken": "T", "expiration": 1e9})
                calls.record("sts", "GetServiceBearerToken", {}, {})  # AWS checks it inside the call

            def do_GET(self) -> None:
                if self.path.startswith("/v1/repository/endpoint"):
                    self._answer("GetRepositoryEndpoint", {"repositoryEndpoint": f"{outer.endpoint}/pypi/python/"})
                else:  # the index, which pip reads
                    self._answer("ReadFromRepository", {})

            def _answer(self, operation: str, answer: Mapping[str, Any]) -> None:
                calls.record("codeartifact", operation, {}, answer)
                body = json.dumps(answer).encode()
                self.send_response(200 if answer else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> CodeArtifactServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
