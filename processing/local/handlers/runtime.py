"""Handler for SageMaker Runtime: invocations of endpoints."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NoReturn

from processing.local.errors import ApiError
from processing.local.hosting.asynchronous.queue import AsyncQueue
from processing.local.hosting.asynchronous.requests import MAX_ASYNC_BODY, async_request
from processing.local.hosting.endpoint_host import LOG_GROUPS, log_stream
from processing.local.hosting.invocation_metrics import InvocationMetrics
from processing.local.hosting.invoker import EndpointInvoker, HostFailedError
from processing.local.hosting.program_client import (
    MAX_BODY,
    Call,
    ProgramError,
    ProgramTimeoutError,
    invocation_headers,
)
from processing.local.protocols.event_stream import Events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation
    from processing.local.hosting.invoker import InvocationTarget
    from processing.local.hosting.program_client import Answer

_ANSWER_HEADERS = {
    "ContentType": "content-type",
    "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
    "NewSessionId": "x-amzn-sagemaker-new-session-id",
    "ClosedSessionId": "x-amzn-sagemaker-closed-session-id",
}
_MISSING = {
    "TargetModel": "multi-model endpoints",
    "TargetContainerHostname": "pipelines of containers",
    "InferenceComponentName": "inference components",
    "EnableExplanations": "explanations",
}
"""The parameters that ask for features that the engine lacks."""
_MESSAGE_LIMIT = 1024
"""The characters of the program's text in an error."""
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)


class RuntimeHandler:
    """Handler that invokes endpoints.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._engine = engine
        self._invoker = EndpointInvoker(engine)
        self._metrics = InvocationMetrics(engine.home)
        self.operations: dict[str, Operation] = {
            "InvokeEndpoint": self.invoke_endpoint,
            "InvokeEndpointAsync": self.invoke_endpoint_async,
            "InvokeEndpointWithResponseStream": self.invoke_endpoint_with_response_stream,
        }

    def invoke_endpoint(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the program's answer."""
        name, began = params["EndpointName"], time.monotonic()
        target = self._target(params)
        with self._observing(name, target, began) as observed:
            answer, target = self._invoker.ask(name, target, _call(params))
            observed.answered(answer.status)
            if not 200 <= answer.status < 300:
                self._raise_model_error(name, target, answer)
        return {**_answer(answer, target), "Body": answer.body}

    def invoke_endpoint_with_response_stream(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the head of the program's answer, and a stream of its body."""
        name, began = params["EndpointName"], time.monotonic()
        target = self._target(params)
        stack = contextlib.ExitStack()
        with self._observing(name, target, began) as observed:
            answer, pieces = stack.enter_context(self._invoker.stream(name, target, _call(params)._replace(limit=None)))
            observed.answered(answer.status)
            if not 200 <= answer.status < 300:
                with stack:
                    self._raise_model_error(name, target, answer._replace(body=b"".join(pieces)))
        result = _answer(answer, target)
        return {**{key: value for key, value in result.items() if "Session" not in key}, "Body": _Parts(stack, pieces)}

    def invoke_endpoint_async(self, params: dict[str, Any]) -> dict[str, Any]:
        """Put an invocation into the queue of an asynchronous endpoint."""
        name = params["EndpointName"]
        target = self._invoker.target(name)
        config = target.state.async_config
        if config is None:
            raise ApiError("ValidationError", f"{target.arn} is not an asynchronous endpoint: call InvokeEndpoint.")
        body = params.get("Body") or b""
        if bool(body) == ("InputLocation" in params):
            raise ApiError("ValidationError", "Give either InputLocation or Body.")
        if len(body) > MAX_ASYNC_BODY:
            raise _too_long(MAX_ASYNC_BODY)
        request = async_request(params, body, config["OutputConfig"])
        AsyncQueue(self._engine.home, name).put(request)
        self._invoker.ensure_started(name, target.variant)
        locations = {"OutputLocation": request.output, "FailureLocation": request.failure}
        return {"InferenceId": request.id, **{key: value for key, value in locations.items() if value is not None}}

    def _target(self, params: Mapping[str, Any]) -> InvocationTarget:
        for member, feature in _MISSING.items():
            if params.get(member):
                raise ApiError("ValidationError", f"{member}: the local engine does not have {feature}.")
        if len(params.get("Body") or b"") > MAX_BODY:  # the service model's check leaves binary members out
            raise _too_long(MAX_BODY)
        target = self._invoker.target(params["EndpointName"], params.get("TargetVariant"))
        if target.state.async_config is not None:
            raise ApiError("ValidationError", f"{target.arn} is an asynchronous endpoint: call InvokeEndpointAsync.")
        return target

    @contextlib.contextmanager
    def _observing(self, endpoint: str, target: InvocationTarget, began: float) -> Iterator[_Observation]:
        """Record the metrics of the invocation in the block, and turn its errors into those of the API."""
        observed = _Observation(began)
        try:
            yield observed
        except HostFailedError as error:
            raise self._model_error(endpoint, target, 503, f"the container does not start: {error}") from None
        except ProgramTimeoutError:
            raise self._model_error(endpoint, target, 0, _TIMED_OUT) from None
        except ProgramError as error:
            raise self._model_error(endpoint, target, 500, str(error)) from None
        finally:
            self._metrics.record(endpoint, target.variant.name, observed.values())

    def _raise_model_error(self, endpoint: str, target: InvocationTarget, answer: Answer) -> NoReturn:
        raise self._model_error(endpoint, target, answer.status, answer.body.decode(errors="replace"))

    def _model_error(self, endpoint: str, target: InvocationTarget, status: int, text: str) -> ApiError:
        """Return the error for an invocation that the model failed, with AWS's words."""
        group, stream = f"{LOG_GROUPS}/{endpoint}", log_stream(target.variant.name, target.variant.folder)
        region, account = self._engine.region, self._engine.account
        side = "client" if 400 <= status < 500 else "server"
        text = text[:_MESSAGE_LIMIT]
        return ApiError(
            "ModelError",
            f'Received {side} error ({status}) from primary with message "{text}". See '
            f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group} in "
            f"account {account} for more information.",
            424,
            OriginalStatusCode=str(status),
            OriginalMessage=text,
            LogStreamArn=f"arn:aws:logs:{region}:{account}:log-group:{group}:log-stream:{stream}",
        )


class _Observation:
    """The time and the status of an invocation."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._asked = time.monotonic()
        self._answered: float | None = None
        self._status = 500

    def answered(self, status: int) -> None:
        """Record that the program answered."""
        self._answered = time.monotonic()
        self._status = status

    def values(self) -> dict[str, float]:
        """Return the values of the invocation's metrics."""
        end = time.monotonic()
        model = (self._answered or end) - self._asked
        return {
            "Invocations": 1.0,
            "InvocationsPerInstance": 1.0,
            "Invocation4XXErrors": float(400 <= self._status < 500),
            "Invocation5XXErrors": float(self._status >= 500),
            "InvocationModelErrors": float(not 200 <= self._status < 300),
            "ModelLatency": model * 1e6,
            "OverheadLatency": max(0.0, end - self._began - model) * 1e6,
        }


class _Parts(Events):
    """The body of an answer as events.

    Args:
        stack: ends the call of the program.
        pieces: the pieces of the body.
    """

    def __init__(self, stack: contextlib.ExitStack, pieces: Iterator[bytes]) -> None:
        self._stack = stack
        self._pieces = pieces

    def __next__(self) -> Mapping[str, Any]:
        try:
            return {"PayloadPart": {"Bytes": next(self._pieces)}}
        except StopIteration:
            self.close()
            raise
        except ProgramError as error:
            self.close()
            raise ApiError("ModelStreamError", str(error)) from None

    def close(self) -> None:
        """End the call of the program."""
        with contextlib.suppress(ProgramError):
            self._stack.close()


def _too_long(limit: int) -> ApiError:
    """Return AWS's error for a body that exceeds a limit."""
    return ApiError(
        "ValidationError",
        "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length less than "
        f"or equal to {limit}",
    )


def _call(params: Mapping[str, Any]) -> Call:
    return Call("POST", "/invocations", invocation_headers(params), params.get("Body") or b"")


def _answer(answer: Answer, target: InvocationTarget) -> dict[str, Any]:
    members = {member: answer.headers[header] for member, header in _ANSWER_HEADERS.items() if header in answer.headers}
    return {**members, "InvokedProductionVariant": target.variant.name}
