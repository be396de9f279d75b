"""The base of estimators and models: settings, the session behind a stage, copies, and the form of a saved stage."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pyspark.ml.param import Params

from processing.default_sessions import resolve_session, session_for_attach
from processing.exceptions import ConfigurationError
from processing.session.session import Session
from processing.spark.ml.persistence import Persistent, loaded, saved
from processing.spark.ml.settings import StageSettings, read

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECTION = ("session", "region", "sagemakerClient", "s3Client", "stsClient")  # the settings that select a session


class _SuppliedClients(Session):
    """A session with clients of the user's. They stay in this process: workers make their own."""

    def __init__(self, clients: Mapping[str, Any], region: str | None) -> None:
        sagemaker = clients.get("sagemaker")
        regions = [client.meta.region_name for client in clients.values()]
        super().__init__(sagemaker_client=sagemaker, region_name=region or regions[0])
        self._supplied = dict(clients)

    def client(self, service: str) -> Any:
        """Return the user's client of a service, else one of this session."""
        return self._supplied.get(service) or super().client(service)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_supplied": {}}


class Stage(StageSettings, Params, Persistent):
    """A stage of a Pipeline with the settings of a table."""

    def _configure(self, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        """Read the arguments of the constructor."""
        values = read(self._table, type(self).__name__, args, given)
        uid = values.pop("uid", None)
        if uid is not None:
            self._resetUid(uid)
        self._settings = values
        self._known_session: tuple[tuple[Any, ...], Session] | None = None

    @property
    def _session(self) -> Session:
        """The session: the user's, one with the user's clients, or the default one."""
        given = tuple(self._settings.get(name) for name in _CONNECTION)
        if self._known_session is None or any(a is not b for a, b in zip(self._known_session[0], given, strict=True)):
            self._known_session = (given, self._make_session())
        return self._known_session[1]

    def _make_session(self) -> Session:
        given = self._settings.get("session")
        region = self._settings.get("region")
        names = {"sagemaker": "sagemakerClient", "s3": "s3Client", "sts": "stsClient"}
        clients = {service: self._settings.get(name) for service, name in names.items()}
        supplied = {service: client for service, client in clients.items() if client is not None}
        if given is not None:
            if supplied:
                raise ConfigurationError(f"{names[next(iter(supplied))]}: leave it out, or leave out session")
            return resolve_session(given, None)
        if supplied:
            return _SuppliedClients(supplied, region)
        return Session(region_name=region) if region is not None else session_for_attach(None)

    def copy(self, extra: Any = None) -> Any:
        """Return a copy with the same settings, and the same endpoint if it has one.

        Args:
            extra: values of parameters, as a map of `Param` to value.
        """
        made = super().copy(extra)
        made._settings = copy.copy(self._settings)  # noqa: SLF001 - the copy's own
        return made

    def _state(self) -> dict[str, Any]:
        """Return all that is saved beside the Params."""
        kept = {each.name: self._settings[each.name] for each in self._table if each.saved and each.name != "uid"}
        return saved(kept)

    def _restore(self, uid: str, state: Mapping[str, Any]) -> None:
        """Set all that `_state` returned, on an object whose constructor was not called."""
        super().__init__()
        self._resetUid(uid)
        self._settings = {each.name: None for each in self._table if each.name != "uid"}
        self._settings.update(loaded(dict(state)))
        self._known_session = None
