"""Futures of calls that another process has started."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from processing import default_sessions
from processing._utils.validation import Kind, require
from processing.exceptions import ConfigurationError, DeserializationError
from processing.job.job import ProcessingJob
from processing.job.lookup import describe_existing
from processing.remote_function.bundle import POOL_FORMAT
from processing.remote_function.call_record import CallRecord, storage_root
from processing.remote_function.config_keys import configured_values
from processing.remote_function.futures import RemoteFuture
from processing.remote_function.item_futures import CallsFuture, ItemsFuture
from processing.session.prompt import prompt_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.default_sessions import SessionLike
    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

_PREFIX: Final = Kind(
    "the beginning of a job's name",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,62}", value)),
)


def get_future(
    job_name: str, sagemaker_session: SessionLike | str | None = None, *, s3_root_uri: str | None = None
) -> RemoteFuture[Any]:
    """Return the future of a call, started by this process or by any other.

    The result of the job of a map is the list of its results, and `items` yields them as they arrive.

    Nothing is loaded before `result` is called. The result is trusted if the job is that of a remote function and all
    its places in S3 are below the root.

    Args:
        job_name: the name of the job.
        sagemaker_session: the session that reaches the job. None means AWS, unless the environment has
            PROCESSING_TARGET=local. A string in its place is the `s3_root_uri`.
        s3_root_uri: the S3 prefix that is trusted; by default that of the config file, else the session's default
            bucket and prefix.

    Raises:
        ConfigurationError: there is no such job.
        DeserializationError: the job is not one of a remote function below the root.
    """
    session, root = _trusted(s3_root_uri, sagemaker_session)
    return _future(session, root, job_name, describe_existing(session, job_name, "job_name"))


def list_futures(
    job_name_prefix: str, sagemaker_session: SessionLike | str | None = None, *, s3_root_uri: str | None = None
) -> Iterator[RemoteFuture[Any]]:
    """Yield the futures of calls whose jobs' names begin with a prefix, the oldest first.

    Jobs that are not those of a remote function, and jobs with places outside of the root, are left out.

    Args:
        job_name_prefix: the beginning of the jobs' names.
        sagemaker_session: the session that reaches the jobs, as for `get_future`.
        s3_root_uri: the S3 prefix that is trusted, as for `get_future`.

    Raises:
        ConfigurationError: the prefix cannot begin a job's name.
    """
    from processing.job.fleet.search import jobs

    require("job_name_prefix", job_name_prefix, _PREFIX)
    session, root = _trusted(s3_root_uri, sagemaker_session)
    return _ours(session, root, jobs(job_name_prefix, session=session))


def _ours(session: Session, root: S3Uri, jobs: Iterator[ProcessingJob]) -> Iterator[RemoteFuture[Any]]:
    for job in jobs:
        try:
            yield _future(session, root, job.job_name, job.describe())
        except DeserializationError as error:  # noqa: PERF203 - each takes a call
            logging.getLogger(__name__).debug("left out: %s", error)


def _future(session: Session, root: S3Uri, job_name: str, description: Mapping[str, Any]) -> RemoteFuture[Any]:
    from processing.container.contract import TERMINAL
    from processing.job.outcome import Outcome
    from processing.job.watch_state import WatchState

    record = CallRecord.of(description, root)
    if record.result_format == POOL_FORMAT:
        raise DeserializationError(f"processing job {job_name}: it is the job of a pool, whose results its owner got")
    job = ProcessingJob.described(session, job_name, description)
    if description["ProcessingJobStatus"] in TERMINAL:
        job.watch_state = WatchState(description.get("CreationTime"), outcome=Outcome.of(description))
    kind = CallsFuture if record.has_calls else ItemsFuture if record.has_items else RemoteFuture
    future: RemoteFuture[Any] = kind(root=root)
    future.started(job)
    return future


def _trusted(root: Any, given: Any) -> tuple[Session, S3Uri]:
    """Return the session, and the S3 prefix that is trusted."""
    if isinstance(given, str):
        if root is not None:
            raise ConfigurationError(f"sagemaker_session: must be a session, not {given!r}")
        root, given = given, None
    session = prompt_session(default_sessions.session_for_attach(given))
    root = root if root is not None else configured_values(session.config).get("s3_root_uri")
    return session, storage_root(session, root)
