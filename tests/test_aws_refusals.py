"""Explanations of AWS's refusals, with the permission, the bucket and the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

import processing
from processing import LocalSession, StagingError
from processing.aws.refusals import explanation
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from pathlib import Path

PLACE = {"Bucket": "data", "Key": "in/a.csv"}
JOB = {"ProcessingJobName": "clean", "RoleArn": "arn:aws:iam::111122223333:role/r"}
PASS_ROLE = (
    "User: arn:aws:iam::1:user/u is not authorized to perform: iam:PassRole on resource: "
    "arn:aws:iam::111122223333:role/r because no identity-based policy allows the iam:PassRole action"
)
KMS = (
    "User: arn:aws:iam::1:user/u is not authorized to perform: kms:GenerateDataKey on resource: "
    "arn:aws:kms:eu-west-1:1:key/k because no resource-based policy allows the kms:GenerateDataKey action"
)
CASES: list[tuple[str, str, str, dict[str, Any], list[str]]] = [
    ("PutObject", "AccessDenied", "Access Denied", PLACE, ["s3:PutObject on s3://data/in/a.csv"]),
    ("UploadPart", "AccessDenied", "Access Denied", PLACE, ["s3:PutObject on s3://data/in/a.csv"]),
    ("CopyObject", "AccessDenied", "Access Denied", PLACE, ["s3:PutObject, and s3:GetObject on the source"]),
    ("GetObject", "AccessDenied", "Access Denied", PLACE, ["s3:GetObject on s3://data/in/a.csv", "s3:ListBucket"]),
    ("HeadObject", "403", "Forbidden", PLACE, ["s3:GetObject on s3://data/in/a.csv"]),
    ("ListObjectsV2", "AccessDenied", "Access Denied", {"Bucket": "data"}, ["s3:ListBucket on the bucket data"]),
    ("CreateBucket", "AccessDenied", "Access Denied", {"Bucket": "data"}, ["s3:CreateBucket on the bucket data"]),
    ("HeadBucket", "403", "Forbidden", {"Bucket": "data"}, ["s3:ListBucket on the bucket data"]),
    ("PutObject", "AccessDenied", KMS, PLACE, ["kms:GenerateDataKey", "arn:aws:kms:eu-west-1:1:key/k"]),
    ("PutObject", "KMS.DisabledException", "k is disabled", {**PLACE, "SSEKMSKeyId": "k"}, ["key k", "s3://data/in"]),
    ("PutObject", "AccessDenied", "s3:PutObject with an explicit deny", PLACE, ["ask an administrator"]),
    ("PutObject", "NoSuchBucket", "no", PLACE, ["no bucket data"]),
    ("GetObject", "NoSuchKey", "no", PLACE, ["no object s3://data/in/a.csv"]),
    ("PutObject", "PermanentRedirect", "no", PLACE, ["data: the bucket is in another region"]),
    ("PutObject", "AllAccessDisabled", "no", PLACE, ["suspended"]),
    ("CreateProcessingJob", "AccessDeniedException", "no", JOB, ["sagemaker:CreateProcessingJob", "iam:PassRole"]),
    (
        "CreateProcessingJob",
        "AccessDeniedException",
        PASS_ROLE,
        JOB,
        ["iam:PassRole on the job's role, arn:"],
    ),
    ("CreateProcessingJob", "ValidationException", "Could not assume role r", JOB, ["trust policy", "role/r"]),
    ("CreateProcessingJob", "ResourceLimitExceeded", "limit 'q'", JOB, ["the quota 'q' in Service Quotas"]),
    ("CreateProcessingJob", "OptInRequired", "no", JOB, ["not enabled"]),
    ("DescribeProcessingJob", "AccessDeniedException", "no", JOB, ["sagemaker:DescribeProcessingJob on clean"]),
    ("StopProcessingJob", "AccessDeniedException", "no", JOB, ["sagemaker:StopProcessingJob on clean"]),
    ("ListProcessingJobs", "AccessDeniedException", "no", {}, ["sagemaker:ListProcessingJobs."]),
    ("FilterLogEvents", "AccessDeniedException", "no", {"logGroupName": "/g"}, ["logs:FilterLogEvents on /g"]),
    ("GetResources", "AccessDeniedException", "no", {}, ["tag:GetResources."]),
    ("GetRole", "AccessDenied", "no", {"RoleName": "r"}, ["iam:GetRole on r"]),
    ("NewOperation", "AccessDenied", "is not authorized to perform: new:Thing", {}, ["needs new:Thing."]),
]


@pytest.mark.parametrize(("operation", "code", "text", "params", "words"), CASES)
def test_a_refusal_names_the_permission_and_its_object(
    operation: str, code: str, text: str, params: dict[str, Any], words: list[str]
) -> None:
    """One table explains the refusals of all services."""
    explained = explanation(operation, code, text, params)
    for each in words:
        assert each in explained
    assert "{" not in explained


def test_other_refusals_have_no_explanation() -> None:
    """AWS's own words are enough there."""
    assert explanation("CreateProcessingJob", "ValidationException", "1 validation error", JOB) == ""
    assert explanation("PutObject", None, "", PLACE) == ""


def test_a_bucket_named_kms_is_no_key() -> None:
    """The word in a name does not make a refusal one of KMS."""
    text = "not authorized to perform: s3:PutObject on resource: arn:aws:s3:::kms-data/a"
    place = {"Bucket": "kms-data", "Key": "a"}
    assert "s3:PutObject on s3://kms-data/a" in explanation("PutObject", "AccessDenied", text, place)


def test_botocores_error_has_the_explanation() -> None:
    """Calls whose errors stay botocore's own are explained too, once."""
    aws = SimulatedAws(VirtualClock())
    aws.add_job("job", ends=None)
    job = processing.attach("job", aws.session())
    aws.faults.on("*", "denied", probability=1.0)
    for call, permission in {
        job.describe: "The caller needs sagemaker:DescribeProcessingJob on job.",
        job.stop: "The caller needs sagemaker:StopProcessingJob on job.",
    }.items():
        with pytest.raises(ClientError, match="Not authorized") as raised:
            call()
        assert str(raised.value).splitlines()[1:] == [permission]


def test_denied_transfers_name_the_permission_once_a_file(tmp_path: Path) -> None:
    """Ten files are listed, first those with a reason; the attribute has all."""
    (tmp_path / "data").mkdir()
    for number in range(100):
        (tmp_path / "data" / f"{number:03d}").write_text("x")
    faults = FaultInjector()
    session = LocalSession(tmp_path / "engine", transport=faults.wrap)
    bucket = session.default_bucket()
    session.upload_data(tmp_path / "data", bucket, "data")
    faults.on("PutObject", "denied", probability=1.0)
    faults.on("GetObject", "denied", probability=1.0)
    for call, action in (
        (lambda: session.upload_data(tmp_path / "data", bucket, "data"), "s3:PutObject"),
        (lambda: session.download_data(tmp_path / "out", bucket, "data"), "s3:GetObject"),
    ):
        with pytest.raises(StagingError) as raised:
            call()
        lines = str(raised.value).splitlines()
        assert len(lines) == 12
        assert f"The caller needs {action} on s3://{bucket}/data/" in lines[1]
        assert lines[-1] == "  and 90 more"
        assert len(raised.value.failures) == 100
