"""`sagemaker` 2.x: the table of its names is up to date, and the modules for processing offer nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import processing.compat.config
from processing.compat import modules, offered

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
SCRIPT = Path(__file__).parent.parent.with_name("scripts") / "compat_table.py"

# The names of sagemaker's own in the modules that define processors.
OWN_NAMES = """
import importlib, json, types

def own(module):
    for name, value in vars(importlib.import_module(module)).items():
        home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if not name.startswith("_") and (isinstance(value, str) or str(home).startswith("sagemaker")):
            yield name

print("RESULT" + json.dumps({module: list(own(module)) for module in MODULES}))
"""
CONSTANTS = """
import json
import sagemaker.config

print("RESULT" + json.dumps({name: getattr(sagemaker.config, name) for name in NAMES}))
"""
NOT_SUPPORTED = {
    "ApiObject": "the base class of the models",
    "ExecutionVariables": "pipelines",
    "FileType": "a helper of 2.x's Spark processors",
    "Join": "pipelines",
    "SparkConfigUtils": "a helper of 2.x's Spark processors",
    "check_and_get_run_experiment_config": "sagemaker.experiments",
    "defaults": "constants of estimators",
    "resolve_class_attribute_from_config": "the config file is read when a job is run",
    "resolve_value_from_config": "the config file is read when a job is run",
    "warn_v2_deprecation": "a warning of 2.x itself",
}


def _result(foreign: Client, script: str, **values: Any) -> Any:
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return json.loads(foreign.script(given + script).partition("RESULT")[2].splitlines()[0])


def test_the_table_is_what_the_script_writes(foreign: Client) -> None:
    """`scripts/compat_table.py` reads the same names from the installed `sagemaker`."""
    spec = importlib.util.spec_from_file_location("compat_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    written: dict[str, Any] = {}
    exec(table.text(*table.read(str(foreign.bin / "python"))), written)
    assert written["OFFERED"] == offered.OFFERED
    assert written["ALIASES"] == offered.ALIASES
    assert written["VERSION"] == offered.VERSION


def test_every_name_of_the_processing_modules_is_decided_on(foreign: Client) -> None:
    """A name that a module of processors offers is supported, or in a list with the reason."""
    names = [name for name in offered.OFFERED if name.endswith((".processing", ".network", ".inputs"))]
    found = _result(foreign, OWN_NAMES, MODULES=names)
    assert len(found) == len(names) > 8
    for module, own in found.items():
        supported = {*modules.MODULES[module], *modules.ALIASES.get(module, ())}
        assert {*own} - supported <= {*NOT_SUPPORTED}, module


def test_constants_have_the_same_values(foreign: Client) -> None:
    """The paths in the config file are those of 2.x."""
    names = [name for name in modules.HOMES if name.isupper()]
    theirs = _result(foreign, CONSTANTS, NAMES=names)
    assert {name: getattr(processing.compat.config, name) for name in names} == theirs
