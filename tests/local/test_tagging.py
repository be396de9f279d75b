"""GetResources finds jobs by tags, through each transport and in each protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing.local.stores.jobs import HostEnd, JobStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession

ARN = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/"
TAGS = {
    "a": {"team": "data", "stage": "test"},
    "b": {"team": "data", "stage": "prod"},
    "c": {"team": "web"},
    "d": {},
}


@pytest.fixture
def tagging(client: Callable[..., Any], local_session: LocalSession) -> Any:
    """A client of an engine with tagged jobs."""
    store = JobStore(local_session.home)
    for name, tags in TAGS.items():
        request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {}}}
        job = store.create(request, arn=ARN + name, folder=name, plan={}, hosts=1, tags=tags, now=1e9)
        store.record_host_end(job.id, 1, HostEnd("completed"), 1e9)
    return client("resourcegroupstaggingapi")


def names(answer: dict[str, Any]) -> str:
    return "".join(entry["ResourceARN"].removeprefix(ARN) for entry in answer["ResourceTagMappingList"])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "abc"),
        ({"TagFilters": [{"Key": "team"}]}, "abc"),
        ({"TagFilters": [{"Key": "team", "Values": ["data"]}]}, "ab"),
        ({"TagFilters": [{"Key": "team", "Values": ["data", "web"]}]}, "abc"),
        ({"TagFilters": [{"Key": "team", "Values": ["data"]}, {"Key": "stage", "Values": ["prod"]}]}, "b"),
        ({"TagFilters": [{"Key": "none"}]}, ""),
        ({"ResourceTypeFilters": ["sagemaker:processing-job"]}, "abc"),
        ({"ResourceTypeFilters": ["s3:bucket", "sagemaker"]}, "abc"),
        ({"ResourceTypeFilters": ["s3:bucket"]}, ""),
        ({"ResourceARNList": [ARN + "b", ARN + "d", ARN + "x"]}, "b"),
    ],
)
def test_filters(tagging: Any, query: dict[str, Any], found: str) -> None:
    """A job must have all keys, each with an accepted value. Untagged jobs are never returned."""
    assert names(tagging.get_resources(**query)) == found


def test_pages_have_the_tags(tagging: Any) -> None:
    """Pages are complete and follow each other; each job comes with its tags."""
    pages = list(tagging.get_paginator("get_resources").paginate(ResourcesPerPage=2))
    assert [names(page) for page in pages] == ["ab", "c"]
    assert pages[1]["ResourceTagMappingList"][0]["Tags"] == [{"Key": "team", "Value": "web"}]
    assert pages[1]["PaginationToken"] == ""


def test_what_does_not_go_together_is_refused(tagging: Any) -> None:
    """The error has AWS's code."""
    for query in (
        {"ResourceARNList": [ARN + "a"], "TagFilters": [{"Key": "team"}]},
        {"ResourcesPerPage": 101},
        {"TagsPerPage": 100},
    ):
        with pytest.raises(ClientError) as raised:
            tagging.get_resources(**query)
        assert raised.value.response["Error"]["Code"] == "InvalidParameterException"
