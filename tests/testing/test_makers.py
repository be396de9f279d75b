"""The arguments of the fixtures for endpoints and training jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError
from processing.testing import EndpointMaker, TrainingJobMaker

if TYPE_CHECKING:
    from processing import LocalSession


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"weights": "text"}}, "model['weights']: must be bytes, not 'text'"),
        ({"model": {5: b""}}, "model: the path 5: must be a string that is not blank, not 5"),
        ({"environment": {"RATE": 5}}, "environment['RATE']: must be a string, not 5"),
        ({"image": ""}, "image: must be a string that is not blank, not ''"),
    ],
)
def test_a_wrong_argument_is_named(local_session: LocalSession, options: dict[str, Any], message: str) -> None:
    """Nothing is made then, so the same name serves the next attempt."""
    with pytest.raises(ConfigurationError) as caught:
        EndpointMaker(local_session)("mine", **options)
    assert str(caught.value) == message
    assert local_session.boto_session.client("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": {"train": {"a": "text"}}}, "channels['train']['a']: must be bytes, not 'text'"),
        ({"channels": {"train": b""}}, "channels['train']: must be a dictionary, not b'' (bytes)"),
        ({"channels": {5: {}}}, "channels: the name 5: must be a string that is not blank, not 5"),
        ({"content_type": 5}, "content_type: must be a string, not 5"),
        ({"hyperparameters": {"k": 5}}, "hyperparameters['k']: must be a string, not 5"),
        ({"environment": {"RATE": 5}}, "environment['RATE']: must be a string, not 5"),
        ({"instance_count": 0}, "instance_count: must be an integer of at least 1, not 0"),
        ({"wait": "no"}, "wait: must be True or False, not 'no'"),
    ],
)
def test_a_wrong_argument_of_a_training_job_is_named(
    local_session: LocalSession, options: dict[str, Any], message: str
) -> None:
    """Nothing is made then, so the same name serves the next attempt."""
    with pytest.raises(ConfigurationError) as caught:
        TrainingJobMaker(local_session)("mine", **options)
    assert str(caught.value) == message
    assert local_session.boto_session.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_wrong_name_to_wait_for_is_named(local_session: LocalSession) -> None:
    """The name of an endpoint is a text."""
    with pytest.raises(ConfigurationError, match=r"^name: must be a string that is not blank, not 5$"):
        EndpointMaker(local_session).wait(5)  # type: ignore[arg-type]
