"""A dry run: `processor.plan(...)` shows the request, the uploads, the problems and the price of a run.

The processor's hooks run as they do for `run`, but their uploads are counted instead of sent. Nothing here calls AWS.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import attrs

from processing._utils import is_empty
from processing.container.terminal_text import safe_line, safe_text
from processing.exceptions import ConfigurationError, EngineError, StagingError
from processing.job.cost import highest_price, instances_of_request
from processing.request.warnings import collect_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processing.exceptions import ProcessingError
    from processing.job.launch import Launch
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import Upload

# Stands for the account of a role that is known by its name alone: only a call to AWS would determine the account.
_UNKNOWN_ACCOUNT = "000000000000"


@attrs.frozen
class PlannedUpload:
    """The upload that one input, or the code, needs.

    Args:
        name: the input's name; `code` for the code.
        uri: the S3 URI of the upload.
        files: the number of files.
        size: the size of the files in bytes.
        only_if_missing: True if the keys depend on the content, so that objects that exist already are not sent again.
    """

    name: str
    uri: str
    files: int
    size: int
    only_if_missing: bool


@attrs.frozen
class RunPlan:
    """A preview of `run`, for display with `str()` and for checks in code.

    Args:
        request: the request that `run` would send; None if it cannot be built, and `problems` then has the reasons.
        uploads: the uploads, one for each input that has files on this machine.
        problems: the findings for which `run` would raise an error, each with the field as the user wrote it. Empty if
            the job can run.
        warnings: the warnings that `run` would log, and the assumptions that replace calls to AWS.
        price: the highest cost of the job in USD; None if a price is not known.
        price_note: the calculation of the price, or the reason for its absence.
    """

    request: ProcessingRequest | None = None
    uploads: tuple[PlannedUpload, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    price: float | None = None
    price_note: str = ""

    @property
    def files(self) -> int:
        """The highest number of files that `run` would upload."""
        return sum(upload.files for upload in self.uploads)

    @property
    def size(self) -> int:
        """The highest number of bytes that `run` would upload."""
        return sum(upload.size for upload in self.uploads)

    def __str__(self) -> str:
        return safe_text("\n".join(_rows(self)))

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows."""
        from processing.report.grid import plan_card

        name = "run" if self.request is None else self.request.job_name
        return plan_card(f"Plan of {name}", str(self), self.problems, self.warnings)


def plan_run(target: Callable[[], tuple[Session, str | None]], prepare: Callable[[str | None], Launch]) -> RunPlan:
    """Return the plan of a run.

    Args:
        target: a function that returns the session that the job would be submitted through, and the job's role.
        prepare: a function that runs the hooks and reads the processor. It makes no call to AWS, and does not check the
            request. Its argument is the ARN that stands for a role with a known name alone, or None.
    """
    with collect_warnings() as warnings:
        try:
            session, role = target()
            region = session.boto_region_name
            assumed = _assumed_role(session, role)
            if assumed is not None:
                warnings.append(f"role: {role!r} is looked up with IAM GetRole when run; its account is made up here")
            launch = prepare(assumed)
        except (ConfigurationError, StagingError) as error:
            return RunPlan(problems=_problems(error), warnings=tuple(warnings))
        launch.staging.close()  # deletes temporary bundles; the list of uploads stays readable
        request = launch.request
        problems = launch.find_problems() or _preflight_problems(launch)
    uploads = tuple(_uploads(launch))
    price, note = (0.0, "it runs on this machine") if session.is_local else _price(request, region)
    return RunPlan(request, uploads, problems, tuple(warnings), price, note)


def _assumed_role(session: Session, role: object) -> str | None:
    """Return an ARN that stands for a role with a known name alone; None if the role needs no look-up."""
    if session.is_local or not isinstance(role, str) or not role or "/" in role:
        return None
    return f"arn:{session.partition}:iam::{_UNKNOWN_ACCOUNT}:role/{role}"


def _preflight_problems(launch: Launch) -> tuple[str, ...]:
    """Return the reasons for which the embedded engine cannot run the job on this machine; none for AWS."""
    try:
        launch.session.preflight(launch.request, launch.staging)
    except (EngineError, ConfigurationError) as error:
        return _problems(error)
    return ()


def _problems(error: ProcessingError) -> tuple[str, ...]:
    return error.problems if isinstance(error, ConfigurationError) else (str(error),)


def _uploads(launch: Launch) -> Iterator[PlannedUpload]:
    """Yield the uploads of each input, in the order of the inputs."""
    sources = {str(entry.input_name): str(entry.source) for entry in launch.request.inputs if entry.source}
    of_input: dict[str, list[Upload]] = {name: [] for name in sources}
    for upload in launch.staging.uploads:
        target = str(upload.target)
        matches = [name for name, source in sources.items() if target.startswith(source)]
        name = max(matches, key=lambda name: len(sources[name]), default="other")
        of_input.setdefault(name, []).append(upload)
    for name, uploads in of_input.items():
        if uploads:
            yield PlannedUpload(
                name,
                sources.get(name) or str(uploads[0].target),
                len(uploads),
                sum(upload.size or 0 for upload in uploads),
                all(upload.content_addressed or upload.tree is not None for upload in uploads),
            )


def _price(request: ProcessingRequest, region: str) -> tuple[float | None, str]:
    return highest_price(instances_of_request(request), request.max_runtime_in_seconds, region)


def _rows(plan: RunPlan) -> Iterator[str]:
    if plan.request is not None:
        yield from _request_rows(plan.request)
        yield _row("uploads", f"{_files(plan.files)}, {_bytes(plan.size)}" if plan.uploads else "none")
        for upload in plan.uploads:
            missing = ", only if it is not there" if upload.only_if_missing else ""
            yield f"  {safe_line(upload.name)}: {_files(upload.files)}, {_bytes(upload.size)} to {upload.uri}{missing}"
        price = "not known" if plan.price is None else f"at most {plan.price:,.2f} USD"
        yield _row("price", f"{price}: {plan.price_note}")
    yield from _section("warnings", plan.warnings)
    yield from _section("problems", plan.problems)


def _request_rows(request: ProcessingRequest) -> Iterator[str]:
    yield _row("job", request.job_name)
    yield _row("role", request.role_arn)
    yield _row("image", request.image_uri)
    yield _row("instances", _instances(request))
    for title, words in (("entrypoint", request.entrypoint), ("arguments", request.arguments)):
        if isinstance(words, tuple):  # any other type is listed among the problems
            yield _row(title, " ".join(map(str, words)))
    if request.environment:
        yield _row("env", ", ".join(str(name) for name, _ in request.environment))  # values may be secrets
    inputs = [
        f"{entry.input_name}: {'a query' if is_empty(entry.source) else entry.source} to {entry.destination}"
        for entry in request.inputs
    ]
    outputs = [
        f"{e.output_name}: {e.source} to {'a feature group' if is_empty(e.destination) else e.destination}"
        for e in request.outputs
    ]
    yield from _section("inputs", inputs)
    yield from _section("outputs", outputs)
    if request.extra:
        yield _row("extra", ", ".join(map(str, request.extra)))


def _instances(request: ProcessingRequest) -> str:
    if request.instance_preferences:
        kinds = " or ".join(
            f"{preference.instance_count or request.instance_count} x {preference.instance_type}"
            for preference in request.instance_preferences
        )
    else:
        kinds = f"{request.instance_count} x {request.instance_type}"
    runtime = request.max_runtime_in_seconds
    limit = f"{runtime:,} s" if isinstance(runtime, int) else "a day, AWS's default"
    return f"{kinds}, {request.volume_size_in_gb} GB each, at most {limit}"


def _row(title: str, text: str) -> str:
    return f"{title:<12}{safe_line(str(text))}"  # a plan shows values of wrong types too


def _section(title: str, entries: Sequence[str]) -> Iterator[str]:
    if not entries:
        yield _row(title, "none")
        return
    yield title
    yield from (textwrap.indent(entry, "  ") for entry in entries)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.{0 if unit == 'bytes' else 1}f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
