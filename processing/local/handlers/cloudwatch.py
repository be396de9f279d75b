"""Handler for CloudWatch metrics on the metric store: the samples of hosts, and the user's own metrics."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any

from processing.container.contract import DAY
from processing.local import strict_json
from processing.local.errors import ApiError
from processing.local.handlers.statistics import Series, is_statistic
from processing.local.protocols.values import to_time
from processing.local.stores.metrics import Metric, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

PAGE = 500
"""CloudWatch's limit for the metrics of a page of ListMetrics."""
MAX_DATAPOINTS = 100_800
"""CloudWatch's limit for the datapoints of an answer of GetMetricData."""
MAX_STATISTICS = 1440
"""CloudWatch's limit for the datapoints of an answer of GetMetricStatistics."""
MAX_QUERIES = 500
"""CloudWatch's limit for the queries of a GetMetricData."""
MAX_VALUES = 150
"""CloudWatch's limit for the values of one element of PutMetricData."""

_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")
_LARGEST = 2.0**360  # the largest value that CloudWatch accepts
_PAST_SECONDS = 14 * DAY
_FUTURE_SECONDS = 2 * 3600


class CloudWatchHandler:
    """Handler for CloudWatch's metric operations. Params and results have boto3's names and types.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._store = engine.metrics
        self.operations: dict[str, Operation] = {
            "GetMetricData": self.get_metric_data,
            "GetMetricStatistics": self.get_metric_statistics,
            "ListMetrics": self.list_metrics,
            "PutMetricData": self.put_metric_data,
        }

    def get_metric_data(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the datapoints of several metrics, by default the newest first."""
        span = _span(params, "ValidationError")
        queries = params["MetricDataQueries"]
        _check_queries(queries)
        descending = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        first, after = _parse_data_token(params.get("NextToken"))
        remaining = params.get("MaxDatapoints", MAX_DATAPOINTS)
        if not 1 <= remaining <= MAX_DATAPOINTS:
            raise ApiError("ValidationError", f"The value {remaining} for parameter MaxDatapoints is invalid.")
        results: list[dict[str, Any]] = []
        token = None
        for index, query in enumerate(queries[first:], first):
            if not query.get("ReturnData", True):
                continue
            points = self._points(query["MetricStat"], span)
            points.sort(reverse=descending)
            if index == first and after is not None:
                points = [point for point in points if (point[0] < after if descending else point[0] > after)]
            page = points[:remaining]
            remaining -= len(page)
            complete = len(page) == len(points)
            results.append(_result(query, page, complete=complete))
            if not complete:
                token = _data_token(index, page[-1][0] if page else None)
                break
        return {"MetricDataResults": results, "Messages": [], **({} if token is None else {"NextToken": token})}

    def get_metric_statistics(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the datapoints of one metric, with several statistics each."""
        span = _span(params, "InvalidParameterValue")
        statistics, extended = params.get("Statistics", []), params.get("ExtendedStatistics", [])
        if not statistics and not extended:
            raise ApiError("InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics")
        for name in extended:
            if not name.startswith("p") or not is_statistic(name):
                raise ApiError("InvalidParameterValue", f"The value {name} for parameter ExtendedStatistic is invalid.")
        period = params["Period"]
        _check_period(period, "Period", "InvalidParameterValue")
        points = int((span[1] - span[0]) // period)
        if points > MAX_STATISTICS:
            raise ApiError(
                "InvalidParameterCombination",
                f"You have requested up to {points:,} datapoints, which exceeds the limit of {MAX_STATISTICS:,}. "
                "You may reduce the datapoints requested by increasing Period, or decreasing the time range.",
            )
        metric = _metric(params)
        unit = self._store.unit(metric)
        if unit is None or params.get("Unit", unit) != unit:
            return {"Label": metric.name, "Datapoints": []}
        series = Series(self._store, metric, *span, period)
        found: dict[float, dict[str, Any]] = {}
        for name in statistics:
            for moment, value in series.points(name):
                found.setdefault(moment, {})[name] = value
        for name in extended:
            for moment, value in series.points(name):
                found.setdefault(moment, {}).setdefault("ExtendedStatistics", {})[name] = value
        points_found = [{"Timestamp": _to_datetime(moment), "Unit": unit, **values} for moment, values in found.items()]
        return {"Label": metric.name, "Datapoints": points_found}

    def list_metrics(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the metrics."""
        token = params.get("NextToken")
        metrics, more = self._store.metrics(
            namespace=params.get("Namespace"),
            name=params.get("MetricName"),
            dimensions=[(each["Name"], each.get("Value")) for each in params.get("Dimensions", [])],
            recent="RecentlyActive" in params,
            after=None if token is None else _parse_metric_token(token),
            limit=PAGE,
        )
        found = [
            {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
            }
            for metric in metrics
        ]
        return {"Metrics": found, **({"NextToken": _encode_token(metrics[-1])} if more else {})}

    def put_metric_data(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add samples of metrics."""
        namespace = params["Namespace"]
        if namespace.startswith("AWS/"):
            raise ApiError("InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid.")
        data = list(params.get("MetricData", []))
        for entity in params.get("EntityMetricData", []):
            data += entity.get("MetricData", [])
        if not data:
            raise ApiError("MissingParameter", "The parameter MetricData is required.")
        now = time.time()
        series = []
        for number, datum in enumerate(data, 1):
            metric = Metric.of(namespace, datum["MetricName"], _dimensions(datum))
            samples = list(_samples(datum, f"MetricData.member.{number}", now))
            series.append((metric, datum.get("Unit", "None"), samples))
        self._store.put(series)
        return {}

    def _points(self, query: dict[str, Any], span: tuple[float, float]) -> list[tuple[float, float]]:
        metric = _metric(query["Metric"])
        unit = self._store.unit(metric)
        if unit is None or query.get("Unit", unit) != unit:
            return []
        return Series(self._store, metric, *span, query["Period"]).points(query["Stat"])


def _span(params: dict[str, Any], code: str) -> tuple[float, float]:
    start, end = _seconds(params["StartTime"]), _seconds(params["EndTime"])
    if start == end:
        raise ApiError(code, "The parameter StartTime must not equal parameter EndTime.")
    if start > end:
        raise ApiError(code, "The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _check_queries(queries: list[dict[str, Any]]) -> None:
    if len(queries) > MAX_QUERIES:
        raise ApiError(
            "ValidationError", f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}."
        )
    names = [query["Id"] for query in queries]
    if len(set(names)) != len(names):
        raise ApiError("ValidationError", "The values for parameter id in MetricDataQueries are not unique.")
    for number, query in enumerate(queries, 1):
        path = f"MetricDataQueries.member.{number}"
        if not _ID.fullmatch(query["Id"]):
            raise ApiError(
                "ValidationError",
                f"The value for parameter {path}.Id is not matching the expected pattern ^{_ID.pattern}$.",
            )
        if "Expression" in query and "MetricStat" in query:
            raise ApiError("ValidationError", _exclusive(f"{path}.Expression", f"{path}.MetricStat"))
        if "Expression" in query:
            raise ApiError(
                "ValidationError", f"The local engine has no metric math; {path}.Expression cannot be answered."
            )
        if "MetricStat" not in query:
            raise ApiError("ValidationError", f"The parameter {path}.MetricStat is required.")
        _check_period(query["MetricStat"]["Period"], f"{path}.MetricStat.Period", "ValidationError")
        if not is_statistic(query["MetricStat"]["Stat"]):
            raise ApiError(
                "ValidationError",
                f"The value {query['MetricStat']['Stat']} for parameter {path}.MetricStat.Stat is not supported.",
            )


def _exclusive(first: str, second: str) -> str:
    return f"The parameters {first} and {second} are mutually exclusive and you have specified both."


def _check_period(period: int, path: str, code: str) -> None:
    if period not in {1, 5, 10, 20, 30} and (period <= 0 or period % 60):
        raise ApiError(code, f"The parameter {path} must be 1, 5, 10, 20, 30, or a multiple of 60.")


def _result(query: dict[str, Any], points: list[tuple[float, float]], *, complete: bool) -> dict[str, Any]:
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["MetricStat"]["Metric"]["MetricName"]),
        "Timestamps": [_to_datetime(moment) for moment, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _metric(params: dict[str, Any]) -> Metric:
    return Metric.of(params["Namespace"], params["MetricName"], _dimensions(params))


def _dimensions(params: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in params.get("Dimensions", [])}


def _samples(datum: dict[str, Any], path: str, now: float) -> Iterator[Sample]:
    """Yield the samples of one element of a PutMetricData."""
    sent = [name for name in ("Value", "Values", "StatisticValues") if name in datum]
    if not sent:
        raise ApiError(
            "MissingParameter",
            f"At least one of the parameters {path}.Value, {path}.Values and {path}.StatisticValues is required.",
        )
    if len(sent) > 1:
        raise ApiError("InvalidParameterCombination", _exclusive(*(f"{path}.{name}" for name in sent[:2])))
    moment = _timestamp(datum, path, now)
    if sent == ["StatisticValues"]:
        known = {name: float(value) for name, value in datum["StatisticValues"].items()}
        _check_values(known.values(), f"{path}.StatisticValues")
        yield Sample(moment, known["SampleCount"], known["Sum"], known["Minimum"], known["Maximum"])
        return
    values = [float(value) for value in datum.get("Values", [datum.get("Value")])]
    counts = [float(count) for count in datum.get("Counts", [1.0] * len(values))]
    if len(values) != len(counts):
        raise ApiError(
            "InvalidParameterValue", f"The parameters {path}.Values and {path}.Counts must be of the same size."
        )
    if len(values) > MAX_VALUES:
        raise ApiError(
            "InvalidParameterValue", f"The collection {path}.Values must not have a size greater than {MAX_VALUES}."
        )
    _check_values(values, f"{path}.{sent[0]}")
    for value, count in zip(values, counts, strict=True):
        yield Sample.of(moment, value, count)


def _timestamp(datum: dict[str, Any], path: str, now: float) -> float:
    moment = _seconds(datum["Timestamp"]) if "Timestamp" in datum else now
    if moment > now + _FUTURE_SECONDS:
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter {path}.Timestamp must specify a time no more than two hours in the future.",
        )
    if moment < now - _PAST_SECONDS:
        raise ApiError(
            "InvalidParameterValue", f"The parameter {path}.Timestamp must specify a time within the past two weeks."
        )
    return moment


def _check_values(values: Any, path: str) -> None:
    for value in values:
        if not math.isfinite(value) or abs(value) > _LARGEST:
            shown = "NaN" if math.isnan(value) else value
            raise ApiError("InvalidParameterValue", f"The value {shown} for parameter {path} is invalid.")


def _seconds(value: Any) -> float:
    """Return a time in seconds since the epoch."""
    moment: dt.datetime = value if isinstance(value, dt.datetime) else to_time(value)
    return moment.timestamp()


def _to_datetime(moment: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc)


def _data_token(index: int, after: float | None) -> str:
    """Return the token for the datapoints of a query after a time, and for the queries after it."""
    return _encode_token([index, after])


def _parse_data_token(token: str | None) -> tuple[int, float | None]:
    if token is None:
        return 0, None
    found = _decode_token(token, "InvalidNextToken")
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], int) or found[0] < 0:
        raise _bad_token("InvalidNextToken")
    if found[1] is not None and not isinstance(found[1], (int, float)):
        raise _bad_token("InvalidNextToken")
    return found[0], found[1]


def _parse_metric_token(token: str) -> Metric:
    code = "InvalidParameterValue"
    try:
        namespace, name, dimensions = _decode_token(token, code)
        return Metric(str(namespace), str(name), tuple((str(key), str(value)) for key, value in dimensions))
    except (TypeError, ValueError):
        raise _bad_token(code) from None


def _encode_token(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def _decode_token(token: str, code: str) -> Any:
    try:
        return strict_json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except ValueError:
        raise _bad_token(code) from None


def _bad_token(code: str) -> ApiError:
    return ApiError(code, "Request parameter NextToken is invalid.")
