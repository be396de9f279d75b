"""The installed botocore service model as the schema of requests: limits, enums and patterns.

botocore's own validator checks types, required members and minima only. Enums, maxima and patterns are in the shapes'
metadata, too. `violations` walks a value along its shape and finds all values that the service would refuse. The checks
therefore grow with the installed botocore.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from processing._utils.forks import ForkSafeLock
from processing._utils.garbage import collection_paused, fast_start

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel, Shape

Path = tuple[str | int, ...]
Kind = Literal["required", "type", "unknown", "enum", "pattern", "shortest", "longest", "least", "greatest", "union"]
Place = Literal["member", "element", "key", "entry"]

_LOCK = ForkSafeLock()


@attrs.frozen
class Violation:
    """A finding: a value that the service would refuse.

    Args:
        path: the location of the value in the API's spelling, such as `("ProcessingInputs", 1, "S3Input",
            "S3InputMode")`; positions count from 0.
        value: the value; None if it is missing.
        kind: the constraint that it violates.
        constraint: the constraint in AWS's words.
        limit: the number, pattern, enum values or type of the constraint.
        all_constraints: every constraint of that shape in AWS's words, as AWS lists them for elements of lists and
            maps.
        place: the role of the value: a `member` of a structure (or the whole value), an `element` of a list, the `key`
            or the `entry` (the value) of a map.
    """

    path: Path
    value: Any
    kind: Kind
    constraint: str
    limit: Any = None
    all_constraints: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    place: Place = "member"


def shared_loader() -> Loader:
    """Return the process-wide botocore data loader. A session with this loader parses no model a second time."""
    with _LOCK:
        return _shared_loader()


@functools.cache
@collection_paused()
def _shared_loader() -> Loader:
    import botocore.exceptions
    import botocore.loaders
    import botocore.session

    try:
        loader: Loader = botocore.session.Session(include_builtin_handlers=False).get_component("data_loader")
    except botocore.exceptions.BotoCoreError:
        # The AWS configuration of the machine cannot be read. Its users report that; the models do not need it.
        loader = botocore.loaders.create_loader(os.environ.get("AWS_DATA_PATH"))
    if not fast_start():
        return loader
    from processing.request.model_loader import ModelLoader

    return ModelLoader(loader.search_paths, include_default_search_paths=False)


def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service such as `sagemaker`, loaded once per process."""
    with _LOCK:
        return _service_model(service)


@functools.cache
@collection_paused()
def _service_model(service: str) -> ServiceModel:
    from botocore.model import ServiceModel

    return ServiceModel(shared_loader().load_service_model(service, "service-2"), service)


def processing_model() -> ServiceModel:
    """Return the model of the service that runs processing jobs."""
    return service_model("sagemaker")


def violations(shape: Shape, value: Any, path: Path = ()) -> list[Violation]:
    """Return everything in a value that its shape does not allow, in the order of the value.

    It finds everything that botocore's own validator finds, and also enums, maxima, patterns and exact types.

    Args:
        shape: a shape of a `ServiceModel`, such as an operation's `input_shape`.
        value: the value in boto3's form.
        path: the location of the value.
    """
    return list(_walk(shape, value, path))


def _walk(shape: Shape, value: Any, path: Path, place: Place = "member") -> Iterator[Violation]:
    if shape.type_name == "structure" and getattr(shape, "is_document_type", False):
        return
    accepts, described = _TYPES[shape.type_name]
    if not accepts(value):
        yield Violation(path, value, "type", f"Member must be {described}", described, place=place)
        return
    yield from _broken_constraints(shape, value, path, place)
    walk = _CONTAINERS.get(shape.type_name)
    if walk is not None:
        yield from walk(shape, value, path)


def _walk_structure(shape: Any, value: Mapping[str, Any], path: Path) -> Iterator[Violation]:
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield Violation(path, value, "union", "Exactly one member must be set", tuple(shape.members))
    for name in shape.required_members:
        if value.get(name) is None:
            yield Violation((*path, name), None, "required", "Member must not be null")
    for name, member in value.items():
        if name not in shape.members:
            yield Violation((*path, name), member, "unknown", "Member must be known", tuple(shape.members))
        elif member is not None or name not in shape.required_members:
            yield from _walk(shape.members[name], member, (*path, name))


def _walk_list(shape: Any, value: Iterable[Any], path: Path) -> Iterator[Violation]:
    for index, member in enumerate(value):
        yield from _walk(shape.member, member, (*path, index), "element")


def _walk_map(shape: Any, value: Mapping[Any, Any], path: Path) -> Iterator[Violation]:
    for key, member in value.items():
        yield from _walk(shape.key, key, (*path, key), "key")
        yield from _walk(shape.value, member, (*path, key), "entry")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    import decimal

    return _is_integer(value) or isinstance(value, (float, decimal.Decimal))


def _is_timestamp(value: Any) -> bool:
    if isinstance(value, dt.datetime):
        return True
    from botocore.utils import parse_to_aware_datetime

    try:
        parse_to_aware_datetime(value)
    # RuntimeError: the time is outside of all calendars.
    except (TypeError, ValueError, AttributeError, OverflowError, RuntimeError):
        return False
    return True


def _is_blob(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, str)) or hasattr(value, "read")


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "structure": (lambda value: isinstance(value, dict), "a structure"),
    "list": (lambda value: isinstance(value, (list, tuple)), "a list"),
    "map": (lambda value: isinstance(value, dict), "a map"),
    "string": (lambda value: isinstance(value, str), "a string"),
    "character": (lambda value: isinstance(value, str), "a string"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "integer": (_is_integer, "an integer"),
    "long": (_is_integer, "an integer"),
    "float": (_is_number, "a number"),
    "double": (_is_number, "a number"),
    "timestamp": (_is_timestamp, "a time"),
    "blob": (_is_blob, "bytes"),
}

_CONTAINERS: dict[str, Callable[[Any, Any, Path], Iterator[Violation]]] = {
    "structure": _walk_structure,
    "list": _walk_list,
    "map": _walk_map,
}


def _broken_constraints(shape: Shape, value: Any, path: Path, place: Place) -> Iterator[Violation]:
    """Yield the constraints of the shape itself that the value violates."""
    constraints = _constraints(shape)
    for kind, limit, text in constraints:
        if not _HOLDS[kind](value, limit):
            yield Violation(path, value, kind, text, limit, tuple(text for _, _, text in constraints), place)


def _constraints(shape: Shape) -> list[tuple[Kind, Any, str]]:
    """Return a shape's own constraints in AWS's order and words."""
    metadata = shape.metadata
    found: list[tuple[Kind, Any, str]] = []
    sized = shape.type_name in {"string", "list", "map"}
    if shape.type_name in {"string", "character"} and metadata.get("enum"):
        values = tuple(metadata["enum"])
        found.append(("enum", values, f"Member must satisfy enum value set: [{', '.join(values)}]"))
    if sized or shape.type_name in {"integer", "long", "float", "double"}:
        what = "length" if sized else "value"
        if "max" in metadata:
            text = f"Member must have {what} less than or equal to {metadata['max']}"
            found.append(("longest" if sized else "greatest", metadata["max"], text))
        if "min" in metadata:
            text = f"Member must have {what} greater than or equal to {metadata['min']}"
            found.append(("shortest" if sized else "least", metadata["min"], text))
    if shape.type_name == "string" and metadata.get("pattern"):
        pattern = metadata["pattern"]
        found.append(("pattern", pattern, f"Member must satisfy regular expression pattern: {pattern}"))
    return found


def _matches(value: str, pattern: str) -> bool:
    compiled = compile_pattern(pattern)
    return compiled is None or compiled.fullmatch(value) is not None


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "enum": lambda value, limit: value in limit,
    "longest": lambda value, limit: len(value) <= limit,
    "shortest": lambda value, limit: len(value) >= limit,
    "greatest": lambda value, limit: value <= limit,
    "least": lambda value, limit: value >= limit,
    "pattern": _matches,
}

# Java's character classes in Python. \w is wider than letters or numbers alone, which is safe: the service refuses the
# characters that this check wrongly accepts.
_JAVA_CLASSES = {
    "L": r"\w",
    "N": r"\w",
    "Z": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
}
_JAVA_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\.")


@functools.cache
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return a model's pattern, written for Java, for use with `fullmatch`; None if Python cannot express it."""
    unknown = False

    def named(match: re.Match[str]) -> str:
        nonlocal unknown
        unknown = unknown or match[1] not in _JAVA_CLASSES
        return _JAVA_CLASSES.get(match[1], "")

    def token(match: re.Match[str]) -> str:
        return {".": "[^\n\r\u0085\u2028\u2029]", r"\d": "[0-9]"}.get(match[0], match[0])

    text = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010ffff")
    text = _JAVA_TOKEN.sub(token, re.sub(r"\\p\{(\w+)\}", named, text))
    if unknown:
        return None
    try:
        return re.compile(text)
    except re.error:
        return None


def aws_message(found: Iterable[Violation]) -> str:
    """Return the findings in AWS's words: `1 validation error detected: Value 'FastFile' at 'processingInputs.2...`."""
    texts = list(dict.fromkeys(_aws_text(violation) for violation in found))
    plural = "" if len(texts) == 1 else "s"
    return f"{len(texts)} validation error{plural} detected: " + "; ".join(texts)


def _aws_text(violation: Violation) -> str:
    path, value, constraint = violation.path, violation.value, violation.constraint
    shown = "null" if value is None else f"'{_aws_value(value)}'"
    if violation.all_constraints and violation.place in _ELEMENT_TEXTS and isinstance(value, str):
        # For simple elements AWS names the list or map, and every constraint of the elements.
        path = path[:-1]
        shown = f"'{{{violation.path[-1]}={value}}}'" if violation.place == "entry" else f"'[{value}]'"
        constraint = f"{_ELEMENT_TEXTS[violation.place]} satisfy constraint: [{', '.join(violation.all_constraints)}]"
    return f"Value {shown} at '{_aws_path(path)}' failed to satisfy constraint: {constraint}"


_ELEMENT_TEXTS: dict[Place, str] = {"element": "Member must", "key": "Map keys must", "entry": "Map value must"}


def _aws_path(path: Path) -> str:
    parts = [f"{part + 1}.member" if isinstance(part, int) else part[:1].lower() + part[1:] for part in path]
    return ".".join(parts)


def _aws_value(value: Any) -> str:
    """Format a value as AWS does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_aws_value(member)}" for key, member in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_aws_value(member) for member in value) + "]"
    return str(value)
