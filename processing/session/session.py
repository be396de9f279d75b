"""One AWS account and region: boto3 clients made on first use, the region, the account and the role.

A `Session` costs nothing to make: boto3 is not even imported. It asks AWS for the account once, and only if a name
needs it. A bucket that the user names is used as it is, never probed, listed or created.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from processing._utils.forks import ForkSafeLock, reset_after_fork
from processing._utils.validation import (
    CLOCK,
    FUNCTION,
    NAME,
    TEXT_OR_BYTES,
    require,
)
from processing.aws.credentials import explained_credentials
from processing.clock import SYSTEM_CLOCK, Clock
from processing.config.files import config_sources
from processing.config.values import PREFIX, Config, read_config
from processing.exceptions import ConfigurationError
from processing.request.s3_uri import S3Uri
from processing.session.arguments import (
    BUCKET,
    KEY,
    OBJECT_KEY,
    ONE_LINE,
    POLLING,
    REGION_NAME,
    RETRY_POLICY,
    CodeLayout,
    check,
    check_extra,
    read_bundle_limit,
    read_code_layout,
)
from processing.session.clients import BotoClients, boto3_default_session, new_boto_session
from processing.session.default_bucket import DefaultBucket

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from processing.aws.rate_limit import AdaptiveRateLimiter
    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.request.build import ProcessingRequest
    from processing.session.travel import SessionOrigin
    from processing.staging.pending_uploads import PendingUploads
    from processing.watching.polling import Polling
    from processing.watching.status.poller import EventSource, Poller

logger = logging.getLogger(__name__)


# Attributes that a pickle of a session leaves out: connections, locks, and the answers of AWS.
_OF_THIS_PROCESS = frozenset(
    {"_api", "_asking", "_bucket", "_clients", "_identity", "_lock", "_poller", "_profile", "_prompt", "_roles"}
)

READ_TIMEOUT = 60
"""Seconds to wait for an answer."""


class Session:
    """A connection to one AWS account and region.

    Args:
        boto_session: a `boto3.Session`; by default one is made from the environment on first use.
        sagemaker_client: a boto3 client, used as it is for the calls to SageMaker.
        default_bucket: the bucket for code, data and outputs without a destination. It is never probed or created.
            By default the bucket of the config file, else `sagemaker-<region>-<account>`, which is created on first
            use if it does not exist.
        default_bucket_prefix: a prefix for every key in the default bucket; by default that of the config file.
        region_name: the AWS region; by default that of the boto session, the client or the environment.
        code_layout: the layout of code keys. `content` names code by its content, so that unchanged code is not
            uploaded again; `job` uses the keys of `sagemaker` 2.x. By default the environment variable
            PROCESSING_CODE_LAYOUT, else `content`.
        clock: the clock that the session reads and waits on.
        retry_policy: how often and how long failed calls are retried.
        polling: how often the status of a job is read.
        bundle_limit: the largest bundle of a source directory, in bytes; a larger one is an error. By default the
            environment variable PROCESSING_BUNDLE_LIMIT, else no limit, with a warning above 100 MB.
        sagemaker_config: the content of a SageMaker config file, instead of the files; an empty dictionary for no
            configuration at all.
        event_source: an `EventBridgeSource`. It reports a change of a job, whose status is then read at once. By
            default statuses are read as often as `polling` allows.

    Attributes:
        is_local: True for the embedded engine.
        yields_to_engine: True if `instance_type="local"` uses the embedded engine despite this session, as in
            `sagemaker` 2.x. By default that is an error.
        code_layout: `content` or `job`.
        bundle_limit: bytes, or None for no limit.
        clock: the clock in use.

    Raises:
        ConfigurationError: an argument has a wrong type or value; the message names it.
    """

    is_local = False
    yields_to_engine = False
    _default_polling: Polling | None = None  # of all sessions, where the engine is the AWS of a process
    _bucket_type: type[DefaultBucket] = DefaultBucket
    _no_config_object = "or these credentials may not read it"

    def __init__(
        self,
        boto_session: Any = None,
        sagemaker_client: Any = None,
        *,
        default_bucket: str | None = None,
        default_bucket_prefix: str | None = None,
        region_name: str | None = None,
        code_layout: CodeLayout | None = None,
        clock: Clock = SYSTEM_CLOCK,
        retry_policy: RetryPolicy | None = None,
        polling: Polling | None = None,
        bundle_limit: int | None = None,
        sagemaker_config: Mapping[str, Any] | None = None,
        event_source: EventSource | None = None,
    ) -> None:
        waits = callable(getattr(event_source, "wait", None)) and not isinstance(event_source, type)
        check("event_source", event_source, waits, "an EventBridgeSource")
        check("boto_session", boto_session, callable(getattr(boto_session, "client", None)), "a boto3.Session")
        check("sagemaker_client", sagemaker_client, hasattr(sagemaker_client, "meta"), "boto3's client of SageMaker")
        check("sagemaker_config", sagemaker_config, isinstance(sagemaker_config, Mapping), "a dictionary")
        texts = {"default_bucket": default_bucket, "default_bucket_prefix": default_bucket_prefix}
        for field, text in texts.items():
            require(field, text, ONE_LINE, optional=True)
        require("region_name", region_name, REGION_NAME, optional=True)
        require("clock", clock, CLOCK)
        require("retry_policy", retry_policy, RETRY_POLICY, optional=True)
        require("polling", polling, POLLING, optional=True)
        self.code_layout = read_code_layout(code_layout)
        self.bundle_limit = read_bundle_limit(bundle_limit)
        self.clock = clock
        self._config = None if sagemaker_config is None else Config.of(sagemaker_config)
        self._bucket = self._bucket_type(self, default_bucket)
        self._prefix = default_bucket_prefix
        self._region_name = region_name
        self._profile: str | None = None  # of a session from another process
        self._has_own_config = sagemaker_config is not None
        self._retry_policy = retry_policy
        self._polling = polling or self._default_polling
        self._has_own_polling = self._polling is not None or event_source is not None
        self._event_source = event_source
        self._connect(boto_session, sagemaker_client)

    def _connect(self, boto_session: Any, sagemaker_client: Any, endpoint: str | None = None) -> None:
        """Set all that belongs to this process."""
        self._clients = BotoClients(
            boto_session,
            sagemaker_client,
            lambda: self._make_boto_session(),  # noqa: PLW0108 - a test may replace the method
            lambda: self.boto_region_name,
            lambda: READ_TIMEOUT,
            endpoint,
        )
        self._poller: Poller | None = None
        self._prompt: Session | None = None  # see `processing.session.prompt`
        self._api: RetryingApi | None = None
        self._identity: Mapping[str, str] | None = None
        self._roles: dict[str, str] = {}
        self._lock = self._clients.lock
        # Held during calls to AWS that are made once per session. It is never acquired while `_lock` is held, so that
        # a thread that needs only a client does not wait for an answer.
        self._asking = ForkSafeLock()
        reset_after_fork(self)

    def __copy__(self) -> Session:
        # Clients and locks are for any number of threads, and a copy uses the same ones.
        copied = object.__new__(type(self))
        vars(copied).update(vars(self), _prompt=None)
        copied._bucket = self._bucket.copy(copied)
        reset_after_fork(copied)
        return copied

    def __deepcopy__(self, _memo: object) -> Session:
        return copy.copy(self)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in _OF_THIS_PROCESS}
        if not self._has_own_config:
            state["_config"] = None
        with contextlib.suppress(ConfigurationError):
            state["_region_name"] = self.boto_region_name
        return {**state, "_bucket": self._bucket.chosen, "_origin": self._origin()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        origin: SessionOrigin = state.pop("_origin")
        vars(self).update(state)
        self._bucket = self._bucket_type(self, state["_bucket"])
        self._profile = origin.profile
        self._connect(None, None, origin.endpoint)

    def _origin(self) -> SessionOrigin:
        """Return the values from which another process makes the boto3 objects.

        Raises:
            ConfigurationError: they have keys that exist in this process only.
        """
        from processing.session.travel import origin_of

        return origin_of(self.boto_session, self._clients.given_client, self._clients.endpoint)

    @property
    def config(self) -> Config:
        """The values of the SageMaker config file, read once on first use.

        `print(session.config)` shows every value and the file that it comes from. An assignment of the settings of
        `sagemaker`'s local mode, `{"local": {...}}`, has no effect: the engine needs none of them.

        Raises:
            ConfigurationError: a file is missing, cannot be read or is not valid.
        """
        with self._asking:
            if self._config is None:
                self._config = read_config(self._read_config_object, self._no_config_object)
            return self._config

    @config.setter
    def config(self, settings: Any) -> None:
        if not isinstance(settings, Mapping) or set(settings) != {"local"}:
            raise ConfigurationError(
                "config: is read from the config file; for another configuration, write Session(sagemaker_config={...})"
            )

    @property
    def config_at_hand(self) -> bool:
        """True if `config` needs no call to AWS; False if a file in S3 has not been read yet."""
        return self._config is not None or not any(source.in_s3 for source in config_sources())

    @property
    def default_bucket_prefix(self) -> str | None:
        """The prefix of every key in the default bucket: the argument, else that of the config file."""
        if self._prefix is None:
            return cast("str | None", self.config.get(PREFIX))
        return self._prefix

    @default_bucket_prefix.setter
    def default_bucket_prefix(self, prefix: str | None) -> None:
        self._prefix = prefix

    def _read_config_object(self, uri: S3Uri) -> bytes | None:
        from botocore.exceptions import ClientError

        from processing.aws.retry import error_code
        from processing.staging.transfers import get_bytes

        try:
            return get_bytes(self.api, uri, expected_owner=self._bucket.owner_if_derived)
        except ClientError as error:
            # Without s3:ListBucket, S3 answers AccessDenied for an object that does not exist.
            if error_code(error) in {"NoSuchKey", "NoSuchBucket", "404", "AccessDenied", "403"}:
                logger.debug("no config file %s: %s", uri, error)
                return None
            raise ConfigurationError(f"{uri}: the SageMaker config file cannot be read: {error}") from error

    @property
    def boto_session(self) -> Any:
        """The `boto3.Session` that makes the clients; made on first use."""
        with explained_credentials():
            return self._clients.session

    @property
    def boto_region_name(self) -> str:
        """The AWS region.

        Raises:
            ConfigurationError: no region is set.
        """
        if self._region_name is None:
            with self._lock, explained_credentials(lambda: self.boto_session):
                self._region_name = self._find_region()
        return self._region_name

    @property
    def region_of_jobs(self) -> str | None:
        """The region that images, keys and roles have to fit; None if it is not set or its settings cannot be read."""
        from botocore.exceptions import BotoCoreError

        try:
            return self.boto_region_name
        except (ConfigurationError, BotoCoreError):
            return None

    @property
    def partition(self) -> str:
        """The AWS partition of the region: `aws`, `aws-cn`, `aws-us-gov`, ..."""
        if self._identity is not None:
            return self._identity["Arn"].split(":")[1]
        from botocore.exceptions import BotoCoreError

        try:
            return str(self.boto_session.get_partition_for_region(self.boto_region_name))
        except BotoCoreError:  # a region newer than the installed botocore
            return "aws"

    @property
    def polling(self) -> Polling:
        """The intervals at which the status of a job is read."""
        if self._polling is None:
            from processing.watching.polling import Polling

            self._polling = Polling() if self._event_source is None else Polling.prompt()
        return self._polling

    @property
    def poller(self) -> Poller:
        """The one poller for the status of every job that is watched through this session."""
        with self._lock:
            if self._poller is None:
                from processing.watching.status.poller import Poller

                self._poller = Poller(self.api, self.polling, event_source=self._connected_event_source())
            return self._poller

    def _connected_event_source(self) -> EventSource | None:
        """Return the source of events for a new poller, which may wait from now on."""
        connect = getattr(self._event_source, "connect", None)
        if connect is not None:
            connect(self.api)
        return self._event_source

    @property
    def api(self) -> RetryingApi:
        """Calls to AWS through the one retry layer."""
        with self._lock:
            if self._api is None:
                from processing.aws.retry import RetryingApi

                self._api = RetryingApi(
                    self.client,
                    policy=self._retry_policy,
                    clock=self.clock,
                    rate_limiters=self._rate_limiters(),
                    boto_session=lambda: self.boto_session,
                    renew=self._clients.renew,
                )
            return self._api

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service such as `s3`: made on first use, then the same one.

        It does not retry; `api` does.
        """
        require("service", service, NAME)
        with explained_credentials(lambda: self.boto_session):
            return self._clients.client(service)

    def service_model(self, service: str) -> Any:
        """Return botocore's model of a service, from this session's data files."""
        return self.client(service).meta.service_model

    def preflight(self, request: ProcessingRequest, pending: PendingUploads) -> None:
        """Refuse a request that this session's target cannot run; AWS is asked nothing here.

        Called before anything is uploaded. A subclass raises.
        """

    def empty_outputs(self, job_name: str) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return the names of a completed job's outputs without files, as far as no call to AWS is needed."""
        return ()

    def known_phase(self, job_name: str) -> str | None:  # noqa: ARG002 - for subclasses
        """Return the phase of a running job if it is known, without a call to AWS, which does not report it."""
        return None

    @property
    def known_account(self) -> str | None:
        """The AWS account's number; None before a call to STS has answered."""
        return None if self._identity is None else self._identity["Account"]

    def account_id(self) -> str:
        """Return the AWS account's number. STS is asked once per session."""
        return self._caller()["Account"]

    def caller_identity_arn(self) -> str:
        """Return the ARN of the user or role that makes the calls. STS is asked once per session."""
        return self._caller()["Arn"]

    def expand_role(self, role: str) -> str:
        """Return the ARN of a role: an ARN unchanged, a name looked up with IAM GetRole once per session."""
        require("role", role, NAME)
        if "/" in role:
            return role
        with self._asking:
            if role not in self._roles:
                self._roles[role] = str(self.api.call("iam", "GetRole", {"RoleName": role})["Role"]["Arn"])
            return self._roles[role]

    def expression(self) -> str:
        """Return a Python expression that makes an equal session in another program, after `import processing`."""
        profile = self.boto_session.profile_name
        boto_session = "" if profile == "default" else f"boto3.Session(profile_name={profile!r}), "
        return f"processing.Session({boto_session}region_name={self.boto_region_name!r})"

    def default_bucket(self) -> str:
        """Return the bucket for code and data.

        A bucket that the user named is returned as it is. Otherwise the bucket is `sagemaker-<region>-<account>`; it is
        created if it does not exist.

        Raises:
            ConfigurationError: another account owns a bucket of that name.
        """
        bucket = self.bucket_for_request(None)
        self.ensure_bucket(bucket)
        return bucket

    def bucket_for_request(self, role: str | None) -> str:  # noqa: ARG002 - a subclass may derive the name from the role
        """Return the default bucket's name without a call to S3. A derived name asks STS for the account."""
        return self._bucket.name()

    def bucket_without_call(self, role: str | None) -> str:
        """Return the default bucket's name without a call to AWS.

        Args:
            role: the ARN of the job's role; its account is used if the session's account is not known yet.

        Raises:
            ConfigurationError: no bucket is named, and no account is known.
        """
        return self._bucket.name_without_call(role)

    def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket if it is this session's derived default and does not exist. Leave any other bucket alone.

        Raises:
            ConfigurationError: another account owns the name, or the credentials may not look at the bucket.
        """
        with self._asking:
            self._bucket.ensure(bucket)

    def expected_owner(self, bucket: str) -> str | None:
        """Return the account that must own a bucket: this account for the derived default, None for a user's bucket."""
        return self._bucket.expected_owner(bucket)

    # The methods of `sagemaker.Session` for files and jobs.

    def upload_data(
        self,
        path: str | os.PathLike[str],
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Callable[[int], object] | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> str:
        """Upload a file or a directory.

        Args:
            path: the file or directory.
            bucket: the target bucket; by default the default bucket, below its prefix.
            key_prefix: the beginning of the keys.
            callback: called with the number of bytes after each part of an upload.
            extra_args: parameters of S3's PutObject, such as `{"ServerSideEncryption": "aws:kms"}`.

        Returns:
            The URI of the object for a file, of the prefix for a directory.

        Raises:
            ConfigurationError: the file does not exist, or the directory is empty.
            StagingError: an upload fails for good.
        """
        from processing.staging.pending_uploads import PendingUploads
        from processing.staging.progress import bytes_only
        from processing.staging.sources import LocalSource, resolve_source
        from processing.staging.transfers import upload_all

        require("bucket", bucket, BUCKET, optional=True)
        require("key_prefix", key_prefix, KEY)
        require("callback", callback, FUNCTION, optional=True)
        check_extra(extra_args, self.service_model, "PutObject")
        source = resolve_source(path, "path")
        if not isinstance(source, LocalSource):
            raise ConfigurationError(f"path: {path!r} is not a local file or directory")
        target = S3Uri(bucket, key_prefix) if bucket else self._under_default_bucket(key_prefix)
        pending = PendingUploads()
        uri = pending.add_source(source, target, extra=extra_args)
        upload_all(self.api, pending.uploads, expected_owner=self.expected_owner, progress=bytes_only(callback))
        return uri

    def download_data(
        self,
        path: str | os.PathLike[str],
        bucket: str,
        key_prefix: str = "",
        extra_args: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Download the objects at or below a prefix into a directory, and return the paths of the files.

        Args:
            path: the directory; created if it does not exist.
            bucket: the source bucket.
            key_prefix: an object's key, or the path that the keys begin with.
            extra_args: parameters of S3's GetObject, such as `{"RequestPayer": "requester"}`.

        Raises:
            ConfigurationError: `path` is not a path, or there is a file.
            StagingError: a download fails for good, or a key leads out of the directory.
        """
        from processing.staging.sources import local_target
        from processing.staging.transfers import download_prefix

        require("bucket", bucket, BUCKET)
        require("key_prefix", key_prefix, KEY)
        check_extra(extra_args, self.service_model, "GetObject")
        files = download_prefix(
            self.api,
            S3Uri(bucket, key_prefix),
            local_target(path),
            expected_owner=self.expected_owner,
            extra=extra_args,
        )
        return [str(file) for file in files]

    def upload_string_as_file_body(self, body: str | bytes, bucket: str, key: str, kms_key: str | None = None) -> str:
        """Upload a text as an object, and return its URI.

        Args:
            body: the text, stored as UTF-8, or bytes.
            bucket: the target bucket.
            key: the object's key.
            kms_key: the KMS key that encrypts the object.
        """
        from processing.staging.transfers import put_bytes

        require("body", body, TEXT_OR_BYTES)
        require("bucket", bucket, BUCKET)
        require("key", key, OBJECT_KEY)
        require("kms_key", kms_key, NAME, optional=True)
        target = S3Uri(bucket, key)
        content = body.encode() if isinstance(body, str) else body
        put_bytes(self.api, content, target, kms_key=kms_key, expected_owner=self.expected_owner)
        return str(target)

    def read_s3_file(self, bucket: str, key_prefix: str) -> str:
        """Return the text of an object in UTF-8."""
        from processing.staging.transfers import get_bytes

        require("bucket", bucket, BUCKET)
        require("key_prefix", key_prefix, OBJECT_KEY)
        return get_bytes(self.api, S3Uri(bucket, key_prefix), expected_owner=self.expected_owner).decode()

    def describe_processing_job(self, job_name: str) -> dict[str, Any]:
        """Return DescribeProcessingJob's answer."""
        require("job_name", job_name, NAME)
        return self.api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": job_name})

    def stop_processing_job(self, job_name: str) -> None:
        """Ask AWS to stop a job; returns at once."""
        require("job_name", job_name, NAME)
        self.api.call("sagemaker", "StopProcessingJob", {"ProcessingJobName": job_name})

    def _rate_limiters(self) -> Mapping[str, AdaptiveRateLimiter]:
        """Return the rate limiters, shared by all sessions of this process with the same profile and region."""
        from processing.aws.endpoints import is_aws
        from processing.aws.rate_limit import shared_rate_limiters

        url = str(self.client("sagemaker").meta.endpoint_url).rstrip("/")
        if not is_aws(url):
            return {}  # a stand-in for AWS has no quotas that we know
        return shared_rate_limiters(self.boto_region_name, str(self.boto_session.profile_name), url)

    def _make_boto_session(self) -> Any:
        if self._profile is None and (default := boto3_default_session()) is not None:
            return default
        return new_boto_session(self._profile, self._region_name)

    def _find_region(self) -> str:
        region = self._clients.given_region()
        if not region:
            raise ConfigurationError(
                "region_name: no AWS region is set; give Session(region_name=...), set AWS_REGION, "
                "or set one with `aws configure`"
            )
        return region

    def _after_fork(self) -> None:
        self._poller = None  # its waiting threads are the parent's

    def _caller(self) -> Mapping[str, str]:
        with self._asking:
            if self._identity is None:
                self._identity = cast("Mapping[str, str]", self.api.call("sts", "GetCallerIdentity"))
            return self._identity

    def _under_default_bucket(self, key: str) -> S3Uri:
        prefix = S3Uri(self.default_bucket(), (self.default_bucket_prefix or "").strip("/"))
        return prefix / key if key else prefix
