"""STS and IAM through boto3."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from processing import LocalSession


def test_everybody_is_one_role_of_one_account(local_session: LocalSession) -> None:
    """The account is a number that AWS never gives."""
    identity = local_session.client("sts").get_caller_identity()
    assert identity["Account"] == "000000000000"
    assert identity["Arn"] == "arn:aws:sts::000000000000:assumed-role/processing-local/local"


def test_any_role_can_be_assumed(local_session: LocalSession) -> None:
    """The credentials are placeholders with an end."""
    role = "arn:aws:iam::123456789012:role/service/Some-Role"
    sts = local_session.client("sts")
    answer = sts.assume_role(RoleArn=role, RoleSessionName="me", DurationSeconds=900, Tags=[{"Key": "a", "Value": "b"}])
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/Some-Role/me"
    left = answer["Credentials"]["Expiration"] - dt.datetime.now(dt.timezone.utc)
    assert dt.timedelta(minutes=14) < left <= dt.timedelta(minutes=15)
    assert {"AccessKeyId", "SecretAccessKey", "SessionToken"} < set(answer["Credentials"])


def test_any_role_exists(local_session: LocalSession) -> None:
    """Code that looks up a role by its name runs unchanged."""
    role = local_session.client("iam").get_role(RoleName="Some_Role")["Role"]
    assert role["Arn"] == "arn:aws:iam::000000000000:role/Some_Role"
    principal = role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert principal == {"Service": "sagemaker.amazonaws.com"}


def test_a_role_name_has_rules(local_session: LocalSession) -> None:
    """A slash belongs to an ARN."""
    with pytest.raises(ClientError, match="ValidationError"):
        local_session.client("iam").get_role(RoleName="a/b")


def test_other_operations_are_501(local_session: LocalSession) -> None:
    """They are named, in the form that the client reads."""
    with pytest.raises(ClientError) as caught:
        local_session.client("iam").list_users()
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "ListUsers" in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
