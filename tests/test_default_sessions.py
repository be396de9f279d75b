"""The session that a call selects."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from processing import ConfigurationError, LocalSession, Session
from processing import default_sessions as targets
from processing.default_sessions import resolve_session, session_for_attach
from processing.request.build import build_request
from processing.request.job_names import base_name_from_image
from processing.request.validate import check_request


class V2Session:
    """The attributes of a `sagemaker.Session` that matter, as version 2.257 has them."""

    def __init__(
        self, boto_session: Any, default_bucket: str | None = None, default_bucket_prefix: str | None = None
    ) -> None:
        self.boto_session = boto_session
        self.boto_region_name = boto_session.region_name
        self.sagemaker_client = boto_session.client("sagemaker", endpoint_url="http://localhost:1")
        self.default_bucket_prefix = default_bucket_prefix
        self.local_mode = False
        self._default_bucket: str | None = None
        self._default_bucket_name_override = default_bucket
        self._default_bucket_set_by_sdk = False

    def default_bucket(self) -> str:
        """Never called: it probes, lists and creates."""
        raise AssertionError


class PipelineSession(V2Session):
    """v2's session that records pipeline steps."""


@pytest.fixture
def boto_session() -> Any:
    """A boto3 session with a region."""
    return boto3.Session("key", "secret", region_name="eu-west-1")


def test_the_default_is_aws() -> None:
    """Without anything given, the session is the process's one for AWS."""
    session = resolve_session(None, "ml.m5.xlarge")
    assert type(session) is Session
    assert resolve_session(None, None) is session
    assert session_for_attach() is session


def test_threads_share_the_default() -> None:
    """Threads that ask at once get the one session."""
    found: list[Session] = []
    threads = [threading.Thread(target=lambda: found.append(targets.default_session())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(session) for session in found}) == 1


def test_a_changed_environment_is_another_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile or region that is set later counts: a notebook does so."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert resolve_session(None, None).boto_region_name == "eu-west-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert resolve_session(None, None).boto_region_name == "eu-west-2"


@pytest.mark.parametrize("instance_type", ["local", "local_gpu"])
def test_local_is_the_engine(instance_type: str) -> None:
    """The instance types `local` and `local_gpu` mean this machine."""
    session = resolve_session(None, instance_type)
    assert isinstance(session, LocalSession)
    assert session.is_local
    assert resolve_session(None, instance_type) is session


def test_a_local_session_runs_any_instance_type(tmp_path: Any) -> None:
    """A LocalSession that is given is used, whatever the instance type says."""
    session = LocalSession(tmp_path)
    for instance_type in ("local", "ml.m5.xlarge", None):
        assert resolve_session(session, instance_type) is session
    assert session_for_attach(session) is session


def test_aws_and_local_do_not_go_together() -> None:
    """A session for AWS and an instance type of this machine contradict each other."""
    with pytest.raises(ConfigurationError, match=r"instance_type: 'local' runs the job on this machine"):
        resolve_session(Session(), "local")


def test_a_given_session_is_used() -> None:
    """A session of ours is taken as it is."""
    session = Session(default_bucket="mine")
    assert resolve_session(session, "ml.m5.xlarge") is session
    assert session_for_attach(session) is session


@pytest.mark.parametrize(("target", "local"), [("local", True), ("aws", False), ("", False)])
def test_attach_follows_the_environment(monkeypatch: pytest.MonkeyPatch, target: str, local: bool) -> None:
    """A job known by its name is AWS's, unless PROCESSING_TARGET says the engine."""
    monkeypatch.setenv("PROCESSING_TARGET", target)
    assert session_for_attach().is_local is local


def test_attach_to_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another target than the two is an error."""
    monkeypatch.setenv("PROCESSING_TARGET", "mars")
    with pytest.raises(ConfigurationError, match="PROCESSING_TARGET: must be 'aws' or 'local', not 'mars'"):
        session_for_attach()


def test_sagemakers_session(boto_session: Any) -> None:
    """A `sagemaker.Session` is used through its own boto session and client, bucket and prefix; it is not called."""
    given = V2Session(boto_session, "mine", "prefix")
    session = resolve_session(given, "ml.m5.xlarge")
    assert session.boto_session is boto_session
    assert session.client("sagemaker") is given.sagemaker_client
    assert session.default_bucket() == "mine"
    assert session.default_bucket_prefix == "prefix"
    assert session.boto_region_name == "eu-west-1"
    assert resolve_session(given, None) is session


def test_sagemakers_session_without_a_bucket(boto_session: Any) -> None:
    """The bucket whose name `sagemaker` derived is derived by us too, and so ours to look after."""
    given = V2Session(boto_session)
    given._default_bucket, given._default_bucket_set_by_sdk = "sagemaker-eu-west-1-1", True
    assert resolve_session(given, None)._bucket.named is None
    other = V2Session(boto_session)
    other._default_bucket = "theirs"
    assert resolve_session(other, None).default_bucket() == "theirs"


def test_sagemakers_local_mode(boto_session: Any) -> None:
    """sagemaker's own local mode needs Docker: the error says what does not."""
    given = V2Session(boto_session)
    given.local_mode = True
    with pytest.raises(ConfigurationError, match=re.escape('instance_type="local"')):
        resolve_session(given, "local")


def test_pipeline_sessions(boto_session: Any) -> None:
    """A session that records steps would run nothing."""
    with pytest.raises(ConfigurationError, match="sagemaker_session: a pipeline session records steps"):
        resolve_session(PipelineSession(boto_session), None)


def test_what_is_no_session(boto_session: Any) -> None:
    """Anything else is an error that names the parameter; a boto3 session gets a hint."""
    for given in ("eu-west-1", 5, SimpleNamespace(boto_session=1, default_bucket="x")):
        with pytest.raises(ConfigurationError, match=r"sagemaker_session: must be a processing\.Session"):
            resolve_session(given, None)
    with pytest.raises(ConfigurationError, match=re.escape("Session(boto_session=...) takes it")):
        resolve_session(boto_session, None)


def test_the_placeholders_are_valid() -> None:
    """The engine's role and image pass the checks of a request, and give a job's name its beginning."""
    check_request(
        build_request(
            job_name="job",
            role_arn=targets.LOCAL_ROLE,
            image_uri=targets.LOCAL_IMAGE,
            instance_count=1,
            instance_type="local",
        ),
        file_uris=True,
    )
    assert base_name_from_image(targets.LOCAL_IMAGE) == "processing-job"
