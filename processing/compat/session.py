"""`sagemaker.Session` and `sagemaker.LocalSession`, with the parameters and methods that ETL scripts use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.execution_role import get_execution_role
from processing.job.job import attach
from processing.local.engine import REGION
from processing.local.session import LocalSession as _LocalSession
from processing.request.s3_uri import S3Uri
from processing.session.session import Session as _Session
from processing.staging.listing import list_objects
from processing.watching.render import Renderer

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Methods(_Session):
    """What a session of `sagemaker` 2.x has besides ours, as far as it is about processing jobs and their files."""

    @property
    def local_mode(self) -> bool:
        """Whether jobs run on this machine."""
        return self.is_local

    @property
    def sagemaker_client(self) -> Any:
        """The boto3 client of SageMaker."""
        return self.client("sagemaker")

    @property
    def s3_client(self) -> Any:
        """The boto3 client of S3."""
        return self.client("s3")

    @property
    def s3_resource(self) -> Any:
        """The boto3 resource of S3."""
        return self.boto_session.resource("s3", region_name=self.boto_region_name)

    def get_caller_identity_arn(self) -> str:
        """Return the ARN of the role that the calls are made as; of a user where it is none."""
        try:
            return get_execution_role(self)
        except ValueError:
            return self.caller_identity_arn()

    def list_s3_files(self, bucket: str, key_prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        return [found.key for found in list_objects(self.api, S3Uri(bucket, key_prefix), self.expected_owner)]

    def wait_for_processing_job(self, job: str, poll: float = 5) -> dict[str, Any]:
        """Wait for a job's end, and return its description; `poll` is taken and not needed.

        Raises:
            JobFailedError, JobStoppedError: it ended so.
        """
        del poll
        waited = attach(job, self)
        waited.wait(logs=False)
        return waited.describe()

    def logs_for_processing_job(self, job_name: str, wait: bool = False, poll: float = 10) -> None:
        """Write a job's log lines to standard output: those of now, or with `wait` all until its end."""
        del poll
        job = attach(job_name, self)
        if wait:
            job.wait(logs=True)
        else:
            renderer = Renderer()
            for line in job.logs():
                renderer.show(line)
            renderer.flush()

    def was_processing_job_successful(self, job_name: str) -> bool:
        """Say whether a job has completed."""
        return bool(self.describe_processing_job(job_name)["ProcessingJobStatus"] == "Completed")


class Session(_Methods):
    """A `processing.Session` that is made as a `sagemaker.Session` is.

    Args:
        boto_session: see `processing.Session`.
        sagemaker_client: the same.
        sagemaker_runtime_client: taken, and not needed.
        sagemaker_featurestore_runtime_client: taken, and not needed.
        default_bucket: see `processing.Session`.
        settings: taken, and not needed.
        sagemaker_metrics_client: taken, and not needed.
        sagemaker_config: see `processing.Session`; an empty one means the files.
        default_bucket_prefix: see `processing.Session`.
    """

    yields_to_engine = True

    def __init__(
        self,
        boto_session: Any = None,
        sagemaker_client: Any = None,
        sagemaker_runtime_client: Any = None,
        sagemaker_featurestore_runtime_client: Any = None,
        default_bucket: str | None = None,
        settings: Any = None,
        sagemaker_metrics_client: Any = None,
        sagemaker_config: Mapping[str, Any] | None = None,
        default_bucket_prefix: str | None = None,
    ) -> None:
        del sagemaker_runtime_client, sagemaker_featurestore_runtime_client, settings, sagemaker_metrics_client
        super().__init__(
            boto_session,
            sagemaker_client,
            default_bucket=default_bucket,
            default_bucket_prefix=default_bucket_prefix,
            sagemaker_config=sagemaker_config or None,
        )


class LocalSession(_Methods, _LocalSession):
    """A `processing.LocalSession` that is made as a `sagemaker.LocalSession` is: the default folder of the engine.

    Args:
        boto_session: names the region; its account is not reached.
        default_bucket: see `processing.LocalSession`.
        s3_endpoint_url: another S3 in place of the engine's own.
        disable_local_code: taken, and not needed.
        sagemaker_config: see `Session`.
        default_bucket_prefix: see `processing.LocalSession`.
    """

    def __init__(
        self,
        boto_session: Any = None,
        default_bucket: str | None = None,
        s3_endpoint_url: str | None = None,
        disable_local_code: bool = False,
        sagemaker_config: Mapping[str, Any] | None = None,
        default_bucket_prefix: str | None = None,
    ) -> None:
        del disable_local_code
        _LocalSession.__init__(
            self,
            s3_endpoint=s3_endpoint_url,
            default_bucket=default_bucket,
            default_bucket_prefix=default_bucket_prefix,
            region_name=getattr(boto_session, "region_name", None) or REGION,
            sagemaker_config=sagemaker_config or None,
        )
