"""A botocore session whose clients all send their requests to the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.session import Session

from processing.local.protocols.message import endpoint

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.loaders import Loader

    from processing.local.transports.in_process import Transport

_CREDENTIAL = "local"  # not checked: it keeps botocore from searching the machine for one


class _EngineSession(Session):
    """A session without the machine's AWS configuration. It points every client at the engine."""

    def get_credentials(self) -> Credentials:
        return Credentials(_CREDENTIAL, _CREDENTIAL)

    def get_scoped_config(self) -> dict[str, Any]:
        return {}

    @property
    def full_config(self) -> dict[str, Any]:
        return {"profiles": {}}

    def create_client(self, service_name: str, *args: Any, config: Config | None = None, **options: Any) -> Any:
        options |= {"endpoint_url": endpoint(service_name), "use_ssl": False, "verify": None}
        for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
            options.pop(name, None)
        ours = _config()
        create: Any = super().create_client
        return create(service_name, *args, config=ours.merge(config) if config else ours, **options)


def engine_session(transport: Transport, loader: Loader) -> Session:
    """Return a botocore session whose clients send all requests through a transport.

    Args:
        transport: the transport.
        loader: the loader of the service models. It is shared, so that a process parses each model once.
    """
    session = _EngineSession()
    session.register_component("data_loader", loader)

    def send(*, request: AWSPreparedRequest, **_: Any) -> Any:
        return transport.send(request)

    # Clients inherit the handlers of their session. Clients of other sessions are not affected.
    register: Any = session.register
    register("before-send", send)
    return session


def _config() -> Config:
    """Return settings for cheap calls within a process: no signature, no optional checksums, one attempt."""
    options: dict[str, Any] = {
        "defaults_mode": "legacy",
        "user_agent": "sm-processing",
    }  # the stubs type these options too narrowly
    return Config(
        signature_version=botocore.UNSIGNED,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        inject_host_prefix=False,
        use_dualstack_endpoint=False,
        use_fips_endpoint=False,
        s3={"addressing_style": "path", "use_accelerate_endpoint": False},
        **options,
    )
