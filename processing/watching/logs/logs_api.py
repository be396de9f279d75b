"""Calls of CloudWatch Logs, and the time by AWS's clock, which their responses contain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import response_of
from processing.aws.server_time import ServerTime
from processing.watching.logs.page import install_page_parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.aws.retry import RetryingApi, RetryPolicy

# Seconds for all tries of one call. A reader has other work in between, and repeats the call later.
_CALL_BUDGET: Final = 20.0


class LogsApi:
    """Calls operations of CloudWatch Logs with retries.

    Args:
        api: the session's calls.
        policy: returns the retry policy of the next call; by default the API's own, with at most 20 seconds for a call.
    """

    def __init__(self, api: RetryingApi, policy: Callable[[], RetryPolicy] | None) -> None:
        self._api = api
        self._policy = policy or self._default_policy
        self._server_time = ServerTime(api.clock)

    def call(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        """Call an operation, and return its response.

        Raises:
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the last try failed.
        """
        if not self._server_time.is_known:
            install_page_parser(self._api.client("logs"))
        sent, response = self._api.clock.monotonic(), {}
        try:
            response = self._api.call("logs", operation, params, policy=self._policy())
        except Exception as error:
            response = dict(response_of(error))
            raise
        finally:
            self._server_time.update(response, sent)
        return response

    def aws_time(self) -> float:
        """Return the time in seconds since the epoch: by AWS's clock after the first response, else by our own."""
        return self._server_time.now() if self._server_time.is_known else self._api.clock.time()

    def _default_policy(self) -> RetryPolicy:
        return attrs.evolve(self._api.policy, budget=min(self._api.policy.budget, _CALL_BUDGET))
