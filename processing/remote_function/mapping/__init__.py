"""Maps: many calls of a remote function in one job.

The calls travel in one file. Call i belongs to instance i modulo the number of instances, and each instance runs its
calls in worker processes. Results arrive while the job runs.
"""

from __future__ import annotations

from processing.remote_function.mapping.futures import MapFuture as MapFuture
from processing.remote_function.mapping.futures import MapFutures as MapFutures
from processing.remote_function.mapping.options import MapOptions as MapOptions
