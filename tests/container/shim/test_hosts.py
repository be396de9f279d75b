"""Tasks of one job on several hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from processing.container.shim.commands import main
from processing.container.shim.hosts import share

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_each_item_belongs_to_one_host(count: int) -> None:
    """The shares of all hosts are all items, in any order of the hosts' names, and differ by at most one."""
    hosts = [f"algo-{number}" for number in range(1, count + 1)]
    shares = [share(list(range(31)), {"hosts": hosts[::-1], "current_host": host}) for host in hosts]
    assert sorted(item for each in shares for item in each) == list(range(31))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert shares[-1][0] == count - 1
    assert share([1, 2], {}) == [1, 2]


def test_a_host_runs_its_tasks_alone(shim: Any, tmp_path: Path) -> None:
    """The other tasks get no result from this host; the results name the job."""
    (tmp_path / "processingjobconfig.json").write_text(json.dumps({"ProcessingJobName": "job-1"}))
    file = tmp_path / "resourceconfig.json"
    file.write_text(json.dumps({"hosts": ["algo-1", "algo-2"], "current_host": "algo-2"}))
    tasks = [shim.task(each) for each in "abc"]
    assert shim.invoke("pass", *tasks, options=("--hosts", str(file))) == 0
    listed = shim.client.list_objects_v2(Bucket="shim")["Contents"]
    assert [each["Key"] for each in listed] == ["out/b/.sagemaker_shim/inference_result.json"]
    assert shim.client.head_object(Bucket="shim", Key=listed[0]["Key"])["Metadata"] == {"processing_job_name": "job-1"}


@pytest.mark.parametrize("content", [None, "x", "[]", '{"hosts": ["a"], "current_host": "b"}', '{"hosts": 1}'])
def test_a_file_without_this_host_is_an_error(
    content: str | None, shim: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that cannot tell its share runs nothing: another host would run the same tasks."""
    file = tmp_path / "resourceconfig.json"
    if content is not None:
        file.write_text(content)
    assert main(["invoke", "--hosts", str(file), "-t", json.dumps(shim.task()), "--", "true"], shim.store) == 2
    assert f"--hosts: {file} does not name the hosts of a job" in capsys.readouterr().err
