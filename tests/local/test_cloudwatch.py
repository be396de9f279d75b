"""CloudWatch metrics through boto3."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = "/aws/sagemaker/ProcessingJobs"
NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
START = (NOW - dt.timedelta(minutes=10)).replace(second=0)


@pytest.fixture
def cloudwatch(client: Callable[..., Any]) -> Any:
    """A client of the engine, with ten values a minute apart: 0 to 9."""
    made = client("cloudwatch")
    data = [
        {
            "MetricName": "CPUUtilization",
            "Dimensions": [{"Name": "Host", "Value": "job/algo-1"}],
            "Timestamp": START + dt.timedelta(minutes=minute),
            "Value": minute,
            "Unit": "Percent",
        }
        for minute in range(10)
    ]
    made.put_metric_data(Namespace=JOBS, MetricData=data)
    return made


def query(stat: str = "Average", period: int = 60, name: str = "CPUUtilization", **more: Any) -> dict[str, Any]:
    """Return a query of GetMetricData."""
    metric = {"Namespace": JOBS, "MetricName": name, "Dimensions": [{"Name": "Host", "Value": "job/algo-1"}]}
    return {"Id": "m1", "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


SPAN = {"StartTime": START, "EndTime": START + dt.timedelta(minutes=10)}


def refused(call: Any, /, **params: Any) -> tuple[str, str]:
    """Return the code and the text of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_data_is_answered_newest_first(cloudwatch: Any) -> None:
    """This is the default order. Times are in UTC, and results have labels."""
    answer = cloudwatch.get_metric_data(MetricDataQueries=[query()], **SPAN)
    (result,) = answer["MetricDataResults"]
    assert (result["Id"], result["Label"], result["StatusCode"]) == ("m1", "CPUUtilization", "Complete")
    assert result["Values"] == [float(value) for value in range(9, -1, -1)]
    assert result["Timestamps"][-1] == START
    assert result["Timestamps"][0].utcoffset() == dt.timedelta(0)
    assert "NextToken" not in answer
    ascending = cloudwatch.get_metric_data(MetricDataQueries=[query(Label="cpu")], ScanBy="TimestampAscending", **SPAN)
    assert ascending["MetricDataResults"][0]["Label"] == "cpu"
    assert ascending["MetricDataResults"][0]["Values"] == result["Values"][::-1]


@pytest.mark.parametrize(
    ("stat", "value"),
    [
        ("Average", 4.5),
        ("Sum", 45.0),
        ("Minimum", 0.0),
        ("Maximum", 9.0),
        ("SampleCount", 10.0),
        ("p50", 4.5),
        ("p90", 8.1),
    ],
)
def test_statistics_of_a_longer_period(cloudwatch: Any, stat: str, value: float) -> None:
    """These are all statistics of the engine."""
    day = {"StartTime": START - dt.timedelta(days=1), "EndTime": START + dt.timedelta(days=1)}
    answer = cloudwatch.get_metric_data(MetricDataQueries=[query(stat, 86400 * 365)], **day)
    assert answer["MetricDataResults"][0]["Values"] == [pytest.approx(value)]


def test_datapoints_come_in_pages(cloudwatch: Any) -> None:
    """Pages over several queries have each datapoint once, in either direction."""
    for scan in ("TimestampAscending", "TimestampDescending"):
        queries = [query(), query() | {"Id": "hidden", "ReturnData": False}, query("Sum") | {"Id": "m2"}]
        pages = list(
            cloudwatch.get_paginator("get_metric_data").paginate(
                MetricDataQueries=queries, ScanBy=scan, PaginationConfig={"PageSize": 4}, **SPAN
            )
        )
        sizes = [[len(result["Values"]) for result in page["MetricDataResults"]] for page in pages]
        assert sizes == [[4], [4], [2, 2], [4], [4]]
        assert [result["StatusCode"] for result in pages[2]["MetricDataResults"]] == ["Complete", "PartialData"]
        found: dict[str, list[float]] = {}
        for page in pages:
            for result in page["MetricDataResults"]:
                found.setdefault(result["Id"], []).extend(result["Values"])
        assert sorted(found["m1"]) == sorted(found["m2"]) == [float(value) for value in range(10)]


def test_what_is_not_there_is_empty(cloudwatch: Any) -> None:
    """Another metric, unit or time has no datapoints."""
    units = query()
    units["MetricStat"]["Unit"] = "Bytes"
    for each in (query(name="None"), units):
        (result,) = cloudwatch.get_metric_data(MetricDataQueries=[each], **SPAN)["MetricDataResults"]
        assert (result["Values"], result["StatusCode"]) == ([], "Complete")
    later = {"StartTime": NOW + dt.timedelta(days=1), "EndTime": NOW + dt.timedelta(days=2)}
    assert cloudwatch.get_metric_data(MetricDataQueries=[query()], **later)["MetricDataResults"][0]["Values"] == []


def test_queries_are_checked(cloudwatch: Any) -> None:
    """The errors have the service's code and texts."""
    call = cloudwatch.get_metric_data
    same = {"StartTime": START, "EndTime": START}
    swapped = {"StartTime": SPAN["EndTime"], "EndTime": START}
    code = "ValidationError"
    assert refused(call, MetricDataQueries=[query()], **same) == (
        code,
        "The parameter StartTime must not equal parameter EndTime.",
    )
    assert refused(call, MetricDataQueries=[query()], **swapped)[0] == code
    assert refused(call, MetricDataQueries=[query(), query()], **SPAN) == (
        code,
        "The values for parameter id in MetricDataQueries are not unique.",
    )
    for bad in (
        query(period=7),
        query(period=90),
        query("tm99"),
        query() | {"Id": "M1"},
        {"Id": "m1"},
        {"Id": "m1", "Expression": "m2 * 2"},
        query() | {"Expression": "m2 * 2"},
    ):
        code_found, text = refused(call, MetricDataQueries=[bad], **SPAN)
        assert (code_found, "MetricDataQueries.member.1" in text) == (code, True)
    assert refused(call, MetricDataQueries=[query()], MaxDatapoints=0, **SPAN)[0] == code
    assert refused(call, MetricDataQueries=[query()], NextToken="?", **SPAN)[0] == "InvalidNextToken"
    long = query() | {"Id": "m" * 256}
    assert "length less than or equal to 255" in refused(call, MetricDataQueries=[long], **SPAN)[1]


def test_a_modelled_error_has_its_class(cloudwatch: Any) -> None:
    """Users catch it by name."""
    with pytest.raises(cloudwatch.exceptions.InvalidNextToken):
        cloudwatch.get_metric_data(MetricDataQueries=[query()], NextToken="?", **SPAN)


def test_statistics_are_answered(cloudwatch: Any) -> None:
    """Datapoints have several statistics, percentiles apart, and a unit."""
    which = {"Namespace": JOBS, "MetricName": "CPUUtilization", "Dimensions": [{"Name": "Host", "Value": "job/algo-1"}]}
    answer = cloudwatch.get_metric_statistics(
        **which, **SPAN, Period=60, Statistics=["Sum", "Average"], ExtendedStatistics=["p99"]
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    assert answer["Label"] == "CPUUtilization"
    assert points[3] == {
        "Timestamp": START + dt.timedelta(minutes=3),
        "Unit": "Percent",
        "Sum": 3.0,
        "Average": 3.0,
        "ExtendedStatistics": {"p99": 3.0},
    }
    assert len(points) == 10
    call = cloudwatch.get_metric_statistics
    assert refused(call, **which, **SPAN, Period=60)[0] == "InvalidParameterCombination"
    assert refused(call, **which, **SPAN, Period=60, ExtendedStatistics=["x"])[0] == "InvalidParameterValue"
    day = {"StartTime": START, "EndTime": START + dt.timedelta(days=1)}
    code, text = refused(call, **which, **day, Period=1, Statistics=["Sum"])
    assert code == "InvalidParameterCombination"
    assert text.startswith("You have requested up to 86,400 datapoints, which exceeds the limit of 1,440. You may")
    assert call(**which | {"MetricName": "None"}, **SPAN, Period=60, Statistics=["Sum"])["Datapoints"] == []


def test_metrics_are_listed_in_pages_of_500(cloudwatch: Any) -> None:
    """The last page has no token."""
    for first in (0, 500):
        data = [{"MetricName": f"m{number:04d}", "Value": 1.0} for number in range(first, first + 500)]
        cloudwatch.put_metric_data(Namespace="Own", MetricData=data)
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(Namespace="Own"))
    assert [len(page["Metrics"]) for page in pages] == [500, 500]
    assert "NextToken" not in pages[1]
    found = cloudwatch.list_metrics(Namespace=JOBS, Dimensions=[{"Name": "Host"}], RecentlyActive="PT3H")["Metrics"]
    assert found == [
        {"Namespace": JOBS, "MetricName": "CPUUtilization", "Dimensions": [{"Name": "Host", "Value": "job/algo-1"}]}
    ]
    assert refused(cloudwatch.list_metrics, NextToken="?")[0] == "InvalidParameterValue"
    assert refused(cloudwatch.list_metrics, NextToken="WzFd")[0] == "InvalidParameterValue"


def test_values_are_put_in_every_form(cloudwatch: Any) -> None:
    """Single values, counted values and sets are accepted. The default time is now."""
    data = [
        {"MetricName": "Rows", "Value": 1.0},
        {"MetricName": "Rows", "Values": [2.0, 3.0], "Counts": [1.0, 2.0]},
        {"MetricName": "Rows", "StatisticValues": {"SampleCount": 2.0, "Sum": 20.0, "Minimum": 9.0, "Maximum": 11.0}},
    ]
    cloudwatch.put_metric_data(Namespace="Own", MetricData=data)
    span = {"StartTime": NOW - dt.timedelta(hours=1), "EndTime": NOW + dt.timedelta(hours=1)}
    names = ["SampleCount", "Sum", "Minimum", "Maximum"]
    answer = cloudwatch.get_metric_statistics(
        Namespace="Own", MetricName="Rows", Period=86400 * 365, Statistics=names, **span
    )
    (point,) = answer["Datapoints"]
    assert [point[name] for name in names] == [6.0, 29.0, 1.0, 11.0]
    assert point["Unit"] == "None"


@pytest.mark.parametrize(
    ("datum", "code"),
    [
        ({}, "MissingParameter"),
        ({"Value": 1.0, "Values": [1.0]}, "InvalidParameterCombination"),
        ({"Value": math.nan}, "InvalidParameterValue"),
        ({"Value": math.inf}, "InvalidParameterValue"),
        ({"Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue"),
        ({"Values": [1.0] * 151}, "InvalidParameterValue"),
        ({"Value": 1.0, "Timestamp": NOW + dt.timedelta(hours=3)}, "InvalidParameterValue"),
        ({"Value": 1.0, "Timestamp": NOW - dt.timedelta(days=15)}, "InvalidParameterValue"),
    ],
)
def test_values_are_checked(cloudwatch: Any, datum: dict[str, Any], code: str) -> None:
    """A request with an invalid sample stores nothing."""
    data = [{"MetricName": "good", "Value": 1.0}, {"MetricName": "bad", **datum}]
    found, text = refused(cloudwatch.put_metric_data, Namespace="Own", MetricData=data)
    assert (found, "MetricData.member.2" in text) == (code, True)
    assert cloudwatch.list_metrics(Namespace="Own")["Metrics"] == []


def test_large_requests_come_compressed(cloudwatch: Any) -> None:
    """botocore compresses the bodies of PutMetricData from 10 KB on."""
    data = [
        {"MetricName": "m" * 200, "Dimensions": [{"Name": "n", "Value": str(number)}], "Value": 1.0}
        for number in range(300)
    ]
    cloudwatch.put_metric_data(Namespace="Own", MetricData=data)
    assert len(cloudwatch.list_metrics(Namespace="Own")["Metrics"]) == 300


def test_the_services_own_namespaces_are_refused(cloudwatch: Any) -> None:
    """Users cannot write to them."""
    code, _ = refused(cloudwatch.put_metric_data, Namespace="AWS/EC2", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert code == "InvalidParameterValue"
    assert refused(cloudwatch.put_metric_data, Namespace="Own")[0] == "MissingParameter"
