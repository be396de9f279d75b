"""`sagemaker.Session` and `sagemaker.LocalSession`, with the parameters and methods that ETL scripts use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from processing.execution_role import get_execution_role
from processing.job.job import attach
from processing.local.engine import REGION
from processing.local.session import LocalSession as _LocalSession
from processing.request.s3_uri import S3Uri
from processing.session.session import Session as _Session
from processing.staging.listing import list_objects
from processing.watching.render.log_lines import Renderer

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Methods(_Session):
    """The members of a `sagemaker` 2.x session for processing jobs and their files that `processing.Session` lacks."""

    @property
    def local_mode(self) -> bool:
        """True if jobs run on this machine."""
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
        """Return the ARN of the role that makes the calls, or of the user if the caller is not a role."""
        try:
            return get_execution_role(self)
        except ValueError:
            return self.caller_identity_arn()

    def list_s3_files(self, bucket: str, key_prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        return [found.key for found in list_objects(self.api, S3Uri(bucket, key_prefix), self.expected_owner)]

    def wait_for_processing_job(self, job: str, poll: float = 5) -> dict[str, Any]:
        """Wait for a job's end, and return its description. `poll` is ignored.

        Raises:
            JobFailedError, JobStoppedError: the job failed or was stopped.
        """
        del poll
        waited = attach(job, self)
        waited.wait(logs=False)
        return waited.describe()

    def logs_for_processing_job(self, job_name: str, wait: bool = False, poll: float = 10) -> None:
        """Write a job's log lines to standard output: those of now, or all until its end if `wait` is True."""
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
        """Return True if a job has completed."""
        return bool(self.describe_processing_job(job_name)["ProcessingJobStatus"] == "Completed")


@attrs.frozen
class SessionSettings:
    """The settings of `sagemaker.Session(settings=...)`, which have no effect on processing jobs.

    Args:
        encrypt_repacked_artifacts: kept, and not used.
        local_download_dir: kept, and not used.
        include_jumpstart_tags: kept, and not used.
    """

    encrypt_repacked_artifacts: bool = True
    local_download_dir: str | None = None
    include_jumpstart_tags: bool = True


class Session(_Methods):
    """A `processing.Session` with the constructor of `sagemaker.Session`.

    Args:
        boto_session: the `boto3.Session` to use; by default a new one.
        sagemaker_client: the boto3 client of SageMaker to use.
        sagemaker_runtime_client: ignored.
        sagemaker_featurestore_runtime_client: ignored.
        default_bucket: the bucket for code, data and outputs without a destination; by default the bucket of the config
            file, else `sagemaker-<region>-<account>`.
        settings: ignored.
        sagemaker_metrics_client: ignored.
        sagemaker_config: the configuration as a dictionary; if empty, the config files are used.
        default_bucket_prefix: a prefix for every key in the default bucket.
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
    """A `processing.LocalSession` with the constructor of `sagemaker.LocalSession`, on the engine's default folder.

    Args:
        boto_session: a session that names the region; its account is never called.
        default_bucket: the bucket for code, data and outputs without a destination.
        s3_endpoint_url: the URL of another S3 that replaces the engine's own.
        disable_local_code: ignored.
        sagemaker_config: the configuration as a dictionary; if empty, the config files are used.
        default_bucket_prefix: a prefix for every key in the default bucket.
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
