"""The launch of one job: read a processor once into a frozen request, stage its local files, and submit it.

Nothing below this module sees a processor, so nothing can change during staging and submission. `processing.job.start`
chooses the job's name before a launch. `processing.job.submit` creates the job exactly once at its end.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import ConfigurationError, SubmissionError
from processing.job.cost import facts_of_request
from processing.request.bucket_names import is_s3
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from processing.aws.rate_limit import RateLimiter
    from processing.job.submit import Submitted
    from processing.models import ProcessingInput, ProcessingOutput
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import PendingUploads, Upload
    from processing.staging.progress import Progress
    from processing.watching.render.run_display import RunDisplay

logger = logging.getLogger(__name__)


@attrs.frozen
class LaunchOptions:
    """Settings of a launch that the caller of `Processor.run` cannot pass as arguments.

    Args:
        rate_limiter: holds back CreateProcessingJob, in place of the session's own limiter. It may raise
            `SubmissionCancelledError` to prevent the creation.
        name_is_unlisted: True if a recent listing of the jobs does not show the job's name. The name is then looked up
            only if an upload could replace files of another job. Otherwise CreateProcessingJob itself finds out that
            the name is taken, which saves one call.
        quiet: True to show nothing: thousands of jobs are launched.
    """

    rate_limiter: RateLimiter | None = None
    name_is_unlisted: bool = False
    quiet: bool = False


_DEFAULTS: Final = LaunchOptions()

# `submit_all` reaches a launch only through the public method `Processor.run`. Subclasses override `run` with their own
# parameters and may call another processor inside it. So neither an argument nor an attribute of the processor reaches
# every launch. `Launch.from_processor` is the one reader of this variable. Below it the options are a field.
_options: contextvars.ContextVar[LaunchOptions] = contextvars.ContextVar("launch_options", default=_DEFAULTS)


@contextlib.contextmanager
def launch_options(options: LaunchOptions) -> Iterator[None]:
    """Apply options to every launch that this thread makes inside the block."""
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)


def current_options() -> LaunchOptions:
    """Return the options of this thread's launches."""
    return _options.get()


@attrs.frozen
class Launch:
    """A job that is ready to be staged and submitted.

    Args:
        session: the session that the job is submitted through.
        request: the parameters of CreateProcessingJob.
        staging: the uploads that the request refers to.
        progress: a function that gets a `Progress` for each upload.
        options: settings by `submit_all`.
        display: shows the launch; None shows nothing.
    """

    session: Session
    request: ProcessingRequest
    staging: PendingUploads
    progress: Callable[[Progress], object] | None = None
    options: LaunchOptions = _DEFAULTS
    display: RunDisplay | None = attrs.field(default=None, eq=False)

    @classmethod
    def from_processor(
        cls,
        processor: Any,
        inputs: Sequence[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput] | None,
        experiment_config: dict[str, str] | None,
        *,
        extra: Mapping[str, Any] | None = None,
        role: str | None = None,
        offline: bool = False,
        check: bool = True,
    ) -> Launch:
        """Read a processor once, after its hooks have run, and check the whole request.

        Args:
            processor: the processor; it is not read again.
            inputs: the inputs with names and URIs, as `_normalize_inputs` returns them.
            outputs: the outputs with names and URIs, as `_normalize_outputs` returns them.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            extra: further settings in the service's spelling; they override the processor's own `extra`.
            role: a role that replaces the processor's role.
            offline: True if no call to AWS may be made.
            check: False if the caller checks the request itself.

        Raises:
            ConfigurationError: AWS would refuse the request; the message has every finding.
        """
        from processing.config import defaults
        from processing.request.build import build_request
        from processing.request.extra import merge_extra

        session: Session = processor.sagemaker_session
        processor._apply_config()  # noqa: SLF001 - `start_new` may get a processor that `run` has not prepared
        request = build_request(
            job_name=processor._current_job_name,  # noqa: SLF001 - v2's attribute, part of the interface for subclasses
            role_arn=role_arn(session, role or processor.role, offline=offline),
            image_uri=processor.image_uri,
            instance_count=processor.instance_count,
            instance_type=processor.instance_type,
            instance_preferences=processor.instance_preferences,
            entrypoint=processor.entrypoint,
            arguments=processor.arguments,
            environment=processor.env,
            inputs=defaults.fill_inputs(session.config, inputs or ()),
            outputs=list(outputs or ()),
            volume_size_in_gb=processor.volume_size_in_gb,
            volume_kms_key=processor.volume_kms_key,
            output_kms_key=processor.output_kms_key,
            max_runtime_in_seconds=processor.max_runtime_in_seconds,
            tags=defaults.add_tags(session.config, processor.tags),
            network_config=processor.network_config,
            experiment_config=experiment_config,
            extra=merge_extra(processor.extra, extra),
        )
        staging = processor._detach_uploads()  # noqa: SLF001 - the processor's hooks have collected the uploads
        launch = cls(session, request, staging, options=_options.get())
        if check:
            launch.check()
        return launch

    def check(self) -> None:
        """Refuse a request that cannot work.

        Raises:
            ConfigurationError: AWS would refuse the request; the message has every finding.
        """
        problems = self.find_problems()
        if problems:
            raise ConfigurationError(*problems)

    def find_problems(self) -> tuple[str, ...]:
        """Return the findings that `check` raises; empty if there are none."""
        from processing.request.validate import find_problems

        session = self.session
        return find_problems(
            self.request, file_uris=session.is_local, region=session.region_of_jobs, sizes=self._input_sizes()
        )

    def _input_sizes(self) -> dict[int, int]:
        """Return the bytes that are uploaded for each input, by the input's position."""
        sizes: dict[int, int] = {}
        starts = [(index, str(entry.source)) for index, entry in enumerate(self.request.inputs) if entry.source]
        for upload in self.staging.uploads:
            target = str(upload.target)
            matches = [(len(start), index) for index, start in starts if target.startswith(start)]
            if matches:
                index = max(matches)[1]
                sizes[index] = sizes.get(index, 0) + (upload.size or 0)
        return sizes

    def submit(self) -> Submitted:
        """Stage the files, submit the request, and return the accepted job.

        Raises:
            EngineError: the embedded engine cannot run the job on this machine.
            StagingError: an upload failed; nothing was submitted.
            SubmissionError: AWS refused the request.
        """
        from processing.job.submit import submit

        with self._staged(keep_on=_may_exist):
            submitted = submit(self.session.api, self.request, rate_limiter=self.options.rate_limiter)
        if self.display is not None:
            self.display.submitted()
        logger.info("created processing job %s", self.request.job_name)
        return submitted

    def stage(self) -> ProcessingRequest:
        """Stage the files, and return the request.

        Raises:
            EngineError: the embedded engine cannot run the job on this machine.
            StagingError: an upload failed.
        """
        with self._staged():
            pass
        if self.display is not None:
            self.display.submitted()
        return self.request

    def shown_in(self, display: RunDisplay, progress: Callable[[Progress], object] | None) -> Launch:
        """Return the same launch with a display, and with the user's own function for progress."""
        return attrs.evolve(self, display=display, progress=progress)

    def claimed(self) -> Launch:
        """Return the same launch for a generated name, which another run may use at the same moment.

        Its uploads replace no object. They are removed again if the other run gets the name, so that the other job
        does not find them among its files.
        """
        return attrs.evolve(self, staging=self.staging.with_claim(secrets.token_hex(8)))

    @contextlib.contextmanager
    def _staged(self, keep_on: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
        """Upload the files for the block. If a claim, the uploads or the block fail, remove the claimed files.

        Args:
            keep_on: returns whether the files stay in spite of an error of the block.
        """
        from processing.staging.deduplication import missing_uploads, record_trees
        from processing.staging.objects import ClaimedError
        from processing.staging.transfers import remove_claimed, upload_all

        session, uploads = self.session, self.staging.uploads
        api, owner = session.api, session.expected_owner
        if self.display is not None:
            self.display.announce(facts_of_request(session, self.request))
        with contextlib.closing(self.staging):
            session.preflight(self.request, self.staging)
            for bucket in sorted(self._buckets()):
                session.ensure_bucket(bucket)
            uploaded = False
            begun: list[Upload] = []
            try:
                missing = missing_uploads(api, uploads, owner)
                upload_all(api, missing, expected_owner=owner, progress=self._progress(), begun=begun)
                record_trees(uploads)
                uploaded = True
                yield
            except (ClaimedError, SubmissionError, KeyboardInterrupt) as error:
                # A Ctrl-C during the submission may come after AWS has created the job, which needs its files.
                interrupted = uploaded and isinstance(error, KeyboardInterrupt)
                if not (interrupted or keep_on(error)):
                    remove_claimed(api, begun, owner)
                raise

    def _progress(self) -> Callable[[Progress], object] | None:
        if self.display is None:
            return self.progress
        from processing.watching.render.run_display import reporter

        return reporter(self.display, *([] if self.progress is None else [self.progress]))

    def _buckets(self) -> set[str]:
        """Return the buckets that the job reads or writes; the session creates its own bucket if it is missing."""
        uris = [entry.source for entry in self.request.inputs] + [entry.destination for entry in self.request.outputs]
        return {S3Uri.parse(os.fspath(uri)).bucket for uri in uris if uri and is_s3(uri)} | {
            upload.target.bucket for upload in self.staging.uploads
        }


def _may_exist(error: BaseException) -> bool:
    return bool(getattr(error, "may_exist", False))


MISSING_ROLE = "role: missing; give the ARN of an IAM role that SageMaker can assume"
MISSING_IMAGE = "image_uri: missing; give the URI of a container image"


def role_arn(session: Session, role: str | None, *, offline: bool) -> str:
    """Return a role's ARN: the role itself if it contains a "/", otherwise the answer of IAM GetRole.

    Raises:
        ConfigurationError: there is no role, or only its name is known and no call may be made.
    """
    if not role:
        raise ConfigurationError(MISSING_ROLE)
    if not isinstance(role, str):
        raise ConfigurationError(f"role: must be a string, not {type(role).__name__}")
    if offline and "/" not in role and not session.is_local:  # the engine expands a role's name without a call
        raise ConfigurationError(f"role: request() makes no call to AWS to look {role!r} up; give the role's ARN")
    return session.expand_role(role)
