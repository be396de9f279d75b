"""The part of the operations on models, endpoint configurations and endpoints that is the same for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.handlers.sagemaker.common import DEFAULT_PAGE, arn_prefix, now, tags_of, time_filters
from processing.local.stores.list_query import ListQuery
from processing.local.stores.resources import ResourceKind, ResourceRecord, ResourceStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.local.context import EngineContext


def resource_store(engine: EngineContext, kind: ResourceKind) -> ResourceStore:
    """Return the resources of one kind of an engine."""
    return ResourceStore(engine.home, kind, arn_prefix(engine))


def create(store: ResourceStore, params: Mapping[str, Any]) -> ResourceRecord:
    """Create a resource without a status from the parameters of its Create operation."""
    request = {name: value for name, value in params.items() if name != "Tags"}
    return store.create(request, tags=tags_of(params), now=now())


def page(store: ResourceStore, params: Mapping[str, Any]) -> tuple[Sequence[ResourceRecord], str | None]:
    """Return a page of resources for the parameters of a List operation, and the token of the next page or None."""
    query = ListQuery(
        **time_filters(params),
        name_contains=params.get("NameContains"),
        status=params.get("StatusEquals"),
        sort_by=params.get("SortBy", "CreationTime"),
        descending=params.get("SortOrder", "Descending") == "Descending",
    )
    return store.list(query, params.get("MaxResults", DEFAULT_PAGE), params.get("NextToken"))
