"""The one retry layer: which failures are worth another try, how long to wait, and when an answer is an answer.

The clients that this package makes do not retry by themselves. Everything that is sent goes through `RetryingApi`,
which knows three things that a client does not: whether a failed call may have been carried out (`FailureKind`),
whether an answer is whole (`processing.aws.truncation`), and how fast an operation may be called
(`processing.aws.rate_limit`). This is the one module that imports tenacity, and only when something is called.
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
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs

from processing.aws.truncation import check_response
from processing.clock import SYSTEM_CLOCK, Clock
from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    import tenacity

    from processing.aws.rate_limit import AdaptiveRateLimiter

T = TypeVar("T")

logger = logging.getLogger(__name__)


class FailureKind(enum.Enum):
    """What a failure says about the call, and so what to do next."""

    THROTTLED = "throttled"
    """Refused because there were too many: again, more slowly."""
    TRANSIENT = "transient"
    """Surely not carried out (no connection, nothing taken in): again."""
    AMBIGUOUS = "ambiguous"
    """May have been carried out (the answer was lost, or is not whole): again only where that does no harm."""
    PROPAGATING = "propagating"
    """The role was made a moment ago and is not yet known everywhere: again, for a bounded time."""
    EXPIRED = "expired"
    """The credentials ran out, or could not be had: once more, as botocore may renew them."""
    FATAL = "fatal"
    """The same call would fail the same way."""


class ClockSkewError(ProcessingError):
    """AWS refused a signature because this machine's clock is wrong. The cause is botocore's error.

    Attributes:
        skew: how far the clock is ahead of AWS's, in seconds; negative where it is behind.
    """

    def __init__(self, skew: float) -> None:
        self.skew = skew
        direction = "ahead of" if skew > 0 else "behind"
        super().__init__(
            f"AWS refused the signature: this machine's clock is {abs(skew) / 60:.0f} minutes {direction} AWS's. "
            "Set the clock (turn on NTP), then try again."
        )


@attrs.frozen
class Rule:
    """One row of `RULES`; a failure has to meet every condition that the row states.

    Args:
        name: what the row is about.
        kind: what such a failure is.
        errors: dotted names of exception classes, subclasses included.
        codes: AWS's error codes.
        statuses: HTTP statuses of error answers.
        message: a pattern to be found in the message.
        head: True for operations that send HEAD alone, False for all others.
    """

    name: str
    kind: FailureKind
    errors: Collection[str] = ()
    codes: Collection[str] = ()
    statuses: Collection[int] = ()
    message: str | None = None
    head: bool | None = None

    def matches(self, failure: _Facts) -> bool:
        """Return whether the failure meets every condition."""
        return (
            (not self.errors or not failure.classes.isdisjoint(self.errors))
            and (not self.codes or failure.code in self.codes)
            and (not self.statuses or failure.status in self.statuses)
            and (self.message is None or re.search(self.message, failure.message, re.IGNORECASE) is not None)
            and (self.head is None or self.head == failure.operation.startswith("Head"))
        )


_BOTOCORE = "botocore.exceptions."

RULES: Final[tuple[Rule, ...]] = (
    # The first row that matches decides. Codes come first: they say more than a status.
    Rule("clock skew", FailureKind.FATAL, codes=("RequestTimeTooSkewed", "RequestInTheFuture")),
    Rule(
        "credentials expired",
        FailureKind.EXPIRED,
        codes=("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
    ),
    Rule(
        # Raised before anything is sent: the place that the credentials come from did not answer.
        "credentials not to be had",
        FailureKind.EXPIRED,
        errors=(_BOTOCORE + "CredentialRetrievalError", _BOTOCORE + "MetadataRetrievalError"),
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
        # S3 says 400 where a body came too slowly or damaged, 409 where two conditional writes met.
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
    Rule("server error by status", FailureKind.AMBIGUOUS, statuses=(500, 502, 503, 504)),
    Rule(
        # A HEAD has no body to say more: there "404" is the answer. Elsewhere a number means that the body was cut.
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
class _Facts:
    """What the rules look at, taken from an error once."""

    classes: frozenset[str]
    code: str | None
    status: int | None
    message: str
    operation: str


def classify(error: BaseException) -> FailureKind:
    """Return what a failure means, by the first of `RULES` that matches."""
    return rule_for(error).kind


def rule_for(error: BaseException) -> Rule:
    """Return the first of `RULES` that matches the failure."""
    details = response_of(error).get("Error", {})
    facts = _Facts(
        classes=frozenset(f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__),
        code=details.get("Code"),
        status=http_status(error),
        message=str(error),
        operation=getattr(error, "operation_name", None) or "",
    )
    return next(rule for rule in RULES if rule.matches(facts))


def error_code(error: BaseException) -> str | None:
    """Return AWS's error code, such as `ThrottlingException`; None for what is not an error answer."""
    code = response_of(error).get("Error", {}).get("Code")
    return None if code is None else str(code)


def response_of(error: BaseException) -> Mapping[str, Any]:
    """Return the parsed error answer; empty where none came (`HTTPClientError` has a `response`, which is None)."""
    answer = getattr(error, "response", None)
    return answer if isinstance(answer, Mapping) else {}


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an error answer; None for what is not one."""
    status: int | None = _metadata(error).get("HTTPStatusCode")
    return status


def is_not_found(error: BaseException) -> bool:
    """Return whether SageMaker says that there is no such job: not always by the code that its model names."""
    code = error_code(error)
    return code == "ResourceNotFound" or (code == "ValidationException" and "could not find" in str(error).lower())


def is_denied(error: BaseException) -> bool:
    """Return whether the caller lacks the permission."""
    return error_code(error) in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def server_time(metadata: Mapping[str, Any]) -> float | None:
    """Return the `Date` header of an answer's ResponseMetadata as seconds since the epoch; None where it has none."""
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


@attrs.frozen
class RetryPolicy:
    """How long a call is tried.

    Args:
        attempts: the most tries. Throttled and role-not-yet-known ones are bounded by time alone.
        base: the first wait is a random one up to this many seconds; each next one up to twice as long.
        cap: the longest wait, in seconds.
        budget: seconds for all tries together, without the time in which a rate limiter held them back.
        propagation: seconds in which a role may become known.
        patience: seconds after which no answer is waited for, though the call may still be carried out: for calls that
            change nothing.
    """

    attempts: int = 8
    base: float = 0.2
    cap: float = 20.0
    budget: float = 180.0
    propagation: float = 60.0
    patience: float = math.inf


@attrs.frozen
class Failure:
    """One try that failed.

    Args:
        kind: what the failure means.
        error: the error itself.
        attempt: the number of the try, from 1.
    """

    kind: FailureKind
    error: BaseException
    attempt: int


class RateLimiter(Protocol):
    """What holds calls back before they are sent, and is told how they went."""

    def acquire(self, clock: Clock) -> float:
        """Return when a call may be sent; the seconds that it waited."""

    def succeeded(self) -> None:
        """Take note of a call that went through."""

    def throttled(self) -> None:
        """Take note of a call that was refused because there were too many."""


class RetryingApi:
    """Calls AWS: the clients of a session under one retry policy.

    Args:
        client: returns the botocore client of a service; its own retries are expected to be off.
        policy: how long a call is tried.
        clock: the time that waits are measured on.
        random: where the jitter comes from.
        rate_limiters: by operation, what holds calls back before they are sent.
        boto_session: returns the boto3 session that made the clients, for a transport that signs by itself; None where
            there is to be no such transport.
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
    ) -> None:
        self.client = client
        self.boto_session = boto_session
        self.policy = policy or RetryPolicy()
        self.clock = clock
        self.random = random or random_module.Random()  # noqa: S311 - jitter, not a secret
        self._rate_limiters = dict(rate_limiters or {})

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
        """Call one operation until it is answered, and return the answer.

        Args:
            service: botocore's name of the service, such as `sagemaker`.
            operation: the operation as AWS spells it, such as `DescribeProcessingJob`.
            params: its parameters, or what makes them anew for each try (a body that a try has read is spent).
            on_failure: told of every try that failed, the last one too.
            policy: in place of the API's own.
            rate_limiter: what holds the tries back, in place of the operation's own.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the last failure, when no further try
                is worth it.
            TruncatedResponseError: the last answer was not whole.
            ClockSkewError: this machine's clock is off.
        """
        from botocore import xform_name

        client = self.client(service)
        method = getattr(client, xform_name(operation))

        def once() -> dict[str, Any]:
            answer: dict[str, Any] = method(**(params() if callable(params) else params))
            check_response(client, operation, answer)
            return answer

        return self._run(once, on_failure, policy or self.policy, rate_limiter or self.rate_limiter(operation))

    def rate_limiter(self, operation: str) -> AdaptiveRateLimiter | None:
        """Return what holds the calls of an operation back before they are sent; None where nothing does."""
        return self._rate_limiters.get(operation)

    def attempt(
        self,
        label: str,
        function: Callable[[], T],
        *,
        on_failure: Callable[[Failure], None] | None = None,
        policy: RetryPolicy | None = None,
    ) -> T:
        """Do anything under the same policy, such as a GET together with reading its body.

        Args:
            label: what is done, for the log.
            function: does it, all over again at each try.
            on_failure: told of every try that failed, the last one too.
            policy: in place of the API's own.

        Raises:
            Exception: the last failure of `function`, when no further try is worth it.
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

        tries = _Tries(policy, self.clock, self.random, rate_limiter, on_failure)
        retrying = tenacity.Retrying(
            sleep=self.clock.sleep,
            retry=tenacity.retry_if_exception(tries.is_worth_another),
            wait=tries.wait,
            stop=tries.is_over,
            reraise=True,
        )
        try:
            return retrying(tries.paced(function))
        except Exception as error:
            if skew := _skew(error, self.clock):
                raise ClockSkewError(skew) from error
            raise


class _Tries:
    """The tries of one call: what tenacity asks after each of them."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        random: random_module.Random,
        rate_limiter: RateLimiter | None,
        on_failure: Callable[[Failure], None] | None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._random = random
        self._limiter = rate_limiter
        self._on_failure = on_failure
        self._started: float | None = None
        self._held = 0.0  # seconds that the rate limiter held tries back after the first
        self._number = 0
        self._counted = 0  # tries that count against the policy's attempts
        self._kind = FailureKind.FATAL
        self._expired = False

    def paced(self, function: Callable[[], T]) -> Callable[[], T]:
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

    def is_worth_another(self, error: BaseException) -> bool:
        """Note a failure, and return whether its kind allows another try."""
        self._number += 1
        self._kind = kind = classify(error)
        if self._limiter and kind is FailureKind.THROTTLED:
            self._limiter.throttled()
        if self._on_failure and isinstance(error, Exception):
            self._on_failure(Failure(kind, error, self._number))
        if kind is FailureKind.EXPIRED:
            self._expired, before = True, self._expired
            return not before
        self._counted += kind in {FailureKind.TRANSIENT, FailureKind.AMBIGUOUS}
        return kind is not FailureKind.FATAL

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait before the next try: random up to a doubling bound, or what the server asks."""
        base = 1.0 if self._kind is FailureKind.PROPAGATING else self._policy.base
        bound = min(self._policy.cap, base * 2.0 ** min(self._number - 1, 32))
        jittered = self._random.uniform(0.0, bound)
        error = state.outcome.exception() if state.outcome else None
        return max(jittered, _retry_after(error, self._clock)) if error else jittered

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        """Return whether the tries or the time have run out, the coming wait included."""
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
    """Return the seconds that the server asked us to wait, or 0."""
    text = (_metadata(error).get("HTTPHeaders") or {}).get("retry-after")
    if not text:
        return 0.0
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    moment = _http_date(text)
    now = server_time(_metadata(error)) or clock.time()
    return max(0.0, moment - now) if moment else 0.0


_SIGNATURE_CODES = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_TOLERATED_SKEW = 300.0  # seconds; AWS refuses signatures beyond five minutes, S3 beyond fifteen


def _skew(error: BaseException, clock: Clock) -> float | None:
    """Return how far our clock is ahead of the server's, where that is why a signature was refused."""
    if error_code(error) not in _SIGNATURE_CODES:
        return None
    theirs = server_time(_metadata(error))
    if theirs is None:
        return None
    skew = clock.time() - theirs
    return skew if abs(skew) > _TOLERATED_SKEW else None
