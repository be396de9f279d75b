"""The serialization module: its signatures, round trips, signed and hashed values, and everything that is refused."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import platform
import subprocess
import sys
import textwrap
import threading
import traceback
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from processing import (
    ConfigurationError,
    DeserializationError,
    RemoteFunctionError,
    SerializationError,
    ServiceError,
)
from processing.remote_function import serialization
from processing.remote_function.serialization import (
    CloudpickleSerializer,
    deserialize_exception_from_s3,
    deserialize_func_from_s3,
    deserialize_obj_from_s3,
    json_serialize_obj_to_s3,
    serialize_exception_to_s3,
    serialize_func_to_s3,
    serialize_obj_to_s3,
)
from stored_values import KEY, Slot, joined, public, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing import LocalSession

OTHER_KEY = ec.generate_private_key(ec.SECP256R1())

# As sagemaker-core 2.27 documents them: the names in order, and the default values.
SIGNATURES = {
    "serialize_func_to_s3": "func, sagemaker_session, s3_uri, private_key, s3_kms_key=None",
    "deserialize_func_from_s3": "sagemaker_session, s3_uri, public_key_pem",
    "serialize_obj_to_s3": "obj, sagemaker_session, s3_uri, signing_key=None, s3_kms_key=None",
    "deserialize_obj_from_s3": "sagemaker_session, s3_uri, verification_key=None",
    "json_serialize_obj_to_s3": "obj, json_key, sagemaker_session, s3_uri, s3_kms_key=None",
    "serialize_exception_to_s3": "exc, sagemaker_session, s3_uri, s3_kms_key=None",
    "deserialize_exception_from_s3": "sagemaker_session, s3_uri",
}


@pytest.fixture
def slot(local_session: LocalSession) -> Slot:
    """A place for a value on an engine of the test's own."""
    return Slot(local_session, f"s3://{local_session.default_bucket()}/root/job/slot", str(local_session.home))


def round_trip(slot: Slot, value: Any) -> Any:
    """Return an object after its storage."""
    serialize_obj_to_s3(value, slot.session, slot.uri)
    return deserialize_obj_from_s3(slot.session, slot.uri)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_are_those_of_sagemaker_core(name: str) -> None:
    """Every call that fits its function fits ours; further parameters are keywords with defaults."""
    parameters = inspect.signature(getattr(serialization, name)).parameters.values()
    positional = [each for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in positional) == SIGNATURES[name]
    further = [each for each in parameters if each not in positional]
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in further)
    assert all(each.default in {None, "processing"} for each in further)


def test_all_names_are_offered() -> None:
    """The module offers the functions and the class, and no other name."""
    assert {*serialization.__all__} == {*SIGNATURES, "CloudpickleSerializer"}


def test_the_errors_have_one_base() -> None:
    """A handler of RemoteFunctionError catches each of them."""
    for error in (SerializationError, DeserializationError, ServiceError):
        assert issubclass(error, RemoteFunctionError)


def test_functions_travel_signed(slot: Slot) -> None:
    """A closure, a lambda, a partial and a nested function work afterwards as before."""
    offset = 10
    functions: list[Callable[[int], int]] = [
        lambda x: x + offset,
        functools.partial(max, 3),
        functools.partial(lambda a, b: a * b + offset, 2),
    ]
    for function in functions:
        serialize_func_to_s3(function, slot.session, slot.uri, KEY)
        back = deserialize_func_from_s3(slot.session, slot.uri + "/", public(KEY))
        assert back(5) == function(5)


def test_objects_travel_signed_or_hashed(slot: Slot) -> None:
    """Arguments have a signature, results a hash; a signed value may be read by its hash alone."""
    arguments = ((1, "two", np.arange(5000)), {"frame": pd.DataFrame({"a": [1, 2]})})
    serialize_obj_to_s3(arguments, slot.session, slot.uri, KEY)
    for key in (public(KEY), None):
        args, kwargs = deserialize_obj_from_s3(slot.session, slot.uri, key)
        assert args[:2] == (1, "two")
        assert (args[2] == np.arange(5000)).all()
        pd.testing.assert_frame_equal(kwargs["frame"], arguments[1]["frame"])
    assert round_trip(slot, None) is None


def test_classes_of_the_main_program_travel_by_value(slot: Slot, tmp_path: Path) -> None:
    """A program stores a function and an instance of its own; another program, without that module, uses both."""
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent("""
        import sys, processing
        from processing.remote_function.serialization import serialize_obj_to_s3
        class Point:
            def __init__(self, x): self.x = x
            def double(self): return Point(self.x * factor)
        factor = 2
        def call(point): return point.double().x
        session = processing.LocalSession(sys.argv[1])
        serialize_obj_to_s3((call, Point(21)), session, sys.argv[2])
        """)
    )
    subprocess.run([sys.executable, script, slot.home, slot.uri], check=True)
    function, point = deserialize_obj_from_s3(slot.session, slot.uri)
    assert function(point) == 42
    assert type(point).__module__ == "__main__"


def test_classes_of_modules_travel_by_name(slot: Slot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has the module catches a stored exception by its class."""
    (tmp_path / "shop.py").write_text("class SoldOutError(Exception):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = importlib.import_module("shop").SoldOutError("bread")
    serialize_exception_to_s3(error, slot.session, slot.uri)
    monkeypatch.delitem(sys.modules, "shop")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, processing, shop\n"
        "from processing.remote_function.serialization import deserialize_exception_from_s3\n"
        "error = deserialize_exception_from_s3(processing.LocalSession(sys.argv[1]), sys.argv[2])\n"
        "print(type(error) is shop.SoldOutError)\n"
    )
    command = [sys.executable, str(program), slot.home, slot.uri]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


class _OwnConstructorError(Exception):
    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class _SlottedError(OSError):
    __slots__ = ("detail",)

    def __init__(self, detail: str) -> None:
        super().__init__(2, "no such thing", "a/file")
        self.detail = detail


def test_an_exception_keeps_all_that_it_has(slot: Slot) -> None:
    """Its constructor's own arguments, attributes, cause, context, notes and traceback survive, circles included."""

    def fail(depth: int) -> None:
        if depth:
            fail(depth - 1)
        try:
            read_nothing()
        except _SlottedError as error:
            failed: Any = _OwnConstructorError(7, reason="bad")
            failed.__notes__ = ["a note"]  # as `add_note`, which came with Python 3.11
            failed.itself = failed
            raise failed from error

    def read_nothing() -> None:
        raise _SlottedError("cause")

    with pytest.raises(_OwnConstructorError) as caught:
        fail(3)
    serialize_exception_to_s3(caught.value, slot.session, slot.uri)
    back = deserialize_exception_from_s3(slot.session, slot.uri)
    assert (str(back), back.code, back.__notes__) == ("bad (7)", 7, ["a note"])
    assert back.itself is back
    assert (back.__cause__.detail, back.__cause__.filename, back.__cause__.errno) == ("cause", "a/file", 2)
    assert back.__context__ is back.__cause__
    assert back.__suppress_context__
    expected = [
        (frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(caught.value.__traceback__)
    ]
    found = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(back.__traceback__)]
    assert found == expected
    assert "raise failed from error" in "".join(traceback.format_exception(back))
    assert type(back) is _OwnConstructorError


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        FileNotFoundError(2, "no", "a", None, "b"),
        ImportError("no", name="n", path="p"),
        StopIteration(5),
        SystemExit(3),
        KeyError("k"),
        KeyboardInterrupt(),
        ServiceError("text", exit_code=3),
        pd.errors.ParserError("bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_class_of_exceptions_travels(slot: Slot, error: BaseException) -> None:
    """Built-in fields, own reductions and exceptions that are no Exception are equal afterwards."""
    serialize_exception_to_s3(error, slot.session, slot.uri)
    back = deserialize_exception_from_s3(slot.session, slot.uri)
    assert type(back) is type(error)
    assert (repr(back), str(back), vars(back)) == (repr(error), str(error), vars(error))
    for name in ("errno", "filename", "filename2", "code", "value", "name", "path", "object", "exit_code"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_a_deep_traceback_travels(slot: Slot) -> None:
    """A RecursionError has a thousand frames, and comes back."""

    def deep() -> None:
        deep()

    with pytest.raises(RecursionError) as caught:
        deep()
    serialize_exception_to_s3(caught.value, slot.session, slot.uri)
    back = deserialize_exception_from_s3(slot.session, slot.uri)
    assert len(traceback.extract_tb(back.__traceback__)) == len(traceback.extract_tb(caught.value.__traceback__)) > 500


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with Python 3.11")
def test_a_group_of_exceptions_travels(slot: Slot) -> None:
    """Its members are exceptions again."""
    group = eval("ExceptionGroup")("two", [ValueError(1), _OwnConstructorError(2, reason="r")])
    serialize_exception_to_s3(group, slot.session, slot.uri)
    back = deserialize_exception_from_s3(slot.session, slot.uri)
    assert [str(each) for each in back.exceptions] == ["1", "r (2)"]


def test_an_uncaught_exception_is_printed_as_at_its_origin(slot: Slot, tmp_path: Path) -> None:
    """Python's own printer shows the frames of the origin, without marks in lines of other code."""
    with pytest.raises(ZeroDivisionError) as caught:
        _divide(1, 0)
    serialize_exception_to_s3(caught.value, slot.session, slot.uri)
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, processing\n"
        "from processing.remote_function.serialization import deserialize_exception_from_s3\n"
        "raise deserialize_exception_from_s3(processing.LocalSession(sys.argv[1]), sys.argv[2])\n"
    )
    done = subprocess.run([sys.executable, program, slot.home, slot.uri], capture_output=True, text=True, check=False)
    assert done.stderr.endswith(", in _divide\n    return a / b\nZeroDivisionError: division by zero\n"), done.stderr


def _divide(a: float, b: float) -> float:
    return a / b


def test_json_is_stored_as_json(slot: Slot) -> None:
    """The object has the result under its key; what is no JSON is null, with the reason."""
    uri = slot.uri + "/results.json"

    def stored(value: object) -> Any:
        json_serialize_obj_to_s3(value, "Result", slot.session, uri)
        key = slot.key.replace("payload.bin", "results.json")
        return json.load(slot.session.client("s3").get_object(Bucket=slot.bucket, Key=key)["Body"])

    assert stored({"a": [1, None]}) == {"Result": {"a": [1, None]}, "Exception": None}
    circle: list[Any] = []
    circle.append(circle)
    for value in (object(), {("a",): 1}, circle):
        found = stored(value)
        assert found["Result"] is None
        assert "is not JSON serializable" in found["Exception"]
    with pytest.raises(ConfigurationError, match="s3_uri"):
        json_serialize_obj_to_s3(1, "Result", slot.session, f"s3://{slot.bucket}")


def test_the_serializer_makes_plain_pickles() -> None:
    """Bytes of the serializer are pickles; bytes that are none raise a DeserializationError that names their origin."""
    assert CloudpickleSerializer.deserialize("s3://b/k", CloudpickleSerializer.serialize(lambda: 5))() == 5
    with pytest.raises(DeserializationError, match="s3://b/k"):
        CloudpickleSerializer.deserialize("s3://b/k", b"no pickle")
    with pytest.raises(SerializationError, match=r"_thread\.lock"):
        CloudpickleSerializer.serialize([threading.Lock()])


class TestRefusals:
    """Values that nobody stored there, or not so."""

    def refused(self, slot: Slot, match: str, key: Any = KEY) -> None:
        """Check that the function in a slot is refused."""
        with pytest.raises(DeserializationError, match=match):
            deserialize_func_from_s3(slot.session, slot.uri, public(key))

    def test_a_signature_of_another_key(self, slot: Slot) -> None:
        """A function signed by another key is not loaded."""
        serialize_func_to_s3(print, slot.session, slot.uri, OTHER_KEY)
        self.refused(slot, "signature is not of the given key")

    def test_a_value_without_a_signature(self, slot: Slot) -> None:
        """A hashed object is not accepted where a signature is required."""
        serialize_obj_to_s3(1, slot.session, slot.uri)
        with pytest.raises(DeserializationError, match="is not signed"):
            deserialize_obj_from_s3(slot.session, slot.uri, public(KEY))

    def test_a_value_in_another_slot(self, slot: Slot) -> None:
        """Signed arguments are no function, and a copy from another job is not accepted."""
        serialize_obj_to_s3(_divide, slot.session, slot.uri, KEY)
        self.refused(slot, "of the kind 'object', not 'function'")
        other = attrs.evolve(slot, uri=slot.uri.replace("/job/", "/other/"))
        serialize_func_to_s3(print, other.session, other.uri, KEY)
        slot.replace(other.content())
        self.refused(slot, "is a copy of the value at s3://.*/root/other/slot")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kind", "function"),
            ("python", "3.99.1"),
            ("version", "sm-processing-1"),
            ("sha256", "0" * 64),
            ("context_signature", None),
            ("context_signature", "AAAA"),
            ("context_signature", "no base64 ü"),
            ("s3_uri", "s3://elsewhere/a"),
        ],
    )
    def test_changed_metadata(self, slot: Slot, field: str, value: Any) -> None:
        """A change of any signed field, or of the signature, is noticed before the value is loaded."""
        serialize_obj_to_s3(print, slot.session, slot.uri, KEY)
        content = slot.content()
        metadata, rest = split(content)
        if metadata[field] == value:  # the field that would make the slot fit
            self.refused(slot, "of the kind 'object'")
            return
        slot.replace(joined(rest, {**metadata, field: value}))
        with pytest.raises(DeserializationError):
            deserialize_obj_from_s3(slot.session, slot.uri, public(KEY))

    def test_a_foreign_version(self, slot: Slot) -> None:
        """A format of another release is named."""
        serialize_obj_to_s3(1, slot.session, slot.uri)
        metadata, rest = split(slot.content())
        slot.replace(joined(rest, {**metadata, "version": "sm-processing-9"}))
        with pytest.raises(DeserializationError, match=r"'sm-processing-9'.*reads 'sm-processing-1'"):
            deserialize_obj_from_s3(slot.session, slot.uri)

    def test_code_of_another_python(self, slot: Slot) -> None:
        """Bytecode of another minor version is refused, and data is not."""
        value = {"a": np.arange(3000), "b": [1, "x"]}
        for content, is_code in ((value, False), (lambda: 1, True)):
            serialize_obj_to_s3(content, slot.session, slot.uri)
            metadata, rest = split(slot.content())
            assert metadata["python"] == platform.python_version()
            slot.replace(joined(rest, {**metadata, "python": "3.6.1"}))
            if is_code:
                with pytest.raises(DeserializationError, match=r"Python 3\.6\.1 wrote it.*contains code"):
                    deserialize_obj_from_s3(slot.session, slot.uri)
            else:
                assert deserialize_obj_from_s3(slot.session, slot.uri)["b"] == [1, "x"]

    def test_a_missing_object(self, slot: Slot) -> None:
        """There is nothing to read: a failure of S3, with a hint at the other layout."""
        with pytest.raises(ServiceError, match=r"NoSuchKey.*accept='v3'"):
            deserialize_exception_from_s3(slot.session, slot.uri)

    def test_an_empty_object(self, slot: Slot) -> None:
        """An object without bytes is no value."""
        slot.replace(b"")
        self.refused(slot, "payload.bin")

    def test_a_bucket_of_another_account(self, slot: Slot) -> None:
        """The account is part of every call."""
        serialize_obj_to_s3(1, slot.session, slot.uri)
        with pytest.raises(ServiceError, match=r"AccessDenied.*bucket_owner"):
            deserialize_obj_from_s3(slot.session, slot.uri, bucket_owner="999999999999")
        with pytest.raises(ServiceError, match="AccessDenied"):
            serialize_obj_to_s3(1, slot.session, slot.uri, bucket_owner="999999999999")
        account = slot.session.account_id()
        assert deserialize_obj_from_s3(slot.session, slot.uri, bucket_owner=account) == 1


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        public(rsa.generate_private_key(65537, 2048)),
        public(ec.generate_private_key(ec.SECP384R1())),
        "",
        None,
        5,
        b"\xff",
    ],
    ids=["garbage", "empty-pem", "rsa", "p384", "empty", "none", "number", "bytes"],
)
def test_any_other_public_key_is_refused(slot: Slot, text: Any) -> None:
    """A key that is not one of P-256 raises a DeserializationError, and nothing is loaded."""
    serialize_func_to_s3(print, slot.session, slot.uri, KEY)
    with pytest.raises(DeserializationError, match="public_key_pem"):
        deserialize_func_from_s3(slot.session, slot.uri, text)


@pytest.mark.parametrize(
    "key",
    [None, rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), KEY.public_key(), "text"],
    ids=["none", "rsa", "p384", "public", "text"],
)
def test_only_a_private_key_of_the_curve_signs(slot: Slot, key: Any) -> None:
    """Another key is refused by the parameter's name before anything is sent."""
    with pytest.raises(ConfigurationError, match="private_key: must be a private key of the curve P-256"):
        serialize_func_to_s3(print, slot.session, slot.uri, key)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"sagemaker_session": "session"}, "sagemaker_session"),
        ({"s3_uri": "no-uri"}, "s3_uri"),
        ({"s3_uri": None}, "s3_uri"),
        ({"s3_kms_key": 5}, "s3_kms_key"),
        ({"bucket_owner": 5}, "bucket_owner"),
        ({"signing_key": "key"}, "signing_key"),
    ],
)
def test_a_wrong_argument_is_named(slot: Slot, arguments: dict[str, Any], name: str) -> None:
    """The error names the parameter."""
    with pytest.raises(ConfigurationError, match=name):
        serialize_obj_to_s3(**{"obj": 1, "sagemaker_session": slot.session, "s3_uri": slot.uri, **arguments})


def test_another_layout_than_the_two_is_refused(slot: Slot) -> None:
    """The error lists the layouts."""
    others: list[Any] = ["v2", None, []]
    for accept in others:
        with pytest.raises(ConfigurationError, match="accept: must be 'processing' or 'v3'"):
            deserialize_obj_from_s3(slot.session, slot.uri, accept=accept)


class TestUnserializable:
    """Values that cannot be sent: the path of the part that is the reason."""

    def named(self, slot: Slot, value: Any) -> str:
        """Return the message for a function or object."""
        with pytest.raises(SerializationError) as caught:
            serialize_obj_to_s3(value, slot.session, slot.uri)
        return str(caught.value)

    def test_a_client_in_a_closure(self, slot: Slot) -> None:
        """A boto3 client is named by its variable, not by a lock deep inside of it."""
        s3 = slot.session.client("s3")

        def divide() -> Any:
            return s3

        assert self.named(slot, divide).startswith(
            'divide.__closure__["s3"]: an object of the type botocore.client.S3 cannot be sent to another process'
        )

    def test_an_open_file(self, slot: Slot, tmp_path: Path) -> None:
        """A text file is not replaced by its content."""
        path = tmp_path / "file"
        path.write_text("content")
        with path.open() as file:
            assert "read.__defaults__[0]: an object of the type _io.TextIOWrapper" in self.named(
                slot, _with_default(file)
            )

    def test_paths_lead_through_containers_and_own_objects(self, slot: Slot) -> None:
        """Dictionaries, lists, partials, bound methods and instances of the user's classes are steps."""
        lock = threading.Lock()
        holder = _Holder([{"lock": lock}])
        for value, path in (
            ({"a": [1, (lock,)]}, 'obj["a"][1][0]'),
            (holder, 'obj.held[0]["lock"]'),
            (holder.method, 'method.__self__.held[0]["lock"]'),
            (functools.partial(print, 1, end=lock), 'obj.keywords["end"]'),
            (_with_default(holder), 'read.__defaults__[0].held[0]["lock"]'),
            ([0] * 100_000 + [lock], "obj[100000]"),
        ):
            assert self.named(slot, value).startswith(path + ": an object of the type _thread.lock")

    def test_an_attribute_of_an_exception(self, slot: Slot) -> None:
        """The attribute is named."""
        error = ValueError("x")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        with pytest.raises(SerializationError, match=r"^exc\.lock: an object of the type _thread.lock"):
            serialize_exception_to_s3(error, slot.session, slot.uri)

    def test_a_value_that_is_nested_too_deeply(self, slot: Slot) -> None:
        """The whole value is named; a path of a thousand steps helps nobody."""
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        assert self.named(slot, value).startswith("obj: an object of the type list")

    def test_a_value_whose_own_methods_fail(self, slot: Slot) -> None:
        """Any exception of the user's code is a SerializationError."""
        assert "ZeroDivisionError" in self.named(slot, [_Hostile()])


def _with_default(value: Any) -> Callable[..., Any]:
    def read(given: Any = value) -> Any:
        return given

    return read


class _Holder:
    def __init__(self, held: Any) -> None:
        self.held = held

    def method(self) -> None:
        """Do nothing."""


class _Hostile:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("hostile")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError("more hostile")
