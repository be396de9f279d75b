"""Lists of jobs: every filter, order and page, compared with a simple implementation."""

from __future__ import annotations

import itertools

import pytest

from processing.local.stores import jobs as store_of_jobs
from processing.local.stores.jobs import HostEnd, JobRecord, JobStore
from processing.local.stores.list_query import ListQuery

COUNT = 40
START = 1_700_000_000.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> JobStore:
    """Jobs that end in another order than they were created in, some at the same time, and some not at all."""
    made = JobStore(tmp_path_factory.mktemp("engine"))
    numbers = {}
    for number in range(COUNT):
        name = f"{'ab'[number % 2]}-{(number * 7) % COUNT:02}"
        request = {"ProcessingJobName": name, "ProcessingResources": {"ClusterConfig": {}}}
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}"
        created = START + number // 2
        numbers[number] = made.create(request, arn=arn, folder=name, plan={}, hosts=1, tags={}, now=created).id
    for number in range(0, COUNT, 3):
        outcome = "completed" if number % 2 else "failed"
        made.record_host_end(numbers[number], 1, HostEnd(outcome, reason="r"), START + 100 - number)
    return made


def by_hand(records: list[JobRecord], query: ListQuery) -> list[str]:
    def wanted(job: JobRecord) -> bool:
        return (
            (query.created_after is None or job.created > query.created_after)
            and (query.created_before is None or job.created < query.created_before)
            and (query.modified_after is None or job.modified > query.modified_after)
            and (query.modified_before is None or job.modified < query.modified_before)
            and (query.name_contains is None or query.name_contains in job.name)
            and (query.status is None or job.status == query.status)
        )

    key = {"Name": "name", "CreationTime": "created", "Status": "status"}[query.sort_by]
    found = sorted(filter(wanted, records), key=lambda job: (getattr(job, key), job.id), reverse=query.descending)
    return [job.name for job in found]


@pytest.mark.parametrize("few", [1, 500])
def test_a_list_obeys_the_filters_page_by_page(store: JobStore, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is on one page in the requested order, whether few or many jobs have changed."""
    monkeypatch.setattr(store_of_jobs, "_FEW_JOBS", few)
    everything, _ = store.list(ListQuery(), 1000)
    assert len(everything) == COUNT
    for order, descending, status, name, times in itertools.product(
        ("Name", "CreationTime", "Status"),
        (False, True),
        (None, "Failed", "InProgress"),
        (None, "a-", "3"),
        ({}, {"modified_after": START + 5}, {"modified_after": START + 5, "modified_before": START + 90},
         {"created_after": START + 3, "created_before": START + 15}),
    ):  # fmt: skip
        query = ListQuery(name_contains=name, status=status, sort_by=order, descending=descending, **times)
        found: list[str] = []
        token = None
        while True:
            page, token = store.list(query, 7, token)
            found += [job.name for job in page]
            if token is None:
                break
        assert found == by_hand(everything, query), query
