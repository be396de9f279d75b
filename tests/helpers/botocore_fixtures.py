"""Sessions of botocore that are made fast: thousands of tests make clients.

Strategy: botocore reads and derives everything from its data files again for each session and client. In tests all of
them share it, as the calls of one client do. A session with three clients takes 6 ms in place of 34.
"""

from __future__ import annotations

import copy
import datetime as dt
import functools
import inspect
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from botocore import endpoint_provider, hooks, parsers, regions
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.client import ClientCreator
from botocore.loaders import ExtrasProcessor, JSONFileLoader, Loader
from botocore.model import ServiceModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@pytest.fixture(scope="session", autouse=True)
def service_models_read_once() -> Iterator[None]:
    """botocore's data files are read, unpacked and parsed once in a process, and their folders are listed once.

    Without this, tests spend a third of a session's time on it. Sessions share what was parsed, as the clients of one
    session do. Each gets its own routes of the operations, because botocore changes those of S3 at the first call. moto
    merges its own data into a model, and gets a copy for that.
    """
    read, list_services, merge = JSONFileLoader.load_file, Loader.list_available_services, ExtrasProcessor.process
    parsed, services = dict[str, Any](), dict[tuple[str, ...], Any]()

    def load(loader: JSONFileLoader, path: str) -> Any:
        if path not in parsed:
            found = read(loader, path)
            if found is None:
                return None
            parsed[path] = json.loads(json.dumps(found))  # plain dictionaries
        found = parsed[path]
        if path.endswith(f"{os.sep}service-2"):
            return _with_own_routes(found)
        return _MotoExtras(found) if path.endswith(".moto-extras") else found

    def merge_apart(processor: ExtrasProcessor, model: dict[str, Any], extras: Iterable[Any]) -> None:
        found = list(extras)
        if any(isinstance(each, _MotoExtras) for each in found):
            model.update(copy.deepcopy(model))
        merge(processor, model, found)

    def available(loader: Loader, type_name: str) -> Any:
        key = (type_name, *loader.search_paths)
        if key not in services:
            services[key] = list_services(loader, type_name)
        return services[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load)
        patch.setattr(ExtrasProcessor, "process", merge_apart)
        patch.setattr(Loader, "list_available_services", available)
        yield


SIMULATED_SECRET = "example-secret-key"


class _MotoExtras(dict[str, Any]):
    """Members that moto adds to a service model."""


def _with_own_routes(model: Any) -> Any:
    operations = {name: {**each, "http": {**each.get("http", {})}} for name, each in model["operations"].items()}
    return {**model, "operations": operations}


@pytest.fixture(scope="session", autouse=True)
def handlers_inspected_fast() -> Iterator[None]:
    """An event handler's code shows whether it accepts keywords.

    botocore inspects the signatures of more than a hundred handlers, which takes a tenth of a session's time.
    """
    inspected = hooks.accepts_kwargs

    def accepts_kwargs(handler: Any) -> bool:
        code = getattr(handler, "__code__", None)
        return bool(inspected(handler) if code is None else code.co_flags & inspect.CO_VARKEYWORDS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks, "accepts_kwargs", accepts_kwargs)
        yield


@pytest.fixture(scope="session", autouse=True)
def simulations_see_no_signatures() -> Iterator[None]:
    """Requests to a simulated AWS, which looks at no signature, have none. Their other headers are real.

    A simulated hour takes up to two thousand calls, and the signatures would be a sixth of their time.
    """
    sign = SigV4Auth.add_auth

    def add_auth(auth: Any, request: Any) -> None:
        if auth.credentials is None or auth.credentials.secret_key != SIMULATED_SECRET:
            sign(auth, request)
            return
        request.context["timestamp"] = dt.datetime.now(dt.timezone.utc).strftime(SIGV4_TIMESTAMP)
        auth._modify_request_before_signing(request)
        request.headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SigV4Auth, "add_auth", add_auth)
        yield


@pytest.fixture(scope="session", autouse=True)
def timestamps_parsed_once() -> Iterator[None]:
    """botocore parses a timestamp of an answer once. Each page of a listing has hundreds of them again."""
    parse = parsers.DEFAULT_TIMESTAMP_PARSER
    remembered = functools.lru_cache(maxsize=10_000, typed=True)(parse)

    def parse_timestamp(value: Any) -> Any:
        return remembered(value) if isinstance(value, str | int | float) else parse(value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsers, "DEFAULT_TIMESTAMP_PARSER", parse_timestamp)
        yield


@pytest.fixture(scope="session", autouse=True)
def clients_share_models() -> Iterator[None]:
    """Clients of a service share what botocore derives from its data files, as the calls of one client do.

    It derives the functions of the operations, their shapes, the rules of endpoints and the aliases of event names: two
    thirds of the time for a session with three clients, and half of the time of a client's first calls.
    """
    creators: Any = ClientCreator
    aliasers: Any = hooks.EventAliaser
    load_model, make_methods = creators._load_service_model, creators._create_methods
    find_alias = aliasers._alias_event_name
    make_provider: Any = endpoint_provider.EndpointProvider
    models, methods = dict[Any, ServiceModel](), dict[int, dict[str, Any]]()
    aliases, providers = dict[str, str](), dict[tuple[int, int], Any]()

    def load_service_model(creator: Any, service: str, api_version: str | None = None) -> ServiceModel:
        key = (service, api_version, *creator._loader.search_paths)
        if key not in models:
            models[key] = load_model(creator, service, api_version)
        return models[key]

    def create_methods(creator: Any, model: ServiceModel) -> dict[str, Any]:
        if id(model) not in methods:
            methods[id(model)] = make_methods(creator, model)
        return {**methods[id(model)]}

    def alias(emitter: Any, event: str) -> str:
        if event not in aliases:
            aliases[event] = find_alias(emitter, event)
        return aliases[event]

    def provider(ruleset_data: Any, partition_data: Any, **options: Any) -> Any:
        key = (id(ruleset_data), id(partition_data))
        if key not in providers:  # with the data, so that no other gets their identity
            providers[key] = (make_provider(ruleset_data, partition_data, **options), ruleset_data, partition_data)
        return providers[key][0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientCreator, "_load_service_model", load_service_model)
        patch.setattr(ClientCreator, "_create_methods", create_methods)
        patch.setattr(hooks.EventAliaser, "_alias_event_name", alias)
        patch.setattr(regions, "EndpointProvider", provider)
        yield
