"""Objects of a run whose job does not come to be are removed, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from processing.request.s3_uri import S3Uri
from processing.staging.pending_uploads import Upload
from processing.staging.transfers import remove_claimed, upload_all
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws

if TYPE_CHECKING:
    from processing.session.session import Session

BUCKETS = ("aaa", "bbb")


@pytest.fixture
def session() -> Session:
    session = SimulatedAws(VirtualClock()).session(default_bucket="bbb")
    for bucket in BUCKETS:
        session.client("s3").create_bucket(Bucket=bucket)
    return session


def claimed(bucket: str, count: int, claim: str = "mine") -> list[Upload]:
    return [
        Upload(Path(f"{number}"), S3Uri(bucket, f"{number}"), claim=claim, body=b"x", size=1) for number in range(count)
    ]


def keys(session: Session, bucket: str) -> list[str]:
    return [each["Key"] for each in session.client("s3").list_objects_v2(Bucket=bucket).get("Contents", ())]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "could not be removed" in record.getMessage()]


def test_objects_of_other_runs_stay(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """The claim decides, and an object that there is not is no failure."""
    upload_all(session.api, [*claimed("aaa", 2), *claimed("bbb", 3, "theirs")], expected_owner=lambda _: None)
    remove_claimed(session.api, [*claimed("aaa", 5), *claimed("bbb", 3)], lambda _: None)
    assert (keys(session, "aaa"), keys(session, "bbb")) == ([], ["0", "1", "2"])
    assert warnings(caplog) == []


def test_a_denied_bucket_does_not_keep_another_one(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """One warning names what stays and why."""
    upload_all(session.api, [*claimed("aaa", 20), *claimed("bbb", 20)], expected_owner=lambda _: None)

    def deny(params: Any, **_: object) -> None:
        if params["url_path"].startswith("/aaa") or "//aaa." in params["url"]:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteObject")

    session.client("s3").meta.events.register("before-call.s3.DeleteObject", deny)
    remove_claimed(session.api, [*claimed("aaa", 20), *claimed("bbb", 20)], lambda _: None)
    assert (len(keys(session, "aaa")), keys(session, "bbb")) == (20, [])
    (text,) = warnings(caplog)
    assert text.startswith("s3://aaa/0 and 19 more: not needed any more, and could not be removed: ")
    assert "AccessDenied" in text


def test_without_a_network_it_ends_soon(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """A call has three tries, and after some failures in a row the rest is not tried."""
    asked: list[object] = []

    def fail(**_: object) -> None:
        asked.append(None)
        raise EndpointConnectionError(endpoint_url="https://s3")

    session.client("s3").meta.events.register("before-call.s3.HeadObject", fail)
    remove_claimed(session.api, claimed("aaa", 1000), lambda _: None)
    assert 3 <= len(asked) <= 100
    (text,) = warnings(caplog)
    assert text.startswith("s3://aaa/0 and 999 more: not needed any more, and could not be removed: Could not connect")


def test_a_second_ctrl_c_ends_it(session: Session) -> None:
    """No call is tried again afterwards."""
    asked: list[object] = []

    def interrupt(**_: object) -> None:
        asked.append(None)
        raise KeyboardInterrupt

    session.client("s3").meta.events.register("before-call.s3.HeadObject", interrupt)
    with pytest.raises(KeyboardInterrupt):
        remove_claimed(session.api, claimed("aaa", 1000), lambda _: None)
    assert len(asked) < 100
