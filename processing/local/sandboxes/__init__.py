"""How a job gets to see its own /opt/ml: bubblewrap, our namespace launcher, or rewritten paths.

None of them is a security boundary: they give a program the file tree of the container contract and keep the host's
AWS credential files out of its sight.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from processing.exceptions import EngineError
from processing.local.sandboxes.base import Bind, Host, Launch, Sandbox
from processing.local.sandboxes.bubblewrap import Bubblewrap
from processing.local.sandboxes.namespaces import Namespaces
from processing.local.sandboxes.rewriting import Rewriting

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Bind", "Host", "Launch", "Sandbox", "choose", "restore"]

_KINDS: dict[str, type[Bubblewrap | Namespaces | Rewriting]] = {
    "bubblewrap": Bubblewrap,
    "namespaces": Namespaces,
    "rewriting": Rewriting,
}
_log = logging.getLogger(__name__)


def _candidates(setting: str) -> Iterator[tuple[str, type[Bubblewrap | Namespaces | Rewriting]]]:
    for name, kind in _KINDS.items():
        if setting in {"auto", name}:
            yield name, kind


@functools.cache
def choose(setting: str = "auto") -> Sandbox:
    """Return the first sandbox that works on this machine; tried out once in a process.

    Args:
        setting: `auto`, or the name of the one sandbox to use.

    Raises:
        EngineError: the sandbox that was asked for does not work here; the message says why.
    """
    reasons: list[str] = []
    for name, kind in _candidates(setting):
        found, reason = kind.probe()
        if found is not None:
            _log.debug("sandbox %s chosen%s", name, f" ({'; '.join(reasons)})" if reasons else "")
            return found
        reasons.append(f"{name}: {reason}")
    raise EngineError(f"the sandbox {setting!r} does not work on this machine: {'; '.join(reasons) or 'unknown name'}")


def restore(state: dict[str, Any]) -> Sandbox:
    """Return the sandbox whose `state()` that is: supervisors are told, and do not try out anything."""
    options = dict(state)
    return _KINDS[options.pop("name")](**options)
