"""The filters of a transform job: a part of each record goes to the program, and its answer is joined with the input.

See "Associate Prediction Results with Input Records" in AWS's developer guide. Records are rows of CSV, lines of JSON,
or one JSON document.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from processing.local.hosting.transforms.json_path import JsonPath, JsonPathError

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUT_KEY, INPUT_KEY = "SageMakerOutput", "SageMakerInput"
_CSV, _LINES, _JSON = "text/csv", "application/jsonlines", "application/json"
_TYPES = (_CSV, _LINES, _JSON)


class FilterError(Exception):
    """A filter that does not fit the data. The message completes `<object>: `."""


class DataProcessing:
    """The filters of one job.

    Args:
        request: the members of CreateTransformJob.

    Raises:
        FilterError: an expression is not supported, or the job's content types do not allow filters.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        settings = request.get("DataProcessing") or {}
        try:
            self._input = JsonPath(settings.get("InputFilter", "$"))
            self._output = JsonPath(settings.get("OutputFilter", "$"))
        except JsonPathError as error:
            raise FilterError(f"DataProcessing: {error}") from None
        self._joins = settings.get("JoinSource", "None") == "Input"
        source = request["TransformInput"]
        self._in_type = _media_type(source.get("ContentType"))
        self._out_type = _media_type(request["TransformOutput"].get("Accept")) or self._in_type
        by_line = source.get("SplitType", "None") == "Line"
        if by_line:
            self._in_type = _LINES if self._in_type == _JSON else self._in_type
            self._out_type = _LINES if self._out_type == _JSON else self._out_type
        if self.active:
            self._check(source.get("SplitType", "None"))

    @property
    def active(self) -> bool:
        """True if there is anything to filter or to join."""
        return self._joins or not self._input.is_root or not self._output.is_root

    def _check(self, split_type: str) -> None:
        for member, value in (
            ("TransformInput.ContentType", self._in_type),
            ("TransformOutput.Accept", self._out_type),
        ):
            if value not in _TYPES:
                raise FilterError(
                    f"DataProcessing needs {member} to be one of {', '.join(_TYPES)}, not {value or 'none'}"
                )
        if split_type not in {"None", "Line"}:
            raise FilterError(f"DataProcessing needs the SplitType None or Line, not {split_type}")
        if self._joins and (self._in_type == _CSV) != (self._out_type == _CSV):
            raise FilterError("DataProcessing cannot join CSV and JSON: ContentType and Accept must be of one kind")

    def to_program(self, payload: bytes) -> bytes:
        """Return the part of a payload that the program receives.

        Raises:
            FilterError: a record does not have the part, or is not in the format of the content type.
        """
        if self._input.is_root:
            return payload
        records = _parse(payload, self._in_type)
        return _dump([_select(self._input, record) for record in records], self._in_type, payload)

    def to_output(self, payload: bytes, answer: bytes) -> bytes:
        """Return the output for a payload and the program's answer to it.

        Raises:
            FilterError: the answer does not fit the payload, or does not have the part that the filter selects.
        """
        if not self._joins and self._output.is_root:
            return answer
        results = _parse(answer, self._out_type)
        if self._joins:
            records = _parse(payload, self._in_type)
            if len(records) != len(results):
                counts = f"{len(results)} records for {len(records)}"
                raise FilterError(f"the program answered {counts}: they cannot be joined")
            join = _join_rows if self._in_type == _CSV else _join_documents
            results = [join(*pair) for pair in zip(records, results, strict=True)]
        return _dump([_select(self._output, result) for result in results], self._out_type, answer)


def _media_type(text: str | None) -> str:
    return (text or "").partition(";")[0].strip().lower()


def _select(path: JsonPath, record: Any) -> Any:
    try:
        return path.select(record)
    except JsonPathError as error:
        raise FilterError(str(error)) from None


def _join_rows(record: Any, result: Any) -> Any:
    return [*record, *result]


def _join_documents(record: Any, result: Any) -> Any:
    joined = record if isinstance(record, dict) else {INPUT_KEY: record}
    return {**joined, OUTPUT_KEY: result}


def _parse(content: bytes, kind: str) -> list[Any]:
    try:
        text = content.decode()
        if kind == _CSV:
            return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        if kind == _LINES:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return [json.loads(text)]
    except (ValueError, csv.Error) as error:
        raise FilterError(f"the content is not {kind}: {error}") from None


def _dump(records: list[Any], kind: str, like: bytes) -> bytes:
    """Return records as text, which ends with a newline if the text that they come from does."""
    if kind == _CSV:
        file = io.StringIO(newline="")
        csv.writer(file, lineterminator="\n").writerows(
            record if isinstance(record, list) else [record] for record in records
        )
        text = file.getvalue()
    else:
        text = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
    return (text if like.endswith(b"\n") else text.removesuffix("\n")).encode()
