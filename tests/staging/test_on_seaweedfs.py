"""Transfers to an S3 server by other people, which checks signatures and checksums: over HTTP, and over TLS."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from moto.core.models import botocore_stubber

from processing import Session
from processing.request.s3_uri import S3Uri
from processing.staging.pending_uploads import Upload
from processing.staging.transfers import download_prefix, upload_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "transfers"  # of this module: SeaweedFS keeps the folders of objects that were deleted
NAMES = ["a b", "ü é", "plus+and&", "100%", "%41", "#", "q?=1", "~", "a=b,c;d", "(x)", "😀", *map(str, range(40))]
CONTENTS = {name: b"" if number == 3 else os.urandom(number * 37) for number, name in enumerate(NAMES, 1)}
LARGE = os.urandom(1 << 20) * 18


def nobody(_bucket: str) -> None:
    """No bucket has to belong to anybody."""


@pytest.fixture(params=["http", "https"])
def session(request: pytest.FixtureRequest, seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose S3 is the server's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", seaweedfs.url if request.param == "http" else seaweedfs.secure_url)
    monkeypatch.setenv("AWS_CA_BUNDLE", seaweedfs.certificate)
    boto_session = boto3.Session(seaweedfs.access_key, seaweedfs.secret_key, region_name="us-east-1")
    # moto registers it with every session of this process, and a client with hooks sends every request by itself.
    boto_session.events.unregister("before-send", cast("Any", botocore_stubber))
    session = Session(boto_session, default_bucket=BUCKET)
    with contextlib.closing(session.client("s3")) as client:
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        yield session


@pytest.mark.parametrize("choice", ["botocore", "core", "fast"])
def test_there_and_back(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, choice: str
) -> None:
    """Files with odd names come back as they went, by each transport. The server refuses none of its requests."""
    if choice == "fast":
        pytest.importorskip("obstore")
    monkeypatch.setenv("PROCESSING_TRANSFERS", choice)
    caplog.set_level(logging.DEBUG, "botocore.endpoint")
    caplog.set_level(logging.DEBUG, "processing.staging")
    (tmp_path / "in").mkdir()
    for name, content in {**CONTENTS, "large": LARGE}.items():
        (tmp_path / "in" / name).write_bytes(content)
    uploads = [Upload(tmp_path / "in" / name, S3Uri(BUCKET, f"p/{name}")) for name in [*CONTENTS, "large"]]
    upload_all(session.api, uploads, expected_owner=nobody, workers=1)
    back = download_prefix(session.api, S3Uri(BUCKET, "p/"), tmp_path / "out", expected_owner=nobody, workers=1)
    assert {path.name: path.read_bytes() for path in back} == {**CONTENTS, "large": LARGE}
    assert "sends the request again" not in caplog.text
    own = sum(record.getMessage().startswith("Making request for") for record in caplog.records)
    assert (own > 2 * len(NAMES)) == (choice == "botocore")
