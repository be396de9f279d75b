"""CloudWatch metrics: reading what hosts were sampled for, and putting metrics of one's own, on the metric store."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.handlers.statistics import Series, is_statistic
from processing.local.protocols.values import to_time
from processing.local.stores.metrics import Metric, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing.local.context import EngineContext
    from processing.local.handlers import Operation

PAGE = 500
"""Metrics on a page of ListMetrics."""
MAX_DATAPOINTS = 100_800
"""Of one answer of GetMetricData."""
MAX_STATISTICS = 1440
"""Datapoints that GetMetricStatistics answers at most."""
MAX_QUERIES = 500
MAX_VALUES = 150

_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")
_LARGEST = 2.0**360
_PAST_SECONDS = 14 * 24 * 3600
_FUTURE_SECONDS = 2 * 3600


class CloudWatchHandler:
    """The metric operations, by their names in the API. Params and results have boto3's names and types.

    Args:
        engine: the engine that it belongs to.

    Attributes:
        operations: the function for each operation.
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
        """Answer a page of the datapoints of several metrics, the newest first unless asked otherwise."""
        span = _span(params, "ValidationError")
        queries = params["MetricDataQueries"]
        _check_queries(queries)
        descending = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        first, after = _parse(params.get("NextToken"))
        left = params.get("MaxDatapoints", MAX_DATAPOINTS)
        if not 1 <= left <= MAX_DATAPOINTS:
            raise ApiError("ValidationError", f"The value {left} for parameter MaxDatapoints is invalid.")
        results: list[dict[str, Any]] = []
        token = None
        for index, query in enumerate(queries[first:], first):
            if not query.get("ReturnData", True):
                continue
            points = self._points(query["MetricStat"], span)
            points.sort(reverse=descending)
            if index == first and after is not None:
                points = [point for point in points if (point[0] < after if descending else point[0] > after)]
            page = points[:left]
            left -= len(page)
            complete = len(page) == len(points)
            results.append(_result(query, page, complete=complete))
            if not complete:
                token = _token(index, page[-1][0] if page else None)
                break
        return {"MetricDataResults": results, "Messages": [], **({} if token is None else {"NextToken": token})}

    def get_metric_statistics(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the datapoints of one metric, with several statistics each."""
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
        points_found = [{"Timestamp": _time(moment), "Unit": unit, **values} for moment, values in found.items()]
        return {"Label": metric.name, "Datapoints": points_found}

    def list_metrics(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a page of the metrics."""
        token = params.get("NextToken")
        metrics, more = self._store.metrics(
            namespace=params.get("Namespace"),
            name=params.get("MetricName"),
            dimensions=[(each["Name"], each.get("Value")) for each in params.get("Dimensions", [])],
            recent="RecentlyActive" in params,
            after=None if token is None else _metric_of(token),
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
        return {"Metrics": found, **({"NextToken": _encoded(metrics[-1])} if more else {})}

    def put_metric_data(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add values of metrics."""
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
        place = f"MetricDataQueries.member.{number}"
        if not _ID.fullmatch(query["Id"]):
            raise ApiError(
                "ValidationError",
                f"The value for parameter {place}.Id is not matching the expected pattern ^{_ID.pattern}$.",
            )
        if "Expression" in query and "MetricStat" in query:
            raise ApiError("ValidationError", _exclusive(f"{place}.Expression", f"{place}.MetricStat"))
        if "Expression" in query:
            raise ApiError(
                "ValidationError", f"The local engine has no metric math; {place}.Expression cannot be answered."
            )
        if "MetricStat" not in query:
            raise ApiError("ValidationError", f"The parameter {place}.MetricStat is required.")
        _check_period(query["MetricStat"]["Period"], f"{place}.MetricStat.Period", "ValidationError")
        if not is_statistic(query["MetricStat"]["Stat"]):
            raise ApiError(
                "ValidationError",
                f"The value {query['MetricStat']['Stat']} for parameter {place}.MetricStat.Stat is not supported.",
            )


def _exclusive(first: str, second: str) -> str:
    return f"The parameters {first} and {second} are mutually exclusive and you have specified both."


def _check_period(period: int, place: str, code: str) -> None:
    if period not in {1, 5, 10, 20, 30} and (period <= 0 or period % 60):
        raise ApiError(code, f"The parameter {place} must be 1, 5, 10, 20, 30, or a multiple of 60.")


def _result(query: dict[str, Any], points: list[tuple[float, float]], *, complete: bool) -> dict[str, Any]:
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["MetricStat"]["Metric"]["MetricName"]),
        "Timestamps": [_time(moment) for moment, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _metric(params: dict[str, Any]) -> Metric:
    return Metric.of(params["Namespace"], params["MetricName"], _dimensions(params))


def _dimensions(params: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in params.get("Dimensions", [])}


def _samples(datum: dict[str, Any], place: str, now: float) -> Iterator[Sample]:
    """Yield the samples of one element of PutMetricData's list."""
    given = [name for name in ("Value", "Values", "StatisticValues") if name in datum]
    if not given:
        raise ApiError(
            "MissingParameter",
            f"At least one of the parameters {place}.Value, {place}.Values and {place}.StatisticValues is required.",
        )
    if len(given) > 1:
        raise ApiError("InvalidParameterCombination", _exclusive(*(f"{place}.{name}" for name in given[:2])))
    moment = _moment(datum, place, now)
    if given == ["StatisticValues"]:
        known = {name: float(value) for name, value in datum["StatisticValues"].items()}
        _check_values(known.values(), f"{place}.StatisticValues")
        yield Sample(moment, known["SampleCount"], known["Sum"], known["Minimum"], known["Maximum"])
        return
    values = [float(value) for value in datum.get("Values", [datum.get("Value")])]
    counts = [float(count) for count in datum.get("Counts", [1.0] * len(values))]
    if len(values) != len(counts):
        raise ApiError(
            "InvalidParameterValue", f"The parameters {place}.Values and {place}.Counts must be of the same size."
        )
    if len(values) > MAX_VALUES:
        raise ApiError(
            "InvalidParameterValue", f"The collection {place}.Values must not have a size greater than {MAX_VALUES}."
        )
    _check_values(values, f"{place}.{given[0]}")
    for value, count in zip(values, counts, strict=True):
        yield Sample.of(moment, value, count)


def _moment(datum: dict[str, Any], place: str, now: float) -> float:
    moment = _seconds(datum["Timestamp"]) if "Timestamp" in datum else now
    if moment > now + _FUTURE_SECONDS:
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter {place}.Timestamp must specify a time no more than two hours in the future.",
        )
    if moment < now - _PAST_SECONDS:
        raise ApiError(
            "InvalidParameterValue", f"The parameter {place}.Timestamp must specify a time within the past two weeks."
        )
    return moment


def _check_values(values: Any, place: str) -> None:
    for value in values:
        if not math.isfinite(value) or abs(value) > _LARGEST:
            shown = "NaN" if math.isnan(value) else value
            raise ApiError("InvalidParameterValue", f"The value {shown} for parameter {place} is invalid.")


def _seconds(value: Any) -> float:
    """Return a time in seconds since the epoch."""
    moment: dt.datetime = value if isinstance(value, dt.datetime) else to_time(value)
    return moment.timestamp()


def _time(moment: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment, dt.timezone.utc)


def _token(index: int, after: float | None) -> str:
    """Return the token for the datapoints after that time of that query, and the queries after it."""
    return _encoded([index, after])


def _parse(token: str | None) -> tuple[int, float | None]:
    if token is None:
        return 0, None
    found = _decoded(token, "InvalidNextToken")
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], int) or found[0] < 0:
        raise _bad_token("InvalidNextToken")
    if found[1] is not None and not isinstance(found[1], (int, float)):
        raise _bad_token("InvalidNextToken")
    return found[0], found[1]


def _metric_of(token: str) -> Metric:
    code = "InvalidParameterValue"
    try:
        namespace, name, dimensions = _decoded(token, code)
        return Metric(str(namespace), str(name), tuple((str(key), str(value)) for key, value in dimensions))
    except (TypeError, ValueError):
        raise _bad_token(code) from None


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def _decoded(token: str, code: str) -> Any:
    try:
        return json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except ValueError:
        raise _bad_token(code) from None


def _bad_token(code: str) -> ApiError:
    return ApiError(code, "Request parameter NextToken is invalid.")
