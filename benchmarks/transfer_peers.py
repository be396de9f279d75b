"""Transfers by the peers: boto3's own functions for one file, s3transfer and obstore for many.

s3transfer is used as boto3 uses it, with its own defaults. obstore alone has no transfer of many files: one event
loop awaits its requests, 256 at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import attrs

OBSTORE_REQUESTS = 256


@attrs.frozen
class Peer:
    """A client that is ready.

    Attributes:
        upload: uploads a file, or the files of a directory, to keys that begin with a prefix.
        download: fetches the objects whose keys begin with a prefix into a directory.
    """

    upload: Callable[[str, str], object]
    download: Callable[[str, str], object]


def boto3_alone(bucket: str) -> Peer:
    import boto3

    client = boto3.client("s3")

    def upload(source: str, prefix: str) -> None:
        for path, key in _files(source, prefix):
            client.upload_file(str(path), bucket, key)

    def download(target: str, prefix: str) -> None:
        for key in _listed(client, bucket, prefix):
            client.download_file(bucket, key, str(_place(target, key, prefix)))

    return Peer(upload, download)


def s3transfer(bucket: str) -> Peer:
    import boto3
    from s3transfer.manager import TransferManager

    client = boto3.client("s3")

    def upload(source: str, prefix: str) -> None:
        with TransferManager(client) as manager:
            for future in [manager.upload(str(path), bucket, key) for path, key in _files(source, prefix)]:
                future.result()

    def download(target: str, prefix: str) -> None:
        with TransferManager(client) as manager:
            keys = _listed(client, bucket, prefix)
            for future in [manager.download(bucket, key, str(_place(target, key, prefix))) for key in keys]:
                future.result()

    return Peer(upload, download)


def obstore(bucket: str) -> Peer:
    import obstore
    from obstore.store import S3Store

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True})

    async def put(path: Path, key: str) -> None:
        await obstore.put_async(store, key, path)

    async def get(key: str, prefix: str, target: str) -> None:
        answer = await obstore.get_async(store, key)
        _place(target, key, prefix).write_bytes(await answer.bytes_async())

    def upload(source: str, prefix: str) -> None:
        asyncio.run(_at_most(put(path, key) for path, key in _files(source, prefix)))

    def download(target: str, prefix: str) -> None:
        listed = [entry["path"] for page in obstore.list(store, prefix) for entry in page]
        asyncio.run(_at_most(get(key, prefix, target) for key in listed))

    return Peer(upload, download)


PEERS = {"boto3": boto3_alone, "s3transfer": s3transfer, "obstore": obstore}


def _files(given: str, prefix: str) -> Iterator[tuple[Path, str]]:
    """Yield the files with their keys."""
    source = Path(given)
    if source.is_file():
        yield source, f"{prefix}/{source.name}"
        return
    for folder, _, names in os.walk(source):
        below = Path(folder).relative_to(source).as_posix()
        for name in names:
            yield Path(folder, name), f"{prefix}/{below}/{name}"


def _listed(client: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        yield from (entry["Key"] for entry in page["Contents"])


def _place(target: str, key: str, prefix: str) -> Path:
    path = Path(target, key.removeprefix(f"{prefix}/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


async def _at_most(each: Iterator[Coroutine[Any, Any, object]]) -> None:
    free = asyncio.Semaphore(OBSTORE_REQUESTS)

    async def one(work: Coroutine[Any, Any, object]) -> None:
        async with free:
            await work

    await asyncio.gather(*map(one, each))
