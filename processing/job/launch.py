"""A job about to start: the processor is read once into a frozen request, what is local is staged, and it is submitted.

Nothing below this point sees a processor, so nothing can change under it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from typing import TYPE_CHECKING, Any

import attrs

from processing.exceptions import ConfigurationError
from processing.request.s3_uri import S3Uri, is_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processing.job.submit import Submitted
    from processing.models import ProcessingInput, ProcessingOutput
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import PendingUploads
    from processing.staging.progress import Progress

logger = logging.getLogger(__name__)


@attrs.frozen
class Launch:
    """A job about to start: the request, what has to be staged for it, and the session that it goes through."""

    session: Session
    request: ProcessingRequest
    staging: PendingUploads
    progress: Callable[[Progress], object] | None = None

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
            processor: the processor; nothing looks at it again.
            inputs: with names and URIs, as `_normalize_inputs` returns them.
            outputs: with names and URIs, as `_normalize_outputs` returns them.
            experiment_config: ExperimentName, TrialName, TrialComponentDisplayName, RunName.
            extra: further settings in the service's spelling, laid over the processor's own `extra`.
            role: taken instead of the processor's role.
            offline: True where no call to AWS may be made.
            check: False where whoever calls looks at the findings itself.

        Raises:
            ConfigurationError: what AWS would refuse, every finding in one message.
        """
        from processing.config import defaults
        from processing.request.build import build_request
        from processing.request.extra import merge_extra
        from processing.request.validate import check_request

        session: Session = processor.sagemaker_session
        processor._apply_config()  # noqa: SLF001 - for one that was not prepared by `run`
        request = build_request(
            job_name=processor._current_job_name,  # noqa: SLF001 - v2's name for it, part of the subclassing interface
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
        if check:
            check_request(request, file_uris=session.is_local)
        return cls(session, request, processor._detach_uploads())  # noqa: SLF001 - the same

    def submit(self) -> Submitted:
        """Stage and submit, and return what AWS has accepted.

        Raises:
            EngineError: the embedded engine cannot run it here.
            StagingError: an upload failed; nothing was submitted.
            SubmissionError: AWS refused the request.
        """
        session, request = self.session, self.request
        with contextlib.closing(self.staging):
            session.preflight(request, self.staging)
            for bucket in sorted(self._buckets()):
                session.ensure_bucket(bucket)
            submitted = self._stage_and_submit()
        logger.info("created processing job %s", request.job_name)
        return submitted

    def claimed(self) -> Launch:
        """Return the same launch for a name that another run may have come upon too.

        Its uploads replace nothing, and are taken back where the name turns out to be the other's: the other's job
        must not find them among its files.
        """
        return attrs.evolve(self, staging=self.staging.with_claim(secrets.token_hex(8)))

    def _stage_and_submit(self) -> Submitted:
        from processing.exceptions import NameTakenError
        from processing.job.submit import submit
        from processing.staging.deduplication import missing_uploads, record_trees
        from processing.staging.objects import ClaimedError, remove_claimed
        from processing.staging.transfers import upload_all

        api, owner, uploads = self.session.api, self.session.expected_owner, self.staging.uploads
        try:
            missing = missing_uploads(api, uploads, owner)
            upload_all(api, missing, expected_owner=owner, progress=self.progress)
            record_trees(uploads)
            return submit(api, self.request)
        except (ClaimedError, NameTakenError):
            remove_claimed(api, uploads, owner)
            raise

    def _buckets(self) -> set[str]:
        """The buckets that the job reads or writes: the session makes sure of the one that is its own."""
        uris = [entry.source for entry in self.request.inputs] + [entry.destination for entry in self.request.outputs]
        return {S3Uri.parse(os.fspath(uri)).bucket for uri in uris if uri and is_s3(uri)} | {
            upload.target.bucket for upload in self.staging.uploads
        }


def role_arn(session: Session, role: str | None, *, offline: bool) -> str:
    """Return the role's ARN: the role as given where it holds a "/", else looked up with IAM GetRole.

    Raises:
        ConfigurationError: no role, or only a name where no call may be made.
    """
    if not role:
        raise ConfigurationError("role: missing; give the ARN of an IAM role that SageMaker can assume")
    if not isinstance(role, str):
        raise ConfigurationError(f"role: must be a string, not {type(role).__name__}")
    if offline and "/" not in role and not session.is_local:  # the engine knows its roles without a call
        raise ConfigurationError(f"role: request() makes no call to AWS to look {role!r} up; give the role's ARN")
    return session.expand_role(role)
