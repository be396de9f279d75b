"""STS and IAM through boto3."""

from __future__ import annotations

import datetime as dt
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.transports.server import Server


def test_everybody_is_one_role_of_one_account(client: Callable[..., Any]) -> None:
    """The account is a number that AWS never gives."""
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == "000000000000"
    assert identity["Arn"] == "arn:aws:sts::000000000000:assumed-role/processing-local/local"


def test_any_role_can_be_assumed(client: Callable[..., Any]) -> None:
    """The keys have an end; the account is the engine's, whatever the ARN says."""
    role = "arn:aws:iam::123456789012:role/service/Some-Role"
    sts = client("sts")
    answer = sts.assume_role(RoleArn=role, RoleSessionName="me", DurationSeconds=900, Tags=[{"Key": "a", "Value": "b"}])
    assert answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/Some-Role/me"
    left = answer["Credentials"]["Expiration"] - dt.datetime.now(dt.timezone.utc)
    assert dt.timedelta(minutes=14) < left <= dt.timedelta(minutes=15)
    assert {"AccessKeyId", "SecretAccessKey", "SessionToken"} < set(answer["Credentials"])


def test_any_role_exists(client: Callable[..., Any]) -> None:
    """Code that looks up a role by its name runs unchanged."""
    role = client("iam").get_role(RoleName="Some_Role")["Role"]
    assert role["Arn"] == "arn:aws:iam::000000000000:role/Some_Role"
    principal = role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert principal == {"Service": "sagemaker.amazonaws.com"}


def test_a_role_name_has_rules(client: Callable[..., Any]) -> None:
    """A slash belongs to an ARN."""
    with pytest.raises(ClientError, match="ValidationError"):
        client("iam").get_role(RoleName="a/b")


def test_other_operations_are_501(client: Callable[..., Any]) -> None:
    """They are named in the form that the client reads."""
    with pytest.raises(ClientError) as caught:
        client("iam").list_users()
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "ListUsers" in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_a_roles_keys_work(http_client: Callable[..., Any]) -> None:
    """The caller is then the role, and the role can have keys of its own."""
    answer = http_client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/a/Some", RoleSessionName="me@x")
    keys = answer["Credentials"]
    assumed = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }
    sts = http_client("sts", **assumed)
    identity = sts.get_caller_identity()
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"] == "arn:aws:sts::000000000000:assumed-role/Some/me@x"
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]
    own = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert own["AccessKeyId"].startswith("ASIA")
    assert own["Expiration"] > dt.datetime.now(dt.timezone.utc)
    assert http_client("s3", **assumed).list_buckets()["Buckets"] == []
    assumed["aws_session_token"] = own["SessionToken"]
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        http_client("sts", **assumed).get_caller_identity()


@pytest.mark.parametrize(
    "wrong",
    [
        {"RoleArn": "arn:aws:iam::123456789012:user/somebody"},
        {"RoleSessionName": "a session"},
        {"DurationSeconds": 43_201},
    ],
)
def test_what_cannot_be_assumed_is_refused(client: Callable[..., Any], wrong: dict[str, Any]) -> None:
    """They follow STS's rules for names and durations."""
    right = {"RoleArn": "arn:aws:iam::123456789012:role/Some", "RoleSessionName": "me"}
    with pytest.raises(ClientError, match="ValidationError"):
        client("sts").assume_role(**{**right, **wrong})


def test_a_presigned_identity_can_be_passed_on(server: Server, http_client: Callable[..., Any]) -> None:
    """The URL returns the identity of its signer and allows nothing else."""
    url = http_client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert url.startswith(server.endpoint)
    with urllib.request.urlopen(url) as answer:
        assert b"assumed-role/processing-local/local" in answer.read()
