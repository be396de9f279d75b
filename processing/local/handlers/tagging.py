"""Handler for the Resource Groups Tagging API. It finds SageMaker's resources, which the engine can tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.errors import ApiError
from processing.local.stores.tags import TagStore

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


MAX_PAGE = 100
_SERVICE = "sagemaker"


class TaggingHandler:
    """Handler for GetResources.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._tags = TagStore(engine.home)
        self.operations: dict[str, Operation] = {"GetResources": self.get_resources}

    def get_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of resources with their tags. The token is the last ARN of the page before."""
        arns = params.get("ResourceARNList")
        if arns and any(params.get(name) for name in ("TagFilters", "ResourceTypeFilters", "ResourcesPerPage")):
            raise _invalid("ResourceARNList cannot be specified with any other parameter.")
        if params.get("TagsPerPage") or params.get("IncludeComplianceDetails"):
            raise _invalid("The local engine does not have TagsPerPage and tag policies.")
        size = params.get("ResourcesPerPage") or MAX_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise _invalid(f"ResourcesPerPage must be between 1 and {MAX_PAGE}.")
        types = params.get("ResourceTypeFilters") or []
        ours = [name for service, _, name in (each.partition(":") for each in types) if service == _SERVICE]
        if types and not ours:
            return {"ResourceTagMappingList": [], "PaginationToken": ""}
        filters = [(entry["Key"], entry.get("Values") or []) for entry in params.get("TagFilters") or ()]
        token = params.get("PaginationToken") or ""
        found = self._tags.find(filters, size + 1, token, arns, [] if "" in ours else ours)
        page = [
            {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for arn, tags in found[:size]
        ]
        return {"ResourceTagMappingList": page, "PaginationToken": found[size - 1][0] if len(found) > size else ""}


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
