"""Values on the command line."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str) -> Any:
    """Return the value of a text: JSON if it is JSON, such as `5`, `true` or `["a"]`, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
