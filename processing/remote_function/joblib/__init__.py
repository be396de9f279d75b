"""A backend for joblib: the parallel loops of scikit-learn and others run in one processing job.

```python
import joblib
from processing.remote_function.joblib import register

register(instance_type="ml.m5.4xlarge")
with joblib.parallel_config("processing"):
    search.fit(X, y)
```

All loops share one `RemotePool`. Its job starts with the first task and ends when it is idle. The image needs boto3,
joblib, and the libraries of the tasks. Large arrays travel once, however many tasks have them.
"""

from __future__ import annotations

from typing import Any, Final

from processing.exceptions import ConfigurationError
from processing.remote_function.pool import RemotePool

NAME: Final = "processing"
"""The backend's name in joblib."""

_registered: list[RemotePool] = []


def register(**options: Any) -> None:
    """Add the backend `processing` to joblib. Nothing is started before the first task.

    A second call replaces the options. The job of the first then ends after the tasks that it has.

    Args:
        options: the parameters of `remote`, such as `instance_type`, and `idle` and `workers` of `RemotePool`.

    Raises:
        ConfigurationError: a parameter does not exist or cannot work, or joblib is not installed.
    """
    try:
        import joblib

        from processing.remote_function.joblib.backend import ProcessingBackend
    except ImportError as error:
        raise ConfigurationError("register: joblib is not installed; install it with `pip install joblib`") from error
    pool = RemotePool(**options)
    joblib.register_parallel_backend(NAME, lambda **settings: ProcessingBackend(pool, **settings))
    for earlier in _registered:
        earlier.shutdown(wait=False)
    _registered[:] = [pool]
