"""A botocore session all of whose clients go to the engine, whoever makes them."""

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

_CREDENTIAL = "local"  # nobody looks at it; it keeps botocore from asking the machine for one


class _EngineSession(Session):
    """Knows nothing of the machine's AWS configuration, and points every client at the engine."""

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
    """Return a botocore session whose requests are all given to the transport.

    Args:
        transport: what answers.
        loader: reads the service models; shared, so that they are parsed once in a process.
    """
    session = _EngineSession()
    session.register_component("data_loader", loader)

    def send(*, request: AWSPreparedRequest, **_: Any) -> Any:
        return transport.send(request)

    # Clients inherit the handlers of their session: all of this one's, and no other client of the process.
    register: Any = session.register
    register("before-send", send)
    return session


def _config() -> Config:
    """Return what makes calls cheap: no signature, no checksums of what never leaves the process, one try."""
    options: dict[str, Any] = {"defaults_mode": "legacy", "user_agent": "sm-processing"}  # typed too narrowly
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
