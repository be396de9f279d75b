"""The default role of a job: that of a notebook, of an assumed role, or none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from processing import ConfigurationError, LocalSession, Session, get_execution_role
from processing import execution_role as roles
from processing.default_sessions import LOCAL_ROLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/service-role/Notebook"
USER = "arn:aws:iam::123456789012:user/somebody"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """A session on a machine that is no notebook."""
    monkeypatch.setattr(roles, "METADATA", tmp_path / "metadata.json")
    return Session(boto3.Session("key", "secret", region_name="eu-west-1"))


@pytest.fixture
def answers(session: Session) -> Iterator[Callable[..., None]]:
    """Lets a service give the answers that are listed: a dictionary, or an error's code."""
    stubs: dict[str, Stubber] = {}

    def add(service: str, method: str, answer: Any) -> None:
        stub = stubs.setdefault(service, Stubber(session.client(service)))
        stub.activate()
        if isinstance(answer, str):
            stub.add_client_error(method, answer, http_status_code=403)
        else:
            stub.add_response(method, answer)

    yield add
    for stub in stubs.values():
        stub.assert_no_pending_responses()


def caller(arn: str) -> dict[str, str]:
    return {"Arn": arn, "Account": "123456789012", "UserId": "x"}


def notebook(**members: str) -> None:
    """Make this machine a notebook."""
    roles.METADATA.write_text(json.dumps(members))


def test_an_assumed_role_has_its_path(session: Session, answers: Callable[..., None]) -> None:
    """STS names the role without its path, IAM knows it."""
    answers("sts", "get_caller_identity", caller("arn:aws:sts::123456789012:assumed-role/Notebook/session"))
    answers("iam", "get_role", {"Role": _role(ROLE)})
    assert get_execution_role(session) == ROLE


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("Etl", "arn:aws-cn:iam::123456789012:role/Etl"),
        (
            "AmazonSageMaker-ExecutionRole-1",
            "arn:aws-cn:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole-1",
        ),
    ],
)
def test_a_path_that_is_not_known_is_guessed(
    session: Session, answers: Callable[..., None], name: str, arn: str
) -> None:
    """Without permission for IAM, a role of the console gets the console's path, and others get none."""
    answers("sts", "get_caller_identity", caller(f"arn:aws-cn:sts::123456789012:assumed-role/{name}/session"))
    answers("iam", "get_role", "AccessDenied")
    assert get_execution_role(session) == arn


@pytest.mark.parametrize("use_default", [False, True])
def test_a_user_is_no_role(session: Session, answers: Callable[..., None], use_default: bool) -> None:
    """It is a ValueError, as scripts expect; none is created instead."""
    answers("sts", "get_caller_identity", caller(USER))
    with pytest.raises(ConfigurationError, match=r"The current AWS identity is not a role: arn:.*:user/somebody"):
        get_execution_role(session, use_default=use_default)


class TestNotebooks:
    def test_a_space_knows_its_role(self, session: Session) -> None:
        """Studio writes it down; nobody is asked."""
        notebook(ExecutionRoleArn=ROLE)
        assert get_execution_role(session) == ROLE

    def test_a_notebook_instance_is_asked_for(self, session: Session, answers: Callable[..., None]) -> None:
        """By its name."""
        notebook(ResourceName="mine")
        answers("sagemaker", "describe_notebook_instance", {"RoleArn": ROLE})
        assert get_execution_role(session) == ROLE

    @pytest.mark.parametrize("of_profile", [True, False])
    def test_a_profile_goes_before_its_domain(
        self, session: Session, answers: Callable[..., None], of_profile: bool
    ) -> None:
        """A user profile may have a role of its own; else the domain's holds."""
        notebook(ResourceName="default", DomainId="d-1", UserProfileName="me")
        settings = {"UserSettings": {"ExecutionRole": ROLE}} if of_profile else {}
        answers("sagemaker", "describe_user_profile", settings)
        if not of_profile:
            answers("sagemaker", "describe_domain", {"DefaultUserSettings": {"ExecutionRole": ROLE}})
        assert get_execution_role(session) == ROLE

    def test_one_that_may_not_ask_takes_the_caller_s(self, session: Session, answers: Callable[..., None]) -> None:
        """A refusal is no end: the credentials have a role too."""
        notebook(ResourceName="mine")
        answers("sagemaker", "describe_notebook_instance", "AccessDeniedException")
        answers("sts", "get_caller_identity", caller(ROLE))
        assert get_execution_role(session) == ROLE

    def test_a_file_that_is_no_metadata_is_passed_over(self, session: Session, answers: Callable[..., None]) -> None:
        """As if it were not there."""
        roles.METADATA.write_text("not JSON")
        answers("sts", "get_caller_identity", caller(ROLE))
        assert get_execution_role(session) == ROLE


def test_on_the_engine_it_is_the_placeholder(local_session: LocalSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody assumes a role there; PROCESSING_TARGET=local means the engine too."""
    assert get_execution_role(local_session) == LOCAL_ROLE
    monkeypatch.setenv("PROCESSING_TARGET", "local")
    assert get_execution_role() == LOCAL_ROLE


def _role(arn: str) -> dict[str, Any]:
    name = arn.rpartition("/")[2]
    return {"Arn": arn, "RoleName": name, "Path": "/", "RoleId": "A" * 16, "CreateDate": "2026-01-01T00:00:00Z"}
