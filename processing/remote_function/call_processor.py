"""`CallProcessor`: the processor that starts the job of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from processing.container.remote.boot import MANIFEST_DIGEST, Places
from processing.container.remote.checkpoints import CHECKPOINTS, EARLIER_CHECKPOINTS
from processing.models import NetworkConfig, ProcessingInput, ProcessingOutput
from processing.processors.oversized_command import request_limits
from processing.processors.processor import Processor
from processing.remote_function.bundle import (
    BUNDLE_FILE,
    CALL_FILE,
    CALLS_FORMAT,
    FORMAT_VARIABLE,
    FUNCTION_DIGEST,
    ITEMS_FORMAT,
    LOADER,
    POOL_FORMAT,
    job_bundle,
    make_manifest,
)
from processing.remote_function.call_record import CALL_INPUT, CODE_INPUT, EXCEPTION_OUTPUT, RESULT_OUTPUT, storage_root
from processing.remote_function.workspace import check_size
from processing.request.s3_uri import S3Uri
from processing.staging.listing import has_objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing._utils import StrPath
    from processing.processors.base import BaseProcessor
    from processing.remote_function.bundle import CallContent
    from processing.remote_function.settings import RemoteSettings
    from processing.session.session import Session

_ML: Final = "/opt/ml"
_INPUTS: Final = f"{_ML}/processing/input/remote"
_OUTPUTS: Final = f"{_ML}/processing/output/remote"
_ONE_CALL: Final = frozenset({"call", "launch"})
"""The programs of a job that have one result."""
_OWN_VARIABLES: Final = 10
"""The variables of a request that are kept free for the digests and marks of this package."""
_PLACES: Final = Places(
    bundle=f"{_INPUTS}/code/{BUNDLE_FILE}",
    call=f"{_INPUTS}/call/{CALL_FILE}",
    result=f"{_OUTPUTS}/result",
    exception=f"{_OUTPUTS}/exception",
    message=f"{_ML}/output/message",
    resources=f"{_ML}/config/resourceconfig.json",
)


class CallProcessor(Processor):
    """A processor for the job of one call; it is used once.

    Args:
        settings: the settings of the remote function.
        session: the session that the job is submitted through.
        base_job_name: the beginning of the job's name.
        content: the call.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        session: Session,
        base_job_name: str,
        content: CallContent,
    ) -> None:
        super().__init__(
            settings.role,
            settings.image_uri,
            settings.instance_count,
            settings.instance_type,
            ["python3", "-c", LOADER],
            settings.volume_size or 30,
            settings.volume_kms_key,
            settings.s3_kms_key,
            settings.max_runtime_in_seconds,
            base_job_name,
            session,
            None,  # set with the digests
            settings.tags,
            _network(settings),
            instance_preferences=settings.instance_preferences,
            extra=settings.extra,
        )
        self._variables = dict(settings.environment_variables or {})
        self._format = _format_of(content.manifest["program"], settings.result_format or "pickle")
        self._root = settings.s3_root_uri
        self._kms_key = settings.s3_kms_key
        self._content = content

    @property
    def places(self) -> list[str]:
        """The arguments of the boot program."""
        return list(_PLACES)

    def _include_code_in_inputs(
        self, inputs: list[ProcessingInput] | None, _code: StrPath | None, _kms_key: str | None = None
    ) -> list[ProcessingInput]:
        variables, long_variables = split_variables({**(self.env or {}), **self._variables})
        uploads = self._uploads()
        content, root = self._content, self._session_prefix()
        check_size(content.members, self.sagemaker_session.bundle_limit)
        bundle = job_bundle(content.members, "include_local_workdir")
        bundle_uri = uploads.add_kept(bundle, BUNDLE_FILE, root, self._kms_key)
        manifest = {**content.manifest, "environment": long_variables, "unpack": bool(content.members)}
        line, digests = make_manifest({"bundle": bundle, "call": content.packed}, manifest)
        # Another caller of the same job name cannot replace the file of the one that gets the name.
        target = self._job_prefix() / "call" / digests[MANIFEST_DIGEST] / CALL_FILE
        with content.packed.view() as packed:
            call_uri = uploads.add_chunks([line, packed], len(line) + len(packed), target, self._kms_key)
        self.env = {**variables, **digests, FORMAT_VARIABLE: self._format}
        if content.function_digest is not None:
            self.env[FUNCTION_DIGEST] = content.function_digest
        return [
            *(inputs or ()),
            *self._checkpoint_inputs(),
            ProcessingInput(bundle_uri, f"{_INPUTS}/code", CODE_INPUT),
            ProcessingInput(call_uri, f"{_INPUTS}/call", CALL_INPUT),
        ]

    def _checkpoint_inputs(self) -> list[ProcessingInput]:
        """Return the input with earlier checkpoints, if there are any: AWS refuses an input without objects."""
        checkpoints = self._content.checkpoints
        if checkpoints is None:
            return []
        assert self.env is not None
        self.env[CHECKPOINTS] = f"{_OUTPUTS}/checkpoints"
        session = self.sagemaker_session
        if self._context.offline or not has_objects(session.api, S3Uri.parse(checkpoints), session.expected_owner):
            return []
        self.env[EARLIER_CHECKPOINTS] = f"{_INPUTS}/checkpoints"
        return [ProcessingInput(checkpoints, f"{_INPUTS}/checkpoints", "remote-checkpoints")]

    def own_outputs(self) -> list[ProcessingOutput | str]:
        """Return the outputs for the result and for the exception.

        AWS does not document whether it uploads the outputs of a failed job at its end, so exceptions leave at once. So
        do the results of a map and the items of a generator, of which a job has many.
        """
        mode = "EndOfJob" if self._content.manifest["program"] in _ONE_CALL else "Continuous"
        outputs: list[ProcessingOutput | str] = [
            ProcessingOutput(_PLACES.result, output_name=RESULT_OUTPUT, s3_upload_mode=mode),
            ProcessingOutput(_PLACES.exception, output_name=EXCEPTION_OUTPUT, s3_upload_mode="Continuous"),
        ]
        if self._content.checkpoints is not None:
            place = f"{_OUTPUTS}/checkpoints"
            outputs.append(ProcessingOutput(place, self._content.checkpoints, "remote-checkpoints", "Continuous"))
        if self._content.spark_events is not None:
            from processing.spark.base import EVENTS_DIRECTORY

            events = self._content.spark_events
            outputs.append(ProcessingOutput(EVENTS_DIRECTORY, events, "remote-spark-events", "Continuous"))
        return outputs

    def _spill_command(
        self, inputs: list[ProcessingInput], kms_key: str | None
    ) -> tuple[BaseProcessor, list[ProcessingInput]]:
        """Return the processor itself: the caller's variables travel in the manifest, so nothing is too long."""
        del kms_key
        return self, inputs

    def _session_prefix(self) -> S3Uri:
        return super()._session_prefix() if self._root is None else storage_root(self.sagemaker_session, self._root)


def _format_of(program: str, form: str) -> str:
    """Return the value of the variable with the form of the result."""
    if program == "generator":
        return ITEMS_FORMAT + form
    if program == "map_host":
        return CALLS_FORMAT + form
    return form if program in _ONE_CALL else POOL_FORMAT


def split_variables(variables: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables that fit into a request, and the others, which travel in the manifest.

    A request has room for 100 variables of 256 characters. The program must not depend on their lengths.
    """
    limits = request_limits()
    fitting = {name: value for name, value in variables.items() if 0 < len(value) <= limits.value}
    fitting = dict(list(fitting.items())[: limits.entries - _OWN_VARIABLES])
    return fitting, {name: value for name, value in variables.items() if name not in fitting}


def _network(settings: RemoteSettings) -> NetworkConfig | None:
    if settings.network_config is not None:
        network: NetworkConfig = settings.network_config
        return network
    if not (settings.subnets or settings.security_group_ids or settings.encrypt_inter_container_traffic):
        return None
    return NetworkConfig(
        security_group_ids=list(settings.security_group_ids or ()) or None,
        subnets=list(settings.subnets or ()) or None,
        encrypt_inter_container_traffic=settings.encrypt_inter_container_traffic,
    )
