"""What a run would do, before it is paid for: `processor.plan(...)`.

The hooks run as for `run`, and what they note for upload is counted instead of sent. Nothing here calls AWS.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import attrs

from processing import pricing
from processing.container.contract import DEFAULT_MAX_RUNTIME
from processing.exceptions import ConfigurationError, EngineError, StagingError
from processing.request.validate import find_problems
from processing.request.warnings import collect_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processing.exceptions import ProcessingError
    from processing.job.launch import Launch
    from processing.request.build import ProcessingRequest
    from processing.session.session import Session
    from processing.staging.pending_uploads import Upload

_UNKNOWN_ACCOUNT = "000000000000"
_MOST = 10**9  # beyond all instances and seconds, and no number yet that a float cannot hold


@attrs.frozen
class PlannedUpload:
    """What of one input, or of the code, has to be uploaded.

    Args:
        name: the input's name; `code` for the code.
        uri: where it goes.
        files: how many files.
        size: their bytes.
        only_if_missing: True where the key names the content, so that what is there already is not sent again.
    """

    name: str
    uri: str
    files: int
    size: int
    only_if_missing: bool


@attrs.frozen
class RunPlan:
    """What `run` would do. `str()` of it is made for reading.

    Args:
        request: the request that would be sent; None where it could not be made, and `problems` says why.
        uploads: what would be uploaded, one for each input that has files here.
        problems: what `run` would refuse, each with the field as the user wrote it; empty where it can be run.
        warnings: what `run` would warn of, and what had to be assumed since AWS was not asked.
        price: what the job costs at most; None where a price is not known.
        price_note: how the price comes about, or why there is none.
    """

    request: ProcessingRequest | None = None
    uploads: tuple[PlannedUpload, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    price: float | None = None
    price_note: str = ""

    @property
    def files(self) -> int:
        """How many files would be uploaded at most."""
        return sum(upload.files for upload in self.uploads)

    @property
    def size(self) -> int:
        """How many bytes would be uploaded at most."""
        return sum(upload.size for upload in self.uploads)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def plan_run(target: Callable[[], tuple[Session, str | None]], prepare: Callable[[str | None], Launch]) -> RunPlan:
    """Return what a run would do.

    Args:
        target: returns where the job would go, and its role.
        prepare: runs the hooks and reads the processor, without a call and without checking; is given the ARN that
            stands for the role, where only its name is known.
    """
    with collect_warnings() as notices:
        try:
            session, role = target()
            region = session.boto_region_name
            assumed = _assumed_role(session, role)
            if assumed is not None:
                notices.append(f"role: {role!r} is looked up with IAM GetRole when run; its account is made up here")
            launch = prepare(assumed)
        except (ConfigurationError, StagingError) as error:
            return RunPlan(problems=_problems(error), warnings=tuple(notices))
        launch.staging.close()  # what is planned is kept; nothing of it is sent
        request = launch.request
        problems = find_problems(request, file_uris=session.is_local) or _refused_here(launch)
    uploads = tuple(_uploads(launch))
    price, note = (0.0, "it runs on this machine") if session.is_local else _price(request, region)
    return RunPlan(request, uploads, problems, tuple(notices), price, note)


def _assumed_role(session: Session, role: object) -> str | None:
    """Return an ARN that stands for a role of which only the name is given; None where nothing need be assumed."""
    if session.is_local or not isinstance(role, str) or not role or "/" in role:
        return None
    return f"arn:{session.partition}:iam::{_UNKNOWN_ACCOUNT}:role/{role}"


def _refused_here(launch: Launch) -> tuple[str, ...]:
    """Return why the embedded engine cannot run the job on this machine; AWS is asked nothing."""
    try:
        launch.session.preflight(launch.request, launch.staging)
    except (EngineError, ConfigurationError) as error:
        return _problems(error)
    return ()


def _problems(error: ProcessingError) -> tuple[str, ...]:
    return error.problems if isinstance(error, ConfigurationError) else (str(error),)


def _uploads(launch: Launch) -> Iterator[PlannedUpload]:
    """Yield the uploads by the input that they are for, in the order of the inputs."""
    sources = {str(entry.input_name): str(entry.source) for entry in launch.request.inputs if entry.source}
    of_input: dict[str, list[Upload]] = {name: [] for name in sources}
    for upload in launch.staging.uploads:
        target = str(upload.target)
        fitting = [name for name, source in sources.items() if target.startswith(source)]
        name = max(fitting, key=lambda name: len(sources[name]), default="other")
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
    """Return what the job costs at most in USD, and how that comes about; None where a price is not known."""
    seconds = DEFAULT_MAX_RUNTIME if request.max_runtime_in_seconds is None else request.max_runtime_in_seconds
    if not _is_count(seconds):
        return None, "how long it may run is not known"
    hours = seconds / 3600
    wanted: list[tuple[Any, Any]] = []
    if request.instance_type:
        wanted.append((request.instance_type, request.instance_count))
    wanted += [
        (preference.instance_type, preference.instance_count or request.instance_count)
        for preference in request.instance_preferences or ()
    ]
    if not wanted or not all(isinstance(kind, str) and _is_count(count) for kind, count in wanted):
        return None, "the instances are not known"
    costs = []
    for kind, count in wanted:
        price = pricing.hourly_price(kind, region)
        if price is None:
            return (
                None,
                f"no price is known for {kind} in {region}; processing.pricing.refresh({region!r}) fetches them",
            )
        costs.append((count * hours * price.usd, f"{count} x {kind} x {hours:g} h at {price}"))
    return max(costs)


def _is_count(value: object) -> bool:
    """Say whether it is a number to reckon with: what is none is among the problems."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST


def _lines(plan: RunPlan) -> Iterator[str]:
    if plan.request is not None:
        yield from _request_lines(plan.request)
        yield _row("uploads", f"{_files(plan.files)}, {_bytes(plan.size)}" if plan.uploads else "none")
        for upload in plan.uploads:
            missing = ", only if it is not there" if upload.only_if_missing else ""
            yield f"  {upload.name}: {_files(upload.files)}, {_bytes(upload.size)} to {upload.uri}{missing}"
        price = "not known" if plan.price is None else f"at most {plan.price:,.2f} USD"
        yield _row("price", f"{price}: {plan.price_note}")
    yield from _section("warnings", plan.warnings)
    yield from _section("problems", plan.problems)


def _request_lines(request: ProcessingRequest) -> Iterator[str]:
    yield _row("job", request.job_name)
    yield _row("role", request.role_arn)
    yield _row("image", request.image_uri)
    yield _row("instances", _instances(request))
    for title, words in (("entrypoint", request.entrypoint), ("arguments", request.arguments)):
        if isinstance(words, tuple):  # what is none is among the problems
            yield _row(title, " ".join(map(str, words)))
    if request.environment:
        yield _row("env", ", ".join(str(name) for name, _ in request.environment))  # values may be secrets
    inputs = [f"{entry.input_name}: {entry.source or 'a query'} to {entry.destination}" for entry in request.inputs]
    outputs = [f"{e.output_name}: {e.source} to {e.destination or 'a feature group'}" for e in request.outputs]
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
    return f"{title:<12}{text}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        yield _row(title, "none")
        return
    yield title
    yield from (textwrap.indent(line, "  ") for line in lines)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:,.{0 if unit == 'bytes' else 1}f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
