"""Spark's event logs on their way from the driver to the job's output, or to S3.

Spark writes a log, or the files of a rolling log, under a name that ends in `.inprogress` until the application ends.
As in AWS's images, copies have the final name from the beginning: a history server shows a running application too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Publish = Callable[[Path, str], None]

_IN_PROGRESS = ".inprogress"
_INTERVAL = 5.0
"""Seconds between two copies. AWS's images wait 20; a job on this machine is shorter."""


class EventLogError(Exception):
    """Event logs that cannot be published."""


class EventLogs:
    """The event logs of one application, published in the background.

    Args:
        folder: the folder that Spark writes to.
        publishers: each receives a file and its name below the folder, without the suffix of a running application.
    """

    def __init__(self, folder: Path, publishers: list[Publish]) -> None:
        self._folder = folder
        self._publishers = publishers
        self._published: dict[str, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        folder.mkdir()

    def start(self) -> None:
        """Publish from now on."""
        self._thread.start()

    def close(self) -> None:
        """Publish the last state, after the application has ended.

        Raises:
            EventLogError: it cannot be published.
        """
        self._ended.set()
        self._thread.join()
        self._publish()

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            with contextlib.suppress(EventLogError):  # the last try counts
                self._publish()

    def _publish(self) -> None:
        for path, name in self._files():
            # Spark may have renamed the file, or removed it after a compaction.
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                state = (found.st_size, found.st_mtime_ns)
                if self._published.get(name) != state:
                    self._publish_file(path, name)
                    self._published[name] = state

    def _publish_file(self, path: Path, name: str) -> None:
        try:
            for publish in self._publishers:
                publish(path, name)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise EventLogError(f"the event log {name} cannot be published: {error}") from error

    def _files(self) -> Iterator[tuple[Path, str]]:
        for folder, _, names in os.walk(self._folder):
            for name in sorted(names):
                # Hadoop keeps checksums beside local files, in files with a leading dot.
                if not name.startswith("."):
                    path = Path(folder, name)
                    yield path, path.relative_to(self._folder).as_posix().removesuffix(_IN_PROGRESS)


def copy_to(target: Path) -> Publish:
    """Return a publisher that copies into a folder. A reader of the folder sees whole files only."""

    def publish(path: Path, name: str) -> None:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.partial")
        shutil.copyfile(path, partial)
        partial.replace(place)

    return publish


def upload_to(bucket: str, prefix: str) -> Publish:
    """Return a publisher that uploads to S3 with boto3."""
    import boto3

    client = boto3.client("s3")
    start = f"{prefix.rstrip('/')}/" if prefix else ""

    def publish(path: Path, name: str) -> None:
        client.upload_file(str(path), bucket, start + name)

    return publish
