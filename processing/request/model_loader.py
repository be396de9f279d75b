"""The loader of botocore's data for a process that needs few services, and soon.

botocore's own loader lists the folders of all services, twice, to find out that a service exists. It makes an
`OrderedDict` of each object in a file. This one looks into the folders of the one service, and makes plain
dictionaries, which keep their order, too. With the pauses of `processing._utils.garbage`, a process gets its first
clients of S3 and SageMaker after 70 ms of CPU instead of 125 ms (`benchmarks/cold_start.py`). The environment variable
PROCESSING_FAST_START=off switches it off.
"""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

from botocore.exceptions import DataNotFoundError
from botocore.loaders import JSONFileLoader, Loader


class _PlainFiles(JSONFileLoader):
    """Reads files into plain dictionaries."""

    def load_file(self, file_path: str) -> Any:
        """Return the content of a file whose path lacks the extension; None if there is no such file."""
        for extension, open_file in ((".json", open), (".json.gz", gzip.open)):
            path = Path(file_path + extension)
            if path.is_file():
                with open_file(path, "rb") as file:
                    return json.loads(file.read())
        return None


class ModelLoader(Loader):
    """A loader of botocore that reads the data of a service without a list of all services."""

    FILE_LOADER_CLASS = _PlainFiles

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return the data of a service, with the same arguments, result and errors as botocore's own loader."""
        try:
            self.determine_latest_version(service_name, type_name)
        except DataNotFoundError:  # botocore's error names all services
            return super().load_service_model(service_name, type_name, api_version)
        # botocore needs the list of all services only to find this one in it. The copy shares what has been read.
        knows_one = copy.copy(self)
        knows_one.list_available_services = lambda *_: [service_name]  # type: ignore[method-assign]
        return super(ModelLoader, knows_one).load_service_model(service_name, type_name, api_version)
