"""Transfers of the shim: large objects in parts, and the botocore that it imports."""

from __future__ import annotations

import copy
import hashlib
import io
import sys
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest

from processing.container.shim import storage
from processing.container.shim.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path


SESSION = """
from types import SimpleNamespace

class Session:
    create_client = lambda *_, **__: None
    get_component = lambda *_: SimpleNamespace(
        file_loader=SimpleNamespace(load_file=None), load_service_model=None
    )
"""


def test_the_client_reaches_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of botocore's models that are left out do not change where requests go."""
    for region in ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "ap-southeast-9"):
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        expected = boto3.session.Session().client("s3")
        client = storage.S3Store()._connect()
        assert client.meta.endpoint_url == expected.meta.endpoint_url
        assert client.meta.partition == expected.meta.partition
        assert client.meta.service_model.operation_names == expected.meta.service_model.operation_names


def test_clients_for_credentials_can_be_made() -> None:
    """The session that makes the client of S3 makes those of other services, which some credentials need."""
    session = botocore.session.Session()
    storage._prune_models(session)
    for name in ("s3", "sts", "sso", "sso-oidc"):
        client = session.create_client(name, "eu-west-1", aws_access_key_id="id", aws_secret_access_key="secret")
        assert client.meta.service_model.service_name == name


@pytest.mark.parametrize(
    ("name", "content", "pruned"),
    [
        (
            "endpoints",
            {"partitions": [{"partition": "aws", "services": {"s3": {"a": 1}, "sagemaker": {"a": 2}}}]},
            {"partitions": [{"partition": "aws", "services": {"s3": {"a": 1}}}]},
        ),
        (
            "service-2",
            {
                "operations": {"Put": {"documentation": "x"}},
                "shapes": {
                    "A": {"documentation": "x", "members": {"B": {"documentation": "x"}}},
                    "C": {"type": "blob"},
                },
            },
            {
                "operations": {"Put": {"documentation": ""}},
                "shapes": {
                    "A": {"documentation": "", "members": {"B": {"documentation": ""}}},
                    "C": {"type": "blob", "documentation": ""},
                },
            },
        ),
    ],
)
def test_pruned_models_are_copies(name: str, content: Any, pruned: Any) -> None:
    """Parts of a model are left out of a copy, because other sessions may share what was read."""
    whole = copy.deepcopy(content)
    assert storage._pruned(content, name) == pruned
    assert content == whole


def test_a_large_object_is_sent_in_parts(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object above the limit arrives whole, with its metadata; the last part is shorter."""
    monkeypatch.setattr(storage, "SINGLE_PUT_BYTES", 5 << 20)
    data = bytes(range(256)) * (44 << 10)
    stored = shim.store.put("shim", "large", io.BytesIO(data), {"name": "value"})
    assert stored == (len(data), hashlib.sha256(data).hexdigest())
    answer = shim.client.get_object(Bucket="shim", Key="large")
    assert answer["Body"].read() == data
    assert (answer["Metadata"], answer["ETag"].strip('"').partition("-")[2]) == ({"name": "value"}, "3")


def test_parts_of_a_failed_object_are_removed(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure S3 keeps no part, for which the user would pay."""
    monkeypatch.setattr(storage, "SINGLE_PUT_BYTES", 5 << 20)

    def fail(params: dict[str, Any], **_others: Any) -> None:
        if params["query_string"]["partNumber"] == 2:
            raise OSError("the network is down")

    shim.client.meta.events.register("before-call.s3.UploadPart", fail)
    with pytest.raises(StoreError, match="s3://shim/large: the network is down"):
        shim.store.put("shim", "large", io.BytesIO(bytes(11 << 20)), {})
    assert "Uploads" not in shim.client.list_multipart_uploads(Bucket="shim")


def test_a_broken_botocore_is_replaced(shim: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An image whose botocore cannot be imported uses the one that travels with the shim."""
    for folder, content in (
        ("image", "import absent"),
        ("carried", SESSION),
    ):
        (tmp_path / folder / "botocore").mkdir(parents=True)
        (tmp_path / folder / "botocore/__init__.py").write_text("")
        (tmp_path / folder / "botocore/session.py").write_text(content)
        (tmp_path / folder / "botocore/config.py").write_text("Config = dict")
    for name in [each for each in sys.modules if each.partition(".")[0] in storage._PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "image")])
    monkeypatch.setattr(storage, "_carried", [])
    with pytest.raises(StoreError, match="S3 needs boto3 in the image"):
        storage.S3Store()._connect()
    storage.carry(lambda: str(tmp_path / "carried"))
    assert storage.S3Store()._connect() is None
    assert str(tmp_path / "carried") in str(sys.modules["botocore"].__file__)
    for name in [each for each in sys.modules if each.partition(".")[0] in storage._PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
