"""The size of `pip install` of the wheel: distributions and megabytes.

The wheel is installed into a fresh virtual environment without a pip of its own. The distributions are those that
`importlib.metadata` finds there, the package itself included. The megabytes are those of all files in site-packages on
the disk, bytecode included (whole blocks, as `du` counts; megabytes of 1,000,000 bytes). Then every module is imported
there, so that only those of an extra need a package that was not installed. The benchmark needs a package index.

    python benchmarks/footprint.py [WHEEL]     # default: the wheel in dist/
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure, finish

COUNT = """
import importlib.metadata, json, pathlib, sysconfig
root = pathlib.Path(sysconfig.get_path("purelib"))
print(json.dumps([
    sorted(each.metadata["Name"] for each in importlib.metadata.distributions(path=[str(root)])),
    sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file()),
]))
"""


IMPORT = """
import importlib, json, pkgutil, processing
# Each of these needs an extra or its own tool, which its folder stands for. Nothing else may need them.
extras = {
    "processing.cli": "click",
    "processing.integrations.airflow": "airflow",
    "processing.integrations.dagster": "dagster",
    "processing.remote_function.joblib": "joblib",
    "processing.spark.ml": "pyspark",
    "processing.testing.plugin": "pytest",
}
failed = []
for module in pkgutil.walk_packages(processing.__path__, "processing."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        if any(f"{module.name}.".startswith(f"{folder}.") and error.name == need for folder, need in extras.items()):
            continue
        failed.append(f"{module.name}: {error}")
print(json.dumps(failed))
"""


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    wheels = sys.argv[1:2] or [str(path) for path in (root / "dist").glob("*.whl")]
    if not wheels:
        sys.exit("there is no wheel in dist/: ./scripts/test builds it, or give its path")
    wheel = wheels[0]
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", name], check=True)
        python = str(Path(name, "bin", "python"))
        install = ["-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", wheel]
        subprocess.run([sys.executable, *install], check=True)
        imported = subprocess.run([python, "-c", IMPORT], check=True, capture_output=True, text=True)
        counted = subprocess.run([python, "-c", COUNT], check=True, capture_output=True, text=True)
    failed = json.loads(imported.stdout)
    names, size = json.loads(counted.stdout)
    finish(
        [
            Figure("distributions that pip install brings", len(names), 13, note=", ".join(names)),
            Figure("site-packages after it", size / 1e6, 75, "MB"),
            Figure("modules that need something else", len(failed), 0, note="; ".join(failed)),
        ]
    )


if __name__ == "__main__":
    main()
