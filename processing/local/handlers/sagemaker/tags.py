"""The operations on tags, which jobs, models, endpoint configurations and endpoints have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.handlers.sagemaker.common import tag_list, tags_of
from processing.local.stores.tags import TagStore

if TYPE_CHECKING:
    from processing.local.context import EngineContext
    from processing.local.handlers import Operation


class TagOperations:
    """The operations that add, list and delete tags.

    Args:
        engine: the engine of this handler.

    Attributes:
        operations: the function of each operation, by its name in the API.
    """

    def __init__(self, engine: EngineContext) -> None:
        self._tags = TagStore(engine.home)
        self.operations: dict[str, Operation] = {
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete_tags,
        }

    def add_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags."""
        return {"Tags": tag_list(self._tags.add(params["ResourceArn"], tags_of(params)))}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return all tags, without paging: 50 tags, the most of a resource, fit the smallest page of the API."""
        return {"Tags": tag_list(self._tags.tags(params["ResourceArn"]))}

    def delete_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags by key."""
        self._tags.delete(params["ResourceArn"], params["TagKeys"])
        return {}
