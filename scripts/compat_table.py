#!/usr/bin/env python
"""Write `processing/compat/offered.py` anew: `scripts/compat_table.py <python of an environment with sagemaker 2.x>`.

The table has the modules of `sagemaker` that code for processing jobs imports, each with the names that it offers and
this package supports, and with the modules among its names.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from processing.compat.modules import HOMES

TABLE = pathlib.Path(__file__).parent.parent / "processing" / "compat" / "offered.py"

FRAMEWORKS = ("huggingface", "mxnet", "pytorch", "sklearn", "tensorflow", "xgboost")
MODULES = (
    "sagemaker",
    "sagemaker.config",
    "sagemaker.config.config",
    "sagemaker.config.config_schema",
    "sagemaker.dataset_definition",
    "sagemaker.dataset_definition.inputs",
    "sagemaker.exceptions",
    "sagemaker.image_uris",
    "sagemaker.local",
    "sagemaker.local.local_session",
    "sagemaker.network",
    "sagemaker.processing",
    "sagemaker.remote_function",
    "sagemaker.remote_function.checkpoint_location",
    "sagemaker.remote_function.client",
    "sagemaker.remote_function.custom_file_filter",
    "sagemaker.remote_function.errors",
    "sagemaker.remote_function.runtime_environment",
    "sagemaker.remote_function.runtime_environment.runtime_environment_manager",
    "sagemaker.remote_function.spark_config",
    "sagemaker.s3",
    "sagemaker.s3_utils",
    "sagemaker.session",
    "sagemaker.session_settings",
    "sagemaker.spark",
    "sagemaker.spark.processing",
    "sagemaker.utils",
    "sagemaker.workflow",
    "sagemaker.workflow.entities",
    "sagemaker.workflow.pipeline_context",
    "sagemaker.wrangler",
    "sagemaker.wrangler.processing",
    *(f"sagemaker.{name}{end}" for name in FRAMEWORKS for end in ("", ".estimator", ".processing")),
)

LIST = """
import importlib, json, sys
from importlib import metadata

modules, names = json.load(sys.stdin)
offered, aliases = {}, {}
for module in modules:
    members = vars(importlib.import_module(module))
    offered[module] = sorted(name for name in names if name in members)
    inner = {
        name: value.__name__
        for name, value in members.items()
        if getattr(value, "__name__", None) in modules and hasattr(value, "__spec__")
    }
    aliases[module] = {name: full for name, full in sorted(inner.items()) if full != f"{module}.{name}"}
print("TABLE" + json.dumps([metadata.version("sagemaker"), offered, aliases]))
"""


def read(python: str) -> Any:
    """Return the version, the names and the aliases of the `sagemaker` of a Python."""
    done = subprocess.run(  # noqa: S603 - the caller names the Python
        [python, "-W", "ignore", "-c", LIST],
        input=json.dumps([sorted(MODULES), sorted(HOMES)]),
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.partition("TABLE")[2])


def text(version: str, offered: dict[str, list[str]], aliases: dict[str, dict[str, str]]) -> str:
    """Return the text of the module."""
    lines = [
        f'"""The names that the modules of `sagemaker` {version} offer. Written by `scripts/compat_table.py`."""',
        "",
        "from __future__ import annotations",
        "",
        f'VERSION = "{version}"',
        '"""The version of `sagemaker` that has these names. Programs read it as `sagemaker.__version__`."""',
        "",
        "OFFERED: dict[str, tuple[str, ...]] = {",
        *(line for module, names in offered.items() for line in _entry(module, names)),
        "}",
        '"""The supported names of each module."""',
        "",
        "ALIASES: dict[str, dict[str, str]] = {",
        *(f"    {json.dumps(module)}: {json.dumps(inner)}," for module, inner in aliases.items() if inner),
        "}",
        '"""The names that are other modules."""',
    ]
    return "\n".join(lines) + "\n"


def _entry(module: str, names: list[str]) -> list[str]:
    quoted = [json.dumps(name) for name in names]
    line = f"    {json.dumps(module)}: ({', '.join(quoted)}{',' if len(quoted) == 1 else ''}),"
    if len(line) <= 120:
        return [line]
    return [f"    {json.dumps(module)}: (", *(f"        {name}," for name in quoted), "    ),"]


if __name__ == "__main__":
    TABLE.write_text(text(*read(sys.argv[1])), encoding="utf-8")
