"""The retry layer: classifies failures, decides whether to try again, and waits.

The clients that this package makes do not retry by themselves. All calls go through `RetryingApi`. It knows three
things that a client does not. `FailureKind` distinguishes calls that may have been carried out,
`processing.aws.truncation` detects incomplete responses, and `processing.aws.rate_limit` limits the rate of calls.

This is the only module that imports tenacity, and it does so at the first call.
"""

from __future__ import annotations

import contextlib
import email.utils
import enum
import functools
import logging
import math
import random as random_module
import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from processing._utils.forks import reset_after_fork
from processing._utils.validation import Kind, field, integer, is_number
from processing.aws import credentials
from processing.aws.clock_skew import ClockSkewError, clock_skew
from processing.aws.refusals import add_explanation
from processing.aws.truncation import check_response, check_subject
from processing.clock import SYSTEM_CLOCK, Clock
from processing.exceptions import CredentialsError

if TYPE_CHECKING:
    import tenacity

    from processing.aws.rate_limit import AdaptiveRateLimiter, RateLimiter

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FailureKind(enum.Enum):
    """The meaning of a failure, which decides on the next step."""

    THROTTLED = "throttled"
    """Refused because of too many calls: try again, more slowly."""
    TRANSIENT = "transient"
    """Not carried out (no connection, or the request did not arrive complete): try again."""
    AMBIGUOUS = "ambiguous"
    """Perhaps carried out (the response was lost or truncated): try again only if a repetition does no harm."""
    PROPAGATING = "propagating"
    """The role was created a moment ago and is not yet known everywhere: try again for a bounded time."""
    EXPIRED = "expired"
    """The credentials have expired or could not be loaded: try once more, since botocore may renew them."""
    FATAL = "fatal"
    """The same call would fail the same way."""


@attrs.frozen
class Rule:
    """A row of `RULES`: it matches a failure that meets all its conditions.

    Args:
        name: a name for the log and for tests.
        kind: the kind of such a failure.
        errors: dotted names of exception classes, including their subclasses.
        codes: AWS error codes.
        statuses: HTTP statuses of error responses.
        message: a regular expression that is searched for in the message.
        head: True for operations that send HEAD only, False for all others, None for both.
    """

    name: str
    kind: FailureKind
    errors: Collection[str] = ()
    codes: Collection[str] = ()
    statuses: Collection[int] = ()
    message: str | None = None
    head: bool | None = None

    def matches(self, failure: _FailureFacts) -> bool:
        """Return whether a failure meets all conditions."""
        return (
            (not self.errors or not failure.classes.isdisjoint(self.errors))
            and (not self.codes or failure.code in self.codes)
            and (not self.statuses or failure.status in self.statuses)
            and (self.message is None or re.search(self.message, failure.message, re.IGNORECASE) is not None)
            and (self.head is None or self.head == failure.operation.startswith("Head"))
        )


_BOTOCORE = "botocore.exceptions."

RULES: Final[tuple[Rule, ...]] = (
    # The first matching row decides. Codes come before statuses, because they are more specific.
    Rule("clock skew", FailureKind.FATAL, codes=("RequestTimeTooSkewed", "RequestInTheFuture")),
    Rule("credentials expired", FailureKind.EXPIRED, codes=credentials.EXPIRED_CODES),
    Rule(
        # Raised before anything is sent: the source of the credentials did not respond, or the user has to sign in.
        "credentials not to be had",
        FailureKind.EXPIRED,
        errors=tuple(
            _BOTOCORE + name
            for name in (*credentials.UNAVAILABLE_ERRORS, *credentials.EXPIRED_ERRORS, *credentials.MISSING_ERRORS)
        ),
    ),
    Rule(
        "throttled by code",
        FailureKind.THROTTLED,
        codes=(
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "KMS.ThrottlingException",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
    ),
    Rule("throttled by status", FailureKind.THROTTLED, statuses=(429, 509)),
    Rule(
        "role not yet known",
        FailureKind.PROPAGATING,
        codes=("ValidationException",),
        message=r"could not assume role|cannot be assumed|allows principal .* to assume",
    ),
    Rule(
        # S3 returns 400 if a body arrived too slowly or damaged, and 409 if two conditional writes collided.
        "not taken in",
        FailureKind.TRANSIENT,
        codes=(
            "BadDigest",
            "ConditionalRequestConflict",
            "IncompleteBody",
            "OperationAborted",
            "RequestTimeout",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ),
    ),
    Rule(
        "no connection",
        FailureKind.TRANSIENT,
        errors=(
            _BOTOCORE + "EndpointConnectionError",
            _BOTOCORE + "ConnectTimeoutError",
            _BOTOCORE + "ProxyConnectionError",
            "builtins.ConnectionRefusedError",
            "socket.gaierror",
        ),
    ),
    Rule("certificate refused", FailureKind.FATAL, errors=(_BOTOCORE + "SSLError",), message="certificate"),
    Rule("TLS broke off", FailureKind.AMBIGUOUS, errors=(_BOTOCORE + "SSLError",)),
    Rule(
        "server error by code",
        FailureKind.AMBIGUOUS,
        codes=(
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "InternalServerException",
            "RequestTimeoutException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
        ),
    ),
    Rule(
        # The program behind an endpoint answered, and InvokeEndpoint reports its status in the text.
        "server error of a model",
        FailureKind.AMBIGUOUS,
        codes=("ModelError",),
        message=r"server error \(50[0234]\)",
    ),
    Rule("server error by status", FailureKind.AMBIGUOUS, statuses=(500, 502, 503, 504)),
    Rule(
        # botocore uses the status as the code if there is no body. For HEAD that is normal, and "404" is the result.
        # For all other operations it means that the body was cut off.
        "error body cut",
        FailureKind.AMBIGUOUS,
        codes=("", *map(str, range(400, 500))),
        statuses=range(400, 500),
        head=False,
    ),
    Rule(
        "connection lost",
        FailureKind.AMBIGUOUS,
        errors=(
            _BOTOCORE + "HTTPClientError",  # ConnectionClosedError, ReadTimeoutError, ResponseStreamingError
            "urllib3.exceptions.HTTPError",  # ProtocolError, IncompleteRead: raised while a body is read
            "http.client.HTTPException",
            "builtins.ConnectionError",
            "builtins.TimeoutError",
        ),
    ),
    Rule(
        "answer not whole",
        FailureKind.AMBIGUOUS,
        errors=(
            "processing.aws.truncation.TruncatedResponseError",
            "processing.aws.truncation.ForeignResponseError",
            "botocore.parsers.ResponseParserError",  # XML that ends early
            _BOTOCORE + "IncompleteReadError",
            _BOTOCORE + "ChecksumError",
            _BOTOCORE + "FlexibleChecksumError",
            "builtins.UnicodeDecodeError",  # JSON that ends inside a character
        ),
    ),
    Rule("anything else", FailureKind.FATAL),
)


@attrs.frozen
class _FailureFacts:
    """The properties of an error that rules test."""

    classes: frozenset[str]
    code: str | None
    status: int | None
    message: str
    operation: str


def classify(error: BaseException) -> FailureKind:
    """Return the kind of a failure, by the first matching rule of `RULES`."""
    return rule_for(error).kind


def rule_for(error: BaseException) -> Rule:
    """Return the first rule of `RULES` that matches a failure."""
    error = _botocore_error(error)
    details = response_of(error).get("Error", {})
    facts = _FailureFacts(
        classes=frozenset(f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__),
        code=details.get("Code"),
        status=http_status(error),
        message=str(error),
        operation=getattr(error, "operation_name", None) or "",
    )
    return next(rule for rule in RULES if rule.matches(facts))


def error_code(error: BaseException) -> str | None:
    """Return the AWS error code, such as `ThrottlingException`; None if the error is not an error response."""
    code = response_of(error).get("Error", {}).get("Code")
    return None if code is None else str(code)


def response_of(error: BaseException) -> Mapping[str, Any]:
    """Return the parsed error response; empty if there is none (the `response` of an `HTTPClientError` is None)."""
    response = getattr(_botocore_error(error), "response", None)
    return response if isinstance(response, Mapping) else {}


def _botocore_error(error: BaseException) -> BaseException:
    """Return the cause of a `CredentialsError`, and any other error itself."""
    return error.__cause__ or error if isinstance(error, CredentialsError) else error


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an error response; None if the error is not one."""
    status: int | None = _metadata(error).get("HTTPStatusCode")
    return status


def is_not_found(error: BaseException) -> bool:
    """Return whether SageMaker reports that the job or endpoint does not exist.

    Its error code is not always the one that the service model names.
    """
    code, text = error_code(error), str(error).lower()
    return code == "ResourceNotFound" or (
        code == "ValidationException" and ("could not find" in text or "requested resource not found" in text)
    )


def is_denied(error: BaseException) -> bool:
    """Return whether the caller lacks the permission."""
    return error_code(error) in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def server_time(metadata: Mapping[str, Any]) -> float | None:
    """Return the `Date` header of a response as seconds since the epoch; None if it is missing.

    Args:
        metadata: the response's `ResponseMetadata`.
    """
    return _http_date((metadata.get("HTTPHeaders") or {}).get("date"))


def _metadata(error: BaseException) -> Mapping[str, Any]:
    metadata = response_of(error).get("ResponseMetadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _http_date(text: str | None) -> float | None:
    if not text:
        return None
    with contextlib.suppress(TypeError, ValueError):
        return email.utils.parsedate_to_datetime(text).timestamp()
    return None


_SECONDS = field(Kind("a number of at least 0", lambda value: (is_number(value) or value == math.inf) and value >= 0))


@attrs.frozen
class RetryPolicy:
    """The limits of retrying a call.

    Args:
        attempts: the maximum number of tries. Tries that were throttled do not count, nor do those that failed because
            a role was not yet known: they are limited by time only.
        base: the first wait is random up to this many seconds; the bound doubles with each further wait.
        cap: the longest wait, in seconds.
        budget: seconds for all tries together, without the time for which a rate limiter held them back.
        propagation: seconds for which a role may be unknown.
        patience: seconds after which to stop waiting for the response. The call may still be carried out, so this is
            only for calls that change nothing.
    """

    attempts: int = attrs.field(default=8, validator=field(integer(at_least=1)))
    base: float = attrs.field(default=0.2, validator=_SECONDS)
    cap: float = attrs.field(default=20.0, validator=_SECONDS)
    budget: float = attrs.field(default=180.0, validator=_SECONDS)
    propagation: float = attrs.field(default=60.0, validator=_SECONDS)
    patience: float = attrs.field(default=math.inf, validator=_SECONDS)


@attrs.frozen
class Failure:
    """A failed try.

    Args:
        kind: the kind of the failure.
        error: the error itself.
        attempt: the number of the try, counted from 1.
    """

    kind: FailureKind
    error: BaseException
    attempt: int


class RetryingApi:
    """Calls AWS through the clients of a session, under one retry policy.

    Args:
        client: returns the botocore client of a service, with botocore's own retries disabled.
        policy: the limits of retrying.
        clock: the clock that waits are measured on.
        random: the source of jitter.
        rate_limiters: the rate limiters by operation; operations without one are not limited.
        boto_session: returns the boto3 session that made the clients, for a transport that signs requests by itself.
            None if no such transport may be used.
        renew: reads the credentials again, and returns whether they are others.
    """

    def __init__(
        self,
        client: Callable[[str], Any],
        *,
        policy: RetryPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: random_module.Random | None = None,
        rate_limiters: Mapping[str, AdaptiveRateLimiter] | None = None,
        boto_session: Callable[[], Any] | None = None,
        renew: Callable[[], bool] = lambda: False,
    ) -> None:
        self.client = client
        self._renew = renew
        self.boto_session = boto_session
        self.policy = policy or RetryPolicy()
        self.clock = clock
        self.random = random or random_module.Random()  # noqa: S311 - jitter, not a secret
        self._rate_limiters = dict(rate_limiters or {})
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self.random.seed()  # siblings would wait equally long

    def call(
        self,
        service: str,
        operation: str,
        params: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = {},  # noqa: B006 - never changed
        *,
        on_failure: Callable[[Failure], None] | None = None,
        policy: RetryPolicy | None = None,
        rate_limiter: RateLimiter | None = None,
    ) -> dict[str, Any]:
        """Call an operation, with retries, and return its response.

        Args:
            service: botocore's name of the service, such as `sagemaker`.
            operation: the operation as AWS spells it, such as `DescribeProcessingJob`.
            params: its parameters, or a function that makes them for each try (a try consumes a body).
            on_failure: called for every failed try, including the last one.
            policy: the limits of retrying, in place of the API's own.
            rate_limiter: the rate limiter, in place of the operation's own.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the last try failed.
            CredentialsError: the credentials are missing, expired, refused or unusable.
            TruncatedResponseError: the last response was truncated.
            ForeignResponseError: the last response was about another job.
            ClockSkewError: this machine's clock is wrong.
        """
        from botocore import xform_name

        sent: Mapping[str, Any] = {}

        def once() -> dict[str, Any]:
            nonlocal sent
            client = self.client(service)  # a later try may have another one, with renewed credentials
            sent = params() if callable(params) else params
            response: dict[str, Any] = getattr(client, xform_name(operation))(**sent)
            check_response(client, operation, response)
            check_subject(operation, sent, response)
            return response

        try:
            return self._run(once, on_failure, policy or self.policy, rate_limiter or self.rate_limiter(operation))
        except Exception as error:
            add_explanation(error, sent)
            raise

    def rate_limiter(self, operation: str) -> AdaptiveRateLimiter | None:
        """Return the rate limiter of an operation; None if it is not limited."""
        return self._rate_limiters.get(operation)

    def attempt(
        self,
        label: str,
        function: Callable[[], T],
        *,
        on_failure: Callable[[Failure], None] | None = None,
        policy: RetryPolicy | None = None,
    ) -> T:
        """Call a function with retries, for example one that sends a GET and reads the body.

        Args:
            label: a description for the log.
            function: called again for each try.
            on_failure: called for every failed try, including the last one.
            policy: the limits of retrying, in place of the API's own.

        Raises:
            Exception: the last try failed; this is the error of `function`.
        """
        logger.debug("%s", label)
        return self._run(function, on_failure, policy or self.policy, None)

    def _run(
        self,
        function: Callable[[], T],
        on_failure: Callable[[Failure], None] | None,
        policy: RetryPolicy,
        rate_limiter: RateLimiter | None,
    ) -> T:
        import tenacity

        state = _RetryState(policy, self.clock, self.random, rate_limiter, on_failure, self._renew)
        retrying = tenacity.Retrying(
            sleep=self.clock.sleep,
            retry=tenacity.retry_if_exception(state.should_retry),
            wait=state.next_wait,
            stop=state.should_stop,
            reraise=True,
        )
        try:
            return retrying(state.rate_limited(function))
        except Exception as error:
            if skew := clock_skew(error_code(error), server_time(_metadata(error)), self.clock):
                raise ClockSkewError(skew) from error
            if explained := credentials.credentials_error(error, self.boto_session):
                raise explained from error
            raise


class _RetryState:
    """The state of one call over its tries: the callbacks that tenacity calls after each of them."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        random: random_module.Random,
        rate_limiter: RateLimiter | None,
        on_failure: Callable[[Failure], None] | None,
        renew: Callable[[], bool],
    ) -> None:
        self._policy = policy
        self._renew = renew
        self._clock = clock
        self._random = random
        self._limiter = rate_limiter
        self._on_failure = on_failure
        self._started: float | None = None
        self._held = 0.0  # seconds for which the rate limiter held back all tries but the first
        self._number = 0
        self._counted = 0  # tries that count against the policy's attempts
        self._kind = FailureKind.FATAL
        self._expired = False

    def rate_limited(self, function: Callable[[], T]) -> Callable[[], T]:
        """Return `function` with a wait for the rate limiter before each try."""

        @functools.wraps(function)
        def one_try() -> T:
            held = self._limiter.acquire(self._clock) if self._limiter else 0.0
            if self._started is None:
                self._started = self._clock.monotonic()
            else:
                self._held += held
            left = self._policy.patience - (self._clock.monotonic() - self._started)
            result = self._clock.within(left, function)
            if self._limiter:
                self._limiter.succeeded()
            return result

        return one_try

    def should_retry(self, error: BaseException) -> bool:
        """Record a failure, and return whether its kind allows another try."""
        self._number += 1
        self._kind = kind = classify(error)
        if self._limiter and kind is FailureKind.THROTTLED:
            self._limiter.throttled()
        if self._on_failure and isinstance(error, Exception):
            self._on_failure(Failure(kind, error, self._number))
        if kind is FailureKind.EXPIRED or error_code(error) in credentials.REFUSED_CODES:
            self._expired, first = True, kind is FailureKind.EXPIRED and not self._expired
            return self._renew() or first
        self._counted += kind in {FailureKind.TRANSIENT, FailureKind.AMBIGUOUS}
        return kind is not FailureKind.FATAL

    def next_wait(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds until the next try: random up to a doubling bound, or as many as the server requests."""
        base = 1.0 if self._kind is FailureKind.PROPAGATING else self._policy.base
        bound = min(self._policy.cap, base * 2.0 ** min(self._number - 1, 32))
        jittered = self._random.uniform(0.0, bound)
        error = state.outcome.exception() if state.outcome else None
        return max(jittered, _retry_after(error, self._clock)) if error else jittered

    def should_stop(self, state: tenacity.RetryCallState) -> bool:
        """Return whether the number of tries or the time, including the next wait, is used up."""
        spent = self._clock.monotonic() - (self._started or 0.0) - self._held + state.upcoming_sleep
        if self._kind is FailureKind.PROPAGATING:
            over = spent > self._policy.propagation
        else:
            over = spent > self._policy.budget or self._counted >= self._policy.attempts
        error = state.outcome.exception() if state.outcome else None
        logger.debug(
            "try %d failed (%s: %s); %s",
            self._number,
            self._kind.value,
            error,
            "no further try" if over else f"again in {state.upcoming_sleep:.2f} s",
        )
        return over


def _retry_after(error: BaseException, clock: Clock) -> float:
    """Return the seconds of the response's `Retry-After` header, or 0."""
    text = (_metadata(error).get("HTTPHeaders") or {}).get("retry-after")
    if not text:
        return 0.0
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    moment = _http_date(text)
    now = server_time(_metadata(error)) or clock.time()
    return max(0.0, moment - now) if moment else 0.0
