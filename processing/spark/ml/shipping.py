"""The package on Spark's workers: functions for `mapInArrow` that bring their own code.

Workers need pyarrow, numpy and the package's dependencies, and not the package itself. A function carries it as an
archive. A worker unpacks it once, into a folder that belongs to its user alone. Nothing here uses `sparkContext` or the
JVM, so that a session of Spark Connect works, too.
"""

from __future__ import annotations

import functools
import hashlib
import io
import sys
import weakref
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from processing.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MODIFIED: Final = (1980, 1, 1, 0, 0, 0)  # the same for all files: equal code makes an equal archive
_NOT_SHIPPED: Final = frozenset({"cli", "compat", "testing", "export", "__pycache__"})
_NEEDED: Final = ("attr", "boto3", "numpy", "pandas", "pyarrow", "tenacity")

_ready: weakref.WeakSet[Any] = weakref.WeakSet()


@functools.lru_cache(maxsize=1)
def _archive() -> tuple[bytes, str]:
    """Return the package as a zip file, and its digest."""
    root = Path(__file__).parents[2]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if not _NOT_SHIPPED & set(relative.parts[:1]):
                made.writestr(zipfile.ZipInfo(f"processing/{relative.as_posix()}", _MODIFIED), path.read_bytes())
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()[:16]


def carried(function: Callable[..., Any], **arguments: Any) -> Callable[[Any], Any]:
    """Return a function for `mapInArrow` that calls another one on the workers.

    Args:
        function: a function of this package, or any that cloudpickle can pickle. Its first argument is the iterator of
            Arrow batches, and it yields such batches.
        arguments: its further arguments.
    """
    call = carried_call(function, **arguments)

    def run(batches: Any) -> Any:
        # This function is pickled by value: it must use nothing of its module.
        yield from call(batches)

    return run


def map_batches(frame: Any, work: Callable[[Any], Any], schema: Any) -> Any:
    """Return the frame that a function makes of a frame's batches.

    `mapInArrow` reads the names of columns as expressions. It does not find a column with a dot or a backtick, nor one
    of two columns of one name. Such columns have other names on the way to the function and back.

    Args:
        frame: the frame.
        work: the function, as `carried` returns it.
        schema: the schema of the result, as a `StructType` or a text.
    """
    names = list(frame.columns)
    results = names if isinstance(schema, str) else schema.names
    if not (_are_odd(names) or _are_odd(results)):
        return frame.mapInArrow(work, schema)
    renames_results = results is not names

    def renamed(batches: Any) -> Any:
        # This function is pickled by value, too.
        import pyarrow as pa

        for batch in work(pa.RecordBatch.from_arrays(batch.columns, names=names) for batch in batches):
            plain = [f"column_{index}" for index in range(batch.num_columns)]
            yield pa.RecordBatch.from_arrays(batch.columns, names=plain) if renames_results else batch

    plain = frame.toDF(*_plain_names(names))
    if not renames_results:
        return plain.mapInArrow(renamed, schema)
    fields = zip(_plain_names(results), schema.fields, strict=True)
    plain_schema = type(schema)(
        [type(each)(name, each.dataType, each.nullable, each.metadata) for name, each in fields]
    )
    return plain.mapInArrow(renamed, plain_schema).toDF(*results)


def _are_odd(names: list[str]) -> bool:
    return len(set(names)) < len(names) or any(set(name) & {".", "`"} for name in names)


def _plain_names(names: list[str]) -> list[str]:
    return [f"column_{index}" for index in range(len(names))]


def carried_call(function: Callable[..., Any], **arguments: Any) -> Callable[..., Any]:
    """Return a function that calls another one in a process that may lack this package.

    Args:
        function: a function of this package, or any that cloudpickle can pickle.
        arguments: arguments beside those of each call.
    """
    from pyspark import cloudpickle

    archive, digest = _archive()
    work = cloudpickle.dumps((function, arguments))

    def call(*args: Any) -> Any:
        # This function is pickled by value, too.
        import io
        import os
        import pickle
        import stat
        import sys
        import tempfile
        import zipfile

        if "processing" not in sys.modules:
            folder = os.path.join(tempfile.gettempdir(), f"sm-processing-{os.getuid()}-{digest}")  # noqa: PTH118 - few imports
            if not os.path.isdir(folder):  # noqa: PTH112 - few imports
                unpacked = tempfile.mkdtemp(prefix="sm-processing-")
                with zipfile.ZipFile(io.BytesIO(archive)) as content:
                    content.extractall(unpacked)
                try:
                    os.rename(unpacked, folder)  # noqa: PTH104 - few imports
                except OSError:  # another worker was faster
                    import shutil

                    shutil.rmtree(unpacked, ignore_errors=True)
            state = os.stat(folder)  # noqa: PTH116 - few imports
            if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o022:
                raise PermissionError(f"{folder} can be changed by another user")
            sys.path.insert(0, folder)
        function, arguments = pickle.loads(work)  # noqa: S301 - made by the driver of the same application
        return function(*args, **arguments)

    return call


def check_running(spark: Any) -> Any:
    """Return the frame of one tiny task, which has not begun.

    Raises:
        ConfigurationError: the session was stopped.
    """
    try:
        return spark.range(1).mapInArrow(_probe(), "missing string, python string")
    except Exception as error:
        raise ConfigurationError(
            f"dataset: its Spark session does not run ({_last_line(error)}); make the DataFrame with a new one"
        ) from error


def check_workers(spark: Any) -> None:
    """Run one tiny task that imports the needed packages. A session is checked once.

    Raises:
        ConfigurationError: the workers have another Python, or lack a package. The message names PYSPARK_PYTHON. Or the
            session was stopped.
    """
    frame = check_running(spark)
    if spark in _ready:
        return
    try:
        answer = frame.first()
    except Exception as error:
        text = str(error)
        if "PYTHON_VERSION_MISMATCH" in text or "different version" in text:
            raise _unsuitable("run another Python", error) from error
        if "ModuleNotFoundError" in text or "No module named" in text or "ImportError" in text or "PyArrow" in text:
            raise _unsuitable("lack a package", error) from error
        raise
    if answer["missing"]:
        raise _unsuitable(f"({answer['python']}) lack {answer['missing']}", None)
    _ready.add(spark)


def _probe() -> Callable[[Any], Any]:
    needed = _NEEDED

    def probe(batches: Any) -> Iterator[Any]:
        import importlib.util
        import sys

        import pyarrow as pa

        missing = ", ".join(name for name in needed if importlib.util.find_spec(name) is None)
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"missing": [missing], "python": [sys.executable]})

    return probe


def _unsuitable(problem: str, error: Exception | None) -> ConfigurationError:
    reason = f": {_last_line(error)}" if error is not None else ""
    return ConfigurationError(
        f"PYSPARK_PYTHON: the Python of Spark's workers must be {sys.version_info[0]}.{sys.version_info[1]} with "
        f"pyarrow, numpy, pandas, boto3, attrs and tenacity, and the workers {problem}{reason}; set PYSPARK_PYTHON "
        f"before the session starts (this program runs {sys.executable})"
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marked = [line for line in lines if "Error: " in line or "[PYTHON_VERSION_MISMATCH]" in line]
    return (marked or lines or ["no reason"])[0][:300]
