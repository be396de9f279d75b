"""The session of the embedded engine. Its boto3 session reaches the engine and no other service."""

from __future__ import annotations

import datetime as dt
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from processing._utils.validation import FUNCTION, NAME, PATH, instance_of, require, with_methods
from processing.clock import SYSTEM_CLOCK, Clock
from processing.exceptions import ConfigurationError, EngineError
from processing.local.engine import REGION, Engine
from processing.local.errors import ApiError
from processing.local.event_source import OutboxEventSource
from processing.local.settings import EngineSettings
from processing.local.transports.in_process import InProcessTransport, Transport
from processing.request.service_model import shared_loader
from processing.session.default_bucket import DefaultBucket
from processing.session.session import Session
from processing.session.travel import SessionOrigin

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from processing.aws.rate_limit import AdaptiveRateLimiter
    from processing.aws.retry import RetryPolicy
    from processing.local.cleaning import Age, Cleaned, Size
    from processing.local.event_callbacks import EventListener
    from processing.local.jobs.fixed_paths import EngineCode
    from processing.local.settings import SandboxSetting
    from processing.request.build import ProcessingRequest
    from processing.session.arguments import CodeLayout
    from processing.staging.pending_uploads import PendingUploads
    from processing.watching.polling import Polling
    from processing.watching.status.poller import EventSource


_TRANSPORT = with_methods("a function that returns a transport with send()", "send")


class _EngineBucket(DefaultBucket):
    """The default bucket in the engine's own S3, where a bucket is only a name in a folder."""

    _session: LocalSession

    def ensure(self, bucket: str) -> None:
        """Create the session's bucket if it does not exist, also one that the user named."""
        if bucket in self._ensured or not (bucket == self.named or self.expected_owner(bucket)):
            return
        try:
            self._session.engine.handle("s3", "CreateBucket", {"Bucket": bucket})
        except ApiError as error:
            if error.status != 409:  # 409: the bucket exists
                raise EngineError(f"the bucket {bucket} cannot be made: {error.message}") from error
        self._ensured.add(bucket)

    def name_without_call(self, role: str | None) -> str:  # noqa: ARG002 - the engine knows its account
        """Return the bucket's name: the engine's account is always known."""
        return self.name()


class LocalSession(Session):
    """A session that runs jobs on this machine: no account, no containers, no network.

    Sessions with the same folder, in any number of processes, share jobs, logs and objects.

    Args:
        home: the engine's folder. By default the environment's PROCESSING_LOCAL_HOME, else `sm-processing` in the
            machine's folder for user data (`~/.local/share` on Linux).
        settings: the settings for jobs, in one value. Alternatively pass its parts, described at `EngineSettings`:
        python: the interpreter or virtual environment that runs jobs.
        images: a mapping of image URIs to such interpreters.
        programs: a mapping of patterns of image URIs, as in a shell, to modules that stand in for images that train
            and serve.
        sandbox: `auto`, `bubblewrap`, `namespaces`, `rewriting` or `container`.
        tick: seconds between two checks of a job for a stop request.
        grace: seconds between SIGTERM and SIGKILL when a job is stopped; an endpoint's program gets 30 at most, and
            that of a transform job 2.
        container_program: the program that runs containers; by default podman, else docker.
        container_options: further options of its `run`.
        cpus: the CPUs that each host of a job may use.
        memory_gb: the memory that each host may use, in GiB.
        events_file: a file to which every state change of a job is appended.
        events_queue: a queue of the engine that receives every state change.
        s3_endpoint: another S3 in place of the engine's own.
        sample: seconds between two samples of a host's CPU, memory and disk.
        default_bucket: the bucket for code, data and outputs; it is made in the engine if it is missing.
        default_bucket_prefix: a prefix for every key in it.
        code_layout: see `Session`.
        region_name: the region in ARNs and in the name of the default bucket; None for us-east-1. With a region, images
            and keys of other regions are refused, as by AWS.
        clock: the clock of this session; jobs run in real time.
        retry_policy: the policy for retries of failed calls.
        polling: the intervals at which a job's status and logs are read.
        bundle_limit: see `Session`.
        transport: a function from the engine's transport to the transport to use, for example to inject faults.
        sagemaker_config: see `Session`.

    Raises:
        ConfigurationError: `settings` is passed together with one of its parts, or a part is not a valid setting.
    """

    is_local = True
    _bucket_type = _EngineBucket
    _no_config_object = "in the engine's S3, the only one that it reads; LocalSession(sagemaker_config={}) does without"

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        settings: EngineSettings | None = None,
        python: str | os.PathLike[str] | None = None,
        images: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        programs: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        sandbox: SandboxSetting | None = None,
        tick: float | None = None,
        grace: float | None = None,
        container_program: str | os.PathLike[str] | None = None,
        container_options: Sequence[str] | None = None,
        cpus: int | None = None,
        memory_gb: float | None = None,
        events_file: str | os.PathLike[str] | None = None,
        events_queue: str | None = None,
        s3_endpoint: str | None = None,
        sample: float | None = None,
        default_bucket: str | None = None,
        default_bucket_prefix: str | None = None,
        code_layout: CodeLayout | None = None,
        region_name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        retry_policy: RetryPolicy | None = None,
        polling: Polling | None = None,
        bundle_limit: int | None = None,
        transport: Callable[[Transport], Transport] | None = None,
        sagemaker_config: Mapping[str, Any] | None = None,
    ) -> None:
        if not (isinstance(home, str) and "\0" in home):  # the engine explains why it cannot keep its files there
            require("home", home, PATH, optional=True)
        require("transport", transport, FUNCTION, optional=True)
        if polling is None:
            from processing.watching.polling import Polling

            polling = Polling.of_engine()
        super().__init__(
            default_bucket=default_bucket,
            default_bucket_prefix=default_bucket_prefix,
            region_name=REGION if region_name is None else region_name,
            code_layout=code_layout,
            clock=clock,
            retry_policy=retry_policy,
            polling=polling,
            bundle_limit=bundle_limit,
            sagemaker_config=sagemaker_config,
        )
        parts = {
            "python": python,
            "images": images,
            "programs": programs,
            "sandbox": sandbox,
            "tick": tick,
            "grace": grace,
            "container_program": container_program,
            "container_options": container_options,
            "cpus": cpus,
            "memory_gb": memory_gb,
            "events_file": events_file,
            "events_queue": events_queue,
            "s3_endpoint": s3_endpoint,
            "sample": sample,
        }
        self.engine = Engine(
            None if home is None else Path(home),
            _settings(settings, {name: value for name, value in parts.items() if value is not None}),
            region=region_name,
        )
        inner = InProcessTransport(self.engine)
        self._wraps_transport = transport is not None
        self._transport = inner if transport is None else transport(inner)
        require("transport", self._transport, _TRANSPORT)

    def __getstate__(self) -> dict[str, Any]:
        if self._wraps_transport:
            raise ConfigurationError("transport: belongs to this process; make the LocalSession in the other process")
        state = super().__getstate__()
        del state["_transport"]
        return {**state, "engine": (self.engine.home, self.engine.settings, self.engine.chosen_region)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        home, settings, region = state.pop("engine")
        super().__setstate__(state)
        self.engine = Engine(home, settings, region=region)
        self._transport = InProcessTransport(self.engine)

    def _origin(self) -> SessionOrigin:
        return SessionOrigin()  # the engine's clients have no keys

    @property
    def region_of_jobs(self) -> str | None:
        """The region that images, keys and roles have to fit; None if the user gave none."""
        return self.engine.chosen_region

    @property
    def home(self) -> Path:
        """The engine's folder."""
        return self.engine.home

    def watch_events(
        self, callback: Callable[[dict[str, Any]], object], *, since: dt.datetime | None = None
    ) -> EventListener:
        """Call a function for each change of a job's status, for all jobs in the folder, until the result is closed.

        The function runs in a thread of its own. It receives EventBridge's events as dicts: "SageMaker Processing Job
        State Change", "SageMaker Training Job State Change" and those of their siblings. Its exceptions are logged, and
        the next event follows. Use the result as a context manager, or call its `close()`.

        Args:
            callback: the function; it receives each event, in order.
            since: the time of the first event, as far back as the engine keeps events (a day, and the last thousands);
                by default now. A time without a zone is UTC.

        Raises:
            ConfigurationError: `callback` cannot be called, or `since` is not a datetime.
        """
        from processing.local.event_callbacks import EventListener

        if not callable(callback):
            raise ConfigurationError(f"callback: {callback!r} cannot be called")
        if since is not None and not isinstance(since, dt.datetime):
            raise ConfigurationError(f"since: must be a datetime, not {since!r}")
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=dt.timezone.utc)
        start = None if since is None else since.timestamp()
        return EventListener(self.home, callback, since=start, clock=self.clock)

    def preflight(self, request: ProcessingRequest, pending: PendingUploads) -> None:
        """Refuse a job that the engine cannot run, before any upload.

        Raises:
            EngineError: the engine cannot run the job on this machine; the message has the remedy.
            ConfigurationError: the Python for the image does not exist.
        """
        from processing.local import sandboxes
        from processing.local.jobs.description import with_defaults
        from processing.local.jobs.execution_planner import other_python, spark_problem
        from processing.local.jobs.project_paths import remember_sources
        from processing.local.jobs.validation import check_runnable
        from processing.local.jobs.workload import processing_workload
        from processing.request.warnings import note_in_plan

        self.engine.check()
        complete = with_defaults(request.to_boto())
        try:
            check_runnable(complete, runs_image=self.engine.settings.runs_images)
        except ApiError as error:
            raise EngineError(error.message) from error
        self.engine.settings.check_sinks()
        sandbox = sandboxes.sandbox_for(self.engine.settings)
        python = None if sandbox.runs_image else self.engine.settings.interpreter(request.image_uri)
        workload, isolation = processing_workload(complete), "network_config.enable_network_isolation"
        problem = spark_problem(self.engine.settings, python, workload, isolation)
        if problem is not None:
            raise EngineError(problem)
        if python is not None:
            note_in_plan(other_python(python, request.image_uri))
            remember_sources(request.job_name, (upload.source for upload in pending.uploads))
        if sandbox.name == "rewriting":
            _check_paths(request, pending, self.engine)

    def empty_outputs(self, job_name: str) -> Sequence[str]:
        """Return the names of a completed job's outputs that received no file."""
        from processing.local.jobs.empty_outputs import empty_outputs

        return empty_outputs(self.engine, job_name)

    def known_phase(self, job_name: str) -> str | None:
        """Return `uploading` once a program of a job has ended and its outputs are uploaded; otherwise None.

        It stays so after the job's end, of which a caller may not have heard yet.
        """
        try:
            job = self.engine.jobs.get(job_name)
        except (ApiError, EngineError, OSError):
            return None
        return "uploading" if '"uploading"' in job.state else None

    def clean(
        self, *, older_than: Age | None = None, larger_than: Size | None = None, dry_run: bool = False
    ) -> Cleaned:
        """Remove old data from the engine's folder, and the files that killed processes left in it.

        Running jobs, the objects that they read, and all younger data stay. So do buckets, queues, and files that are
        not the engine's. Other processes may use the folder meanwhile.

        Args:
            older_than: the age from which finished jobs with their tags, log lines, metrics, objects (by the time of
                their last write) and unfinished uploads are removed: text such as `30d` or `12h`, seconds or a
                timedelta.
            larger_than: the size of the folder beyond which the oldest of them are removed: text such as `5GB`, or
                bytes.
            dry_run: whether to remove nothing, and return the numbers of what would be removed.

        Returns:
            the number of removed items of each kind, the freed bytes, and the size of the folder afterwards.

        Raises:
            ConfigurationError: `older_than` is not an age, or `larger_than` is not a size.
        """
        return self.engine.clean(older_than=older_than, larger_than=larger_than, dry_run=dry_run)

    def expression(self) -> str:
        """Return the expression by which another program reaches the same jobs, after `import processing`."""
        return f"processing.LocalSession({str(self.home)!r})"

    def expand_role(self, role: str) -> str:
        """Return the ARN of a role. Any name is a role in the engine's account."""
        require("role", role, NAME)
        return role if "/" in role else f"arn:aws:iam::{self.engine.account}:role/{role}"

    def _connected_event_source(self) -> EventSource:
        return OutboxEventSource(self.engine.jobs, self.clock)

    def _caller(self) -> Mapping[str, str]:
        # The engine has one account with a fixed number.
        return self.engine.handle("sts", "GetCallerIdentity", {})

    def _rate_limiters(self) -> Mapping[str, AdaptiveRateLimiter]:
        # The engine has no quotas.
        return {}

    def _make_boto_session(self) -> Any:
        import boto3

        from processing.local.transports.clients import engine_session

        loader = shared_loader()
        core = engine_session(self._transport, loader)
        session = boto3.Session(botocore_session=core, region_name=self.boto_region_name)
        # The loader is shared, and every boto3 session adds its folder to it once more.
        loader.search_paths[:] = dict.fromkeys(loader.search_paths)
        return session


def _settings(whole: EngineSettings | None, parts: dict[str, Any]) -> EngineSettings:
    require("settings", whole, instance_of(EngineSettings), optional=True)
    if whole is None:
        return EngineSettings(**parts)
    if parts:
        raise ConfigurationError(f"settings: already contains {', '.join(parts)}; pass only one of the two")
    return whole


def _check_paths(request: ProcessingRequest, pending: PendingUploads, engine: Engine) -> None:
    """Refuse code with a path below /opt/ml in it: without a sandbox it would not find its files there."""
    from processing.local.jobs.description import with_defaults
    from processing.local.jobs.fixed_paths import EngineCode, message, problem_in_objects
    from processing.local.jobs.workload import processing_workload
    from processing.local.sandboxes.rewriting import literal_paths

    # The messages for these have the user's own paths.
    named = {PurePosixPath(part).name for part in request.entrypoint or ()}
    scripts = [(upload.source, upload.body) for upload in pending.uploads if upload.source.name in named]
    for path, body in [*scripts, *pending.scripts]:
        for number, line in literal_paths(path, body)[:1]:
            raise EngineError(message(path, number, line))
    workload = processing_workload(with_defaults(request.to_boto()))
    problem = problem_in_objects(workload.words, workload.inputs, _CodeToUpload(pending, EngineCode(engine)))
    if problem is not None:
        raise EngineError(problem)


class _CodeToUpload:
    """The objects that will exist when the job is created: the pending uploads and the engine's own."""

    def __init__(self, pending: PendingUploads, existing: EngineCode) -> None:
        self._uploads = {(each.target.bucket, each.target.key): each for each in pending.uploads}
        self._existing = existing

    def keys(self, bucket: str, prefix: str) -> Iterable[str]:
        """Return the keys that begin with the prefix."""
        own = [key for place, key in self._uploads if place == bucket and key.startswith(prefix)]
        return own or self._existing.keys(bucket, prefix)

    def read(self, bucket: str, key: str) -> bytes | None:
        """Return an object's content; None if it cannot be read."""
        upload = self._uploads.get((bucket, key))
        if upload is None:
            return self._existing.read(bucket, key)
        try:
            return upload.source.read_bytes() if upload.body is None else upload.body
        except OSError:  # the upload raises the error
            return None
