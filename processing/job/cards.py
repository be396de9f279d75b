"""Cards by name: of processing, training and transform jobs, and of endpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing import default_sessions
from processing._utils import did_you_mean
from processing.exceptions import ConfigurationError
from processing.job.endpoint_facts import describe_endpoint, read_endpoint_facts
from processing.job.facts import PROCESSING, TRAINING, TRANSFORM, JobResource, read_facts
from processing.job.lookup import check_region
from processing.report.endpoint_card import endpoint_card
from processing.report.job_card import job_card

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.default_sessions import SessionLike
    from processing.session.session import Session

ENDPOINT: Final = "endpoint"
JOB_KINDS: Final[Mapping[str, JobResource]] = {
    "processing-job": PROCESSING,
    "training-job": TRAINING,
    "transform-job": TRANSFORM,
}
"""The kinds of jobs by their resource types in ARNs."""

_ARN: Final = re.compile(r"arn:[^:]+:sagemaker:([^:]+):\d{12}:([a-z-]+)/([^/]+)")
_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


@attrs.frozen
class Card:
    """A card as a notebook shows it. It is a picture of one moment, and showing it makes no call.

    Attributes:
        title: the name of the job or endpoint.
        html: the card as HTML.
    """

    title: str
    html: str = attrs.field(repr=False)

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows."""
        return self.html


def card(name: str, session: SessionLike | None = None) -> Card:
    """Return the card of a job or an endpoint: its state, the use of its hosts, and the last lines of a failure.

    It makes at most three calls. If AWS refuses the metrics or the lines, the card is without them.

    Args:
        name: the name of a processing job; `training-job/NAME`, `transform-job/NAME` or `endpoint/NAME`; or the ARN of
            any of them.
        session: the `Session` that reaches it. None means AWS, unless the environment has PROCESSING_TARGET=local.

    Raises:
        ConfigurationError: it does not exist, or the name is not valid.
        botocore.exceptions.ClientError: AWS refuses its description.
    """
    target = default_sessions.session_for_attach(session, "session")
    resource, found = _parse(target, name)
    return Card(found, resource_card(target, resource, found, described(target, resource, found)))


def described(session: Session, resource: str, name: str) -> Mapping[str, Any]:
    """Return the description of a job or an endpoint.

    Args:
        session: the session.
        resource: its resource type in ARNs.
        name: its name.

    Raises:
        ConfigurationError: it does not exist.
    """
    from processing.aws.retry import is_not_found

    try:
        if resource == ENDPOINT:
            return describe_endpoint(session, name)
        return JOB_KINDS[resource].describe(session, name)
    except Exception as error:
        if not is_not_found(error):
            raise
        place = "the embedded engine" if session.is_local else session.boto_region_name
        raise ConfigurationError(f"name: no {resource.replace('-', ' ')} {name!r} in {place}") from None


def resource_card(session: Session, resource: str, name: str, description: Mapping[str, Any]) -> str:
    """Return the card of the job or endpoint with that description, as HTML. It makes at most two calls."""
    if resource == ENDPOINT:
        return endpoint_card(read_endpoint_facts(session, name, description))
    return job_card(read_facts(session, name, description, JOB_KINDS[resource]))


def _a(resource: str) -> str:
    return "an endpoint" if resource == ENDPOINT else f"a {resource.replace('-', ' ')}"


def _parse(session: Session, text: object) -> tuple[str, str]:
    """Return the resource type and the name that a text has."""
    if not isinstance(text, str):
        raise ConfigurationError(f"name: must be a text, not {text!r}")
    arn = _ARN.fullmatch(text)
    if arn is not None:
        check_region(session, arn[1], "name")
    resource, slash, name = f"{arn[2]}/{arn[3]}".rpartition("/") if arn else text.rpartition("/")
    resource = resource if slash else "processing-job"
    known = [*JOB_KINDS, ENDPOINT]
    if resource not in known:
        raise ConfigurationError(
            f"name: {resource!r} has no card{did_you_mean(resource, known)}; use one of {', '.join(known)}"
        )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"name: {name!r} cannot be the name of {_a(resource)}")
    return resource, name
