"""Tasks: one run of the program with its inputs and the place of its outputs, parsed from JSON."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from processing.container.shim.errors import TaskError

_BUCKET = re.compile(r"[a-zA-Z0-9.\-_]{1,255}")
_ACCESS_POINT = re.compile(
    r"arn:aws[a-z\-]*:(s3|s3-object-lambda):[a-z\-0-9]*:[0-9]{12}:accesspoint[/:][a-zA-Z0-9\-.]{1,63}"
    r"|arn:aws[a-z\-]*:s3-outposts:[a-z\-0-9]+:[0-9]{12}:outpost[/:][a-zA-Z0-9\-]{1,63}"
    r"[/:]accesspoint[/:][a-zA-Z0-9\-]{1,63}"
)
_MARK = re.compile(r'"|\\.|,(?=\s*[}\]])', re.DOTALL)
"""Matches a quote, an escape, and a comma that is too much unless it is within a string."""
_DURATION = re.compile(
    r"(?i)P(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_CLOCK = re.compile(
    r"(?:(?P<days>\d+)(?: days?,)? )?(?P<hours>\d{1,2}):(?P<minutes>\d\d)(?::(?P<seconds>\d\d(?:\.\d+)?))?"
)
_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_KEY_BYTES = 1_024
"""The longest key of an object in S3, in bytes of UTF-8."""


class TaskInput(NamedTuple):
    """One object that a task downloads.

    Attributes:
        relative_path: the path below the input folder, with `/` between its parts and no leading `/`.
        bucket_name: the bucket, or the ARN of an access point.
        bucket_key: the key.
        decompress: whether the object is an archive, to unpack into the folder of `relative_path`.
    """

    relative_path: str
    bucket_name: str
    bucket_key: str
    decompress: bool = False


class Task(NamedTuple):
    """One run of the program.

    Attributes:
        pk: the task's name.
        inputs: the objects to download.
        output_bucket_name: the bucket of the outputs and of the result, or the ARN of an access point.
        output_prefix: the beginning of their keys; it ends with `/`.
        timeout: the longest run of the program in seconds; None for no limit.
    """

    pk: str
    inputs: Tuple[TaskInput, ...]
    output_bucket_name: str
    output_prefix: str
    timeout: Optional[float] = None


def parse_tasks(text: Union[str, bytes]) -> List[Task]:
    """Return the tasks of a JSON list, or of one JSON object.

    Raises:
        TaskError: the text is not such a list, or a field is not valid.
    """
    value = _parse_json(text)
    if isinstance(value, dict):
        return [_parse(value, "")]
    if not isinstance(value, list) or not value:
        raise TaskError("", "the tasks must be a JSON list with at least one task, or one task")
    return [_parse(each, "[%d]" % number) for number, each in enumerate(value)]


def parse_task(text: Union[str, bytes]) -> Task:
    """Return the task of a JSON object.

    Raises:
        TaskError: the text is not a JSON object, or a field is not valid.
    """
    return _parse(_parse_json(text), "")


def parse_relative_path(value: Any, field: str) -> str:
    """Return a path below a folder, without a leading `/` and without `.` as a part.

    Raises:
        TaskError: the value is not a string, is empty, or leaves the folder.
    """
    text = _text(value, field)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise TaskError(field, "%r leaves the folder; use a path without '..'" % text)
    if not parts or text.endswith("/"):
        raise TaskError(field, "%r does not name a file; use a path such as 'images/a.png'" % text)
    return "/".join(parts)


def parse_duration(value: Any, field: str) -> float:
    """Return a duration in seconds.

    Args:
        value: ISO 8601 such as `PT1H30M`, a clock such as `01:30:00`, or a number of seconds.
        field: the field's name, for the error.
    """
    seconds = -1.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of a number with hundreds of digits
            seconds = float(value)
    elif isinstance(value, str):
        found = _DURATION.fullmatch(value) or _CLOCK.fullmatch(value)
        if found is not None:
            parts = found.groupdict().items()
            seconds = sum(float(number) * _SECONDS[unit] for unit, number in parts if number is not None)
    if not 0 < seconds < float("inf"):
        raise TaskError(field, "%r is not a duration above 0; use ISO 8601, such as 'PT30M'" % (value,))
    return seconds


def _parse_json(text: Union[str, bytes]) -> Any:
    """Parse JSON in which a comma may follow the last item of a list or object."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(_without_trailing_commas(decoded))
    except (ValueError, RecursionError) as error:
        raise TaskError("", "the task is not JSON: %s" % error) from None


def _without_trailing_commas(text: str) -> str:
    """Return JSON without commas before a closing bracket.

    The time and the memory are linear for any text: an expression that matches whole strings would try a broken one
    again from each of its quotes, for hours.
    """
    kept, place, is_string = [], 0, False
    for found in _MARK.finditer(text):
        mark = found.group()
        if mark == '"':
            is_string = not is_string
        elif mark == "," and not is_string:
            kept.append(text[place : found.start()])
            place = found.end()
    return "".join([*kept, text[place:]])


def _parse(value: Any, place: str) -> Task:
    start = place + "." if place else ""
    fields = _fields(value, place or "the task")
    pk = _parse_pk(_required(fields, "pk", start), start + "pk")
    inputs = _required(fields, "inputs", start)
    if not isinstance(inputs, list):
        raise TaskError(start + "inputs", "must be a list, not %s" % _type_name(inputs))
    prefix = _key(_required(fields, "output_prefix", start), start + "output_prefix")
    timeout = fields.get("timeout")
    return Task(
        pk,
        _parse_inputs(inputs, start),
        _bucket(_required(fields, "output_bucket_name", start), start + "output_bucket_name"),
        prefix if prefix.endswith("/") else prefix + "/",
        None if timeout is None else parse_duration(timeout, start + "timeout"),
    )


def _parse_pk(value: Any, field: str) -> str:
    """Return the task's name. It is part of the name of the linked input folder, so it must not leave that."""
    parse_relative_path(value, field)
    return str(value)


def _parse_inputs(values: List[Any], start: str) -> Tuple[TaskInput, ...]:
    inputs = []
    files: Dict[str, str] = {}
    folders: Dict[str, str] = {}
    for number, value in enumerate(values):
        place = "%sinputs[%d]" % (start, number)
        each = _parse_input(value, place)
        if not each.decompress:
            if each.relative_path in files:
                raise TaskError(place + ".relative_path", "the same file as that of " + files[each.relative_path])
            files[each.relative_path] = place
        folder = each.relative_path.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = place
            folder = folder.rpartition("/")[0]
        inputs.append(each)
    for path in sorted(files.keys() & folders.keys()):
        problem = "%r is a file here, and a folder of %s" % (path, folders[path])
        raise TaskError(files[path] + ".relative_path", problem)
    return tuple(inputs)


def _parse_input(value: Any, place: str) -> TaskInput:
    fields = _fields(value, place)
    start = place + "."
    decompress = fields.get("decompress", False)
    if not isinstance(decompress, bool):
        raise TaskError(start + "decompress", "must be true or false, not %s" % _type_name(decompress))
    return TaskInput(
        parse_relative_path(_required(fields, "relative_path", start), start + "relative_path"),
        _bucket(_required(fields, "bucket_name", start), start + "bucket_name"),
        _key(_required(fields, "bucket_key", start), start + "bucket_key"),
        decompress,
    )


def _fields(value: Any, place: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise TaskError(place, "must be a JSON object, not %s" % _type_name(value))
    return value


def _required(fields: Dict[str, Any], name: str, start: str) -> Any:
    if name not in fields:
        raise TaskError(start + name, "is missing")
    return fields[name]


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise TaskError(field, "must be a string, not %s" % _type_name(value))
    if not value:
        raise TaskError(field, "is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise TaskError(field, "contains half of a surrogate pair") from None
    if "\0" in value:
        raise TaskError(field, "contains a NUL character")
    return value


def _bucket(value: Any, field: str) -> str:
    text = _text(value, field)
    if _BUCKET.fullmatch(text) is None and _ACCESS_POINT.fullmatch(text) is None:
        raise TaskError(field, "%r is not the name of a bucket or the ARN of an access point" % text)
    return text


def _key(value: Any, field: str) -> str:
    text = _text(value, field)
    if len(text.encode("utf-8")) > _KEY_BYTES:
        raise TaskError(field, "is longer than %d bytes, the limit of S3" % _KEY_BYTES)
    return text


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
