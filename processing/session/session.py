"""Where the calls go: clients made when first used, the region, the account, the bucket, the role.

A `Session` costs nothing to make: boto3 is not even imported. It asks AWS for no more than it needs: the account once,
and only where a name is made of it; a bucket that the user named is used as it is, never probed, listed or created.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from processing._utils import type_name
from processing.clock import SYSTEM_CLOCK, Clock
from processing.config.files import config_sources
from processing.config.values import BUCKET, PREFIX, Config, read_config
from processing.exceptions import ConfigurationError
from processing.session.default_bucket import bucket_exists, create_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.aws.rate_limit import AdaptiveRateLimiter
    from processing.aws.retry import RetryingApi, RetryPolicy
    from processing.request.build import ProcessingRequest
    from processing.request.s3_uri import S3Uri
    from processing.staging.plan import StagingPlan
    from processing.watching.polling import Polling
    from processing.watching.status.poller import EventSource, Poller

logger = logging.getLogger(__name__)

CodeLayout = Literal["content", "job"]

CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection."""

READ_TIMEOUT = 60
"""Seconds to wait for an answer."""

_CONNECTIONS = 80  # per client: more than a transfer has threads, so that none waits for a connection


class Session:
    """The way to one AWS account and region.

    Args:
        boto_session: a `boto3.Session`; one is made from the environment when first needed.
        sagemaker_client: a boto3 client, used as it is for the calls to SageMaker.
        default_bucket: the bucket for code, data and outputs without a destination. It is never probed or created.
            None means that of the config file, else `sagemaker-<region>-<account>`, created when it is needed and
            missing.
        default_bucket_prefix: a prefix for every key in the default bucket; None means that of the config file.
        region_name: the AWS region; that of the boto session, the client or the environment where left out.
        code_layout: `content` gives code a key that names its content, so that unchanged code is not uploaded again;
            `job` gives the keys of `sagemaker` 2.x. None reads the environment's PROCESSING_CODE_LAYOUT; else
            `content`.
        clock: what tells the time and waits.
        retry_policy: how failed calls are tried again.
        polling: how often a job is looked at.
        bundle_limit: bytes that the bundle of a source directory may have at most; more is an error. None reads the
            environment's PROCESSING_BUNDLE_LIMIT; else there is no limit, and a warning above 100 MB.
        sagemaker_config: a dictionary in the form of the SageMaker config file, instead of the files; an empty one for
            none at all.
        event_source: says that something happened to a job, so that it is looked at at once: a
            `processing.watching.status.eventbridge.EventBridgeSource`. None: jobs are looked at as `polling` says.

    Attributes:
        is_local: True for the embedded engine.
        yields_to_engine: True where `instance_type="local"` goes to the embedded engine all the same, as with
            `sagemaker` 2.x; else that is an error.
        code_layout: `content` or `job`.
        bundle_limit: bytes, or None.
        clock: as given.
    """

    is_local = False
    yields_to_engine = False
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
        _check("event_source", event_source, waits, "an EventBridgeSource")
        _check("boto_session", boto_session, callable(getattr(boto_session, "client", None)), "a boto3.Session")
        _check("sagemaker_client", sagemaker_client, hasattr(sagemaker_client, "meta"), "boto3's client of SageMaker")
        _check("sagemaker_config", sagemaker_config, isinstance(sagemaker_config, Mapping), "a dictionary")
        texts = {"default_bucket": default_bucket, "default_bucket_prefix": default_bucket_prefix}
        for field, text in {**texts, "region_name": region_name}.items():
            _check(field, text, isinstance(text, str), "a string")
        self.code_layout = _code_layout(code_layout)
        self.bundle_limit = _bundle_limit(bundle_limit)
        self.clock = clock
        self._config = None if sagemaker_config is None else Config.of(sagemaker_config)
        self._given_bucket = _bucket_name(default_bucket)
        self._given_prefix = default_bucket_prefix
        self._region_name = region_name
        self._boto_session = boto_session
        self._clients: dict[str, Any] = {} if sagemaker_client is None else {"sagemaker": sagemaker_client}
        self._retry_policy = retry_policy
        self._polling = polling
        self._event_source = event_source
        self._poller: tuple[int, Poller] | None = None
        self._api: RetryingApi | None = None
        self._identity: Mapping[str, str] | None = None
        self._ensured: set[str] = set()
        self._roles: dict[str, str] = {}
        # Re-entrant: making a client asks for the boto session.
        self._lock = threading.RLock()
        # Held while AWS is asked for what is asked once, and never taken below the other: whoever needs but a client
        # does not wait for an answer.
        self._asking = threading.RLock()

    # The config file.

    @property
    def config(self) -> Config:
        """What the SageMaker config file says; read when first asked for, once in the session's life.

        `print(session.config)` shows every value with the file that it comes from. Assigning the settings of
        `sagemaker`'s local mode, `{"local": {...}}`, is taken and changes nothing: the engine needs none of them.

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
                "config: is read from the config file; to give another configuration, write "
                "Session(sagemaker_config={...})"
            )

    @property
    def config_at_hand(self) -> bool:
        """Whether `config` answers without a call to AWS: False where a file in S3 has not been read yet."""
        return self._config is not None or not any(place.in_s3 for place in config_sources())

    @property
    def default_bucket_prefix(self) -> str | None:
        """The prefix for every key in the default bucket: as given, else that of the config file."""
        if self._given_prefix is None:
            return cast("str | None", self.config.get(PREFIX))
        return self._given_prefix

    @default_bucket_prefix.setter
    def default_bucket_prefix(self, prefix: str | None) -> None:
        self._given_prefix = prefix

    @property
    def _default_bucket(self) -> str | None:
        """The default bucket that somebody named: the user, or the config file."""
        return self._given_bucket or cast("str | None", self.config.get(BUCKET))

    def _read_config_object(self, uri: S3Uri) -> bytes | None:
        from botocore.exceptions import ClientError

        from processing.aws.retry import error_code
        from processing.staging.transfers import get_bytes

        try:
            return get_bytes(self.api, uri, expected_owner=self._owner_where_derived)
        except ClientError as error:
            # Without s3:ListBucket what is missing is denied.
            if error_code(error) in {"NoSuchKey", "NoSuchBucket", "404", "AccessDenied", "403"}:
                logger.debug("no config file %s: %s", uri, error)
                return None
            raise ConfigurationError(f"{uri}: the SageMaker config file cannot be read: {error}") from error

    # What the session is made of.

    @property
    def boto_session(self) -> Any:
        """The `boto3.Session` that makes the clients; made when first asked for."""
        with self._lock:
            if self._boto_session is None:
                self._boto_session = self._make_boto_session()
            return self._boto_session

    @property
    def boto_region_name(self) -> str:
        """The AWS region.

        Raises:
            ConfigurationError: none is set anywhere.
        """
        if self._region_name is None:
            with self._lock:
                self._region_name = self._find_region()
        return self._region_name

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
        """How often a job is looked at."""
        if self._polling is None:
            from processing.watching.polling import Polling

            self._polling = Polling() if self._event_source is None else Polling.prompt()
        return self._polling

    @property
    def poller(self) -> Poller:
        """What knows the status of every job that is watched through the session; one for all who watch."""
        with self._lock:
            if self._poller is None or self._poller[0] != os.getpid():  # no thread of a forked process's parent is here
                from processing.watching.status.poller import Poller

                connect = getattr(self._event_source, "connect", None)
                if connect is not None:
                    connect(self.api)
                self._poller = (os.getpid(), Poller(self.api, self.polling, event_source=self._event_source))
            return self._poller[1]

    @property
    def api(self) -> RetryingApi:
        """The calls to AWS, with the one retry layer around them."""
        with self._lock:
            if self._api is None:
                from processing.aws.retry import RetryingApi

                self._api = RetryingApi(
                    self.client,
                    policy=self._retry_policy,
                    clock=self.clock,
                    rate_limiters=self._rate_limiters(),
                    boto_session=lambda: self.boto_session,
                )
            return self._api

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service such as `s3`: made when first asked for, then the same one.

        It does not retry; `api` does.
        """
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service)
            return self._clients[service]

    def service_model(self, service: str) -> Any:
        """Return botocore's model of a service, from this session's own data files."""
        return self.client(service).meta.service_model

    def preflight(self, request: ProcessingRequest, plan: StagingPlan) -> None:
        """Refuse a request that this session's target cannot run; AWS is asked nothing here.

        Called before anything is uploaded. A subclass raises.
        """

    # Who and where.

    def account_id(self) -> str:
        """Return the AWS account's number. One STS call in the session's life."""
        return self._caller()["Account"]

    def caller_identity_arn(self) -> str:
        """Return the ARN of the user or role that the calls are made as. Shares the call of `account_id`."""
        return self._caller()["Arn"]

    def expand_role(self, role: str) -> str:
        """Return the ARN of a role; one that holds a "/" is an ARN already, a name is looked up with IAM GetRole.

        Each name is looked up once in the session's life.
        """
        if "/" in role:
            return role
        with self._asking:
            if role not in self._roles:
                self._roles[role] = str(self.api.call("iam", "GetRole", {"RoleName": role})["Role"]["Arn"])
            return self._roles[role]

    def expression(self) -> str:
        """Return what another program may write to reach the same jobs, after `import processing`."""
        profile = self.boto_session.profile_name
        boto_session = "" if profile == "default" else f"boto3.Session(profile_name={profile!r}), "
        return f"processing.Session({boto_session}region_name={self.boto_region_name!r})"

    # Buckets.

    def default_bucket(self) -> str:
        """Return the name of the bucket for code and data.

        A bucket that the user named is returned untouched; else it is `sagemaker-<region>-<account>`, which is created
        where it is missing.

        Raises:
            ConfigurationError: a bucket of that name belongs to somebody else.
        """
        bucket = self.bucket_for_request(None)
        self.ensure_bucket(bucket)
        return bucket

    def bucket_for_request(self, role: str | None) -> str:  # noqa: ARG002 - a subclass may derive the name of the role
        """Return the default bucket's name without a call to S3; STS is asked where the name needs the account."""
        return self._default_bucket or self._derived_bucket(self.account_id())

    def bucket_without_call(self, role: str | None) -> str:
        """Return the default bucket's name without a call: the account is that of the role, if it is not known.

        Raises:
            ConfigurationError: no bucket was named, and no account is known.
        """
        named = self._default_bucket
        if named:
            return named
        if self._identity is not None:
            return self._derived_bucket(self._identity["Account"])
        fields = (role or "").split(":")
        if len(fields) == 6 and fields[0] == "arn" and fields[4].isdecimal():
            return self._derived_bucket(fields[4])
        raise ConfigurationError(
            "role: without a call to AWS the account is not known, and the default bucket's name is made of it; "
            "give the role's ARN, or a Session(default_bucket=...)"
        )

    def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket if it is the session's own default and missing; any other bucket is left alone.

        Raises:
            ConfigurationError: the name is taken by another account, or the bucket may not be looked at.
        """
        with self._asking:
            owner = None if bucket in self._ensured else self.expected_owner(bucket)
            if owner is None:
                return
            if not bucket_exists(self.api, bucket, owner):
                create_bucket(self.api, bucket, self.boto_region_name)
            self._ensured.add(bucket)

    def expected_owner(self, bucket: str) -> str | None:
        """Return the account that a bucket has to belong to: ours for the default bucket, None for a user's."""
        return None if self._default_bucket is not None else self._owner_where_derived(bucket)

    # Files, as `sagemaker.Session` has them.

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
            bucket: where to; the default bucket, and its prefix, where left out.
            key_prefix: the beginning of the keys.
            callback: called with the number of bytes, each time that some have been uploaded.
            extra_args: parameters of S3's PutObject, such as `{"ServerSideEncryption": "aws:kms"}`.

        Returns:
            The URI: of the object for a file, of the prefix for a directory.

        Raises:
            ConfigurationError: there is no such file, or the directory is empty.
            StagingError: a file could not be uploaded.
        """
        from processing.request.s3_uri import S3Uri
        from processing.staging.plan import StagingPlan
        from processing.staging.progress import bytes_only
        from processing.staging.sources import LocalSource, resolve_source
        from processing.staging.transfers import upload_all

        source = resolve_source(path, "path")
        if not isinstance(source, LocalSource):
            raise ConfigurationError(f"path: {path!r} is not a local file or directory")
        target = S3Uri(bucket, key_prefix) if bucket else self._under_default_bucket(key_prefix)
        plan = StagingPlan()
        uri = plan.add_source(source, target, extra=extra_args)
        upload_all(self.api, plan.uploads, expected_owner=self.expected_owner, progress=bytes_only(callback))
        return uri

    def download_data(
        self,
        path: str | os.PathLike[str],
        bucket: str,
        key_prefix: str = "",
        extra_args: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Download what is at or under a prefix into a directory, and return the files' paths.

        Args:
            path: the directory; made if missing.
            bucket: where from.
            key_prefix: an object's key, or the path that the keys begin with.
            extra_args: parameters of S3's GetObject, such as `{"RequestPayer": "requester"}`.

        Raises:
            StagingError: an object could not be fetched, or its key is no path inside the directory.
        """
        from processing.request.s3_uri import S3Uri
        from processing.staging.transfers import download_prefix

        files = download_prefix(
            self.api, S3Uri(bucket, key_prefix), Path(path), expected_owner=self.expected_owner, extra=extra_args
        )
        return [str(file) for file in files]

    def upload_string_as_file_body(self, body: str | bytes, bucket: str, key: str, kms_key: str | None = None) -> str:
        """Upload a text as an object, and return its URI.

        Args:
            body: the text; written as UTF-8.
            bucket: where to.
            key: the object's key.
            kms_key: the KMS key to encrypt it with.
        """
        from processing.request.s3_uri import S3Uri
        from processing.staging.transfers import put_bytes

        target = S3Uri(bucket, key)
        content = body.encode() if isinstance(body, str) else body
        put_bytes(self.api, content, target, kms_key=kms_key, expected_owner=self.expected_owner)
        return str(target)

    def read_s3_file(self, bucket: str, key_prefix: str) -> str:
        """Return an object's text, which has to be UTF-8."""
        from processing.request.s3_uri import S3Uri
        from processing.staging.transfers import get_bytes

        return get_bytes(self.api, S3Uri(bucket, key_prefix), expected_owner=self.expected_owner).decode()

    # Jobs, as `sagemaker.Session` has them.

    def describe_processing_job(self, job_name: str) -> dict[str, Any]:
        """Return DescribeProcessingJob's answer."""
        return self.api.call("sagemaker", "DescribeProcessingJob", {"ProcessingJobName": job_name})

    def stop_processing_job(self, job_name: str) -> None:
        """Ask AWS to stop a job; returns at once."""
        self.api.call("sagemaker", "StopProcessingJob", {"ProcessingJobName": job_name})

    # What the above stand on.

    def _rate_limiters(self) -> Mapping[str, AdaptiveRateLimiter]:
        """What holds calls back: shared by the process's sessions of a profile and region, so also of an account."""
        from processing.aws.rate_limit import shared_rate_limiters

        host = str(self.client("sagemaker").meta.endpoint_url).rstrip("/")
        if not host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
            return {}  # a stand-in has quotas of its own, if any
        return shared_rate_limiters(self.boto_region_name, str(self.boto_session.profile_name), host)

    def _make_boto_session(self) -> Any:
        import boto3
        import botocore.session

        from processing.request.service_model import shared_loader

        if boto3.DEFAULT_SESSION is not None:  # the user's, by boto3.setup_default_session()
            return boto3.DEFAULT_SESSION
        core = botocore.session.Session()
        loader = shared_loader()
        core.register_component("data_loader", loader)
        session = boto3.Session(botocore_session=core, region_name=self._region_name)
        # Every boto3 session adds its folder to the loader's, which is shared here: once is enough.
        loader.search_paths[:] = dict.fromkeys(loader.search_paths)
        return session

    def _find_region(self) -> str:
        given_client = self._clients.get("sagemaker") if self._boto_session is None else None
        region = given_client.meta.region_name if given_client is not None else self.boto_session.region_name
        if not region:
            raise ConfigurationError(
                "region_name: no AWS region is set; give Session(region_name=...), set AWS_DEFAULT_REGION, "
                "or set one with `aws configure`"
            )
        return str(region)

    def _make_client(self, service: str) -> Any:
        from botocore.config import Config

        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            max_pool_connections=_CONNECTIONS,
        )
        client = self.boto_session.client(service, region_name=self.boto_region_name, config=config)
        if service == "s3":
            without_expect_header(client)
        return client

    def _caller(self) -> Mapping[str, str]:
        with self._asking:
            if self._identity is None:
                self._identity = cast("Mapping[str, str]", self.api.call("sts", "GetCallerIdentity"))
            return self._identity

    def _derived_bucket(self, account: str) -> str:
        return f"sagemaker-{self.boto_region_name}-{account}"

    def _may_be_derived(self, bucket: str) -> bool:
        """Whether the name has the form of the default bucket's: only then the account is worth a call."""
        prefix, _, account = bucket.rpartition("-")
        return len(account) == 12 and account.isdecimal() and prefix == f"sagemaker-{self.boto_region_name}"

    def _owner_where_derived(self, bucket: str) -> str | None:
        """Return our account for a bucket whose name is made of it."""
        if not self._may_be_derived(bucket):
            return None
        account = self.account_id()
        return account if bucket == self._derived_bucket(account) else None

    def _under_default_bucket(self, key: str) -> S3Uri:
        from processing.request.s3_uri import S3Uri

        prefix = S3Uri(self.default_bucket(), (self.default_bucket_prefix or "").strip("/"))
        return prefix / key if key else prefix


def without_expect_header(client: Any) -> None:
    """Let an S3 client send bodies at once, without `Expect: 100-continue`, which costs a round trip for each."""
    from botocore import handlers

    handler = getattr(handlers, "add_expect_header", None)
    if handler is not None:
        client.meta.events.unregister("before-call.s3", handler)


def _check(field: str, given: object, holds: bool, kind: str) -> None:
    if given is not None and not holds:
        raise ConfigurationError(f"{field}: must be {kind}, not {type_name(given)}")


def _code_layout(given: str | None) -> CodeLayout:
    origin = "code_layout" if given is not None else "PROCESSING_CODE_LAYOUT"
    layout = given if given is not None else os.environ.get("PROCESSING_CODE_LAYOUT") or "content"
    if layout not in ("content", "job"):  # a tuple: what was given may have no hash
        raise ConfigurationError(f"{origin}: must be 'content' or 'job', not {layout!r}")
    return cast("CodeLayout", layout)


def _bundle_limit(given: int | None) -> int | None:
    variable = os.environ.get("PROCESSING_BUNDLE_LIMIT") if given is None else None
    origin = "PROCESSING_BUNDLE_LIMIT" if variable else "bundle_limit"
    if given is None and not variable:
        return None
    limit: Any = given
    if variable:
        limit = int(variable) if variable.isdecimal() else None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigurationError(f"{origin}: must be a number of bytes above 0, not {variable or given!r}")
    return limit


def _bucket_name(given: str | None) -> str | None:
    """Return the name alone, also where `s3://` was written before it."""
    if given is None:
        return None
    name = given[len("s3://") :].rstrip("/") if given.startswith("s3://") else given
    if not name or "/" in name:
        raise ConfigurationError(
            f"default_bucket: {given!r} is no bucket's name; a prefix goes in default_bucket_prefix"
        )
    return name
