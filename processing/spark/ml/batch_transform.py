"""Predictions by a batch transform job, which leaves no endpoint.

The workers write each request's body as one object, and its rows beside it. The job answers each object. Workers then
join the answers to the rows. The rows come from S3, not from the DataFrame, which may differ at a second reading.
"""

from __future__ import annotations

import contextlib
import io
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import JobFailedError, JobStoppedError, StagingError
from processing.spark.ml.creation import TRANSFORM_JOB, create_once, describe
from processing.spark.ml.hosting import poll_interval
from processing.spark.ml.invoke import PredictionSettings, answered, split
from processing.spark.ml.names import RandomNamePolicy
from processing.spark.ml.roles_and_paths import S3AutoCreatePath
from processing.spark.ml.shipping import carried, map_batches
from processing.spark.ml.upload import delete, is_gone, list_keys
from processing.staging.objects import object_params
from processing.staging.transfers import get_bytes, put_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

__all__ = ["Resources", "delete", "run"]

logger = logging.getLogger(__name__)

_WRITTEN: Final = "key string"
_MEBIBYTE: Final = 1 << 20


@attrs.frozen
class Resources:
    """The model and the instances of a transform job.

    Args:
        model: the model's name.
        instance_type: the instance type.
        instance_count: the number of instances.
        tags: the tags of the job.
        extra: more parameters of CreateTransformJob.
    """

    model: str
    instance_type: str
    instance_count: int
    tags: list[dict[str, str]]
    extra: dict[str, Any]


def run(
    session: Session, dataset: Any, schema: Any, settings: PredictionSettings, resources: Resources
) -> tuple[Any, S3Uri]:
    """Run a transform job over a DataFrame, and wait for its end.

    Args:
        session: the session.
        dataset: the rows.
        schema: the schema of the result.
        settings: serializer, deserializer and limits.
        resources: the model and the instances.

    Returns:
        The result, and the place of its data. It can be read until they are deleted.

    Raises:
        JobFailedError: the job failed.
    """
    spark = dataset.sparkSession
    place = S3AutoCreatePath().uri(session, spark, "transformBy") / f"transform-{uuid.uuid4().hex[:12]}"
    marker = place / "uploading"
    put_bytes(session.api, b"", marker, expected_owner=session.expected_owner)
    try:
        written = map_batches(
            dataset, carried(write_requests, session=session, settings=settings, place=place, marker=marker), _WRITTEN
        ).collect()
        keys = sorted(row["key"] for row in written)
        if not keys:
            delete(session, place)
            return spark.createDataFrame([], schema), place
        # Tasks that failed or ran twice have written requests, too, which nobody needs answered.
        needed = {(place / part / key).key for part in ("input", "rows") for key in keys}
        delete(session, place, only=set(list_keys(session, place)) - needed)
        _run_job(session, place, settings, resources)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to see
            delete(session, place, only={marker.key})  # what is written from now on, its task deletes
            delete(session, place)
        raise
    tasks = min(len(keys), 200)
    frame = spark.createDataFrame([(key,) for key in keys], "key string").repartition(tasks)
    work = carried(read_answers, session=session, settings=settings, place=place)
    return map_batches(frame, work, schema), place


def write_requests(
    batches: Iterable[Any], *, session: Session, settings: PredictionSettings, place: S3Uri, marker: S3Uri
) -> Iterator[Any]:
    """Write the bodies of one task, each with its rows, and yield the name of each.

    Args:
        batches: the rows.
        session: the session.
        settings: serializer and limits.
        place: the place.
        marker: the object that exists while requests are written.

    Raises:
        StagingError: the driver waits for them no longer.
    """
    import pyarrow as pa

    for batch in batches:
        for body, rows in split(batch, settings):
            key = uuid.uuid4().hex
            buffer = io.BytesIO()
            with pa.ipc.new_stream(buffer, rows.schema) as writer:
                writer.write_batch(rows)
            owner = session.expected_owner
            put_bytes(session.api, buffer.getvalue(), place / "rows" / key, expected_owner=owner)
            put_bytes(session.api, body, place / "input" / key, expected_owner=owner)
            if is_gone(session.api, object_params(marker, owner)):
                delete(session, place, only={(place / part / key).key for part in ("rows", "input")})
                raise StagingError("the transform was ended, because another task failed or it was interrupted")
            yield pa.RecordBatch.from_pydict({"key": [key]})


def read_answers(
    batches: Iterable[Any], *, session: Session, settings: PredictionSettings, place: S3Uri
) -> Iterator[Any]:
    """Yield the rows of each body with their predictions."""
    import pyarrow as pa

    owner = session.expected_owner
    for batch in batches:
        for key in batch.column("key").to_pylist():
            stored = get_bytes(session.api, place / "rows" / key, expected_owner=owner)
            answer = get_bytes(session.api, place / "output" / f"{key}.out", expected_owner=owner)
            for rows in pa.ipc.open_stream(stored):
                yield answered(answer, rows, settings)


def _run_job(session: Session, place: S3Uri, settings: PredictionSettings, resources: Resources) -> None:
    """Create the transform job, and wait for its end. An interruption stops the job: no one could read its answers."""
    request = _request(place, settings, resources)
    name = request["TransformJobName"]
    started = False

    def owned() -> None:
        nonlocal started
        started = True

    try:
        create_once(session.api, TRANSFORM_JOB, request, owned=owned)
        logger.info("transform job %s was created", name)
        _wait(session, name)
    except (JobFailedError, JobStoppedError):
        raise
    except BaseException:
        if started:
            with contextlib.suppress(Exception):  # the first error is the one to see
                session.api.call("sagemaker", "StopTransformJob", {"TransformJobName": name})
        raise


def _request(place: S3Uri, settings: PredictionSettings, resources: Resources) -> dict[str, Any]:
    """Return the request of the job over the bodies at a place."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"{place / 'input'}/"}
    return {
        "TransformJobName": RandomNamePolicy().trainingJobName.replace("trainingJob", "transformJob"),
        "ModelName": resources.model,
        "BatchStrategy": "SingleRecord",
        "MaxPayloadInMB": -(-settings.limit // _MEBIBYTE),
        "TransformInput": {
            "DataSource": {"S3DataSource": source},
            "ContentType": settings.serializer.contentType,
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": str(place / "output"), "Accept": settings.deserializer.accepts},
        "TransformResources": {"InstanceType": resources.instance_type, "InstanceCount": resources.instance_count},
        **({"Tags": resources.tags} if resources.tags else {}),
        **resources.extra,
    }


def _wait(session: Session, name: str) -> None:
    """Wait until a transform job is completed."""
    while True:
        found = describe(session.api, TRANSFORM_JOB, name) or {}
        status = found.get("TransformJobStatus")
        if status == "Completed":
            return
        if status == "Failed":
            reason = found.get("FailureReason")
            raise JobFailedError(f"transform job {name} failed: {reason}", job_name=name, failure_reason=reason)
        if status == "Stopped":
            raise JobStoppedError(f"transform job {name} was stopped", job_name=name, status=status)
        session.clock.sleep(poll_interval(session))
