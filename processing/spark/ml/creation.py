"""Exactly-once creation of training jobs, models, endpoint configurations, endpoints and transform jobs.

The name is the key. A call whose answer is lost may have been carried out, and its repetition is then refused because
the name is taken. In both cases the resource is described. It is ours if it has every member of our request and was not
created before our first try.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from processing.aws.retry import Failure, FailureKind, error_code, response_of, server_time
from processing.exceptions import NameTakenError, SubmissionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.aws.retry import RetryingApi

logger = logging.getLogger(__name__)

_TOLERANCE: Final = 2.0  # seconds: the Date header has whole seconds only
_SEARCH: Final = (0.5, 1.0, 2.0, 4.0)  # pauses while a resource may become visible, in seconds


class Resource(NamedTuple):
    """A kind of resource.

    Attributes:
        noun: its name in messages.
        name: the member of requests that holds the name.
        operation: the part of operations that follows Create, Describe and Delete.
    """

    noun: str
    name: str
    operation: str


TRAINING_JOB = Resource("training job", "TrainingJobName", "TrainingJob")
MODEL = Resource("model", "ModelName", "Model")
ENDPOINT_CONFIG = Resource("endpoint configuration", "EndpointConfigName", "EndpointConfig")
ENDPOINT = Resource("endpoint", "EndpointName", "Endpoint")
TRANSFORM_JOB = Resource("transform job", "TransformJobName", "TransformJob")
PROCESSING_JOB = Resource("processing job", "ProcessingJobName", "ProcessingJob")

_NOT_DESCRIBED = frozenset({"Tags"})  # only ListTags returns them


def create_once(
    api: RetryingApi, resource: Resource, request: Mapping[str, Any], *, owned: Callable[[], None] = lambda: None
) -> None:
    """Create a resource, exactly once.

    Args:
        api: the session's calls.
        resource: the kind of the resource.
        request: the parameters of its Create operation.
        owned: called if the resource exists and is ours, or may be: also before an error, and after Ctrl-C.

    Raises:
        NameTakenError: the name belongs to another request.
        SubmissionError: AWS refused the request, or it cannot be determined whether the resource exists.
    """
    may_exist = False
    started = (api.clock.time(), api.clock.monotonic())
    name = str(request[resource.name])

    def record(failure: Failure) -> None:
        nonlocal may_exist
        may_exist = may_exist or failure.kind is FailureKind.AMBIGUOUS

    try:
        api.call("sagemaker", f"Create{resource.operation}", request, on_failure=record)
    except Exception as error:
        taken = _is_taken(error)
        if not (may_exist or taken):
            raise _refused(resource, name, error) from error
        logger.info("the answer to Create%s for %s may be lost; checking it", resource.operation, name)
        described = _find(api, resource, name)
        if described is None:
            owned()
            raise _undetermined(resource, name, error) from error
        if not _is_ours(api, request, described, started):
            raise NameTakenError(
                f"{resource.noun} {name} belongs to another request, and was not touched; give another name policy",
                job_name=name,
                code=error_code(error),
            ) from error
    except BaseException:
        with contextlib.suppress(Exception):  # the interruption is the one to see
            described = describe(api, resource, name)
            if described is not None and _is_ours(api, request, described, started):
                owned()
        raise
    owned()


def describe(api: RetryingApi, resource: Resource, name: str) -> dict[str, Any] | None:
    """Return the description of a resource; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        return api.call("sagemaker", f"Describe{resource.operation}", {resource.name: name})
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: BaseException) -> bool:
    """Return whether an error says that a resource does not exist."""
    text = str(error).lower()
    missing = any(words in text for words in ("could not find", "not found", "does not exist"))
    return error_code(error) == "ResourceNotFound" or (error_code(error) == "ValidationException" and missing)


def _is_taken(error: BaseException) -> bool:
    text = str(error).lower()
    # CreateModel and CreateEndpoint answer ValidationException: Cannot create already existing ...
    return error_code(error) == "ResourceInUse" or (error_code(error) == "ValidationException" and "existing" in text)


def _find(api: RetryingApi, resource: Resource, name: str) -> dict[str, Any] | None:
    for pause in (*_SEARCH, None):
        found = describe(api, resource, name)
        if found is not None or pause is None:
            return found
        api.clock.sleep(pause)
    return None


def _is_ours(
    api: RetryingApi, request: Mapping[str, Any], described: Mapping[str, Any], started: tuple[float, float]
) -> bool:
    differing = [
        member
        for member, value in request.items()
        if member not in _NOT_DESCRIBED and not _contains(described.get(member), value)
    ]
    if differing:
        logger.info("it is of another request: %s differ", ", ".join(differing))
        return False
    now = server_time(described.get("ResponseMetadata", {}))
    first = started[0] if now is None else now - (api.clock.monotonic() - started[1])
    return bool(described["CreationTime"].timestamp() >= first - _TOLERANCE)


def _contains(described: Any, requested: Any) -> bool:
    """Return whether a description has all that was requested. It may have defaults beside it."""
    if isinstance(requested, Mapping):
        found = described if isinstance(described, Mapping) else {}
        return all(_contains(found.get(member), value) for member, value in requested.items())
    if isinstance(requested, (list, tuple)):
        found_list = described if isinstance(described, (list, tuple)) else ()
        return len(found_list) == len(requested) and all(map(_contains, found_list, requested))
    return bool(described == requested) or (described is None and requested in (False, "", "None"))


def _refused(resource: Resource, name: str, error: Exception) -> Exception:
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return error
    text = response_of(error).get("Error", {}).get("Message") or str(error)
    return SubmissionError(f"{resource.noun} {name} was not created: {text}", job_name=name, code=error_code(error))


def _undetermined(resource: Resource, name: str, error: Exception) -> SubmissionError:
    return SubmissionError(
        f"{resource.noun} {name} may exist: the answer to Create{resource.operation} was lost ({error}), and it is not "
        f"to be found. Check with Describe{resource.operation}.",
        job_name=name,
        code=error_code(error),
        may_exist=True,
    )
