"""`sagemaker-core` 3: values that its serialization module stores, read with `accept="v3"`.

The files below tests/remote_function/v3 are objects that this script stored, with sagemaker-core 2.27.0 on Python 3.11.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING

import pytest

from processing import DeserializationError, LocalSession
from processing.remote_function.serialization import (
    deserialize_exception_from_s3,
    deserialize_func_from_s3,
    deserialize_obj_from_s3,
)

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-3"
SCRIPT = """
import operator
import boto3
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.remote_function.core import serialization

boto3.client("s3").create_bucket(Bucket="v3-values")
session = Session(boto_session=boto3.Session(), default_bucket="v3-values")
key = ec.generate_private_key(ec.SECP256R1())
root = "s3://v3-values/job"


def divide(a, b):
    return a / b


offset = 10
serialization.serialize_func_to_s3(operator.add, session, root + "/function", key)
serialization.serialize_func_to_s3(lambda x: x + offset, session, root + "/lambda", key)
serialization.serialize_obj_to_s3(((1, "two"), {"three": [3.0]}), session, root + "/arguments", key)
serialization.serialize_obj_to_s3({"answer": 42}, session, root + "/results")
try:
    try:
        divide(1, 0)
    except ZeroDivisionError as error:
        raise FileNotFoundError(2, "no such thing", "a/file") from error
except FileNotFoundError as error:
    serialization.serialize_exception_to_s3(error, session, root + "/exception")
print(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo).decode())
"""


def test_values_of_the_serialization_module_are_read(foreign: Client) -> None:
    """Functions, arguments, results and exceptions are the stored ones, with signatures and traceback."""
    pem = foreign.script(SCRIPT).partition("-----BEGIN")
    key = "-----BEGIN" + pem[2].partition("-----END PUBLIC KEY-----")[0] + "-----END PUBLIC KEY-----\n"
    session = LocalSession(foreign.served.home)
    root = "s3://v3-values/job"
    assert deserialize_func_from_s3(session, root + "/function", key, accept="v3") is operator.add
    assert deserialize_obj_from_s3(session, root + "/arguments", key, accept="v3") == ((1, "two"), {"three": [3.0]})
    assert deserialize_obj_from_s3(session, root + "/results", accept="v3") == {"answer": 42}
    error = deserialize_exception_from_s3(session, root + "/exception", accept="v3")
    assert error.__cause__.__traceback__.tb_next.tb_frame.f_code.co_name == "divide"
    with pytest.raises(DeserializationError, match="is not signed"):
        deserialize_obj_from_s3(session, root + "/results", key, accept="v3")
    assert deserialize_func_from_s3(session, root + "/lambda", key, accept="v3")(1) == 11, sys.version
