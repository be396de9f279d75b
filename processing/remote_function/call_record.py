"""The facts about a call that its job's request vouches for: its places in S3, its digests and its form of results.

IAM guards the request: only a permission to create jobs allows to set them. Nothing here comes from S3.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.remote.boot import MANIFEST_DIGEST
from processing.exceptions import DeserializationError
from processing.remote_function.bundle import BOOT_DIGEST, CALLS_FORMAT, FORMAT_VARIABLE, ITEMS_FORMAT
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.session.session import Session

RESULT_OUTPUT: Final = "remote-result"
EXCEPTION_OUTPUT: Final = "remote-exception"
CODE_INPUT: Final = "remote-code"
CALL_INPUT: Final = "remote-call"


@attrs.frozen
class CallRecord:
    """The facts about a call.

    Args:
        job_name: the name of its job.
        places: the S3 locations of the bundle, the call file, the result and the exception, by the names of the job's
            inputs and outputs.
        manifest_digest: the SHA-256 of the manifest, the first line of the call file.
        result_format: the form of the result, or of each item: `pickle`, `json` or `arrow`; `pool` for a pool's job.
        has_items: whether the function is a generator function, whose items are in segments.
        has_calls: whether the job is a map's, whose results are in segments.
    """

    job_name: str
    places: Mapping[str, S3Uri]
    manifest_digest: str
    result_format: str
    has_items: bool
    has_calls: bool

    @classmethod
    def of(cls, description: Mapping[str, Any], root: S3Uri | None = None) -> CallRecord:
        """Return the record of a job.

        Args:
            description: the answer of DescribeProcessingJob.
            root: the prefix below which all places have to be; None for a job that this process has started.

        Raises:
            DeserializationError: it is not the job of a remote function, or a place is not below the root.
        """
        name = str(description.get("ProcessingJobName"))
        environment = description.get("Environment") or {}
        if BOOT_DIGEST not in environment or MANIFEST_DIGEST not in environment:
            raise DeserializationError(f"processing job {name}: it is not the job of a remote function")
        inputs = {each["InputName"]: each.get("S3Input") for each in description.get("ProcessingInputs") or ()}
        outputs = {
            each["OutputName"]: each.get("S3Output")
            for each in (description.get("ProcessingOutputConfig") or {}).get("Outputs") or ()
        }
        places = {}
        for place in (CODE_INPUT, CALL_INPUT, RESULT_OUTPUT, EXCEPTION_OUTPUT):
            settings = inputs.get(place) or outputs.get(place)
            if not settings:
                raise DeserializationError(
                    f"processing job {name}: it has no {place}, so it is not a remote function's"
                )
            places[place] = S3Uri.parse(settings["S3Uri"])
            if root is not None and not _is_below(places[place], root):
                raise DeserializationError(
                    f"processing job {name}: its {place} is {places[place]}, which is not below {root}; if you trust "
                    "that place, give it as s3_root_uri"
                )
        form = environment.get(FORMAT_VARIABLE, "pickle")
        has_items, has_calls = form.startswith(ITEMS_FORMAT), form.startswith(CALLS_FORMAT)
        plain = form.removeprefix(ITEMS_FORMAT).removeprefix(CALLS_FORMAT)
        return cls(name, places, environment[MANIFEST_DIGEST], plain, has_items, has_calls)


@attrs.frozen
class ExitMessage:
    """The exit message of a call, which only its job can set.

    Args:
        slot: `result`, `exception`, or `refused` if the boot program did not run the call.
        sha256: the SHA-256 of the file in the slot; None if there is none.
        size: its size in bytes.
        text: the text of an exception or of a refusal.
        code: the exit code of a function that called `sys.exit`.
        stage: `loading` or `returning` if not the function raised, but its arguments or its result made a problem.
        python: the version of Python in the job.
    """

    slot: str
    sha256: str | None = None
    size: int | None = None
    text: str = ""
    code: int | None = None
    stage: str = ""
    python: str | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> ExitMessage | None:
        """Return the message in a job's description; None if no message has this form."""
        try:
            fields = json.loads(description.get("ExitMessage") or "")
            slot, sha256, size = fields["slot"], fields.get("sha256"), fields.get("size")
            text, code, stage = fields.get("text", ""), fields.get("code"), fields.get("stage", "")
            python = fields.get("python")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        fits = (
            all(isinstance(word, str) for word in (slot, text, stage))
            and all(isinstance(word, (str, type(None))) for word in (sha256, python))
            and all(isinstance(number, (int, type(None))) and not isinstance(number, bool) for number in (size, code))
            and (size or 0) >= 0
        )
        return cls(slot, sha256, size, text, code, stage, python) if fits else None


def _is_below(uri: S3Uri, root: S3Uri) -> bool:
    prefix = root.key.rstrip("/")
    return uri.bucket == root.bucket and (not prefix or uri.key.startswith(f"{prefix}/"))


def storage_root(session: Session, s3_root_uri: str | None) -> S3Uri:
    """Return the S3 prefix for code, calls and results.

    Args:
        session: the session of the jobs.
        s3_root_uri: the prefix that the user gives; None for the session's default bucket and prefix.

    Raises:
        ConfigurationError: it is not an S3 URI.
    """
    if s3_root_uri is not None:
        uri = S3Uri.checked(s3_root_uri, "s3_root_uri")
        return S3Uri(uri.bucket, uri.key.strip("/"))
    return S3Uri(session.bucket_for_request(None), (session.default_bucket_prefix or "").strip("/"))
