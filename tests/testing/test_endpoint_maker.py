"""The arguments of the fixture for endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from processing import ConfigurationError
from processing.testing import EndpointMaker

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


def test_a_wrong_name_to_wait_for_is_named(local_session: LocalSession) -> None:
    """The name of an endpoint is a text."""
    with pytest.raises(ConfigurationError, match=r"^name: must be a string that is not blank, not 5$"):
        EndpointMaker(local_session).wait(5)  # type: ignore[arg-type]
